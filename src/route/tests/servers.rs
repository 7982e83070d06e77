//! No disguise gets an exclusive path past the router to a server that sees through it.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_disguise_of_an_exclusive_path_reaches_another_route(raw_path in disguised()) {
        let router = guarded();
        if let Ok(path) = canonicalize(&raw_path) {
            match router.find(&query(&raw_path, &path)) {
                Err(_) => {}
                Ok(Some(0)) => prop_assert!(is_under("/admin", &path)),
                Ok(_) => for server in Server::all() {
                    let seen = server.reads(&path);
                    prop_assert!(!is_under("/admin", &seen), "{server:?} reads {path} as {seen}");
                }
            }
        }
    }
}

/// `/admin/x` behind layers of disguise, and paths that only look like it.
fn disguised() -> impl Strategy<Value = String> {
    let letter = |letter: char| {
        let hex = format!("{:02x}", u32::from(letter));
        prop_oneof![
            8 => Just(letter.to_string()),
            2 => Just(letter.to_ascii_uppercase().to_string()),
            1 => Just(format!("%{hex}")),
            1 => Just(format!("%25{hex}")),
            1 => Just(format!("%2525{hex}")),
        ]
    };
    let admin: Vec<_> = "admin".chars().map(letter).collect();
    let before = prop::sample::select(vec![
        "",
        "",
        "/",
        "/x/..",
        "/x/%2e%2e",
        "/x/..;",
        "/.;",
        "/;",
        "/.",
        "/x%2f..",
        "/x/..%20",
        "/x/%252e%252e",
        "/x/...",
        "/%20",
        "/x;/..",
        "/x/..%255c..",
        "/..",
    ]);
    let separator = prop::sample::select(vec![
        "/", "/", "/", "//", "%2f", "%5C", "%252f", "%255C", "/./", "\\",
    ]);
    let after = prop::sample::select(vec![
        "",
        "/",
        "/x",
        ";x",
        "/..;/x",
        "/../admin",
        "%20",
        ".",
        "%3B",
        "%253bx/y",
        "%3Fx",
        "%23",
        "/%2e%2e;/x",
        "istrator",
        "%20./x",
        "%252fx",
        "/..%20/x",
        "%2500",
        "/.;/x",
        "\\x",
    ]);
    (
        prop::collection::vec(before, 0..3),
        separator,
        admin,
        prop::collection::vec(after, 0..3),
    )
        .prop_map(|(before, separator, admin, after)| {
            format!(
                "{}{separator}{}{}",
                before.concat(),
                admin.concat(),
                after.concat()
            )
        })
        .prop_map(|path| {
            if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            }
        })
}

/// An origin server that takes some liberties and not others.
#[derive(Debug)]
struct Server {
    decodings: u32,
    backslash: bool,
    parameters: bool,
    cut_query: bool,
    merge: bool,
    dots: bool,
    case: bool,
    trim: bool,
}

impl Server {
    fn all() -> impl Iterator<Item = Self> {
        (0..4).flat_map(|decodings| {
            (0..128_u32).map(move |liberties| {
                let takes = |bit: u32| liberties & (1 << bit) != 0;
                Self {
                    decodings,
                    backslash: takes(0),
                    parameters: takes(1),
                    cut_query: takes(2),
                    merge: takes(3),
                    dots: takes(4),
                    case: takes(5),
                    trim: takes(6),
                }
            })
        })
    }

    fn reads(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..self.decodings {
            path = Self::decode(&path);
        }
        if self.cut_query {
            path.truncate(path.find(['?', '#']).unwrap_or(path.len()));
        }
        if self.backslash {
            path = path.replace('\\', "/");
        }
        if self.case {
            path = path.to_ascii_lowercase();
        }
        let mut read: Vec<&str> = Vec::new();
        let mut segments: Vec<&str> = path.split('/').skip(1).collect();
        for segment in &mut segments {
            if self.parameters {
                *segment = segment.split(';').next().unwrap_or_default();
            }
            if self.trim && !matches!(*segment, "." | "..") {
                *segment = segment.trim_end_matches(['.', ' ']);
            }
            match *segment {
                "" if self.merge => {}
                "." if self.dots => {}
                ".." if self.dots => drop(read.pop()),
                segment => read.push(segment),
            }
        }
        format!("/{}", read.join("/"))
    }

    fn decode(path: &str) -> String {
        let mut out = Vec::new();
        let mut rest = path.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let hex = (byte == b'%')
                .then(|| tail.get(..2))
                .flatten()
                .and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(decoded) => {
                    out.push(decoded);
                    rest = &tail[2..];
                }
                None => {
                    out.push(byte);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
