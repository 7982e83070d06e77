//! What is made of a record in the end.

use std::rc::Rc;
use std::time::Instant;

use http::{Method, Request, Response, Uri};

use super::{Exchange, Record, ResponseBody};
use crate::proxy::client::Client;
use crate::proxy::error::{Fault, ProxyError};
use crate::proxy::local::Local;
use crate::proxy::trace::{self, Trace};
use crate::snapshot::Action;

impl Record {
    /// From here on the record rides in the response's body, with all that must be given back when that has ended.
    pub fn ride_on(mut self: Box<Self>, response: &mut Response<ResponseBody>) {
        self.status = match self.error {
            Some(error) if self.is_grpc => error.status(),
            _ => response.status(),
        }
        .as_u16();
        let mut exchange = Exchange(self);
        exchange.wait_for_client(true);
        response.body_mut().set_guard(exchange);
    }

    pub(super) fn finish(&mut self, error: Option<ProxyError>, now: Instant) {
        self.finished = true;
        if self.waits_for_client {
            self.client.wait_for_client(false);
        }
        let error = error.or(self.error);
        if error == Some(ProxyError::ClientLeft) {
            self.status = ProxyError::ClientLeft.status().as_u16();
        }
        let total = now.saturating_duration_since(self.begun);
        let metrics = &self.route.metrics;
        if self.in_flight {
            metrics.in_flight.dec();
        }
        self.place = None;
        metrics.count(self.listener_index, &self.method, self.status);
        if !self.is_tunnel {
            metrics.duration.observe(total.as_secs_f64());
        }
        let request_bytes = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        if request_bytes > 0 {
            metrics.request_bytes.inc_by(request_bytes);
        }
        if self.response_bytes > 0 {
            metrics.response_bytes.inc_by(self.response_bytes);
        }
        if let Some(error) = error {
            metrics.count_error(error.reason());
        }
        self.client.end_exchange(now);
        if self.details.is_some() {
            self.log(error, request_bytes, total);
        }
        if let Some(trace) = &self.trace {
            self.send_spans(trace, error, now);
        }
    }

    #[cold]
    fn send_spans(&self, trace: &Trace, error: Option<ProxyError>, at: Instant) {
        let is_routed = !matches!(self.route.action, Action::NotFound);
        let finished = trace::Finished {
            client: &self.client,
            method: &self.method,
            request_id: self.request_id.as_str(),
            listener: &self.listener.name,
            route: is_routed.then(|| &*self.route.name),
            upstream: self.upstream().map(|upstream| &*upstream.name),
            status: self.status,
            reason: error.map(ProxyError::reason),
            is_endpoints_fault: error.is_some_and(|error| error.fault() == Fault::Endpoint),
            at,
        };
        trace.finish(&finished, &self.local.spans);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(Some(ProxyError::ClientLeft), Instant::now());
        }
    }
}

/// Counts and logs a request that never became one: its bytes were refused.
pub fn refused(local: &Rc<Local>, client: &Rc<Client>, error: ProxyError) {
    let (snapshot, listener) = client.snapshot(local);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(b"-").expect("`-` is a token");
    *request.uri_mut() = Uri::from_static("/");
    let mut record = Record::begin(local, client, (&snapshot, listener), &request);
    record.set_path("-");
    // It has no head that a span could be made of.
    record.trace = None;
    record.status = error.status().as_u16();
    record.finish(Some(error), Instant::now());
}
