//! What an error says, with all that has led to it, in one line. Judges nothing.

use std::error::Error;

/// `http2 error: stream error received: refused stream`
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
