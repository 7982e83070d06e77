//! What the way of a request has to know of the access log: which requests have a line, and what stands in it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, REFERER, USER_AGENT};

use crate::config::{
    AccessLog, AccessLogFormat, AccessLogOnly, AccessLogTarget, Field, Fields, Redact,
};
use crate::message::redact::Secrets;

/// Which requests have a line, and what stands in it.
#[derive(Debug)]
pub struct AccessLogRule {
    /// Number of the snapshot.
    pub generation: u64,
    /// How lines are written.
    pub format: AccessLogFormat,
    /// What stands in them.
    pub fields: Fields,
    /// Fields of requests that do, and whether their values are hidden.
    pub headers: Box<[(HeaderName, bool)]>,
    /// Parameters whose values are hidden.
    pub secrets: Option<Secrets>,
    /// Whether the value of `User-Agent` is.
    pub hides_user_agent: bool,
    /// Whether that of `Referer` is.
    pub hides_referer: bool,
    /// Only requests that failed.
    only_errors: bool,
    /// Share of the others.
    sample: f64,
    /// Requests that took so long are kept as if they had failed.
    slow: Duration,
}

impl AccessLogRule {
    /// As `config` says; none where nothing is logged.
    pub fn of(config: &AccessLog, generation: u64) -> Option<Arc<Self>> {
        if config.target == AccessLogTarget::Off {
            return None;
        }
        let Redact { query, headers } = &config.redact;
        let is_hidden = |name: &HeaderName| headers.contains(name) || is_secret(name);
        let logged = config.headers.iter();
        Some(Arc::new(Self {
            generation,
            format: config.format,
            fields: match config.format {
                AccessLogFormat::Json => config.fields,
                AccessLogFormat::Combined => COMBINED.into_iter().collect(),
            },
            headers: logged.map(|name| (name.clone(), is_hidden(name))).collect(),
            secrets: query.clone(),
            hides_user_agent: is_hidden(&USER_AGENT),
            hides_referer: is_hidden(&REFERER),
            only_errors: config.only == AccessLogOnly::Errors,
            sample: config.sample,
            slow: config.slow.unwrap_or(Duration::MAX),
        }))
    }

    /// Whether a request has a line that took `total`. `random` is a number in [0, 1).
    pub fn keeps(&self, failed: bool, total: Duration, random: impl FnOnce() -> f64) -> bool {
        failed
            || total >= self.slow
            || !self.only_errors && (self.sample >= 1.0 || random() < self.sample)
    }
}

/// What only the one who sent it, and who it was sent to, may know.
fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name) || SECRET.contains(&name.as_str())
}

/// Names that frameworks and gateways give to keys and tokens.
const SECRET: [&str; 7] = [
    "api-key",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
];

/// What has to be kept of a request for a line in combined format, beside what always is.
const COMBINED: [Field; 2] = [Field::UserAgent, Field::Referer];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn rule(text: &str) -> Arc<AccessLogRule> {
        let text = format!("{text}\n[listener.a]\naddress = \"127.0.0.1:0\"\n");
        let config = config::parse(&text, std::path::Path::new("f")).unwrap();
        AccessLogRule::of(&config.access_log, 3).expect("a log")
    }

    #[test]
    fn failed_and_slow_requests_are_kept_whatever_the_sample_says() {
        let rule = rule("[access_log]\ntarget = \"stdout\"\nsample = 0.25\nslow = \"1s\"");
        let quick = Duration::from_millis(999);
        assert!(rule.keeps(true, quick, || 0.9));
        assert!(rule.keeps(false, Duration::from_secs(1), || 0.9));
        assert!(rule.keeps(false, quick, || 0.24));
        assert!(!rule.keeps(false, quick, || 0.25));
    }

    #[test]
    fn only_errors_leaves_out_what_is_neither_failed_nor_slow() {
        let text = "[access_log]\ntarget = \"stdout\"\nonly = \"errors\"";
        let long = Duration::from_secs(3600);
        assert!(!rule(text).keeps(false, long, || 0.0));
        assert!(rule(text).keeps(true, Duration::ZERO, || 0.9));
        assert!(rule(&format!("{text}\nslow = \"1h\"")).keeps(false, long, || 0.9));
    }

    #[test]
    fn credentials_are_hidden_wherever_they_are_asked_for() {
        let rule = rule(
            "[access_log]\ntarget = \"stdout\"\nheaders = [\"X-Tenant\", \"Cookie\", \"x-b\"]\nredact = { headers = [\"X-B\", \"referer\"] }",
        );
        let hidden: Vec<_> = rule.headers.iter().map(|(_, hidden)| *hidden).collect();
        assert_eq!(hidden, [false, true, true]);
        assert!(rule.hides_referer && !rule.hides_user_agent);
    }
}
