//! What a record is told of the endpoints that are asked.

use std::sync::Arc;
use std::time::Instant;

use http::Request;

use super::{FailedAttempt, FromEndpoint, Record};
use crate::message::trace::TraceId;
use crate::message::upload::RequestBody;
use crate::upstream::Endpoint;

impl Record {
    /// An endpoint is asked.
    pub fn set_attempt(&self, endpoint: &Arc<Endpoint>) {
        self.attempts.set(self.attempts.get() + 1);
        self.set_endpoint(endpoint);
    }

    /// Of several that were asked, this is the one to wait for.
    pub fn set_endpoint(&self, endpoint: &Arc<Endpoint>) {
        if let Some(details) = &self.details {
            details.endpoint.replace(Some(Arc::clone(endpoint)));
        }
    }

    /// The endpoint that was asked has failed.
    pub fn note_failed(&self, attempt: impl FnOnce() -> FailedAttempt) {
        if self.details.is_none() && self.trace.is_none() {
            return;
        }
        let attempt = attempt();
        if let Some(trace) = &self.trace {
            trace.failed(&attempt.endpoint, attempt.error);
        }
        if let Some(details) = &self.details {
            details.failed.borrow_mut().push(attempt);
        }
    }

    /// `endpoint` is about to be sent `request`: where that is traced, the endpoint is told.
    pub fn trace_attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        request: &mut Option<Request<RequestBody>>,
    ) {
        if let (Some(trace), Some(request)) = (&self.trace, request) {
            trace.begin_attempt(endpoint, request);
        }
    }

    /// `endpoint` has answered, whatever comes of it.
    pub fn trace_answer(&self, endpoint: &Arc<Endpoint>, status: u16) {
        if let Some(trace) = &self.trace {
            trace.answered(endpoint, status);
        }
    }

    /// The trace it belongs to, where it is traced.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(|trace| trace.id())
    }

    /// A connection to the endpoint was opened, from `begun` on until now.
    pub fn note_connected(&self, begun: Instant) {
        if let Some(details) = &self.details {
            details.connect.set(Some(begun.elapsed()));
        }
    }

    /// An endpoint's response came, the only one that is passed on; `from` is held until its body has ended.
    pub fn set_response(&self, from: FromEndpoint, now: Instant) {
        self.client.set_stall_limit(from.pause.limit());
        // Nobody asks once there is one.
        let _ = self.from.set(from);
        if let Some(details) = &self.details {
            let head = now.saturating_duration_since(self.begun);
            details.head.set(Some(head));
        }
    }

    /// The client gets that response.
    pub fn settle(&mut self) {
        self.by_upstream = true;
        // It keeps the memory of the whole head from being used again.
        self.accept = None;
    }
}
