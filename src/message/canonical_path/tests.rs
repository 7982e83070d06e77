//! Spellings and readings of paths: by example, against a naive model, and of anything.

use super::*;
use proptest::prelude::*;

fn canonical(raw: &str) -> String {
    canonicalize(raw).unwrap().into_owned()
}

fn reading(path: &str) -> String {
    loosest(path).unwrap().map_or_else(
        || path.to_owned(),
        |reading| String::from_utf8(reading.path).unwrap(),
    )
}

#[test]
fn canonical_paths_are_borrowed() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/A/b.c/..d/.e/f..",
        "/.well-known/x",
        "/a%20b%2Fc%5C",
        "/a;b=c",
        "/...",
        "/~!$&'()*+,=:@|",
    ] {
        assert!(
            matches!(canonicalize(path), Ok(Cow::Borrowed(same)) if same == path),
            "{path}"
        );
    }
}

#[test]
fn unreserved_characters_are_decoded_and_other_escapes_upper_cased() {
    assert_eq!(canonical("/%61%2d%2E%5f%7e%41%30"), "/a-._~A0");
    assert_eq!(canonical("/%2f%5c%e2%3b%25"), "/%2F%5C%E2%3B%25");
    assert_eq!(canonical("/%2561"), "/%2561");
}

#[test]
fn slashes_merge_and_dot_segments_go_after_decoding() {
    for (raw, path) in [
        ("//", "/"),
        ("//a///b//", "/a/b/"),
        ("/a/.", "/a/"),
        ("/a/./", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/../c", "/a/c"),
        ("/a//../b", "/b"),
        ("/x/%2e%2E/admin", "/admin"),
        ("/%2e/a", "/a"),
        ("/.", "/"),
        ("/a/b/../..", "/"),
        ("/a/b/..", "/a/"),
    ] {
        assert_eq!(canonical(raw), path, "{raw}");
    }
}

#[test]
fn what_may_not_stand_in_a_path_is_refused() {
    for (raw, error) in [
        ("", PathError::NotRooted),
        ("*", PathError::NotRooted),
        ("a/b", PathError::NotRooted),
        ("/a b", PathError::ForbiddenByte(b' ')),
        ("/a#b", PathError::ForbiddenByte(b'#')),
        ("/a\\b", PathError::ForbiddenByte(b'\\')),
        ("/a\tb", PathError::ForbiddenByte(b'\t')),
        ("/a\u{7f}", PathError::ForbiddenByte(0x7f)),
        ("/é", PathError::ForbiddenByte(0xc3)),
        ("/%", PathError::BadEscape),
        ("/%4", PathError::BadEscape),
        ("/%4g", PathError::BadEscape),
        ("/%+1", PathError::BadEscape),
        ("/%00", PathError::EncodedControl(0)),
        ("/%1f", PathError::EncodedControl(0x1f)),
        ("/%0A", PathError::EncodedControl(b'\n')),
        ("/%7F", PathError::EncodedControl(0x7f)),
        ("/..", PathError::ClimbsAboveRoot),
        ("/a/../..", PathError::ClimbsAboveRoot),
        ("/a/%2e%2e/../b", PathError::ClimbsAboveRoot),
    ] {
        assert_eq!(canonicalize(raw), Err(error), "{raw:?}");
    }
    assert_eq!(
        PathError::ForbiddenByte(b' ').to_string(),
        "path holds the byte 0x20, which must be percent-encoded"
    );
}

#[test]
fn encoded_separators_are_found() {
    assert!(has_encoded_separator("/a%2Fb"));
    assert!(has_encoded_separator("/%20%5C"));
    assert!(!has_encoded_separator("/a%20b/%252F"));
}

#[test]
fn the_loosest_reading_sees_through_every_disguise() {
    for (path, loose) in [
        ("/ADMIN", "/admin"),
        ("/admin;x/y;z=1", "/admin/y"),
        ("/x/..;/admin", "/admin"),
        ("/..;/admin", "/admin"),
        ("/%2561dmin", "/admin"),
        ("/%252561dmin", "/admin"),
        ("/x%2F..%2Fadmin", "/admin"),
        ("/x%5C..%5Cadmin", "/admin"),
        ("/admin./x", "/admin/x"),
        ("/admin%20/x", "/admin/x"),
        ("/admin%20.%2520", "/admin"),
        ("/;a/admin", "/admin"),
        ("/admin%3Fx", "/admin"),
        ("/.;/admin", "/admin"),
        ("/x/..%20/admin", "/admin"),
        ("/a/;", "/a/"),
        ("/;", "/"),
        ("/100%25zz", "/100%zz"),
    ] {
        assert_eq!(reading(path), loose, "{path}");
    }
    assert_eq!(loosest("/%E9x").unwrap().unwrap().path, b"/\xe9x");
    assert_eq!(loosest("/%FFx"), Err(PathError::NotUtf8(0xff)));
}

#[test]
fn what_folds_to_ascii_is_taken_for_it() {
    for (path, loose) in [
        ("/adm%C4%B1n", "/admin"),
        ("/adm%C4%B0n", "/admin"),
        ("/u%C5%BFer", "/user"),
        ("/%E2%84%AAey", "/key"),
        ("/%EF%BD%81dmin", "/admin"),
        ("/%EF%BC%A1DMIN", "/admin"),
        ("/x%EF%BC%8Fadmin", "/x/admin"),
        ("/x/%EF%BC%8E%EF%BC%8E/admin", "/admin"),
        ("/admin%EF%BC%9Bx", "/admin"),
        ("/%EF%BC%8561dmin", "/admin"),
        ("/%EF%BC%852561dmin", "/admin"),
        ("/adm%25C4%B1n", "/admin"),
        ("/%20admin", "/admin"),
        ("/%20admin%20/%2520x", "/admin/x"),
        ("/admin%C2%A0", "/admin"),
        ("/admin%C2%85", "/admin"),
        ("/admin%A0", "/admin"),
        ("/admin%85", "/admin"),
        ("/%E3%80%80admin%E2%80%A8", "/admin"),
        ("/caf%C3%A9", "/caf\u{e9}"),
        (
            "/%E4%B8%AD%E6%96%87/%F0%9F%A6%80",
            "/\u{4e2d}\u{6587}/\u{1f980}",
        ),
    ] {
        assert_eq!(reading(path), loose, "{path}");
    }
}

#[test]
fn bytes_that_no_utf8_has_leave_no_reading() {
    for (path, byte) in [
        ("/x%C0%AFadmin", 0xc0),
        ("/x%C1%9Cadmin", 0xc1),
        ("/x%E0%80%AFadmin", 0xe0),
        ("/x%F0%80%80%AFadmin", 0xf0),
        ("/x%25C0%25AFadmin", 0xc0),
        ("/x%F5", 0xf5),
        ("/x%FF", 0xff),
    ] {
        assert_eq!(loosest(path), Err(PathError::NotUtf8(byte)), "{path}");
    }
}

#[test]
fn folding_comes_to_an_end() {
    // Each layer is a full-width `%` whose last byte is escaped by the next.
    let mut percent = "%EF%BC%85".to_owned();
    for _ in 0..500 {
        percent = format!("%EF%BC{percent}85");
    }
    assert_eq!(
        loosest(&format!("/{percent}61dmin")),
        Err(PathError::TooDeeplyEncoded)
    );
}

#[test]
fn a_path_without_disguise_is_its_own_loosest_reading() {
    for path in ["/", "/a/b/", "/.well-known/x", "/a.b/c", "/a..b", "/..a"] {
        assert_eq!(loosest(path), Ok(None), "{path}");
    }
}

#[test]
fn hidden_climbing_is_told() {
    assert!(loosest("/ADMIN/..;/x").unwrap().unwrap().climbs);
    assert!(!loosest("/ADMIN/.;/x").unwrap().unwrap().climbs);
}

#[test]
fn what_no_reading_can_settle_is_refused() {
    assert_eq!(loosest("/%25252561"), Err(PathError::TooDeeplyEncoded));
    assert_eq!(loosest("/admin%2500"), Err(PathError::EncodedControl(0)));
}

fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-cA-C]{1,2}",
        4 => Just("/".to_owned()),
        2 => Just(".".to_owned()),
        1 => Just("..".to_owned()),
        1 => "%[0-9a-fA-F]{2}",
        1 => "%25[0-9a-fA-F]{2}",
        1 => "%(C4%B1|C2%A0|85|EF%BC%8[5EF]|EF%BD%81|C3%A9)",
        1 => "%(2[eEfF]|5[cC]|3[bB]|20)",
        1 => "[;~%_!]",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// As naively as it can be said: escapes first, then segments. `None` for what is refused.
