//! The path an endpoint is asked for, made of the one the client asked for.

use std::borrow::Cow;

use crate::config::Rewrite;
use crate::message::canonical_path::canonicalize;

/// What a rewrite made is no path in canonical spelling.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the rewritten path is not canonical")]
pub struct NotCanonical;

/// `path`, which is canonical and which the route took, as the endpoint gets it. Borrowed where a regex does not match.
///
/// Only a canonical path comes out: what was made of parts of a path could climb, or be read in two ways.
pub fn rewrite<'p>(rewrite: &Rewrite, path: &'p str) -> Result<Cow<'p, str>, NotCanonical> {
    let made = match rewrite {
        Rewrite::Prefix { from, to } => {
            let rest = path.strip_prefix(&**from).ok_or(NotCanonical)?;
            match format!("{to}{rest}") {
                made if made.is_empty() => Cow::Borrowed("/"),
                made => Cow::Owned(made),
            }
        }
        Rewrite::Regex { regex, to } => regex.replace(path, &**to),
    };
    match canonicalize(&made) {
        Ok(Cow::Borrowed(_)) => Ok(made),
        Ok(Cow::Owned(_)) | Err(_) => Err(NotCanonical),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn prefix(from: &str, to: &str) -> Rewrite {
        Rewrite::Prefix {
            from: from.into(),
            to: to.into(),
        }
    }

    fn regex(regex: &str, to: &str) -> Rewrite {
        Rewrite::Regex {
            regex: Regex::new(regex).unwrap(),
            to: to.into(),
        }
    }

    #[test]
    fn a_prefix_is_replaced_on_the_segment_boundary() {
        for (from, to, path, expected) in [
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/api", "/v2", "/api/x/y", "/v2/x/y"),
            ("/api", "/v2/deep", "/api/api", "/v2/deep/api"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api/x", "/x"),
            ("", "/new", "/", "/new/"),
            ("", "/new", "/x", "/new/x"),
            ("", "", "/", "/"),
        ] {
            assert_eq!(
                rewrite(&prefix(from, to), path).as_deref(),
                Ok(expected),
                "{from} {to} {path}"
            );
        }
    }

    #[test]
    fn a_regex_replaces_its_first_match_with_what_it_found() {
        for (pattern, to, path, expected) in [
            ("^/v1/(.*)$", "/v2/$1", "/v1/a/b", "/v2/a/b"),
            (
                "^/(?<user>[^/]+)/docs",
                "/docs/$user",
                "/ann/docs/x",
                "/docs/ann/x",
            ),
            ("/a", "/b", "/a/a", "/b/a"),
            ("^/none", "/b", "/a", "/a"),
            ("^/(.)$", "/$$$1", "/x", "/$x"),
            ("^/(.)$", "/${1}y", "/x", "/xy"),
        ] {
            assert_eq!(
                rewrite(&regex(pattern, to), path).as_deref(),
                Ok(expected),
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn what_is_no_canonical_path_does_not_come_out() {
        for (pattern, to, path) in [
            ("^/a(.*)$", "/.$1", "/a./x"),
            ("^/a/(.*)$", "$1", "/a/x"),
            ("^/a(.*)$", "/b/$1", "/a/x"),
            ("^/a/(.*)$", "/%$1", "/a/2fx"),
            ("^/a/%(.*)$", "/$1%", "/a/%25"),
            ("^/.*$", "", "/x"),
            ("^/a/(.*)$", "/%6$1", "/a/1"),
        ] {
            assert_eq!(
                rewrite(&regex(pattern, to), path),
                Err(NotCanonical),
                "{pattern} {to} {path}"
            );
        }
    }

    fn is_canonical(path: &str) -> bool {
        matches!(canonicalize(path), Ok(Cow::Borrowed(_)))
    }

    proptest! {
        #[test]
        fn a_replaced_prefix_always_leaves_a_canonical_path(
            from in "(/[a-z.;]{1,3}){0,2}",
            to in "(/[a-zA-Z]{1,3}){0,2}",
            rest in "(/[a-z.;=A-F0-9%]{0,4}){0,4}",
        ) {
            let path = format!("{from}{rest}");
            if is_canonical(&path) {
                prop_assert!(rewrite(&prefix(&from, &to), &path).is_ok_and(|made| is_canonical(&made)));
            }
        }

        #[test]
        fn nothing_but_canonical_paths_comes_out_of_a_regex(
            to in "[/.$0-9a-f%{}]{0,8}",
            path in "(/[a-z.%0-9A-F]{0,4}){1,4}",
        ) {
            let by_regex = regex("^/([^/]*)/?(.*)$", &to);
            if is_canonical(&path) && let Ok(made) = rewrite(&by_regex, &path) {
                prop_assert!(is_canonical(&made));
            }
        }
    }
}
