//! The command that goes on where a rolling restart has stopped, whole, as it is to be typed. Pure.

use std::path::Path;
use std::time::Duration;

use super::Args;
use super::decide::MaxUnavailable;

/// With the options of before. By the version, where one is waited for, it finds those of `rest` itself.
pub(super) fn command(args: &Args, rest: &[String], config: &Path) -> String {
    let mut words = vec!["balancer".to_owned(), "roll".to_owned()];
    words.push(args.upstream.clone());
    let mut option = |name: &str, value: Option<String>| {
        words.push(name.to_owned());
        words.extend(value);
    };
    if let Some(hook) = &args.hook {
        option("--hook", Some(hook.clone()));
    }
    if let Some(long) = args.hook_timeout {
        option("--hook-timeout", Some(duration(long)));
    }
    if args.max_unavailable != MaxUnavailable::Count(1) {
        option("--max-unavailable", Some(args.max_unavailable.to_string()));
    }
    if args.force {
        option("--force", None);
    }
    if !args.pause.is_zero() {
        option("--pause", Some(duration(args.pause)));
    }
    if args.timeout != super::TIMEOUT {
        option("--timeout", Some(duration(args.timeout)));
    }
    let only = match &args.expect_version {
        Some(version) => {
            option("--expect-version", Some(version.clone()));
            option("--continue", None);
            &args.only[..]
        }
        None => rest,
    };
    for name in only {
        option("--only", Some(name.clone()));
    }
    if args.json {
        option("--json", None);
    }
    words.extend(args.at.as_options(config));
    typed(words.into_iter())
}

/// As a shell takes them for these words.
pub(super) fn typed(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.map(|word| quoted(&word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=%+,@".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn duration(long: Duration) -> String {
    match long.subsec_millis() {
        0 => format!("{}s", long.as_secs()),
        _ => format!("{}ms", long.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[arg(long, default_value = "balancer.toml")]
        config: std::path::PathBuf,
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Typed {
        Typed::try_parse_from([&["roll"], words].concat()).unwrap()
    }

    #[test]
    fn regression_command_that_goes_on_has_all_that_was_asked_for() {
        let rest = ["b".to_owned(), "c".to_owned()];
        let told = |words: &[&str]| {
            let Typed { config, args } = parsed(words);
            command(&args, &rest, &config)
        };
        assert_eq!(told(&["app"]), "balancer roll app --only b --only c");
        let hook = "ssh \"$BALANCER_ADDRESS\" 'restart it'";
        assert_eq!(
            told(&["app", "--hook", hook, "--expect-version", "42"]),
            r#"balancer roll app --hook 'ssh "$BALANCER_ADDRESS" '\''restart it'\''' --expect-version 42 --continue"#
        );
        let all = [
            "app",
            "--hook",
            "restart",
            "--hook-timeout",
            "1500ms",
            "--max-unavailable",
            "25%",
            "--force",
            "--pause",
            "5s",
            "--timeout",
            "1m",
            "--json",
            "--socket",
            "/run/b a.sock",
            "--config",
            "other.toml",
        ];
        assert_eq!(
            told(&all),
            "balancer roll app --hook restart --hook-timeout 1500ms --max-unavailable 25% --force --pause 5s --timeout 60s --only b --only c --json --socket '/run/b a.sock'"
        );
        assert_eq!(
            told(&["app", "--config", "other.toml"]),
            "balancer roll app --only b --only c --config other.toml"
        );
    }
}
