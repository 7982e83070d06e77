//! The access log's formats, targets and figures of speech: what other people's programs read in it, what stands in it and what
//! does not, and that nobody waits for it.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;

use crate::support::balancer::BINARY;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::peers::peer;
use crate::support::{Balancer, Connection, Origin, eventually, eventually_some, get, simple};

fn config(origin: &Origin, settings: &str) -> String {
    format!("{}\n[access_log]\n{settings}\n", simple(&[origin]))
}

/// Whole lines of the file so far.
fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

fn await_lines(file: &Path, count: usize) -> Vec<String> {
    eventually_some("the access log is written", || {
        Some(lines(file)).filter(|lines| lines.len() >= count)
    })
}

fn await_records(file: &Path, count: usize) -> Vec<Value> {
    let lines = await_lines(file, count);
    let record = |line: &String| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    lines.iter().map(record).collect()
}

fn dropped(balancer: &Balancer) -> f64 {
    balancer
        .metrics()
        .sum("balancer_access_log_dropped_lines_total", &[])
}

/// Requests with whatever somebody may send who wants to forge lines or reach terminals.
fn ask_hostile_things(balancer: &Balancer) -> usize {
    let agents: [&[u8]; 5] = [
        b"curl/8.0",
        b"a\" 200 1 \"-\" \"-\\",
        b"\xff\xfe \xc2\x9b31m \xe2\x80\xa8",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
        b"\ttabs\tand \"quotes\"",
    ];
    let paths = ["/", "/a\"b", "/x?q=%22%0d%0a", "//a/../b?<>", "/%1b[31m"];
    let mut count = 0;
    for agent in agents {
        for path in paths {
            let mut connection = Connection::open(balancer.http());
            let mut head =
                format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: ").into_bytes();
            head.extend_from_slice(agent);
            head.extend_from_slice(
                b"\r\nReferer: https://example.com/\"\r\nConnection: close\r\n\r\n",
            );
            connection.send(head);
            connection.reply();
            count += 1;
        }
    }
    count
}

#[test]
fn combined_lines_are_read_by_goaccess() {
    let Some(goaccess) = peer("goaccess", "goaccess") else {
        return;
    };
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(
        &origin,
        "target = \"access.log\"\nformat = \"combined\"",
    ));
    let asked = ask_hostile_things(&balancer);
    let file = balancer.directory().join("access.log");
    let lines = await_lines(&file, asked);
    for line in &lines {
        assert!(
            line.bytes().all(|byte| matches!(byte, 0x20..0x7f)),
            "{line}"
        );
        assert_eq!(line.matches('"').count(), 6, "{line}");
    }
    let report = balancer.directory().join("report.json");
    let status = Command::new(goaccess)
        .arg(&file)
        .args([
            "--log-format=COMBINED",
            "--no-global-config",
            "--ignore-panel=GEO_LOCATION",
            "-o",
        ])
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let general = &report["general"];
    assert_eq!(general["total_requests"], asked, "{general}");
    assert_eq!(general["valid_requests"], asked, "{general}");
    assert_eq!(general["failed_requests"], 0, "{general}");
}

