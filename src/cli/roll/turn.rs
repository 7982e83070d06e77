//! Who of a batch has its turn: what operators and the file have taken out is no business of a rolling restart. Pure.

use super::decide::{Group, Member};

/// An endpoint that has its turn, as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    pub(super) name: String,
    /// Another one may get its name meanwhile.
    pub(super) id: u64,
    /// The mode that it gets back.
    pub(super) before: String,
}

impl Turn {
    /// Whether it gets requests again afterwards.
    pub(super) fn was_active(&self) -> bool {
        self.before == "active"
    }

    /// Its mode while nothing is done to it yet but that it gets nothing new.
    pub(super) fn out(&self) -> &str {
        match &*self.before {
            "disabled" => "disabled",
            _ => "draining",
        }
    }
}

/// What the API calls the change to `mode`.
pub(super) fn action(mode: &str) -> &'static str {
    match mode {
        "active" => "resume",
        "disabled" => "disable",
        _ => "drain",
    }
}

/// Those of `batch` that have their turn as `group` is now, and those that have not, each with the reason. Who `is_named` has it in
/// every mode. Who is well and runs the version `done` has had it, where there is one.
pub(super) fn turns(
    group: &Group,
    batch: &[String],
    is_named: bool,
    done: Option<&str>,
) -> (Vec<Turn>, Vec<(String, String)>) {
    let (mut turns, mut left_out) = (Vec::new(), Vec::new());
    for name in batch {
        let mut members = group.endpoints.iter();
        match members.find(|member| member.name == *name) {
            None => left_out.push((name.clone(), "left out: it is gone".to_owned())),
            Some(Member { mode, .. }) if !is_named && mode != "active" => {
                let why = format!("left out: it is {mode} (--only takes it all the same)");
                left_out.push((name.clone(), why));
            }
            Some(member) if done.is_some() && member.is_well() && member.runs(done) => {
                let why = format!("left out: it runs {} already", member.version_told());
                left_out.push((name.clone(), why));
            }
            Some(member) => turns.push(Turn {
                name: name.clone(),
                id: member.id,
                before: member.mode.clone(),
            }),
        }
    }
    (turns, left_out)
}

pub(super) fn names(turns: &[Turn]) -> Vec<String> {
    turns.iter().map(|turn| turn.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::decide::tests::{group, member};
    use super::*;

    #[test]
    fn regression_who_was_taken_out_by_others_has_no_turn_unless_named() {
        let group = group(
            0,
            &[
                member("a", "up", None, 0),
                member("b", "draining", None, 0),
                member("c", "disabled", None, 0),
            ],
        );
        let batch = ["a", "b", "c", "d"].map(str::to_owned);
        let (turned, left_out) = turns(&group, &batch, false, None);
        assert_eq!(names(&turned), ["a"]);
        let left_out: Vec<_> = left_out.iter().map(|(name, _)| &**name).collect();
        assert_eq!(left_out, ["b", "c", "d"]);
        let (turned, _) = turns(&group, &batch, true, None);
        let modes = turned.iter().map(|turn| (&*turn.before, turn.out()));
        let modes: Vec<_> = modes.collect();
        assert_eq!(
            modes,
            [
                ("active", "draining"),
                ("draining", "draining"),
                ("disabled", "disabled")
            ]
        );
    }
    #[test]
    fn who_runs_the_version_and_is_well_has_had_its_turn() {
        let mut members = [
            member("a", "up", None, 0),
            member("b", "up", None, 0),
            member("c", "down", None, 0),
            member("d", "up", None, 0),
        ];
        for (member, version) in members.iter_mut().zip(["42", "41", "42"]) {
            member["version"] = version.into();
        }
        let group = group(0, &members);
        let batch = ["a", "b", "c", "d"].map(str::to_owned);
        let (turned, left_out) = turns(&group, &batch, false, Some("42"));
        assert_eq!(names(&turned), ["b", "c", "d"]);
        let why = "left out: it runs version 42 already".to_owned();
        assert_eq!(left_out, [("a".to_owned(), why)]);
        assert_eq!(turns(&group, &batch, false, None).0.len(), 4);
    }
}
