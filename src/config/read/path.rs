//! The canonical spelling of a path, in which alone paths are compared: requests are brought into it, so a route must
//! be written in it or would never match. Knows nothing of routes.

use crate::message::canonical_path::{PathError, canonicalize};

/// Whether `path` is in canonical spelling. The error says the canonical one where there is one.
pub(super) fn canonical(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("must begin with \"/\", got {path:?}"));
    }
    if let Some(c) = path
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '\\' | '?' | '#'))
    {
        let escape = |byte| format!("%{byte:02X}");
        let advice = match c {
            '?' => "; `query` is not part of a path".to_owned(),
            '\\' | '#' => String::new(),
            c if c.is_control() => String::new(),
            c => format!(
                "; write it as {}",
                c.to_string().bytes().map(escape).collect::<String>()
            ),
        };
        return Err(format!("must not hold {c:?}{advice}, got {path:?}"));
    }
    let spelling = canonicalize(path).map_err(|error| match error {
        PathError::BadEscape => format!(
            "must have two hexadecimal digits after \"%\" (\"%25\" for the sign itself), got {path:?}"
        ),
        PathError::EncodedControl(byte) => unroutable(&format!("%{byte:02X}"), path),
        PathError::ClimbsAboveRoot => format!("must not climb above \"/\", got {path:?}"),
        // Told above, or only of what a path could be taken for.
        PathError::NotRooted
        | PathError::ForbiddenByte(_)
        | PathError::NotUtf8(_)
        | PathError::TooDeeplyEncoded => format!("{error}, got {path:?}"),
    })?;
    if let Some(separator) = ["%2F", "%5C"].iter().find(|it| spelling.contains(**it)) {
        return Err(unroutable(separator, path));
    }
    if spelling == path {
        Ok(())
    } else {
        Err(format!(
            "must be in canonical spelling: write {spelling:?}, got {path:?}"
        ))
    }
}

fn unroutable(escape: &str, path: &str) -> String {
    format!("must not hold {escape}: no request with it is routed by it, got {path:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_paths_pass() {
        for path in [
            "/",
            "/admin",
            "/admin/",
            "/a/b.c",
            "/a..b",
            "/...",
            "/%20",
            "/%C3%A9",
            "/a;b=1",
            "/a%3Bb",
            "/A",
            "/a:@!$&'()*+,=~",
        ] {
            assert_eq!(canonical(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn other_spellings_are_told_the_canonical_one() {
        for (path, spelling) in [
            ("//admin", "/admin"),
            ("/a//b", "/a/b"),
            ("/a//", "/a/"),
            ("/a/.", "/a/"),
            ("/./a", "/a"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/%61dmin", "/admin"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a/%2e%2e/b", "/b"),
            ("/%7Euser", "/~user"),
        ] {
            assert_eq!(
                canonical(path),
                Err(format!(
                    "must be in canonical spelling: write {spelling:?}, got {path:?}"
                ))
            );
        }
    }

    #[test]
    fn a_path_no_request_can_have_is_refused() {
        for (path, message) in [
            ("", "must begin with \"/\""),
            ("admin", "must begin with \"/\""),
            ("/a?b", "must not hold '?'; `query` is not part of a path"),
            ("/a#b", "must not hold '#'"),
            ("/a\\b", "must not hold '\\\\'"),
            ("/a b", "must not hold ' '; write it as %20"),
            ("/é", "must not hold 'é'; write it as %C3%A9"),
            ("/a\u{0}", "must not hold '\\0'"),
            ("/a%", "must have two hexadecimal digits"),
            ("/a%2", "must have two hexadecimal digits"),
            ("/a%+1", "must have two hexadecimal digits"),
            ("/a%zz", "must have two hexadecimal digits"),
            ("/a%2fb", "must not hold %2F"),
            ("/a%5Cb", "must not hold %5C"),
            ("/a%00", "must not hold %00"),
            ("/a%7f", "must not hold %7F"),
            ("/..", "must not climb above \"/\""),
            ("/a/../../b", "must not climb above \"/\""),
        ] {
            let error = canonical(path).unwrap_err();
            assert!(error.starts_with(message), "{path}: {error}");
        }
    }
}
