//! The page's text, put together.

macro_rules! style {
    () => {
        "body{font-family:sans-serif}"
    };
}

macro_rules! script {
    () => {
        "document.querySelector('main').textContent = 'see /api/v1/status';"
    };
}

/// What stands between its tags of style.
pub(super) const STYLE: &str = style!();
/// What stands between its tags of script.
pub(super) const SCRIPT: &str = script!();
/// All of it.
pub(super) const PAGE: &str = concat!(
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>balancer</title><style>",
    style!(),
    "</style></head><body><main></main><script>",
    script!(),
    "</script></body></html>\n"
);
