//! Why it cannot be told where a request would go: what decides on that is not in the log.

use super::fields::Requirement;
use crate::units::Name;

/// What is missing.
#[derive(Clone, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("{0} is not in the log")]
    NotLogged(&'static str),
    #[error("{0} is not in the log; --{0} says what to take it for")]
    NotLoggedNorAssumed(&'static str),
    #[error("the path is hidden in part")]
    HiddenPath,
    #[error("route {route} matches on header {header}, which is not in the log")]
    Header { route: Name, header: String },
    #[error("route {route} matches on cookie {cookie}, which is not in the log")]
    Cookie { route: Name, cookie: String },
    #[error("it was refused for the size of its head, which is not in the log")]
    Head,
    #[error("it was refused for the length of its target, which is not in the log")]
    Target,
    #[error(
        "it was refused for the length of its body, which is not in the log, and there still is a limit"
    )]
    Body,
    #[error("the client left before the log could say what it would have got")]
    Left,
    #[error("listener {0} is not in the earlier file")]
    Listener(String),
}

impl Unknown {
    /// That a route asks for something that is not known.
    pub(super) fn of(route: &Name, requirement: &Requirement) -> Self {
        let route = Name::clone(route);
        match requirement {
            Requirement::Header(name, _) => Self::Header {
                route,
                header: name.to_string(),
            },
            Requirement::Cookie(name, _) => Self::Cookie {
                route,
                cookie: name.to_string(),
            },
        }
    }

    /// Whether it is what only the route that took it may tell: header fields and cookies.
    pub(super) fn is_of_fields(&self) -> bool {
        match self {
            Self::Header { .. } | Self::Cookie { .. } => true,
            Self::NotLogged(_)
            | Self::NotLoggedNorAssumed(_)
            | Self::HiddenPath
            | Self::Head
            | Self::Target
            | Self::Body
            | Self::Left
            | Self::Listener(_) => false,
        }
    }
}