fn model(raw: &str) -> Option<String> {
    let mut rest = raw.chars();
    let mut decoded = String::new();
    while let Some(character) = rest.next() {
        match character {
            '%' => {
                let digits: String = rest.by_ref().take(2).collect();
                if digits.len() != 2 || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                let byte = u8::from_str_radix(&digits, 16).ok()?;
                match char::from(byte) {
                    'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => {
                        decoded.push(char::from(byte));
                    }
                    '\0'..='\x1f' | '\x7f' => return None,
                    _ => decoded.push_str(&format!("%{byte:02X}")),
                }
            }
            '#' | '\\' => return None,
            '!'..='~' => decoded.push(character),
            _ => return None,
        }
    }
    let segments: Vec<&str> = decoded.strip_prefix('/')?.split('/').collect();
    let mut kept = Vec::new();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => {
                kept.pop()?;
            }
            segment => kept.push(segment),
        }
    }
    let is_folder = matches!(segments.last(), Some(&("" | "." | "..")));
    let end = if is_folder && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{end}", kept.join("/")))
}

proptest! {
    #[test]
    fn canonical_paths_agree_with_a_naive_model(raw in prop_oneof![path(), "[/.a-c%0-9#\\\\é ]{0,8}"]) {
        prop_assert_eq!(canonicalize(&raw).ok().map(Cow::into_owned), model(&raw));
    }

    #[test]
    fn canonicalize_takes_anything(raw in ".*") {
        let _ = canonicalize(&raw);
        let _ = loosest(&raw);
    }

    #[test]
    fn a_canonical_path_is_canonical(raw in path()) {
        if let Ok(path) = canonicalize(&raw) {
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(path.starts_with('/') && !path.contains("//"));
            prop_assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
            let again = canonicalize(&path);
            prop_assert!(matches!(&again, Ok(Cow::Borrowed(same)) if *same == path), "{again:?}");
            if let Cow::Owned(path) = path {
                prop_assert_ne!(path, raw);
            }
        }
    }

    #[test]
    fn the_loosest_reading_is_final(raw in path()) {
        if let Ok(Some(reading)) = loosest(&raw) {
            prop_assert_eq!(reading.path[0], b'/');
            if let Ok(text) = String::from_utf8(reading.path)
                && !text.contains('%')
            {
                let again = loosest(&text).unwrap();
                prop_assert!(again.is_none_or(|again| again.path == text.as_bytes() && !again.climbs));
                prop_assert_ne!(text, raw);
            }
        }
    }
}
