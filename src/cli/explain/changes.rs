//! What a route changes on the way, as the data path works it out.

use http::HeaderName;

use super::lines::{Lines, join};
use super::sent_path;
use crate::config::{Config, FieldValue, HeaderChanges, Rewrite, Route};
use crate::route::{Query, Router, Unsendable};

/// Which header fields the route changes.
pub(super) fn explain_headers(lines: &mut Lines, route: &Route) {
    for (label, changes) in [
        ("request headers", &route.request_headers),
        ("response headers", &route.response_headers),
    ] {
        if let Some(changes) = changes {
            lines.push(label, header_changes(changes));
        }
    }
}

/// Who gets a copy.
pub(super) fn explain_mirror(lines: &mut Lines, config: &Config, route: &Route) {
    let Some(mirror) = &route.mirror else { return };
    let methods = mirror.methods.as_ref().map_or_else(
        || "all methods".to_owned(),
        |methods| join(&methods.0, " or "),
    );
    lines.push(
        "mirror",
        format!(
            "{} % to upstream {}, {methods}, bodies of up to {}",
            mirror.percent, config.upstreams[mirror.upstream].name, mirror.body_bytes
        ),
    );
}

/// Names only: values may be secrets.
fn header_changes(changes: &HeaderChanges) -> String {
    let names =
        |fields: &[(HeaderName, FieldValue)]| join(fields.iter().map(|(name, _)| name), ", ");
    let changes = [
        ("remove", join(&changes.remove, ", ")),
        ("set", names(&changes.set)),
        ("add", names(&changes.add)),
    ];
    let made = changes.into_iter().filter(|(_, names)| !names.is_empty());
    join(
        made.map(|(change, names)| format!("{change} {names}")),
        "; ",
    )
}

/// What the endpoint is asked for. False where that is refused.
pub(super) fn explain_rewrite(
    lines: &mut Lines,
    (config, router): (&Config, &Router),
    (index, rewrite): (usize, &Rewrite),
    asked: &Query<'_>,
) -> bool {
    match sent_path((config, router), (index, rewrite), asked) {
        Ok(path) => {
            lines.push("sent path", path.into_owned());
            true
        }
        Err(error) => {
            let mut why = error.to_string();
            if let Unsendable::Exclusive { path, route } = error {
                lines.push("sent path", path.into_owned());
                let name = &config.routes[route].name;
                why = format!("the rewritten path belongs to the exclusive route {name}");
            }
            lines.push("refused", format!("500, {why}"));
            false
        }
    }
}
