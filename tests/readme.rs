//! The README says what there is: every metric, every reason, every key, and samples that can be used as they stand.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use balancer::metrics::catalogue::FAMILIES;
use balancer::metrics::family::Family;
use balancer::metrics::labels::{REASONS, Values};

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The cells of every table row of `text`.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
}

/// What stands between backticks within a line, outside of fenced blocks.
fn quoted(text: &str) -> BTreeSet<&str> {
    let mut fenced = false;
    let mut quoted = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            quoted.extend(line.split('`').skip(1).step_by(2));
        }
    }
    quoted
}

/// Blocks fenced exactly as ```` ```toml ````, each with the line it begins at.
fn samples(text: &str) -> Vec<(usize, String)> {
    let mut samples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        match &mut open {
            Some(_) if line.trim_end() == "```" => samples.extend(open.take()),
            Some((_, sample)) => {
                sample.push_str(line);
                sample.push('\n');
            }
            None if line.trim_end() == "```toml" => open = Some((number + 1, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "the last sample is never closed");
    samples
}

/// The keys set in `configuration`, those commented out included. Names of header fields have a hyphen; keys do not.
fn keys(configuration: &str) -> BTreeSet<&str> {
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut keys = BTreeSet::new();
    for line in configuration.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with([' ', '-']) {
            continue; // prose, or a heading
        }
        for (at, _) in line.match_indices(" = ") {
            let word = line[..at].rsplit([' ', '{']).next().unwrap_or_default();
            if !word.is_empty() && word.bytes().all(is_key) {
                keys.insert(word);
            }
        }
    }
    keys
}

/// The row of `family` in the table of metrics.
fn row(family: &Family) -> String {
    let labels: Vec<_> = family
        .labels
        .iter()
        .map(|label| format!("`{}`", label.name))
        .collect();
    format!(
        "| `{}` | {} | {} | {} | {} |",
        family.name,
        family.kind.as_str(),
        family.unit.as_str(),
        labels.join(" "),
        family.help
    )
}

#[test]
fn metrics_table_is_the_catalogue() {
    let readme = text("README.md");
    let head = "| name | type | unit | labels | help |\n|---|---|---|---|---|\n";
    let (before, rest) = readme.split_once(head).expect("the head of the table");
    let (listed, after) = rest.split_once("\n\n").expect("its end");
    let rows: Vec<_> = FAMILIES.iter().map(row).collect();
    if std::env::var_os(WRITE).is_some() {
        let whole = [before, head, &rows.join("\n"), "\n\n", after].concat();
        fs::write(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"),
            whole,
        )
        .unwrap();
        return;
    }
    for (listed, row) in listed.lines().zip(&rows) {
        assert_eq!(
            listed, row,
            "{WRITE}=1 in the environment of this test writes the table"
        );
    }
    assert_eq!(
        listed.lines().count(),
        rows.len(),
        "{WRITE}=1 writes the table"
    );
}

const WRITE: &str = "BALANCER_WRITE_README";

#[test]
fn every_word_of_a_label_is_explained() {
    let readme = text("README.md");
    let words: Vec<_> = FAMILIES
        .iter()
        .flat_map(|family| family.labels)
        .filter_map(|label| match label.values {
            Values::Words(words) => Some((label.name, words)),
            _ => None,
        })
        .collect();
    assert!(words.len() > 10, "the labels were found");
    let quoted = quoted(&readme);
    for (name, words) in words {
        // Reasons have a table of their own, and so have the states of endpoints.
        let is_elsewhere = words == REASONS || words.starts_with(&["unchecked"]);
        let label = format!("`{name}`");
        let mut rows = rows(&readme).filter(|cells| cells.len() == 2 && cells[0] == label);
        let row = rows.next().unwrap_or_else(|| panic!("no row for {label}"));
        for word in words {
            let word = format!("`{word}`");
            let is_here = row[1].contains(&word);
            assert!(
                is_here || is_elsewhere && quoted.contains(word.trim_matches('`')),
                "{word} of {label} is explained nowhere"
            );
        }
    }
}

#[test]
fn statuses_table_lists_every_reason_once() {
    let readme = text("README.md");
    let mut listed: Vec<&str> = rows(&readme)
        .filter(|cells| {
            cells.len() == 4 && (cells[0].is_empty() || cells[0].parse::<u16>().is_ok())
        })
        .map(|cells| cells[1].trim_matches('`'))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, REASONS);
}

