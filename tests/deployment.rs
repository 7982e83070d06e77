//! The examples of deployment fit the balancer and each other: configurations are valid, and paths, ports, times and versions
//! are the same wherever they stand. Whether other programs take the files is asked by `examples/deploy/check`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use balancer::config::{self, AdminSocket, Config};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(top().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn configuration(kind: &str) -> Config {
    let path = top().join(format!("examples/deploy/{kind}/balancer.toml"));
    config::load(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The values of `key` in a file of lines `key=value` or `key: value`, in whatever depth.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        let rest = line.trim_start_matches([' ', '-']).strip_prefix(key)?;
        rest.strip_prefix([':', '=']).map(str::trim)
    };
    text.lines().filter_map(value).collect()
}

/// What `[package.metadata.deb]` installs: sources and where they go.
fn installed() -> Vec<(PathBuf, PathBuf)> {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let assets = &manifest["package"]["metadata"]["deb"]["assets"];
    let asset = |asset: &toml::Value| {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let from = Path::new(from);
        let to = if to.ends_with('/') {
            Path::new("/").join(to).join(from.file_name().unwrap())
        } else {
            Path::new("/").join(to)
        };
        (from.to_owned(), to)
    };
    assets.as_array().unwrap().iter().map(asset).collect()
}

#[test]
fn configurations_are_valid_and_beyond_doubt() {
    for kind in ["container", "debian", "kubernetes"] {
        assert_eq!(configuration(kind).warnings, [], "{kind}");
    }
}

#[test]
fn package_is_made_of_files_that_are_there() {
    let installed = installed();
    assert!(installed.len() > 5, "{installed:?}");
    for (from, _) in &installed {
        let is_built = from.starts_with("target");
        let folder = top().join(from.parent().unwrap());
        let there = match from.to_str().unwrap().rsplit_once("*.") {
            Some((_, extension)) => fs::read_dir(folder).unwrap().any(|file| {
                let path = file.unwrap().path();
                path.extension().is_some_and(|other| other == extension)
            }),
            None => top().join(from).is_file(),
        };
        assert!(is_built || there, "{} is not there", from.display());
    }
}

#[test]
fn unit_package_and_log_rotation_name_the_same_paths() {
    let (unit, rotation) = (
        text("examples/deploy/systemd/balancer.service"),
        text("examples/deploy/debian/logrotate"),
    );
    let installed = installed();
    let is_installed = |path: &str| installed.iter().any(|(_, to)| to == Path::new(path));
    let start = values(&unit, "ExecStart");
    let [program, "--config", file] = start[0].split(' ').collect::<Vec<_>>()[..] else {
        panic!("{start:?}");
    };
    assert!(is_installed(program) && is_installed(file), "{start:?}");
    let reload = format!("{program} reload --config {file}");
    assert_eq!(values(&unit, "ExecReload"), [reload.as_str()]);
    let runtime = format!("/run/{}", values(&unit, "RuntimeDirectory")[0]);
    let AdminSocket::At(socket) = configuration("debian").admin.socket else {
        panic!("`balancer reload` needs a socket");
    };
    assert_eq!(socket.parent(), Some(Path::new(&runtime)));
    assert!(is_installed("/etc/logrotate.d/balancer"));

    let folder = format!("/var/log/{}", values(&unit, "LogsDirectory")[0]);
    let shown = format!("\n#target = \"{folder}/access.log\"\n");
    assert!(text("examples/deploy/debian/balancer.toml").contains(&shown));
    assert!(rotation.contains(&format!("{folder}/*.log {{")));
    assert!(rotation.contains("--signal=USR1 balancer.service"));
}

#[test]
fn socket_unit_opens_what_the_listener_it_names_has() {
    let unit = text("examples/deploy/systemd/balancer-http.socket");
    let config = configuration("debian");
    let listener = &config.listeners[0];
    assert_eq!(values(&unit, "FileDescriptorName"), [&*listener.name]);
    let address = listener.address.to_string();
    assert_eq!(values(&unit, "ListenStream"), [address.as_str()]);
}

#[test]
fn managers_wait_longer_than_the_balancer_takes_to_end() {
    for (kind, file, key) in [
        ("debian", "systemd/balancer.service", "TimeoutStopSec"),
        ("container", "container/compose.yaml", "stop_grace_period"),
        (
            "kubernetes",
            "kubernetes/deployment.yaml",
            "terminationGracePeriodSeconds",
        ),
    ] {
        let process = configuration(kind).process;
        let text = text(&format!("examples/deploy/{file}"));
        let found = values(&text, key);
        let seconds = found[0].trim_end_matches('s').parse().unwrap();
        let needed = process.shutdown_delay + process.shutdown_grace + Duration::from_secs(5);
        assert!(
            Duration::from_secs(seconds) >= needed,
            "{file}: {key} is {seconds} s, and {needed:?} are needed"
        );
    }
}

#[test]
fn ports_are_those_the_balancer_listens_on() {
    let ports = |kind: &str| {
        let config = configuration(kind);
        let listeners = config.listeners.iter().map(|it| it.address.port());
        let mut ports: Vec<u16> = listeners.chain([config.admin.address.port()]).collect();
        ports.sort_unstable();
        ports
    };
    let deployment = text("examples/deploy/kubernetes/deployment.yaml");
    let mut pod: Vec<u16> = deployment
        .split("containerPort: ")
        .skip(1)
        .map(|rest| rest.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    pod.sort_unstable();
    assert_eq!(pod, ports("kubernetes"));

    let dockerfile = text("examples/deploy/container/Dockerfile");
    let mut exposed = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("EXPOSE "));
    let image: Vec<u16> = exposed
        .next_back() // the stage that runs the balancer is the last
        .unwrap()
        .split(' ')
        .map(|port| port.parse().unwrap())
        .collect();
    assert_eq!(image, ports("container"));

    let admin = configuration("debian").admin.address;
    let keepalived = text("examples/deploy/keepalived/keepalived.conf");
    assert!(keepalived.contains(&format!("http://{admin}/readyz")));
}

#[test]
fn images_have_the_version_of_the_balancer() {
    for file in [
        "container/Dockerfile",
        "container/compose.yaml",
        "kubernetes/deployment.yaml",
    ] {
        let text = text(&format!("examples/deploy/{file}"));
        let tags: Vec<&str> = text
            .split("balancer:")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next())
            .filter(|tag| tag.starts_with(|first: char| first.is_ascii_digit()))
            .collect();
        assert!(!tags.is_empty(), "{file}");
        for tag in tags {
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{file}");
        }
    }
}
