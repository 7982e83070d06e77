//! The open tunnels of one worker, by the endpoint they lead to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::net::cut::Cut;
use crate::upstream::{Endpoint, EndpointId};

/// All of them.
#[derive(Debug, Default)]
pub struct OpenTunnels {
    next: Cell<u64>,
    open: RefCell<HashMap<u64, (EndpointId, Rc<Cut>)>>,
}

impl OpenTunnels {
    /// One more to `endpoint`, until the guard is dropped; and what tells it to end, at once where its others have ended.
    pub fn add(self: &Rc<Self>, endpoint: &Endpoint) -> (Rc<Cut>, OpenTunnel) {
        let id = self.next.get();
        self.next.set(id + 1);
        let cut = Rc::new(Cut::default());
        self.open
            .borrow_mut()
            .insert(id, (endpoint.id(), Rc::clone(&cut)));
        if endpoint.ends_tunnels() {
            cut.come();
        }
        let guard = OpenTunnel {
            tunnels: Rc::clone(self),
            id,
        };
        (cut, guard)
    }

    /// Ends those to `endpoint`.
    pub fn cut(&self, endpoint: EndpointId) {
        for (to, cut) in self.open.borrow().values() {
            if *to == endpoint {
                cut.come();
            }
        }
    }
}

/// Counts a tunnel as open until it is dropped.
#[derive(Debug)]
pub struct OpenTunnel {
    tunnels: Rc<OpenTunnels>,
    id: u64,
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.tunnels.open.borrow_mut().remove(&self.id);
    }
}
