//! A request to an upstream that is paused: waits until that is resumed, then goes on.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};

use super::error::ProxyError;
use super::local::Local;
use super::record::{Record, ResponseBody};
use super::retry;
use crate::config::Retry;
use crate::message::upload::RequestBody;
use crate::upstream::Upstream;

/// As [`retry::forward`], when `upstream` takes requests again.
pub async fn forward(
    local: &Rc<Local>,
    (upstream, own): (&Arc<Upstream>, Option<&Retry>),
    request: &mut Option<Request<RequestBody>>,
    record: &mut Record,
) -> Result<Response<ResponseBody>, ProxyError> {
    let held = upstream.hold.wait(upstream.pause).await;
    held.map_err(|_| ProxyError::Paused)?;
    let upstream = latest(local, upstream);
    record.set_resumed(Arc::clone(&upstream));
    retry::forward(local, (&upstream, own), request, record).await
}

/// `upstream` as the current snapshot has it: a pause is for changing its endpoints, and requests are held so that they go to
/// the new ones. As it was where it is gone, or where the head that was made for it would not do.
fn latest(local: &Local, upstream: &Arc<Upstream>) -> Arc<Upstream> {
    let snapshot = local.snapshot();
    let mut upstreams = snapshot.upstreams.iter();
    let now = upstreams.find(|now| now.name == upstream.name && now.http2 == upstream.http2);
    Arc::clone(now.unwrap_or(upstream))
}
