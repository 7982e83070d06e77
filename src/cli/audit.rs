//! What an affinity audit has come to, in words. Pure.

use serde::Deserialize;

use crate::daemon::wilson::Counts;

/// What is read of it in the status; there may be more.
#[derive(Debug, Deserialize)]
pub(super) struct Audit {
    /// The share of requests that is moved.
    share: f64,
    kept: Answers,
    broken: Answers,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Answers {
    ok: u64,
    refused: u64,
    redirected: u64,
    failed: u64,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Clients that are moved are turned away more often.
    OnSingleMembers,
    /// They are not.
    Anywhere,
    /// There were too few.
    Unclear,
}

impl Answers {
    /// All of them, and those by which a client was turned away.
    fn counts(self) -> Counts {
        let errors = self.refused + self.redirected + self.failed;
        Counts {
            requests: self.ok + errors,
            errors,
        }
    }

    /// `5.0 % (3.1 to 8.0 %) of 300 requests`
    fn text(self) -> String {
        let counts = self.counts();
        let (low, high) = counts.bounds(SHOWN);
        format!(
            "{} % ({} to {} %) of {} requests",
            percent(counts.share()),
            percent(low),
            percent(high),
            counts.requests
        )
    }
}

impl Audit {
    /// Whether clients that are moved are turned away more often than those that stay.
    pub(super) fn verdict(&self) -> Verdict {
        let (kept, broken) = (self.kept.counts(), self.broken.counts());
        if broken.requests < LEAST {
            Verdict::Unclear
        } else if broken.rise_since(kept, CERTAIN) > 0.0 {
            Verdict::OnSingleMembers
        } else if kept.requests > 0 && broken.bounds(CERTAIN).1 - kept.share() <= HARMLESS {
            Verdict::Anywhere
        } else {
            Verdict::Unclear
        }
    }

    /// All of it in one sentence.
    pub(super) fn text(&self) -> String {
        if self.broken.counts().requests == 0 {
            let share = percent(self.share);
            return format!("{share} % of requests are to be moved, none was yet");
        }
        let (broken, kept) = (self.broken.text(), self.kept.text());
        let (verdict, by) = match self.verdict() {
            Verdict::OnSingleMembers => ("sessions seem to live on single members", BY_REQUESTS),
            Verdict::Anywhere => (
                "sessions do not seem to live on single members",
                BY_REQUESTS,
            ),
            Verdict::Unclear => ("too few to tell", ""),
        };
        let unwell = if self.is_unwell() {
            let kept = self.kept;
            let (failed, of) = (kept.failed, kept.counts().requests);
            format!(
                "; {failed} of {of} failed with 500 or above where clients stayed: look at that first"
            )
        } else {
            String::new()
        };
        format!(
            "{broken} of moved clients were turned away, {kept} of those that stayed: {verdict}{by}{unwell}"
        )
    }

    /// Whether so much fails without any move that little can be read from the rest.
    fn is_unwell(&self) -> bool {
        let of = self.kept.counts().requests;
        of >= LEAST && self.kept.failed.saturating_mul(UNWELL) >= of
    }

    /// What answers came to, line by line.
    pub(super) fn rows(&self) -> [[String; 5]; 2] {
        let row = |name: &str, answers: Answers| {
            let numbers = [
                answers.ok,
                answers.refused,
                answers.redirected,
                answers.failed,
            ];
            let [ok, refused, redirected, failed] = numbers.map(|number| number.to_string());
            [name.to_owned(), ok, refused, redirected, failed]
        };
        [row("kept", self.kept), row("broken", self.broken)]
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", share.clamp(0.0, 1.0) * 100.0)
}

/// Nothing is remembered of clients, so nobody knows how many they were.
const BY_REQUESTS: &str = " (counted are requests, not clients: one busy client can decide this)";
const SHOWN: f64 = 1.96; // 95 in 100
const CERTAIN: f64 = 3.0; // looked at again and again, equal rates shall not be called unequal
const LEAST: u64 = 30; // of fewer the intervals say more than is known
const UNWELL: u64 = 20; // one of so many
const HARMLESS: f64 = 0.02; // of a hundred moved requests at most two more are turned away

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(kept: [u64; 4], broken: [u64; 4]) -> Audit {
        let answers = |[ok, refused, redirected, failed]: [u64; 4]| Answers {
            ok,
            refused,
            redirected,
            failed,
        };
        Audit {
            share: 0.01,
            kept: answers(kept),
            broken: answers(broken),
        }
    }

    #[test]
    fn clients_that_are_turned_away_where_they_are_moved_to_had_a_session_elsewhere() {
        let audit = audit([4980, 10, 10, 0], [77, 13, 10, 0]);
        assert_eq!(audit.verdict(), Verdict::OnSingleMembers);
        assert_eq!(
            audit.text(),
            "23.0 % (15.8 to 32.2 %) of 100 requests of moved clients were turned away, \
             0.4 % (0.3 to 0.6 %) of 5000 requests of those that stayed: sessions seem to live on single members \
             (counted are requests, not clients: one busy client can decide this)"
        );
    }

    #[test]
    fn regression_failures_where_clients_stay_are_told() {
        let unwell = audit([900, 0, 0, 100], [90, 0, 0, 10]).text();
        let expected =
            "; 100 of 1000 failed with 500 or above where clients stayed: look at that first";
        assert!(unwell.ends_with(expected), "{unwell}");
        for kept in [[996, 0, 0, 4], [500, 500, 0, 0], [5, 0, 0, 5]] {
            let text = audit(kept, [90, 0, 0, 10]).text();
            assert!(!text.contains("look at that"), "{text}");
        }
    }

    #[test]
    fn equal_rates_say_that_sessions_are_anywhere_once_there_are_enough() {
        let many = audit([99_000, 1000, 0, 0], [990, 10, 0, 0]);
        assert_eq!(many.verdict(), Verdict::Anywhere);
        let text = many.text();
        assert!(
            text.contains(": sessions do not seem to live on single members (counted are requests"),
            "{text}"
        );
        let few = audit([990, 10, 0, 0], [20, 0, 0, 0]);
        assert_eq!(few.verdict(), Verdict::Unclear);
        assert!(few.text().ends_with(": too few to tell"));
        for refused in 1..LEAST {
            let some = audit([990, 10, 0, 0], [0, refused, 0, 0]);
            assert_eq!(some.verdict(), Verdict::Unclear);
        }
        let enough = audit([990, 10, 0, 0], [0, LEAST, 0, 0]);
        assert_eq!(enough.verdict(), Verdict::OnSingleMembers);
        let none = audit([0; 4], [0; 4]);
        assert_eq!(none.verdict(), Verdict::Unclear);
        assert_eq!(
            none.text(),
            "1.0 % of requests are to be moved, none was yet"
        );
    }
}
