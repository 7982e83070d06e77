//! What is hidden, and what is not.

use proptest::prelude::*;

use super::*;

fn named(names: &[&str]) -> Secrets {
    Secrets::Named(names.iter().map(|name| Box::from(*name)).collect())
}

#[test]
fn values_of_secrets_are_hidden_and_others_stay() {
    let secrets = named(&["token", "password"]);
    for (query, shown) in [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("token", "token"),
        ("token=", "token=***"),
        ("token=s&b=2", "token=***&b=2"),
        ("a=1&token=s", "a=1&token=***"),
        ("a=1&&token=s=t&", "a=1&&token=***&"),
        ("TOKEN=s&Password=s", "TOKEN=***&Password=***"),
        ("%74oke%6E=s", "%74oke%6E=***"),
        ("%2574oken=s", "%2574oken=***"),
        ("+token+=s", "+token+=***"),
        ("token[]=s&token%5B0%5D=s", "token[]=***&token%5B0%5D=***"),
        ("a=1;token=s;t=u&b=2", "a=1;token=***&b=2"),
        (
            "next=%2Flogin%3Ftoken%3Ds&b=2",
            "next=%2Flogin%3Ftoken%3D***&b=2",
        ),
        ("next=/login?a=1%26token=s", "next=/login?a=1%26token=***"),
        ("a%3D1%26token%3Ds", "a%3D1%26token%3D***"),
        ("token%3Ds%26a=1", "token%3D***"),
        ("%74oken%3Ds%26token=t&b=2", "%74oken%3D***&b=2"),
        ("mytoken=1&tokens=2", "mytoken=1&tokens=2"),
        ("a=token", "a=token"),
        ("%zz=1&%=2&a=%", "%zz=1&%=2&a=%"),
    ] {
        assert_eq!(secrets.query(query), shown, "{query}");
    }
}

#[test]
fn paths_and_urls_may_hold_parameters_too() {
    let secrets = named(&["token"]);
    for (path, shown) in [
        ("/a/b", "/a/b"),
        ("/a;token=s/b", "/a;token=***"),
        ("/a%3Ftoken=s", "/a%3Ftoken=***"),
        ("/a;x=1/b", "/a;x=1/b"),
    ] {
        assert_eq!(secrets.path(path), shown, "{path}");
    }
    let url = "https://example.com/a;token=s?b=1&token=s#token=s";
    assert_eq!(secrets.url(url), "https://example.com/a;token=***");
    let url = "https://example.com/a?b=1&token=s#token=s";
    assert_eq!(secrets.url(url), "https://example.com/a?b=1&token=***");
    assert_eq!(Secrets::All.url("/a?b=1"), "/a?***");
    assert_eq!(Secrets::All.url("/a#b=1"), "/a#***");
    assert_eq!(Secrets::All.query("b"), "***");
    assert_eq!(Secrets::All.url("/a"), "/a");
}

#[test]
fn regression_secrets_in_the_clear_within_other_values_are_hidden() {
    let secrets = named(&["token"]);
    for (query, shown) in [
        ("next=/login?token=s&b=2", "next=/login?token=***&b=2"),
        ("next=/login#token=s", "next=/login#token=***"),
        ("filter[token]=s", "filter[token]=***"),
        ("filter%5Btoken%5D[]=s", "filter%5Btoken%5D[]=***"),
        ("user.token=s&user.name=n", "user.token=***&user.name=n"),
        ("a=b=token=s", "a=b=token=***"),
    ] {
        assert_eq!(secrets.query(query), shown, "{query}");
    }
    for (path, shown) in [
        ("/5%3Ftoken=abc/s", "/5%3Ftoken=***"),
        ("/13;token=abc%2FX/s", "/13;token=***"),
        ("/a/token=s/b", "/a/token=***"),
    ] {
        assert_eq!(secrets.path(path), shown, "{path}");
    }
    for (url, shown) in [
        (
            "https://h/x?next=/l?token=s",
            "https://h/x?next=/l?token=***",
        ),
        ("/a?b=1#token=s", "/a?b=1#token=***"),
        ("https://h/a#token=s&b=1", "https://h/a#token=***&b=1"),
        ("token=abc/s", "token=***"),
        ("a=1, token=abc?s", "a=1, token=***"),
        ("https://user:s@h/a?b=1", "https://***@h/a?b=1"),
        (
            "https://s@h:8/a?b=http://u:s@i",
            "https://***@h:8/a?b=http://***@i",
        ),
        ("https://h/a@b?c=d@e", "https://h/a@b?c=d@e"),
    ] {
        assert_eq!(secrets.url(url), shown, "{url}");
    }
}

/// `name` as somebody spells it who wants it not to be seen.
fn spelled(name: &str, choices: &[u8]) -> String {
    let mut text = String::new();
    for (byte, choice) in name.bytes().zip(choices) {
        match choice % 5 {
            0 => text.push(char::from(byte)),
            1 => text.push(char::from(byte.to_ascii_uppercase())),
            2 => text += &format!("%{byte:02x}"),
            3 => text += &format!("%{:02X}", byte.to_ascii_uppercase()),
            _ => text += &format!("%25{byte:02x}"),
        }
    }
    text
}

/// `text` as it stands within a value.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

proptest! {
    #[test]
    fn secrets_never_stand_in_what_is_shown(
        before in prop::collection::vec("[a-z0-9%;=+?#/]{0,8}", 0..4),
        choices in prop::collection::vec(any::<u8>(), 5),
        (outer, index) in ("([a-z0-9]{1,3}[.\\[])?", "(\\[[a-z0-9]{0,3}\\]|\\])?"),
        secret in "S[A-Z]{6}[;/=+%?#A-Z]{0,6}S[A-Z]{6}",
        after in prop::collection::vec("[a-z0-9%;=+?#/]{0,8}", 0..4),
        separator in prop::sample::select(vec!["&", ";", "?", "#", "&a=/b?", "&a=https://h/#", "&a="]),
        encoded in 0..3,
    ) {
        let name = outer + &spelled("token", &choices) + &index;
        let mut parameter = format!("{name}={secret}");
        for _ in 0..encoded {
            parameter = encode(&parameter);
        }
        let parameter = format!("{}{separator}{parameter}", before.join("&"));
        let query = format!("{parameter}&{}", after.join("&"));
        let secrets = named(&["token"]);
        for text in [
            secrets.query(&query),
            Secrets::All.query(&query),
            secrets.path(&query),
            secrets.url(&query),
            secrets.url(&format!("/x?{query}")),
            secrets.url(&format!("https://h/x#{query}")),
            Secrets::All.url(&format!("https://h/x#{query}")),
        ] {
            prop_assert!(!text.contains(&secret[..7]), "{query} {text}");
            prop_assert!(!text.contains(&secret[secret.len() - 7..]), "{query} {text}");
        }
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is(query in "[a-n0-9%&;=+/?#]{0,40}") {
        prop_assert_eq!(named(&["token"]).query(&query), query.as_str());
    }

    #[test]
    fn no_text_ends_in_a_panic(text in ".{0,40}") {
        let secrets = named(&["token", "ü"]);
        let _ = (secrets.query(&text), secrets.path(&text), secrets.url(&text));
    }
}
