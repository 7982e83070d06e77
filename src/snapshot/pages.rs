//! Error pages, read into memory.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use http::StatusCode;

use crate::config::{ErrorPage, Problem};
use crate::message::negotiate::Format;

/// What is said in the place of a short error message, by its status.
#[derive(Debug, Default)]
pub struct Pages(Vec<(StatusCode, Page)>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Page {
    /// What it is.
    pub format: Format,
    /// All of it.
    pub body: Bytes,
}

impl Pages {
    /// Reads the files of `configured`; every problem with them at once.
    pub fn read(configured: &[ErrorPage]) -> Result<Self, Vec<Problem>> {
        let mut pages = Vec::with_capacity(configured.len());
        let mut problems = Vec::new();
        for page in configured {
            match read(page) {
                Ok(body) => {
                    let format = page.format;
                    pages.push((page.status, Page { format, body }));
                }
                Err(message) => problems.push(page.place.problem(message)),
            }
        }
        match problems.is_empty() {
            true => Ok(Self(pages)),
            false => Err(problems),
        }
    }

    /// The page for errors with `status`.
    pub fn get(&self, status: StatusCode) -> Option<&Page> {
        let mut pages = self.0.iter();
        pages.find_map(|(other, page)| (*other == status).then_some(page))
    }
}

fn read(page: &ErrorPage) -> Result<Bytes, String> {
    let path = page.path.display();
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("page {path} does not exist"),
        io::ErrorKind::PermissionDenied => format!(
            "page {path} may not be read by this user: check its owner and mode, and those of its folders"
        ),
        _ => format!("page {path} cannot be read: {error}"),
    };
    // Not opened where it is something else: opening a pipe waits for a writer.
    if !page.path.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{path} is no file"));
    }
    let mut body = Vec::new();
    File::open(&page.path)
        .and_then(|file| {
            let limit = ErrorPage::LARGEST.get() + 1;
            file.take(limit).read_to_end(&mut body)
        })
        .map_err(cannot)?;
    if body.len() as u64 > ErrorPage::LARGEST.get() {
        return Err(format!("page {path} is larger than 64KiB"));
    }
    if std::str::from_utf8(&body).is_err() {
        return Err(format!("page {path} is not UTF-8"));
    }
    if page.format == Format::Json
        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body)
    {
        return Err(format!("page {path} is not JSON: {error}"));
    }
    Ok(body.into())
}
