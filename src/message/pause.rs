//! A limit on the pauses of a stream. One timer, armed only when there really is a pause.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Notices when nothing has moved for too long.
#[derive(Debug)]
pub struct PauseTimer {
    limit: Duration,
    /// Since when.
    pausing: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl PauseTimer {
    /// A timer that runs out after `limit` without movement.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            pausing: None,
            sleep: None,
        }
    }

    /// The longest pause.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Limits the next pause, not one that has begun.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Something moved. Since when nothing had, if it was waited for.
    pub fn moved(&mut self) -> Option<Instant> {
        self.pausing.take()
    }

    /// Since when nothing has moved that was waited for.
    pub fn since(&self) -> Option<Instant> {
        self.pausing
    }

    /// Nothing is here; ready once the pause has lasted too long.
    pub fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.pausing {
            Some(_) => None,
            None => {
                let now = Instant::now();
                self.pausing = Some(now);
                Some(now + self.limit)
            }
        };
        match (&mut self.sleep, deadline) {
            (Some(sleep), Some(deadline)) => sleep.as_mut().reset(deadline),
            (sleep @ None, deadline) => {
                *sleep = Some(Box::pin(sleep_until(deadline.unwrap_or_else(Instant::now))))
            }
            (Some(_), None) => {}
        }
        self.sleep
            .as_mut()
            .map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pause_is_counted_from_the_last_movement() {
        let mut timer = PauseTimer::new(Duration::from_secs(10));
        let begin = Instant::now();
        for _ in 0..3 {
            let waited =
                tokio::time::timeout(Duration::from_secs(9), poll_fn(|cx| timer.poll_pause(cx)))
                    .await;
            assert!(waited.is_err(), "ran out early");
            timer.moved();
        }
        poll_fn(|cx| timer.poll_pause(cx)).await;
        assert_eq!(begin.elapsed().as_secs(), 9 * 3 + 10);
    }
}
