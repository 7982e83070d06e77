//! Names: which characters they may hold, and which one a route gets when it has none.

use std::collections::HashSet;

use crate::config::{HostPattern, MethodSet, PathPattern};
use crate::units::Name;

/// Whether `name` may be given to a listener, an upstream, a route or an endpoint.
pub(super) fn valid(name: &str) -> Result<Name, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(allowed) {
        return Err(format!(
            "a name has 1–{LONGEST} characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got {name:?}"
        ));
    }
    Ok(name.into())
}

/// A name that says what the route takes: `app.example.com/admin`, `GET /x`, `=/exact`, `~^/regex`.
pub(super) fn derived(
    hosts: &[HostPattern],
    path: &PathPattern,
    methods: Option<&MethodSet>,
) -> String {
    let mut name = String::new();
    if let Some(MethodSet(methods)) = methods {
        let methods: Vec<_> = methods.iter().map(http::Method::as_str).collect();
        name = methods.join(",") + " ";
    }
    match hosts.first() {
        Some(HostPattern::Exact(host)) => name += host,
        Some(HostPattern::Wildcard(domain)) => name = name + "*." + domain,
        None => {}
    }
    if hosts.len() > 1 {
        name += &format!("+{}", hosts.len() - 1);
    }
    match path {
        PathPattern::Prefix(path) => name += path,
        PathPattern::Exact(path) => name = name + "=" + path,
        PathPattern::Regex(regex) => name = name + "~" + regex.as_str(),
    }
    let mut printable: String = name
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if let Some((end, _)) = printable.char_indices().nth(LONGEST_DERIVED) {
        printable.truncate(end);
        printable.push('…');
    }
    printable
}

/// `name`, with `#2`, `#3`… where it is taken; then taken itself.
pub(super) fn unique(name: String, taken: &mut HashSet<Name>) -> Name {
    let mut unique: Name = name.as_str().into();
    let mut count = 1_u32;
    while taken.contains(&unique) {
        count += 1;
        unique = format!("{name}#{count}").into();
    }
    taken.insert(unique.clone());
    unique
}

const LONGEST: usize = 64; // names are metric labels and log fields
const LONGEST_DERIVED: usize = 96; // a regex may be long

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(valid("app-1_b.c").is_ok());
        assert!(valid(&"a".repeat(64)).is_ok());
        for name in ["", "a b", "a/b", "é", "a:1", "a\"", &"a".repeat(65)] {
            assert!(
                valid(name)
                    .unwrap_err()
                    .starts_with("a name has 1–64 characters"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_derived_name_says_what_the_route_takes() {
        let exact = HostPattern::Exact("app.example.com".into());
        let wildcard = HostPattern::Wildcard("example.com".into());
        let admin = PathPattern::Prefix("/admin".into());
        assert_eq!(derived(&[], &admin, None), "/admin");
        assert_eq!(
            derived(std::slice::from_ref(&exact), &admin, None),
            "app.example.com/admin"
        );
        assert_eq!(
            derived(&[wildcard, exact], &admin, None),
            "*.example.com+1/admin"
        );
        let get = MethodSet(vec![http::Method::GET, http::Method::HEAD]);
        assert_eq!(
            derived(&[], &PathPattern::Exact("/x".into()), Some(&get)),
            "GET,HEAD =/x"
        );
        let regex = |text: &str| PathPattern::Regex(regex::Regex::new(text).unwrap());
        assert_eq!(derived(&[], &regex("^/re"), None), "~^/re");
        assert_eq!(
            derived(&[], &regex("(?x)\n^/re"), None),
            "~(?x)\u{fffd}^/re"
        );
        assert_eq!(
            derived(&[], &regex(&"a".repeat(200)), None).chars().count(),
            97
        );
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let mut taken = HashSet::new();
        assert_eq!(&*unique("/".to_owned(), &mut taken), "/");
        assert_eq!(&*unique("/".to_owned(), &mut taken), "/#2");
        assert_eq!(&*unique("/".to_owned(), &mut taken), "/#3");
        assert_eq!(&*unique("/#2".to_owned(), &mut taken), "/#2#2");
    }
}
