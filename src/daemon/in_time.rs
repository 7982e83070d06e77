//! Does what may hang on a thread of its own, and waits for it only so long: a mount that is gone answers nobody, and operators
//! shall be heard meanwhile.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// So long it is waited for files to be read, and so long for what they hold to be understood.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What `task` gives; or why there is nothing. What comes too late is dropped.
pub(super) async fn in_time<T: Send + 'static>(
    limit: Duration,
    task: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match timeout(limit, spawn_blocking(task)).await {
        Ok(done) => done.map_err(|error| format!("could not be understood: {error}")),
        Err(_) => Err(too_long(limit)),
    }
}

/// Why it was given up.
pub(super) fn too_long(limit: Duration) -> String {
    format!(
        "took longer than {limit:?}: it, or a file that it names, is on a file system that hangs, or is very large; nothing was changed"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn regression_what_hangs_is_not_waited_for() {
        let (release, hangs) = mpsc::channel::<()>();
        let short = Duration::from_millis(10);
        let outcome = in_time(short, move || hangs.recv()).await;
        assert!(outcome.unwrap_err().starts_with("took longer than 10ms: "));
        drop(release);
        assert_eq!(in_time(PATIENCE, || 7).await, Ok(7));
    }
}
