//! How an upstream's clients are kept with their endpoints: with keys that are read from a file.

use std::path::Path;

use crate::config::{self, Place, Problem};
use crate::units::ByteSize;
use crate::upstream::Affinity;

/// The cookies of `upstream`, where it has some.
pub(super) fn affinity(upstream: &config::Upstream) -> Result<Option<Affinity>, Problem> {
    let Some(settings) = &upstream.affinity else {
        return Ok(None);
    };
    let keys = keys(&settings.key_file, &settings.place)?;
    let names: Vec<_> = upstream.endpoints.iter().map(|it| &it.name).collect();
    Ok(Some(Affinity::new(settings, &upstream.name, &names, &keys)))
}

/// The keys of a file that is named at `place`, one per line. Problems do not show them.
pub(super) fn keys(file: &Path, place: &Place) -> Result<Vec<Vec<u8>>, Problem> {
    let path = file.display();
    let problem = |message: String| Err(place.problem(message));
    let make = format!("make one: openssl rand -hex 32 > {path}");
    let text = match config::read_file(file, LARGEST) {
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
