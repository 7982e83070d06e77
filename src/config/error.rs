//! Problems of a configuration, each with its place in the file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where something stands in the file, and what it is called there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The key's path: `upstream.api.endpoints[2].weight`. Empty where the whole file is meant.
    pub key: Arc<str>,
}

impl Place {
    /// A problem that stands here.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.clone(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)?;
        if self.key.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.key)
        }
    }
}

/// One thing that is wrong (or, as a warning, doubtful): `balancer.toml:14:31: upstream.api.endpoints[2].weight: must be 1–1000, got 0`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, with the value, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Every problem of a configuration, in file order. Never empty.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<Problem>);

impl ConfigErrors {
    /// One problem that concerns the file at `path` as a whole.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        let place = Place {
            file: path.into(),
            line: 1,
            column: 1,
            key: "".into(),
        };
        Self(vec![place.problem(message)])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
