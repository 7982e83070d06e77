//! Writes all families as Prometheus text.

use prometheus::{Encoder, TextEncoder};

use super::Metrics;

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All families in the Prometheus text format 0.0.4.
pub fn text(metrics: &Metrics) -> Result<Vec<u8>, prometheus::Error> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&metrics.gather(), &mut buffer)?;
    Ok(buffer)
}
