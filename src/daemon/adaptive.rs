//! Has limits of endpoints follow what they can do, where the file asks for it. A job of the control thread.

use std::time::Duration;

use tokio::time::sleep;

use crate::snapshot::Publisher;

/// Often enough that a burst is met within a second or two; each time looks at no more than a few numbers.
const EVERY: Duration = Duration::from_millis(100);

/// Adapts the limits of the current snapshot again and again.
pub(super) async fn keep_adapting(publisher: Publisher) {
    loop {
        sleep(EVERY).await;
        for upstream in &publisher.current().upstreams {
            upstream.adapt();
        }
    }
}
