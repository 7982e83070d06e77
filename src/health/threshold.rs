//! How many results in a row change an endpoint's health. Pure.

/// Counts results that speak against what is believed.
#[derive(Debug)]
pub struct Threshold {
    fall: u32,
    rise: u32,
    up: bool,
    /// `None` until the first result, which decides alone. `Some(false)` until the first pass, which admits alone.
    admitted: Option<bool>,
    against: u32,
}

impl Threshold {
    /// `fall` failures in a row take down what is `up`, `rise` passes bring it up again. `up` is what is believed already,
    /// if anything is.
    pub fn new(fall: u32, rise: u32, up: Option<bool>) -> Self {
        Self {
            fall,
            rise,
            up: up.unwrap_or(false),
            admitted: up.map(|_| true),
            against: 0,
        }
    }

    /// Sees a result. Returns what is believed from now on, if that changed.
    pub fn observe(&mut self, passed: bool) -> Option<bool> {
        let decides_alone = match self.admitted {
            None => true,
            Some(false) => passed,
            Some(true) => false,
        };
        self.admitted = Some(passed || self.admitted == Some(true));
        self.against = if passed == self.up {
            0
        } else {
            self.against + 1
        };
        if !decides_alone && (passed == self.up || self.against < self.needed()) {
            return None;
        }
        self.up = passed;
        self.against = 0;
        Some(passed)
    }

    /// It has left by its own wish: one pass admits it again.
    pub fn leave(&mut self) {
        self.up = false;
        self.admitted = Some(false);
        self.against = 0;
    }

    /// Whether a change is under way.
    pub fn is_changing(&self) -> bool {
        self.against > 0
    }

    /// How far a change has come, for people.
    pub fn progress(&self) -> Option<String> {
        let what = if self.up { "failures" } else { "passes" };
        self.is_changing()
            .then(|| format!("{} of {} {what}", self.against, self.needed()))
    }

    fn needed(&self) -> u32 {
        if self.up { self.fall } else { self.rise }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn falls_after_three_and_rises_after_two_in_a_row() {
        let mut threshold = Threshold::new(3, 2, Some(true));
        let flips: Vec<_> = [
            false, false, true, false, false, false, true, false, true, true,
        ]
        .map(|passed| threshold.observe(passed))
        .into();
        assert_eq!(
            flips,
            [
                None,
                None,
                None,
                None,
                None,
                Some(false),
                None,
                None,
                None,
                Some(true)
            ]
        );
    }

    #[test]
    fn one_pass_admits_what_was_never_up() {
        let mut threshold = Threshold::new(3, 2, None);
        let flips: Vec<_> = [
            false, false, true, false, true, false, false, false, true, true,
        ]
        .map(|passed| threshold.observe(passed))
        .into();
        assert_eq!(
            flips,
            [
                Some(false),
                None,
                Some(true),
                None,
                None,
                None,
                None,
                Some(false),
                None,
                Some(true)
            ]
        );
    }

    #[test]
    fn one_pass_admits_what_has_left() {
        let mut threshold = Threshold::new(3, 2, Some(true));
        threshold.observe(false);
        threshold.leave();
        assert!(!threshold.is_changing());
        assert_eq!(threshold.observe(false), None);
        assert_eq!(threshold.observe(true), Some(true));
        assert_eq!(threshold.observe(false), None);
    }

    #[test]
    fn change_under_way_is_seen() {
        let mut threshold = Threshold::new(3, 2, Some(true));
        assert!(!threshold.is_changing());
        threshold.observe(false);
        assert_eq!(threshold.progress().as_deref(), Some("1 of 3 failures"));
        threshold.observe(true);
        assert!(!threshold.is_changing());
    }

    proptest! {
        #[test]
        fn only_a_whole_run_of_results_changes_anything(fall in 1_u32..5, rise in 1_u32..5, results in proptest::collection::vec(any::<bool>(), 0..50)) {
            let mut threshold = Threshold::new(fall, rise, Some(true));
            let (mut up, mut run) = (true, 0);
            for passed in results {
                run = if passed == up { 0 } else { run + 1 };
                let expected = (run == if up { fall } else { rise }).then_some(passed);
                if let Some(now) = expected {
                    (up, run) = (now, 0);
                }
                prop_assert_eq!(threshold.observe(passed), expected);
            }
        }
    }
}