#[test]
fn rsyslog_receives_a_line_for_each_request() {
    let Some(rsyslogd) = peer("rsyslogd", "rsyslog") else {
        return;
    };
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&origin, "target = \"syslog:log\""));
    assert_eq!(get(balancer.http(), "/unheard").status, 200);
    eventually("that nobody listens is told", || dropped(&balancer) == 1.0);
    let folder = balancer.directory();
    let (configuration, heard) = (folder.join("rsyslog.conf"), folder.join("heard"));
    let text = format!(
        "global(workDirectory=\"{0}\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{0}/log\" RateLimit.Interval=\"0\")\n\
         template(name=\"t\" type=\"string\" string=\"%syslogfacility-text%.%syslogseverity-text% %syslogtag% %msg%\\n\")\n\
         *.* action(type=\"omfile\" file=\"{0}/heard\" template=\"t\")\n",
        folder.display()
    );
    fs::write(&configuration, text).unwrap();
    let daemon = Command::new(rsyslogd)
        .args(["-n", "-f"])
        .arg(&configuration)
        .arg("-i")
        .arg(folder.join("rsyslog.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _daemon = Ended(daemon);
    eventually("rsyslog listens", || folder.join("log").exists());
    // The process's own socket is bound a moment before it is read.
    let asked = ask_hostile_things(&balancer);
    let tag = format!(
        "local0.info balancer[{}]: ",
        balancer.pid().as_raw_nonzero()
    );
    let heard = eventually_some("rsyslog has written it all", || {
        let lines = lines(&heard);
        let ours = lines.iter().filter_map(|line| line.strip_prefix(&tag));
        let ours: Vec<Value> = ours
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect();
        (ours.len() >= asked).then_some(ours)
    });
    assert_eq!(heard.len(), asked);
    assert!(heard.iter().all(|record| record["path"] != "/unheard"));
    assert_eq!(dropped(&balancer), 1.0);
    assert_eq!(balancer.events("access log is written again").len(), 1);
}

/// A process that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_journal_is_sent_the_line_and_its_members() {
    let origin = Origin::named("a");
    let socket = |folder: &Path| UnixDatagram::bind(folder.join("journal")).unwrap();
    let mut journal = None;
    let balancer = Balancer::start_with(
        &config(&origin, "target = \"journald:journal\""),
        |folder| journal = Some(socket(folder)),
    );
    assert_eq!(get(balancer.http(), "/x?a=%0aPRIORITY=0").status, 200);
    let mut bytes = [0; 4096];
    let journal = journal.unwrap();
    journal
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let length = journal.recv(&mut bytes).unwrap();
    let entry = std::str::from_utf8(&bytes[..length]).unwrap();
    let value = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name));
    let message: Value = serde_json::from_str(value("MESSAGE=").unwrap()).unwrap();
    assert_eq!(message["path"], "/x");
    assert_eq!(value("BALANCER_STATUS="), Some("200"), "{entry}");
    assert_eq!(
        value("BALANCER_ENDPOINT="),
        Some(&*origin.address().to_string())
    );
    assert_eq!(value("BALANCER_QUERY="), Some("a=%0aPRIORITY=0"));
    assert_eq!(value("PRIORITY="), Some("6"));
}

#[test]
fn a_line_tells_of_the_handshake_the_connection_and_the_trace() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let text = config(&origin, "target = \"access.log\"\nheaders = [\"x-tenant\", \"authorization\"]")
        .replace(
            "[listener.http]",
            "[listener.https]\ntls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }",
        );
    let balancer = Balancer::start_with(&text, |folder| {
        authority.issue(&[HOST]).write(folder, "server")
    });
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, HOST));
    for _ in 0..2 {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    let file = balancer.directory().join("access.log");
    let records = await_records(&file, 2);
    for record in &records {
        assert_eq!(record["sni"], HOST, "{record}");
    }
    let is_told = |name: &str| {
        records
            .iter()
            .filter(|record| record[name].is_number())
            .count()
    };
    assert_eq!(
        is_told("tls_ms"),
        1,
        "of the first request after it: {records:?}"
    );
    assert!(records[0]["tls_ms"].is_number());
    assert!((1..=2).contains(&is_told("connect_ms")), "{records:?}");
    assert_eq!(is_told("head_ms"), 2);

    let http = Balancer::start(&config(
        &origin,
        "target = \"access.log\"\nheaders = [\"x-tenant\", \"authorization\"]",
    ));
    let mut connection = Connection::open(http.http());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nTraceparent: 00-{trace}-00f067aa0ba902b7-01\r\nX-Tenant: a\r\nX-Tenant: b\r\n\
         Authorization: Bearer s3cret\r\nUser-Agent: me\r\nReferer: https://example.com/\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    let record = &await_records(&http.directory().join("access.log"), 1)[0];
    assert_eq!(record["trace_id"], trace);
    assert_eq!(
        (&record["user_agent"], &record["referer"]),
        (&"me".into(), &"https://example.com/".into())
    );
    assert_eq!(record["headers"]["x-tenant"], "a, b");
    assert_eq!(record["headers"]["authorization"], "***");
    assert!(record.get("sni").is_none() && record.get("tls_ms").is_none());
}

