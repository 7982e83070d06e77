//! `[tracing]`: which requests become traces, and where these go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{Address, Place, UpstreamTls};
use crate::units::ByteSize;

/// `[tracing]`
#[derive(Clone, Debug)]
pub struct Tracing {
    /// `endpoint`: the collector, which is spoken to in OTLP over HTTP/1.1.
    pub collector: Collector,
    /// `sample`: share of requests traced, 0 to 1. Default 0.01.
    pub sample: f64,
    /// `parent_based`: whether a trusted proxy that has decided about a request is followed. Default yes.
    pub parent_based: bool,
    /// `query`: whether spans hold queries, which may hold secrets. Default no.
    pub query: bool,
    /// `service_name`: what the balancer is called in traces. Default `balancer`.
    pub service_name: Box<str>,
    /// `resource`: what else is said of it, in file order. Default nothing.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// `headers`: fields that the collector gets. Default none.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `header_files`: fields whose values are kept in files. Default none.
    pub header_files: Vec<HeaderFile>,
    /// `timeout`: longest wait for the collector to take what it is sent. Default 10 s. On expiry it is sent again later.
    pub timeout: Duration,
    /// `queue`: how much may wait for the collector. Default 4 MiB, some 10,000 spans. Beyond, spans are dropped and counted.
    pub queue: ByteSize,
    /// Where the table stands.
    pub place: Place,
}

/// `tracing.endpoint` and `tracing.tls`
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where it is reached.
    pub address: Address,
    /// What it is called, as the URL says: host and port.
    pub authority: Box<str>,
    /// The path to send to. Default `/v1/traces`.
    pub path: Box<str>,
    /// How to speak TLS, where the URL says `https`.
    pub tls: Option<UpstreamTls>,
    /// Where `endpoint` stands.
    pub place: Place,
}

/// An entry of `tracing.header_files`.
#[derive(Clone, Debug)]
pub struct HeaderFile {
    /// The field.
    pub name: HeaderName,
    /// The file that holds its value, such as a token.
    pub path: PathBuf,
    /// Where the entry stands.
    pub place: Place,
}

impl Tracing {
    /// Every file it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.collector.tls.iter().flat_map(UpstreamTls::files);
        let headers = self.header_files.iter().map(|file| file.path.as_path());
        tls.chain(headers)
    }
}
