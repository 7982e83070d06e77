//! The files we ship are valid, and so is every line of the reference that stands commented out.

use std::path::{Path, PathBuf};

use balancer::config;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `text` with its reference lines in force: those with `#` and no space after it.
pub(super) fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The indices of the lines at which a table begins, commented out or not.
fn table_starts(text: &str) -> Vec<usize> {
    let is_start = |line: &str| line.trim_start_matches('#').starts_with('[');
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_start(line))
        .map(|(index, _)| index)
        .collect()
}

#[test]
fn the_default_file_is_valid_and_beyond_doubt() {
    let config =
        config::load(&top().join("balancer.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, []);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.upstreams.len(), 2);
    assert_eq!(config.routes.len(), 2);
    assert!(config.routes[0].exclusive);
}

#[test]
fn the_commented_lines_of_the_default_file_are_valid() {
    let path = top().join("balancer.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    config::parse(&uncommented(&text), &path)
        .unwrap_or_else(|errors| panic!("all at once:\n{errors}"));

    let mut starts = table_starts(&text);
    starts.push(text.lines().count());
    for bounds in starts.windows(2) {
        let lines = text.lines().enumerate().map(|(index, line)| {
            if (bounds[0]..bounds[1]).contains(&index) {
                uncommented(line)
            } else {
                format!("{line}\n")
            }
        });
        let text: String = lines.collect();
        config::parse(&text, &path)
            .unwrap_or_else(|errors| panic!("table at line {}:\n{errors}", bounds[0] + 1));
    }
}

#[test]
fn the_defaults_of_the_default_file_are_the_defaults() {
    let path = top().join("balancer.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut is_example_table, mut line_before) = (false, "");
    let mut shown = String::new();
    for line in text.lines() {
        if line.trim_start_matches('#').starts_with('[') {
            is_example_table = [
                "#[[route]]",
                "#[upstream.weighted]",
                "#[upstream.halves]",
                "#[upstream.leading]",
                "#[upstream.calls]",
                "#[upstream.app.tls]",
                "#[tracing]",
            ]
            .iter()
            .any(|table| line.starts_with(table));
        }
        let is_example = is_example_table || line_before.starts_with("# Example");
        shown += &if is_example {
            format!("{line}\n")
        } else {
            uncommented(line)
        };
        line_before = line;
    }
    let with_defaults_shown =
        config::parse(&shown, &path).unwrap_or_else(|errors| panic!("{errors}"));
    let with_defaults_left_out = config::parse(&text, &path).unwrap();
    assert!(
        shown.matches("\n#").count() + 30 < text.matches("\n#").count(),
        "most reference lines are defaults"
    );
    assert_eq!(
        without_places(&with_defaults_shown),
        without_places(&with_defaults_left_out)
    );
}

fn without_places(config: &config::Config) -> String {
    let is_place = |line: &str| {
        ["line:", "column:", "key:"]
            .iter()
            .any(|field| line.trim_start().starts_with(field))
    };
    let debug = format!("{config:#?}");
    let lines = debug.lines().filter(|line| !is_place(line));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_sample_is_valid_and_beyond_doubt() {
    let mut samples: Vec<PathBuf> = std::fs::read_dir(top().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    samples.sort();
    assert!(samples.len() >= 17, "{samples:?}");
    for path in samples {
        let config = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings, [], "{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().take(2).all(|line| line.starts_with("# ")),
            "{}",
            path.display()
        );
    }
}
