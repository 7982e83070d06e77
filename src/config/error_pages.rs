//! `[error_pages]`: what stands in the place of the balancer's own short error messages.

use std::path::PathBuf;

use http::StatusCode;

use super::Place;
use crate::message::negotiate::Format;
use crate::units::ByteSize;

/// One entry of `[error_pages]`.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The status of the errors it is for, one of [`OWN_STATUSES`].
    pub status: StatusCode,
    /// The file, read when the snapshot is compiled.
    pub path: PathBuf,
    /// What it is, by its extension: `.html`, `.json` or `.txt`.
    pub format: Format,
    /// Where the entry stands.
    pub place: Place,
}

impl ErrorPage {
    /// The largest file: pages are kept in memory.
    pub const LARGEST: ByteSize = ByteSize::kibibytes(64);
}

/// The statuses of errors that the balancer itself answers with, in order.
pub const OWN_STATUSES: [u16; 16] = [
    400, 404, 405, 408, 413, 414, 417, 421, 431, 500, 501, 502, 503, 504, 505, 508,
];
