//! The house keeps its layers: imports point strictly down, every file says what it is for, and the request's way holds
//! no locks. Reads the sources as text and knows nothing of Rust beyond `use`, paths and braces.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A module may name only modules of lower layers, and itself.
const LAYERS: &[&[&str]] = &[
    &["lock", "units"],
    &["message", "net"],
    &["config", "metrics"],
    &["balance", "tls"],
    &["upstream"],
    &["filter", "pool"],
    &["route"],
    &["snapshot"],
    &["proxy"],
    &["worker", "admin", "health"],
    &["daemon"],
    &["logging"],
    &["main", "cli"],
];

/// Modules on the request's way, where a lock would make one worker wait for another.
const LOCKLESS: &[&str] = &["proxy", "pool", "balance", "route", "filter"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// What is wrong with `source`, the file at `path` below `src/`.
fn problems(path: &str, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let module = path.split(['/', '.']).next().unwrap_or_default();
    if !source.starts_with("//!") {
        problems.push(format!("{path} does not open with `//!`"));
    }
    let code = if path.ends_with("/tests.rs") {
        // Behind a `#[cfg(test)]` of the file above.
        String::new()
    } else {
        without_tests_and_comments(source)
    };
    if path.ends_with("mod.rs")
        && code
            .lines()
            .any(|line| line.trim_start().starts_with("pub use ") && line.contains("::*"))
    {
        problems.push(format!("{path} re-exports everything of a module"));
    }
    let is_lock = |word: &str| matches!(word, "Mutex" | "RwLock" | "lock");
    if LOCKLESS.contains(&module) && words(&code).any(is_lock) {
        problems.push(format!("{path} holds a lock"));
    }
    if source.contains("#[ignore]") {
        problems.push(format!("{path} ignores a test without a reason"));
    }
    if module == "lib" {
        return problems;
    }
    let Some(own) = layer(module) else {
        problems.push(format!("{path} belongs to no layer"));
        return problems;
    };
    let prefixes: &[&str] = if module == "main" {
        &["crate", "balancer"]
    } else {
        &["crate"]
    };
    for other in prefixes
        .iter()
        .flat_map(|prefix| named_modules(&code, prefix))
    {
        match layer(&other) {
            // The binary's own modules, and items that stand at the top of the library.
            _ if other == module => {}
            Some(layer) if layer < own => {}
            Some(layer) if layer == own && module == "main" => {}
            Some(_) => problems.push(format!("{path} names {other}, which is not below {module}")),
            None => problems.push(format!("{path} names {other}, which belongs to no layer")),
        }
    }
    problems
}

/// The source without line comments and without what `#[cfg(test)]` stands before.
fn without_tests_and_comments(source: &str) -> String {
    let mut code: String = source
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("//") {
                ""
            } else {
                line.split(" // ").next().unwrap_or(line)
            }
        })
        .fold(String::new(), |code, line| code + line + "\n");
    while let Some(start) = code.find("#[cfg(test)]") {
        let rest = &code[start..];
        // Ends at the brace that closes the item, or at the semicolon of an item without braces.
        let mut depth = 0;
        let end = rest.char_indices().find_map(|(at, character)| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0 && matches!(character, '}' | ';')).then_some(at + 1)
        });
        code.replace_range(start..end.map_or(code.len(), |end| start + end), "");
    }
    code
}

/// The first segments after `PREFIX::`, braces opened.
fn named_modules(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let path = format!("{prefix}::");
    for (at, _) in code.match_indices(&path) {
        let is_whole_word = !code[..at]
            .ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
        let rest = &code[at + path.len()..];
        if !is_whole_word {
            continue;
        }
        let Some(list) = rest.strip_prefix('{') else {
            names.extend(words(rest).next().map(str::to_owned));
            continue;
        };
        let (mut depth, mut first) = (0, true);
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                _ if first && !character.is_whitespace() => {
                    first = false;
                    names.extend(words(&list[at..]).next().map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    // A type or function at the crate's top is no module.
    names.retain(|name| name.starts_with(|first: char| first.is_lowercase()));
    names
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn sources_keep_their_layers_their_promises_and_their_freedom_from_locks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(files.len() > 5, "the sources were found");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            problems(
                &file
                    .strip_prefix(root.join("src"))
                    .unwrap()
                    .to_string_lossy(),
                &fs::read_to_string(file).unwrap(),
            )
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn tests_benches_and_examples_say_what_they_are_for_and_ignore_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = ["#[ig", "nore]"].concat();
    for directory in ["tests", "benches", "examples"] {
        let mut files = Vec::new();
        rust_files(&root.join(directory), &mut files);
        assert!(!files.is_empty(), "{directory} was found");
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            assert!(
                source.starts_with("//!"),
                "{} does not open with `//!`",
                file.display()
            );
            let is_this = file.ends_with("architecture.rs");
            assert!(
                is_this || !source.contains(&ignore),
                "{} ignores a test without a reason",
                file.display()
            );
        }
    }
}

#[test]
fn checker_catches_what_it_is_for() {
    let found =
        |path: &str, source: &str| problems(path, &format!("//! A file.\n{source}")).join("; ");
    assert_eq!(
        found(
            "route/mod.rs",
            "use crate::config::Route;\nuse crate::units::Name;\nuse crate::route::path::Path;"
        ),
        ""
    );
    assert_eq!(
        found(
            "proxy/handler.rs",
            "use crate::{config::{Action, Route}, message::body::Body, units};"
        ),
        ""
    );
    assert!(found("route/mod.rs", "use crate::proxy::handler;").contains("names proxy"));
    assert!(found("route/mod.rs", "fn f() { crate::worker::start() }").contains("names worker"));
    assert!(
        found(
            "message/body.rs",
            "use crate::{\n    units::Name,\n    snapshot::{Snapshot, compile},\n};"
        )
        .contains("names snapshot")
    );
    assert!(
        found("health/mod.rs", "use crate::admin;").contains("names admin"),
        "siblings do not know each other"
    );
    assert!(found("main.rs", "use balancer::nonsense::Thing;").contains("names nonsense"));
    assert!(found("stranger.rs", "").contains("belongs to no layer"));
    assert!(found("pool/mod.rs", "struct Pool(std::sync::Mutex<()>);").contains("holds a lock"));
    assert!(found("pool/mod.rs", "use crate::lock;").contains("holds a lock"));
    assert_eq!(
        found("upstream/mod.rs", "struct Upstream(std::sync::Mutex<()>);"),
        ""
    );
    assert!(found("net/mod.rs", "pub use listen::*;").contains("re-exports everything"));
    assert!(found("net/listen.rs", "#[ignore]").contains("ignores a test"));
    assert!(problems("net/mod.rs", "use std::fs;")[0].contains("does not open"));
    // Comments and unit tests may name whom they like.
    let tests = "// crate::proxy\n/// [`crate::proxy`]\n#[cfg(test)]\nmod tests { use crate::proxy; fn f() {} }\n";
    assert_eq!(found("net/listen.rs", tests), "");
    assert!(
        found("net/listen.rs", &format!("{tests}use crate::proxy;")).contains("names proxy"),
        "what follows the tests counts"
    );
}
