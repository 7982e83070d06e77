//! What an endpoint says of its role where one of several serves, and what follows for it. Who serves is not decided here.

use std::fmt;
use std::time::Instant;

use super::Endpoint;
use super::journal::Fact;

/// What an endpoint says of its role, and what follows for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Part {
    /// What it says.
    pub said: Said,
    /// Why it does not serve. `None`: it does, or its upstream has no authority.
    pub passed_over: Option<PassedOver>,
    /// Whether its upstream should have an authority and has none.
    pub is_vacant: bool,
}

/// What an endpoint says of its role.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Said {
    /// Nobody asks.
    #[default]
    Unasked,
    /// Nothing yet, since it is asked.
    Unheard(Instant),
    /// This, when it was asked at that time.
    Role(Box<str>, Instant),
    /// It has answered, and says none; why.
    Nothing(Box<str>),
    /// Nothing any more: whoever said something is surely not there.
    Gone,
}

/// Why an endpoint does not serve where one of several does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PassedOver {
    /// It does not claim to.
    Standby(Box<str>),
    /// It does, and that is doubtful.
    Held(Box<str>),
}

impl Said {
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            // When it was said last is no news.
            (Self::Role(one, _), Self::Role(other, _)) => one == other,
            (Self::Unheard(_), Self::Unheard(_)) => true,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => f.write_str("disabled"),
            Self::Unheard(_) => f.write_str("role unknown: not checked yet"),
            Self::Role(role, _) => write!(f, "role {role}"),
            Self::Nothing(why) => write!(f, "role unknown: {why}"),
            Self::Gone => f.write_str("role unknown: it is not there"),
        }
    }
}

impl PassedOver {
    /// In words.
    pub fn why(&self) -> &str {
        match self {
            Self::Standby(why) | Self::Held(why) => why,
        }
    }
}

impl Endpoint {
    /// Takes note of what it says of its role. Returns whether that is something else than before. For the control thread.
    pub fn hear_role(&self, said: Said) -> bool {
        let mut is_other = false;
        self.change(|state| {
            is_other = !state.part.said.is_as(&said);
            state.part.said = said.clone();
            false
        });
        if is_other {
            self.journal().note(Fact::Role(said));
        }
        is_other
    }

    /// What it said of its role says nothing of now. For the control thread.
    pub fn forget_role(&self) {
        self.change(|state| {
            if state.part.said != Said::Unasked {
                state.part.said = Said::Unheard(Instant::now());
            }
            false
        });
    }

    /// Another machine has its name from now on: what this one said of its role says nothing of that one, which serves nobody until
    /// it is asked. For the control thread.
    pub(super) fn forget_machine(&self) {
        self.change(|state| {
            if state.part.said != Said::Unasked {
                state.part.said = Said::Unheard(Instant::now());
                let why = state.part.said.to_string();
                state.part.passed_over = Some(PassedOver::Standby(why.into()));
            }
            false
        });
        self.forget_version();
    }

    /// Says whether anybody asks for its role; `anew`: elsewhere than before.
    pub(super) fn ask_role(&self, asks: bool, anew: bool) {
        self.change(|state| {
            let is_known = match state.part.said {
                Said::Unasked => false,
                // Wherever it would say it.
                Said::Gone => true,
                Said::Unheard(_) | Said::Role(..) | Said::Nothing(_) => !anew,
            };
            match (asks, is_known) {
                (false, _) => state.part.said = Said::Unasked,
                (true, false) => state.part.said = Said::Unheard(Instant::now()),
                (true, true) => {}
            }
            false
        });
    }

    /// Says why it does not serve, if it does not. Returns whether that is news.
    pub(super) fn pass_over(&self, passed_over: Option<PassedOver>, is_vacant: bool) -> bool {
        self.change(|state| {
            let before = state.word();
            let is_other = state.part.passed_over != passed_over;
            if is_other {
                state.part.passed_over = passed_over;
            }
            state.part.is_vacant = is_vacant;
            is_other && before != state.word()
        })
    }

    /// Another endpoint says something else of its role than before: this one may, too. Waits for that, once.
    pub async fn summoned(&self) {
        self.summons.raised().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::Snapshot;
    use crate::snapshot::compile::{Compiler, apply};
    use crate::tls::Tickets;
    use crate::units::AppVersion;
    use crate::upstream::{Denied, Runs, Tier, Tried};

    const TEXT: &str = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nrole = \"authoritative\"\n\
        endpoints = [\"node.test:2\"]\nhealth = { role_header = \"x-role\", version_header = \"x-v\" }\n[[route]]\nupstream = \"app\"\n";

    fn snapshot() -> Snapshot {
        let config = config::parse(TEXT, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        apply(&snapshot, &config);
        snapshot
    }

    fn machine(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn claim() -> Said {
        Said::Role("authority".into(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn regression_machine_that_takes_over_a_name_has_neither_its_role_nor_its_version_and_is_asked_at_once()
     {
        let snapshot = snapshot();
        let upstream = &snapshot.upstreams[0];
        let endpoint = &upstream.endpoints[0];
        let summoned = || timeout(Duration::from_millis(1), endpoint.summoned());
        endpoint.set_resolved(Ok(machine(2)));
        endpoint.hear_role(claim());
        let version = AppVersion::try_from(&b"42"[..]).unwrap();
        endpoint.set_version(Runs::Version(version));
        upstream.refresh();
        assert!(upstream.is_holder(endpoint) && endpoint.tier() != Tier::Never);
        // The same one again.
        endpoint.set_resolved(Ok(machine(2)));
        assert!(endpoint.tier() != Tier::Never && endpoint.version().is_some());
        assert!(summoned().await.is_err());

        endpoint.set_resolved(Ok(machine(3)));
        assert_eq!(endpoint.tier(), Tier::Never, "before anybody looks");
        assert_eq!(endpoint.version(), None);
        assert!(summoned().await.is_ok());
        upstream.refresh();
        let authority = upstream.authority.as_ref().unwrap();
        let found = upstream.find_authority(authority, Tried::default());
        assert!(matches!(found, Err(Denied::NoAuthority)), "{found:?}");
        endpoint.hear_role(claim());
        upstream.refresh();
        assert!(upstream.is_holder(endpoint) && endpoint.tier() != Tier::Never);
    }

    #[test]
    fn regression_another_process_believes_a_claim_only_of_the_machine_that_made_it() {
        let before = snapshot();
        let before = &before.upstreams[0].endpoints[0];
        before.set_resolved(Ok(machine(2)));
        for said in [claim(), Said::Gone] {
            before.hear_role(said.clone());
            let known = before.remember();
            for (port, is_believed) in [(2, true), (3, false)] {
                let after = snapshot();
                let after = &after.upstreams[0].endpoints[0];
                assert!(after.recall(&known, false));
                assert_eq!(
                    after.socket_address(),
                    Some(machine(2)),
                    "until it is asked"
                );
                after.set_resolved(Ok(machine(port)));
                let heard = after.state().part.said;
                assert_eq!(heard.is_as(&said), is_believed, "{heard:?}");
            }
        }
    }
}