#[test]
fn secrets_of_queries_are_not_written() {
    let origin = Origin::named("a");
    let settings = "target = \"access.log\"\nredact = { query = [\"token\"] }\nfields = [\"query\", \"referer\"]";
    let balancer = Balancer::start(&config(&origin, settings));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET /?a=1&%74OKEN=s3cret&b=2 HTTP/1.1\r\nHost: {HOST}\r\nReferer: http://{HOST}/?token=s3cret\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    let file = balancer.directory().join("access.log");
    let expected =
        format!("{{\"query\":\"a=1&%74OKEN=***&b=2\",\"referer\":\"http://{HOST}/?token=***\"}}");
    assert_eq!(await_lines(&file, 1), [expected]);
    let asked = origin.last_request();
    assert_eq!(asked.target(), "/?a=1&%74OKEN=s3cret&b=2");
    balancer.reloaded(&config(
        &origin,
        "target = \"access.log\"\nredact = { query = \"all\" }\nformat = \"combined\"",
    ));
    assert_eq!(get(balancer.http(), "/x?anything").status, 200);
    let line = &await_lines(&file, 2)[1];
    assert!(line.contains("\"GET /x?*** HTTP/1.1\" 200"), "{line}");
}

#[test]
fn slow_requests_are_logged_whatever_the_sample_says() {
    let origin = Origin::with("a", |exchange| {
        if exchange.target() == "/slow" {
            std::thread::sleep(Duration::from_millis(300));
        }
        exchange.respond_with_name()
    });
    let settings =
        "target = \"access.log\"\nonly = \"errors\"\nslow = \"300ms\"\nfields = [\"path\"]";
    let balancer = Balancer::start(&config(&origin, settings));
    // On a busy machine others may be slow, too; this one always is.
    for path in ["/", "/slow"] {
        assert_eq!(get(balancer.http(), path).status, 200);
    }
    let file = balancer.directory().join("access.log");
    eventually("the slow one is logged", || {
        lines(&file).contains(&"{\"path\":\"/slow\"}".to_owned())
    });
}

/// The file may not grow beyond what is in it: the same to who writes as a disk that is full, and it can be undone.
#[test]
fn a_full_disk_stops_nobody_and_writing_goes_on_when_there_is_room() {
    let origin = Origin::named("a");
    let settings = "target = \"access.log\"\nfields = [\"path\", \"status\"]";
    // 512 or 1,024 bytes each, as the shell has it.
    let balancer = Balancer::start_limited(&config(&origin, settings), "ulimit -S -f 4");
    let mut connection = Connection::open(balancer.http());
    let mut asked = 0;
    let mut ask = |count: usize| {
        for _ in 0..count {
            assert_eq!(connection.get(&format!("/{asked:04}")).status, 200);
            asked += 1;
        }
        asked
    };
    eventually("the disk is full", || {
        ask(50);
        dropped(&balancer) > 50.0
    });
    let warnings = balancer.events("access log lines were dropped");
    assert_eq!(warnings.len(), 1, "one in a minute: {warnings:?}");
    assert!(warnings[0]["lines"].as_u64().is_some_and(|lines| lines > 0));
    let to = warnings[0]["to"].as_str().unwrap();
    assert!(to.ends_with("access.log"), "{warnings:?}");
    let maximum = getrlimit(Resource::Fsize).maximum;
    let unlimited = Rlimit {
        current: maximum,
        maximum,
    };
    prlimit(Some(balancer.pid()), Resource::Fsize, unlimited).unwrap();
    let asked = ask(1);
    let again = || balancer.events("access log is written again");
    eventually("writing goes on by itself, and says so", || {
        again().len() == 1
    });
    assert!(again()[0]["dropped"].is_u64());
    // Every line is whole, and each is written or counted.
    let records = await_records(&balancer.directory().join("access.log"), 1);
    assert_eq!(
        records.last().unwrap()["path"],
        format!("/{:04}", asked - 1)
    );
    assert_eq!(records.len() as f64 + dropped(&balancer), asked as f64);
}

