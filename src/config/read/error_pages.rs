//! Reads `[error_pages]`. The files are read later, with the certificates.

use http::StatusCode;

use crate::config::error_pages::{ErrorPage, OWN_STATUSES};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::message::negotiate::Format;

pub(super) fn error_pages(root: &mut Table<'_>) -> Vec<ErrorPage> {
    let entries = root
        .get("error_pages")
        .map(|value| value.entries("a table such as { \"502\" = \"pages/502.html\" }"))
        .unwrap_or_default();
    entries.iter().filter_map(page).collect()
}

fn page(entry: &Value<'_>) -> Option<ErrorPage> {
    let path = entry.path();
    let status = OWN_STATUSES
        .into_iter()
        .find(|status| status.to_string() == entry.name)
        .and_then(|status| StatusCode::from_u16(status).ok());
    if status.is_none() {
        let known: Vec<_> = OWN_STATUSES.iter().map(u16::to_string).collect();
        entry.source.report(
            entry.key_place(),
            format!(
                "must be the status of an error of the balancer's own: {}",
                known.join(", ")
            ),
        );
    }
    let path = path?;
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => Format::Html,
        Some("json") => Format::Json,
        Some("txt") => Format::Text,
        _ => return entry.expected("a file whose name ends in .html, .json or .txt"),
    };
    Some(ErrorPage {
        status: status?,
        path,
        format,
        place: entry.place(),
    })
}
