//! Counters by status code, made as codes come up.

use std::sync::OnceLock;

use prometheus::IntCounter;

use crate::metrics::labels::{HIGHEST_CODE, LOWEST_CODE};

/// One counter per status code.
#[derive(Debug)]
pub struct CodeCounters {
    codes: OnceLock<Box<[OnceLock<IntCounter>]>>,
}

impl CodeCounters {
    pub(super) fn new() -> Self {
        Self {
            codes: OnceLock::new(),
        }
    }

    /// Counts one `code`; `resolve` makes its counter the first time.
    pub(super) fn count(&self, code: u16, resolve: impl FnOnce(&str) -> IntCounter) {
        let codes = self.codes.get_or_init(|| {
            (LOWEST_CODE..=HIGHEST_CODE)
                .map(|_| OnceLock::new())
                .collect()
        });
        let code = code.clamp(LOWEST_CODE, HIGHEST_CODE);
        codes[usize::from(code - LOWEST_CODE)]
            .get_or_init(|| resolve(itoa::Buffer::new().format(code)))
            .inc();
    }

    pub(super) fn sum_below(&self, code: u16) -> u64 {
        let codes = self.codes.get().map_or(&[][..], |codes| &**codes);
        let below = codes.iter().take(usize::from(code - LOWEST_CODE));
        below.filter_map(OnceLock::get).map(IntCounter::get).sum()
    }
}
