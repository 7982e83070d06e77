//! `balancer clones UPSTREAM --audit`: what became of clients that the running balancer has moved to see what happens.

use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Args;
use crate::cli::audit::{Audit, Verdict};
use crate::cli::running::{AskError, Running};
use crate::cli::table::{Cell, Table, complain, in_colour, say};
use crate::cli::{EXIT_TIMEOUT, EXIT_USAGE};
use crate::config::hint;

/// 0: clients can be moved; 1: sessions seem to live on single members; 4: that cannot be told, or no balancer answers; 64: there is
/// no audit.
pub(super) fn run(args: &Args, config: &Path) -> ExitCode {
    match told(args, config) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            let code = match error {
                AskError::NoUpstream(..) => EXIT_USAGE,
                _ => EXIT_TIMEOUT,
            };
            code.into()
        }
    }
}

fn told(args: &Args, config: &Path) -> Result<ExitCode, AskError> {
    let status: Value = Running::with(config, &args.at)?.get("/api/v1/status")?;
    let name = &*args.upstream;
    let upstreams = status["upstreams"].as_array().cloned().unwrap_or_default();
    let Some(upstream) = upstreams.iter().find(|it| it["name"] == name) else {
        let hint = hint(name, upstreams.iter().filter_map(|it| it["name"].as_str()));
        return Err(AskError::NoUpstream(name.to_owned(), hint));
    };
    let found = &upstream["affinity_audit"];
    if found.is_null() {
        complain(&format!(
            "upstream {name:?} has no audit: it takes affinity = {{ …, audit = 0.01 }} in the file, and a reload"
        ));
        return Ok(EXIT_USAGE.into());
    }
    let audit = Audit::deserialize(found).map_err(|error| AskError::Version(error.to_string()))?;
    let verdict = audit.verdict();
    if args.json {
        let mut all = found.clone();
        all["upstream"] = name.into();
        all["verdict"] = json!(match verdict {
            Verdict::OnSingleMembers => "on-single-members",
            Verdict::Anywhere => "anywhere",
            Verdict::Unclear => "unclear",
        });
        say(&format!("{all}\n"));
    } else {
        let heading = ["pin", "ok", "refused", "redirected", "failed"];
        let mut table = Table::with_heading(&heading);
        for row in audit.rows() {
            table.push(row.map(Cell::plain).into());
        }
        let table = table.text("  ", in_colour());
        say(&format!("{name}: {}\n{table}", audit.text()));
    }
    Ok(match verdict {
        Verdict::OnSingleMembers => ExitCode::FAILURE,
        Verdict::Anywhere => ExitCode::SUCCESS,
        Verdict::Unclear => EXIT_TIMEOUT.into(),
    })
}
