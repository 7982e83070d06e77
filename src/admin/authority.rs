//! Who may change something over TCP: who knows the token, and comes from no page but the admin's own. Guessing has an end soon.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::warn;

use super::Admin;
use super::command::Operator;
use super::problem::{Again, ApiError};
use crate::lock::lock;

/// Different wrong tokens of a client within a minute, after which no other is looked at.
const MOST_WRONG: usize = 10;
/// As long as wrong tokens are held against a client.
const MINUTE: Duration = Duration::from_secs(60);
/// Clients that wrong tokens are counted of. Where there are more, all others count as one.
const CLIENTS: usize = 1024;

/// Who has given wrong tokens of late.
#[derive(Debug, Default)]
pub struct Guesses {
    clients: Mutex<HashMap<IpAddr, Guessed>>,
    hasher: RandomState,
}

/// Different ones: who gives an old token over and over guesses nothing.
#[derive(Clone, Debug)]
struct Guessed {
    tokens: HashSet<u64>,
    since: Instant,
}

impl Guesses {
    /// How long `client` has to wait before a token of its own is looked at.
    fn wait(&self, client: IpAddr, now: Instant) -> Option<Duration> {
        let guesses = self.clients();
        let key = Self::key(&guesses, client);
        let guessed = guesses.get(&key)?;
        let end = guessed.since + MINUTE;
        (guessed.tokens.len() >= MOST_WRONG && now < end).then(|| end - now)
    }

    /// `token` was a wrong one.
    fn note(&self, client: IpAddr, token: &[u8], now: Instant) {
        let token = self.hasher.hash_one(token);
        let mut guesses = self.clients();
        guesses.retain(|_, guessed| now < guessed.since + MINUTE);
        let key = Self::key(&guesses, client);
        let guessed = guesses.entry(key).or_insert_with(|| Guessed {
            tokens: HashSet::new(),
            since: now,
        });
        if guessed.tokens.len() < MOST_WRONG {
            guessed.tokens.insert(token);
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, Guessed>> {
        lock(&self.clients)
    }

    fn key(guesses: &HashMap<IpAddr, Guessed>, client: IpAddr) -> IpAddr {
        let client = match client {
            // Who has one address of such a network has all of them.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                match address.to_ipv4_mapped() {
                    Some(address) => address.into(),
                    None => Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(),
                }
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        if guesses.len() < CLIENTS || guesses.contains_key(&client) {
            client
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    }
}

impl Admin {
    /// Who `client` is, where it may change something.
    pub(super) fn authorize(
        &self,
        client: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Operator, ApiError> {
        let snapshot = self.publisher.current();
        let Some(token) = &snapshot.admin_token else {
            return Err(ApiError::new(StatusCode::FORBIDDEN, READ_ONLY));
        };
        if is_of_another_page(headers) {
            let detail = "asked by a page of another origin";
            return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
        }
        let (client, now) = (client.ip().to_canonical(), Instant::now());
        if let Some(wait) = self.guesses.wait(client, now) {
            let detail = "too many wrong tokens came from this address; over the unix socket, admin.socket, it goes on";
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, detail);
            return Err(error.again(Again::After(wait.as_secs() + 1)));
        }
        let given = given(headers);
        if given.is_some_and(|given| token.is(given)) {
            return Ok(Operator::Token { client });
        }
        let mut detail = "needs the token of admin.token_file: Authorization: Bearer TOKEN";
        if let Some(given) = given {
            self.guesses.note(client, given, now);
            detail = "this is not the token of admin.token_file, which is read at the start and at every reload";
            self.metrics.admin_wrong_tokens.inc();
            warn!(%client, "wrong token for the admin address");
        }
        let error = ApiError::new(StatusCode::UNAUTHORIZED, detail);
        Err(error.again(Again::WithToken))
    }
}

/// The token that is given: never as a cookie, so that no browser sends it unasked.
fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.as_bytes().split_at_checked(BEARER.len())?;
    scheme
        .eq_ignore_ascii_case(BEARER)
        .then_some(token.trim_ascii())
}

/// Whether a browser says that a page of somebody else's asks.
pub(super) fn is_of_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    // Something before us may speak TLS: which of both schemes it was is not known here.
    let authority = origin.to_str().ok().and_then(|origin| {
        let plain = origin.strip_prefix("http://");
        plain.or_else(|| origin.strip_prefix("https://"))
    });
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match (authority, host) {
        (Some(authority), Some(host)) => !authority.eq_ignore_ascii_case(host),
        _ => true,
    }
}

const BEARER: &[u8] = b"Bearer ";
/// What is said where there is no token.
const READ_ONLY: &str = "over TCP everything is read-only; ask over the unix socket, admin.socket, or set admin.token_file";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name = name.parse::<header::HeaderName>().unwrap();
            (name, HeaderValue::from_static(value))
        });
        fields.collect()
    }

    #[test]
    fn pages_of_others_are_told_from_our_own_and_from_programs() {
        let host = ("host", "lb:9900");
        for own in [
            &[host][..],
            &[host, ("origin", "http://lb:9900")],
            &[
                host,
                ("origin", "https://LB:9900"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(!is_of_another_page(&headers(own)), "{own:?}");
        }
        for other in [
            &[host, ("origin", "http://evil.example")][..],
            &[host, ("origin", "http://lb:9901")],
            &[host, ("origin", "null")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[("origin", "http://lb:9900")],
        ] {
            assert!(is_of_another_page(&headers(other)), "{other:?}");
        }
    }

    #[test]
    fn token_stands_in_one_field_of_its_scheme() {
        let of = |fields: &[_]| given(&headers(fields)).map(<[u8]>::to_vec);
        let field = |value| ("authorization", value);
        assert_eq!(of(&[field("Bearer abc")]), Some(b"abc".to_vec()));
        assert_eq!(of(&[field("bearer  abc ")]), Some(b"abc".to_vec()));
        for none in [
            &[][..],
            &[field("Basic abc")],
            &[field("Bearer")],
            &[field("Bearer a"), field("Bearer a")],
            &[("cookie", "token=abc")],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn guessing_ends_for_a_minute_and_for_nobody_else() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        let [one, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap());
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            assert_eq!(guesses.wait(one, now), None);
            for _ in 0..3 {
                guesses.note(one, &[second as u8], now);
            }
        }
        let now = begin + Duration::from_secs(20);
        assert_eq!(guesses.wait(one, now), Some(Duration::from_secs(40)));
        assert_eq!(guesses.wait(other, now), None);
        assert_eq!(guesses.wait(one, begin + MINUTE), None);
        guesses.note(one, b"x", begin + MINUTE);
        assert_eq!(guesses.wait(one, begin + MINUTE), None, "counted anew");
    }

    #[test]
    fn regression_one_old_token_over_and_over_shuts_nobody_out() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let client = "10.0.0.1".parse().unwrap();
        for _ in 0..100 {
            guesses.note(client, b"the token of last year", now);
        }
        assert_eq!(guesses.wait(client, now), None);
    }

    #[test]
    fn who_has_many_addresses_is_one_and_there_is_an_end_to_what_is_kept() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..10 {
            let address = format!("2001:db8::{number}");
            guesses.note(address.parse().unwrap(), &[number], now);
        }
        let neighbour = "2001:db8::ffff".parse().unwrap();
        assert!(guesses.wait(neighbour, now).is_some());
        for number in 0..5000_u32 {
            guesses.note(IpAddr::V4(number.into()), &number.to_be_bytes(), now);
        }
        assert!(guesses.clients().len() <= CLIENTS + 1);
        assert!(guesses.wait("9.9.9.9".parse().unwrap(), now).is_some());
    }
}
