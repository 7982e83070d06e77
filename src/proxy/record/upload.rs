//! What a record knows of the request's body.

use std::rc::Rc;

use super::Record;
use crate::message::upload::{Progress, Stage};
use crate::units::ByteSize;

impl Record {
    /// Most bytes of its body.
    pub fn body_limit(&self) -> Option<ByteSize> {
        let of_route = self.route.limits.as_ref();
        of_route
            .and_then(|limits| limits.body_bytes)
            .or(self.listener.limits.body_bytes)
    }

    /// The request has a body, which is watched by what is returned.
    pub fn begin_upload(&mut self) -> &Rc<Progress> {
        self.upload.get_or_insert_default()
    }

    /// How the request's body goes, if it has one.
    pub fn upload(&self) -> Option<&Rc<Progress>> {
        self.upload.as_ref()
    }

    /// Whether the request has a body that was not read to its end.
    pub fn upload_is_unread(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| upload.stage() != Stage::Complete)
    }

    /// Whether the client holds back its body, and nobody has asked for it: then it may send it or not (RFC 9110 §10.1.1), and
    /// the connection cannot go on.
    pub fn body_was_not_asked_for(&self) -> bool {
        self.is_held_back
            && self
                .upload
                .as_ref()
                .is_some_and(|upload| upload.stage() == Stage::Untouched)
    }

    /// The client sends its body when it is asked to.
    pub fn set_held_back(&mut self) {
        self.is_held_back = true;
    }
}
