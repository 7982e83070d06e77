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

    /// Says whether anybody asks for its role; `anew`: elsewhere than before.
    pub(super) fn ask_role(&self, asks: bool, anew: bool) {
        self.change(|state| {
            let is_known = state.part.said != Said::Unasked && !anew;
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
