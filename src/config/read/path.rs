//! The canonical spelling of a path, in which alone paths are compared: requests are brought into it, so a route must
//! be written in it or would never match. Knows nothing of routes.

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
    let decoded = decode_unreserved(path)?;
    let spelling =
        resolve(&decoded).ok_or_else(|| format!("must not climb above \"/\", got {path:?}"))?;
    if spelling == path {
        Ok(())
    } else {
        Err(format!(
            "must be in canonical spelling: write {spelling:?}, got {path:?}"
        ))
    }
}

/// RFC 3986 §6.2.2: unreserved characters stand for themselves, other escapes are upper-case.
fn decode_unreserved(path: &str) -> Result<String, String> {
    let mut decoded = String::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err(format!(
                "must have two hexadecimal digits after \"%\" (\"%25\" for the sign itself), got {path:?}"
            ));
        };
        match byte {
            b'/' | b'\\' | 0..=0x1f | 0x7f => {
                return Err(format!(
                    "must not hold %{byte:02X}: no request with it is routed by it, got {path:?}"
                ));
            }
            b'-' | b'.' | b'_' | b'~' => decoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => decoded.push(byte.into()),
            _ => decoded.push_str(&format!("%{byte:02X}")),
        }
        decoded.push_str(&part[2..]);
    }
    Ok(decoded)
}

/// RFC 3986 §5.2.4, after merging slashes. `None` where the path climbs above its root.
fn resolve(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for segment in path.split('/').skip(1) {
        is_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            segment => segments.push(segment),
        }
    }
    let end = if is_folder && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{end}", segments.join("/")))
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
