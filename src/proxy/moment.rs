//! Whether an attempt that failed may be followed by another.
//!
//! It may where nothing of the request can have been acted on, or where doing so twice is the same as once (RFC 9110 §9.2.2).
//! `Moment::allows` is the whole of that rule. Pure.

use crate::config::Retry;
use crate::metrics::RetryReason;

/// When an attempt has failed, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moment {
    /// The connection could not be opened.
    Connecting,
    /// Not a byte was sent: the connection was closed, and so was that in its place.
    Unsent,
    /// The endpoint says that it has not processed it.
    Unprocessed,
    /// The connection was closed after something was sent.
    Sent,
    /// No response came in time.
    Silent,
    /// This is the response, and it does not say when to come again.
    Answered(u16),
    /// The response is 425: too early, ask again (RFC 8470 §5.2).
    TooEarly,
}

/// What follows from the moment alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Allows {
    /// One more attempt.
    Another,
    /// None: the endpoint may have acted on it, or still be at it.
    NotTwice,
    /// None was asked for.
    None,
}

/// How soon the next attempt follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    AtOnce,
    /// After a moment that differs from request to request: what failed together does not come again together.
    Soon,
}

impl Moment {
    /// Whether a further attempt may follow at all.
    pub(super) fn allows(self, is_idempotent: bool, rule: &Retry) -> Allows {
        let only_idempotent = if is_idempotent {
            Allows::Another
        } else {
            Allows::NotTwice
        };
        match self {
            Self::Connecting | Self::Unsent | Self::Unprocessed | Self::TooEarly => Allows::Another,
            Self::Sent => only_idempotent,
            Self::Silent if rule.on_timeout => only_idempotent,
            Self::Answered(status) if rule.statuses.contains(&status) => only_idempotent,
            Self::Silent | Self::Answered(_) => Allows::None,
        }
    }

    /// How soon another attempt follows.
    pub(super) fn pace(self) -> Pace {
        match self {
            Self::Connecting | Self::Unsent => Pace::AtOnce,
            Self::Unprocessed | Self::Sent | Self::Silent | Self::Answered(_) | Self::TooEarly => {
                Pace::Soon
            }
        }
    }

    /// As what that is counted.
    pub(super) fn reason(self) -> RetryReason {
        match self {
            Self::Connecting => RetryReason::Connect,
            Self::Unsent => RetryReason::Unsent,
            Self::Unprocessed => RetryReason::Refused,
            Self::Sent => RetryReason::Closed,
            Self::Silent => RetryReason::Timeout,
            Self::Answered(_) => RetryReason::Status,
            Self::TooEarly => RetryReason::TooEarly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Retry {
        Retry {
            statuses: vec![429, 503],
            on_timeout: true,
            ..Retry::DEFAULT
        }
    }

    #[test]
    fn matrix_is_that_of_the_documentation() {
        use Allows::{Another, NotTwice};
        let none = Allows::None;
        for (moment, idempotent, other, by_default) in [
            (Moment::Connecting, Another, Another, Another),
            (Moment::Unsent, Another, Another, Another),
            (Moment::Unprocessed, Another, Another, Another),
            (Moment::TooEarly, Another, Another, Another),
            (Moment::Sent, Another, NotTwice, Another),
            (Moment::Silent, Another, NotTwice, none),
            (Moment::Answered(503), Another, NotTwice, none),
            (Moment::Answered(500), none, none, none),
        ] {
            assert_eq!(moment.allows(true, &rule()), idempotent, "{moment:?}");
            assert_eq!(moment.allows(false, &rule()), other, "{moment:?}");
            assert_eq!(
                moment.allows(true, &Retry::DEFAULT),
                by_default,
                "{moment:?}"
            );
        }
    }
}
