//! Takes away the metrics of what a reload has removed, once it is finished and has been scraped a last time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::metrics::{Metrics, UpstreamMetrics};
use crate::proxy::error::REASONS;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::Endpoint;
use crate::upstream::state::WORDS;

/// A scrape interval in use: until then the last counts can still be seen.
const LAST_SCRAPE: Duration = Duration::from_secs(60);

/// Waits until what `previous` had and the current snapshot has not is finished, then removes its series, unless it is back.
pub async fn retire(metrics: Arc<Metrics>, previous: Arc<Snapshot>, publisher: Publisher) {
    let gone = |snapshot: &Snapshot| -> Vec<Arc<Endpoint>> {
        let names = endpoint_names(snapshot);
        let endpoints = previous
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.endpoints.iter());
        endpoints
            .filter(|endpoint| !names.contains(&name(endpoint)))
            .cloned()
            .collect()
    };
    while gone(&publisher.current())
        .iter()
        .any(|endpoint| endpoint.in_flight() > 0)
    {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(LAST_SCRAPE).await;
    let current = publisher.current();
    for endpoint in gone(&current) {
        endpoint.metrics.retire(&metrics, REASONS, &WORDS);
    }
    for upstream in &previous.upstreams {
        if current
            .upstreams
            .iter()
            .all(|other| other.name != upstream.name)
        {
            UpstreamMetrics::retire(&metrics, &upstream.name);
        }
    }
    let routes: HashSet<&str> = current.routes.iter().map(|route| &*route.name).collect();
    for route in previous
        .routes
        .iter()
        .filter(|route| !routes.contains(&*route.name))
    {
        route.metrics.retire(&metrics, REASONS);
    }
    for listener in &previous.listeners {
        for certificate in &listener.certificates {
            let stays = current.listeners.iter().any(|other| {
                other.name == listener.name
                    && other
                        .certificates
                        .iter()
                        .any(|another| another.label == certificate.label)
            });
            if !stays {
                let _ = metrics
                    .tls_certificate_not_after
                    .remove_label_values(&[&*listener.name, &certificate.label]);
            }
        }
    }
}

fn endpoint_names(snapshot: &Snapshot) -> HashSet<(&str, &str)> {
    snapshot
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.endpoints.iter())
        .map(|endpoint| name(endpoint))
        .collect()
}

fn name(endpoint: &Endpoint) -> (&str, &str) {
    (endpoint.upstream(), endpoint.name())
}
