//! How an upstream's clients are kept with their endpoints: with keys that are read from a file.

use crate::config::{self, Problem};
use crate::units::ByteSize;
use crate::upstream::Affinity;

/// The cookies of `upstream`, where it has some.
pub(super) fn affinity(upstream: &config::Upstream) -> Result<Option<Affinity>, Problem> {
    let Some(settings) = &upstream.affinity else {
        return Ok(None);
    };
    let keys = keys(settings)?;
    let names: Vec<_> = upstream.endpoints.iter().map(|it| &it.name).collect();
    Ok(Some(Affinity::new(settings, &upstream.name, &names, &keys)))
}

/// The keys of `affinity`'s file, one per line. Problems do not show them.
fn keys(affinity: &config::Affinity) -> Result<Vec<Vec<u8>>, Problem> {
    let path = affinity.key_file.display();
    let problem = |message: String| Err(affinity.place.problem(message));
    let make = format!("make one: openssl rand -hex 32 > {path}");
    let text = match config::read_file(&affinity.key_file, LARGEST) {
        Ok(text) => text,
        Err(error) => return problem(format!("{path} cannot be read: {error}; {make}")),
    };
    let keys: Vec<_> = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let shortest = config::Affinity::SHORTEST_KEY;
    if keys.is_empty() {
        return problem(format!("{path} holds no key; {make}"));
    }
    if keys.len() > config::Affinity::KEYS {
        return problem(format!(
            "{path} holds {} keys: at most {}, one per line: the first signs, both are known",
            keys.len(),
            config::Affinity::KEYS
        ));
    }
    if let Some(key) = keys.iter().find(|key| key.len() < shortest) {
        return problem(format!(
            "{path} holds a key of {} characters: at least {shortest}; {make}",
            key.len()
        ));
    }
    Ok(keys)
}

/// More than two keys of any sense.
const LARGEST: ByteSize = ByteSize::kibibytes(64);
