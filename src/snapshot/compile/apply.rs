//! What is set when a snapshot is published, of endpoints that it may share with the one before.

use crate::config::{self, Config};
use crate::snapshot::Snapshot;
use crate::upstream::Health;

/// Sets what the file says of endpoints that `snapshot` may share with the one before: weights, modes, sets, whether they
/// are checked; and of upstreams whether they are paused; and lets the policies see it. Directly before publishing: from here on there is no way back.
pub fn apply(snapshot: &Snapshot, config: &Config) {
    for (upstream, configured) in snapshot.upstreams.iter().zip(&config.upstreams) {
        for (endpoint, configured) in upstream.endpoints.iter().zip(&configured.endpoints) {
            endpoint.set_weight(configured.weight);
            let limit = configured.max_in_flight;
            endpoint.set_limits(limit, upstream.adaptive.as_ref());
            endpoint.set_backup(configured.backup);
            let expected = upstream
                .health
                .as_ref()
                .and_then(|it| it.expect_version.as_ref());
            endpoint.ask_version(upstream.asks_version(), expected);
            // What neither the file nor an operator says is active.
            let mode = configured.mode.unwrap_or(config::Mode::Active);
            let before = endpoint.state();
            match (&upstream.health, before.health) {
                (None, Health::Unchecked) => {}
                (None, Health::Unknown | Health::Up | Health::Draining | Health::Down(_)) => {
                    endpoint.set_health(Health::Unchecked, None);
                }
                // What was found before it was disabled says nothing of now.
                (Some(_), _) if before.mode == config::Mode::Disabled && mode != before.mode => {
                    endpoint.set_health(
                        Health::Unknown,
                        Some("not checked since it was disabled".to_owned()),
                    );
                    endpoint.forget_version();
                    endpoint.forget_role();
                }
                // Checks that begin on an endpoint in use leave it in use until they have found something.
                (Some(_), _) => {}
            }
            // Last, so that nobody picks it for what was found before it was disabled.
            endpoint.set_mode(mode);
        }
        let sets = configured.endpoints.iter().map(|it| it.set.as_ref());
        upstream.divide(sets, configured.active_set.as_ref());
        upstream.ask_roles();
        upstream.set_paused(configured.paused);
        upstream.refresh();
    }
}