#[test]
fn a_device_that_takes_nothing_and_a_folder_that_goes_stop_nobody() {
    let origin = Origin::named("a");
    let balancer =
        Balancer::start_with(&config(&origin, "target = \"log/access.log\""), |folder| {
            fs::create_dir(folder.join("log")).unwrap();
        });
    fs::remove_dir_all(balancer.directory().join("log")).unwrap();
    for _ in 0..3 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    balancer.reloaded(&config(&origin, "target = \"/dev/full\""));
    for _ in 0..3 {
        assert_eq!(get(balancer.http(), "/").status, 200);
    }
    eventually("lines are dropped", || dropped(&balancer) >= 3.0);
    eventually("that is said, and why", || {
        let warnings = balancer.events("access log lines were dropped");
        warnings.first().is_some_and(|warning| {
            warning["error"]
                .as_str()
                .is_some_and(|error| error.contains("No space left"))
        })
    });
    balancer.reloaded(&config(&origin, "target = \"access.log\""));
    assert_eq!(get(balancer.http(), "/there").status, 200);
    await_lines(&balancer.directory().join("access.log"), 1);
    eventually("that is said", || {
        balancer.events("access log is written again").len() == 1
    });
}

#[test]
fn a_pipe_that_nobody_reads_stops_nobody_and_one_that_is_read_again_gets_whole_lines() {
    let origin = Origin::named("a");
    let mut reader = None;
    let settings = "target = \"pipe\"\nfields = [\"path\"]";
    let balancer = Balancer::start_with(&config(&origin, settings), |folder| {
        let path = folder.join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        // For both, so that opening it waits for nobody.
        reader = Some(File::options().read(true).write(true).open(path).unwrap());
    });
    let mut connection = Connection::open(balancer.http());
    let path = format!("/{}", "x".repeat(3000));
    eventually("the pipe is full and lines are dropped", || {
        for _ in 0..20 {
            assert_eq!(connection.get(&path).status, 200);
        }
        dropped(&balancer) > 0.0
    });
    assert_eq!(get(balancer.admin(), "/livez").status, 200);
    let mut reader = reader.unwrap();
    let collecting = std::thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), vec![0; 1 << 16]);
        while !all.ends_with(b"{\"path\":\"/last\"}\n") {
            let count = reader.read(&mut piece).unwrap();
            all.extend_from_slice(&piece[..count]);
        }
        String::from_utf8(all).unwrap()
    });
    eventually("writing goes on, and the last line comes", || {
        assert_eq!(connection.get("/last").status, 200);
        collecting.is_finished()
    });
    eventually("that is said", || {
        balancer.events("access log is written again").len() == 1
    });
    assert_eq!(balancer.events("access log lines were dropped").len(), 1);
    for line in collecting.join().unwrap().lines() {
        let path = serde_json::from_str::<Value>(line).unwrap()["path"].clone();
        assert!(path == *"/last" || path.as_str().is_some_and(|path| path.len() == 3001));
    }
}

#[test]
fn its_own_log_may_stand_in_a_pipe_that_nobody_reads_or_that_is_closed() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    let text = format!(
        "{}\n[listener.talkative]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
         proxy_protocol_from = [\"192.0.2.1\"]\n[log]\nlevel = \"debug\"\n[process]\nworkers = 1\n\
         [admin]\naddress = \"127.0.0.1:0\"\nsocket = \"sock\"\n",
        simple(&[&origin])
    );
    fs::write(&file, text).unwrap();
    for is_closed in [false, true] {
        let (unread, stderr) = std::io::pipe().unwrap();
        let unread = (!is_closed).then_some(unread);
        let child = Command::new(BINARY)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut balancer = Ended(child);
        let status = || -> Option<Value> {
            let output = Command::new(BINARY)
                .args(["status", "--json", "--config"])
                .arg(&file)
                .output()
                .unwrap();
            serde_json::from_slice(&output.stdout).ok()
        };
        let status = eventually_some("it serves", status);
        let address = |name: &str| -> SocketAddr {
            let listeners = status["listeners"].as_array().unwrap();
            let listener = listeners.iter().find(|it| it["name"] == name).unwrap();
            listener["address"].as_str().unwrap().parse().unwrap()
        };
        // The worker says of each that it has no right to connect: together more than a pipe holds.
        for _ in 0..1000 {
            drop(TcpStream::connect(address("talkative")).unwrap());
        }
        assert_eq!(get(address("http"), "/").status, 200);
        kill_process(Pid::from_child(&balancer.0), Signal::TERM).unwrap();
        let ended = eventually_some("it ends", || balancer.0.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
        drop(unread);
    }
}