#[test]
fn error_pages_can_be_had_for_every_status_of_the_table() {
    let readme = text("README.md");
    let statuses: BTreeSet<u16> = rows(&readme)
        .filter(|cells| cells.len() == 4)
        .filter_map(|cells| cells[0].parse().ok())
        .filter(|status| *status != 499) // never sent
        .collect();
    assert_eq!(
        statuses,
        BTreeSet::from(balancer::config::OWN_STATUSES),
        "the table and the keys agree"
    );
    let listed: Vec<_> = balancer::config::OWN_STATUSES
        .iter()
        .map(u16::to_string)
        .collect();
    let (last, others) = listed.split_last().unwrap();
    let sentence = format!("Keys are statuses: {} or {last}.", others.join(", "));
    assert!(readme.contains(&sentence), "not in the README: {sentence}");
}

#[test]
fn every_key_of_the_commented_configuration_is_explained() {
    let (readme, configuration) = (text("README.md"), text("balancer.toml"));
    let keys = keys(&configuration);
    assert!(keys.len() > 50, "the keys were found: {keys:?}");
    let quoted = quoted(&readme);
    let missing: Vec<_> = keys.iter().filter(|key| !quoted.contains(*key)).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

#[test]
fn samples_are_whole_and_valid() {
    let readme = text("README.md");
    let samples = samples(&readme);
    assert!(!samples.is_empty(), "there are samples");
    for (line, sample) in samples {
        match balancer::config::parse(&sample, Path::new("balancer.toml")) {
            Ok(config) => assert_eq!(config.warnings, [], "README.md:{line}"),
            Err(problems) => panic!("README.md:{line}:\n{problems}"),
        }
    }
}

#[test]
fn quick_start_shows_what_the_shipped_file_sets() {
    let (readme, shipped) = (text("README.md"), text("balancer.toml"));
    let samples = samples(&readme);
    let (_, shown) = samples.first().expect("there is a sample");
    let meaning = |source: &str| {
        let config = balancer::config::parse(source, Path::new("balancer.toml")).unwrap();
        let listeners = config.listeners.iter().map(|listener| {
            let chains = listener.tls.iter().flat_map(|tls| &tls.certificates);
            let chains: Vec<_> = chains
                .map(|certificate| certificate.chain.clone())
                .collect();
            (listener.name.clone(), listener.address, chains)
        });
        let upstreams = config.upstreams.iter().map(|upstream| {
            let endpoints: Vec<_> = upstream
                .endpoints
                .iter()
                .map(|it| it.address.clone())
                .collect();
            (
                upstream.name.clone(),
                upstream.policy,
                endpoints,
                upstream.health.clone(),
            )
        });
        let routes = config
            .routes
            .iter()
            .map(|route| (route.name.clone(), route.exclusive));
        (
            listeners.collect::<Vec<_>>(),
            upstreams.collect::<Vec<_>>(),
            routes.collect::<Vec<_>>(),
            config.admin.address,
        )
    };
    assert_eq!(meaning(shown), meaning(&shipped));
}

#[test]
fn readme_says_what_every_field_of_the_access_log_is() {
    let readme = text("README.md");
    let (_, section) = readme.split_once("\n## Access log\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let named: Vec<&str> = rows(section)
        .flat_map(|row| row[0].split('`').skip(1).step_by(2))
        .collect();
    let fields = balancer::config::Field::ALL.map(|(name, _)| name);
    assert_eq!(named, fields, "in the order in which they are written");
}
