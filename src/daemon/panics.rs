//! What becomes of a panic, in whichever thread.

use std::sync::Arc;

use tracing::error;

use crate::metrics::Metrics;

/// Panics are logged and counted where they happen, whoever survives them.
pub(super) fn count_panics(metrics: &Arc<Metrics>) {
    let panics = metrics.panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        panics.with_label_values(&[thread]).inc();
        error!(thread, %panic, backtrace = %std::backtrace::Backtrace::capture(), "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_counted_by_thread() {
        let before = std::panic::take_hook();
        let metrics = Arc::new(Metrics::new());
        count_panics(&metrics);
        let thread = std::thread::Builder::new().name("worker-7".to_owned());
        let result = thread
            .spawn(|| panic!("of the test's own making"))
            .unwrap()
            .join();
        std::panic::set_hook(before);
        assert!(result.is_err());
        assert_eq!(metrics.panics.with_label_values(&["worker-7"]).get(), 1);
    }
}
