//! What comes of a file that names another set of endpoints than the one that serves. Asks nobody.

use crate::snapshot::plan::Plan;

/// What a reload or a restart makes of it that `active` serves, where the file names another set of `upstream`.
pub(super) fn what_comes_of_it(plan: &Plan, upstream: &str, active: &str) -> Option<String> {
    let items = plan.upstreams.iter().filter(|it| it.name == upstream);
    let mut changes = items.flat_map(|it| &it.what);
    let (named, comes) = match changes.find(|change| change.key == "active_set") {
        Some(change) => {
            let named = change.after.as_deref()?.trim_matches('"');
            (named, "a reload or a restart".to_owned())
        }
        // It is as it was read.
        None => {
            let mut wished = plan.sets_by_operator.iter();
            let wished = wished.find(|it| it.upstream == upstream)?;
            let comes = format!("a reload leaves set {active} in use, a restart");
            (&*wished.file, comes)
        }
    };
    (named != active).then(|| format!(
        "the file says active_set = {named:?}: {comes} lets set {named} serve at once, unwatched. To keep set {active}: active_set = {active:?} there"
    ))
}
