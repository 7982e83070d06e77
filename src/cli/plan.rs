//! `balancer plan`: what a reload would change. Exit code 0: nothing; 2: something.

use std::path::Path;
use std::process::ExitCode;

use super::EXIT_CHANGES;
use super::running::{AskError, At, Running, finished};
use super::status::in_flight;
use super::table::{Cell, Table, Tone, in_colour, say};
use crate::config::Difference;
use crate::snapshot::plan::{Change, EndpointItem, Item, Plan};

/// Tell what a reload would change, without doing it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    /// Only if this generation is in use.
    #[arg(long, value_name = "GENERATION")]
    expect_generation: Option<u64>,
    #[command(flatten)]
    at: At,
}

/// Compares the file at `config` with what runs.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    finished(compare(args, config))
}

fn compare(args: &Args, config: &Path) -> Result<ExitCode, AskError> {
    let path = match args.expect_generation {
        Some(expected) => format!("/api/v1/plan?expect_generation={expected}"),
        None => "/api/v1/plan".to_owned(),
    };
    let plan: Plan = Running::with(config, &args.at)?.get(&path)?;
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    if args.json {
        say(&format!("{}\n", serde_json::json!(plan)));
    } else {
        say(&text(&plan, in_colour()));
    }
    Ok(if plan.is_empty() {
        ExitCode::SUCCESS
    } else {
        EXIT_CHANGES.into()
    })
}

fn text(plan: &Plan, in_colour: bool) -> String {
    let mut text = if plan.is_empty() {
        format!(
            "nothing would change against generation {}\n",
            plan.generation
        )
    } else {
        let counts = plan.counts;
        format!(
            "against generation {}: endpoints: {} kept ({} in flight), {} added, {} removed\n",
            plan.generation, counts.kept, counts.in_flight, counts.added, counts.removed
        )
    };
    let mut section = |title: &str, table: Table| {
        let lines = table.text("  ", in_colour);
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n{lines}"));
        }
    };
    section("listeners", items(&plan.listeners));
    section("upstreams", items(&plan.upstreams));
    section("endpoints", endpoints(&plan.endpoints));
    section("routes", items(&plan.routes));
    section("settings", settings(&plan.settings));
    let mut files = Table::default();
    for file in &plan.files {
        files.push(vec![Cell::plain(file)]);
    }
    section("files that hold something else than what is in use", files);
    section("change with a restart only", settings(&plan.restart));
    let mut kept = Table::default();
    for kept_mode in &plan.by_operator {
        kept.push(vec![
            Cell::plain(format!("{}/{}", kept_mode.upstream, kept_mode.endpoint)),
            Cell::new(&kept_mode.mode, Tone::Doubtful),
        ]);
    }
    for kept_set in &plan.sets_by_operator {
        kept.push(vec![
            Cell::plain(&kept_set.upstream),
            Cell::new(
                format!(
                    "set {} serves, the file says {}",
                    kept_set.set, kept_set.file
                ),
                Tone::Doubtful,
            ),
        ]);
    }
    section("stay as an operator has set them", kept);
    text
}

fn items(items: &[Item]) -> Table {
    let mut table = Table::default();
    for item in items {
        table.push(vec![sign(item.change), Cell::plain(&item.name)]);
        what(&mut table, &item.what);
    }
    table
}

fn endpoints(items: &[EndpointItem]) -> Table {
    let mut table = Table::default();
    for item in items {
        let tunnels = u32::try_from(item.tunnels).unwrap_or(0);
        let rest = match item.change {
            Change::Removed => format!(
                "finishes what it has: {}",
                in_flight(item.in_flight, tunnels)
            ),
            Change::Added | Change::Changed => String::new(),
        };
        table.push(vec![
            sign(item.change),
            Cell::plain(format!("{}/{}", item.upstream, item.endpoint)),
            Cell::plain(rest),
        ]);
        what(&mut table, &item.what);
    }
    table
}

fn settings(settings: &[Difference]) -> Table {
    let mut table = Table::default();
    for setting in settings {
        table.push(vec![Cell::plain(setting)]);
    }
    table
}

fn what(table: &mut Table, differences: &[Difference]) {
    for difference in differences {
        table.push(vec![
            Cell::plain(" "),
            Cell::plain(format!("  {difference}")),
        ]);
    }
}

fn sign(change: Change) -> Cell {
    match change {
        Change::Added => Cell::new("+", Tone::Good),
        Change::Removed => Cell::new("-", Tone::Bad),
        Change::Changed => Cell::new("~", Tone::Doubtful),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_is_told_section_by_section() {
        let item = |name: &str, change, what| Item {
            name: name.to_owned(),
            change,
            what,
        };
        let endpoint = |name: &str, change, what| EndpointItem {
            upstream: "app".to_owned(),
            endpoint: name.to_owned(),
            change,
            what,
            in_flight: 3,
            tunnels: 1,
        };
        let mut plan = Plan {
            generation: 7,
            routes: vec![item("/new", Change::Added, Vec::new())],
            endpoints: vec![
                endpoint("a", Change::Removed, Vec::new()),
                endpoint(
                    "b",
                    Change::Changed,
                    vec![Difference::new("weight", "1", "2")],
                ),
            ],
            ..Plan::default()
        };
        plan.counts.kept = 1;
        plan.counts.removed = 1;
        assert_eq!(
            text(&plan, false),
            "against generation 7: endpoints: 1 kept (0 in flight), 0 added, 1 removed\n\n\
             endpoints\n\
             \x20 -  app/a             finishes what it has: 2 in flight, 1 tunnel\n\
             \x20 ~  app/b\n\
             \x20      weight: 1 -> 2\n\n\
             routes\n\
             \x20 +  /new\n"
        );
        assert_eq!(
            text(&Plan::default(), false),
            "nothing would change against generation 0\n"
        );
    }
}
