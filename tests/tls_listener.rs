//! What TLS listeners promise beyond a handshake: hosts stay with their certificate, endpoints are told who a client is and
//! cannot be lied to about it, revocation counts, and certificates are renewed and watched.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Request;
use http_body_util::Full;
use rcgen::{DnType, SanType};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, ProtocolVersion};
use tempfile::TempDir;

use crate::support::balancer::BINARY;
use crate::support::certificates::{Authority, Leaf};
use crate::support::client::{HOST, Tls, TlsOptions};
use crate::support::h2::H2;
use crate::support::http1::Head;
use crate::support::peers::peer;
use crate::support::{Balancer, Connection, Origin, Outcome, Reply, eventually, simple};

/// A listener `https` with these keys of `listener.https.tls`, and a plain one, before `origin`.
fn before(origin: &Origin, keys: &str) -> String {
    format!(
        "[listener.https]\naddress = \"127.0.0.1:0\"\n[listener.https.tls]\n{keys}\n{}",
        simple(&[origin])
    )
}

/// The same with the certificate for [`HOST`] that [`start`] writes.
fn with_server(origin: &Origin, keys: &str) -> String {
    let certificates = "certificates = [{ chain = \"server.pem\", key = \"server.key\" }]";
    before(origin, &format!("{certificates}\n{keys}"))
}

/// Starts with a certificate of `authority` for [`HOST`], and with `ca.pem`.
fn start(authority: &Authority, config: &str, prepare: impl FnOnce(&Path)) -> Balancer {
    Balancer::start_with(config, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
        prepare(directory);
    })
}

/// A client that shows `identity`.
fn client(authority: &Authority, identity: Option<&Leaf>) -> Tls {
    TlsOptions {
        identity,
        ..TlsOptions::default()
    }
    .build(authority, HOST)
}

fn ask(connection: &mut Connection, host: &str) -> Reply {
    connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    connection.reply()
}

/// Whether a request is answered, on a connection of its own. Over TLS 1.3 a client learns only then that it was refused.
fn is_served(address: SocketAddr, tls: &Tls) -> bool {
    let Ok(mut connection) = Connection::secure(address, tls) else {
        return false;
    };
    connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    connection
        .try_reply("GET")
        .is_ok_and(|reply| reply.status == 200)
}

// ---- 421 ----------------------------------------------------------------------------------------------------------------

const SITES: &str = r#"certificates = [
    { chain = "first.pem", key = "first.key" },
    { chain = "both.pem", key = "both.key" },
    { chain = "other.pem", key = "other.key" },
]"#;

/// A listener with three certificates; the second is for two hosts.
fn sites(authority: &Authority, origin: &Origin, keys: &str) -> Balancer {
    start(
        authority,
        &before(origin, &format!("{SITES}\n{keys}")),
        |directory| {
            authority
                .issue(&["first.test", "unnamed.test", "127.0.0.1"])
                .write(directory, "first");
            authority
                .issue(&["a.test", "b.test"])
                .write(directory, "both");
            authority.issue(&["other.test"]).write(directory, "other");
        },
    )
}

#[test]
fn request_for_a_host_of_another_certificate_is_misdirected() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = sites(&authority, &origin, "");
    let mut connection =
        Connection::secure(balancer.address("https"), &Tls::new(&authority, "a.test")).unwrap();
    for host in ["a.test", "A.Test:8443", "a.test.", "b.test"] {
        assert_eq!(ask(&mut connection, host).status, 200, "{host}");
    }
    let count = origin.request_count();
    for host in [
        "other.test",
        "OTHER.test:443",
        "first.test",
        "elsewhere.test",
        "127.0.0.1",
    ] {
        let reply = ask(&mut connection, host);
        reply.assert_made_by_balancer(421);
        assert_eq!(
            reply.field("proxy-status").unwrap(),
            "balancer; error=http_request_denied; details=\"another certificate stands for this host\""
        );
    }
    // The target's authority counts where there is one.
    connection.send("GET http://other.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    connection.reply().assert_made_by_balancer(421);
    assert_eq!(origin.request_count(), count, "no endpoint was asked");
    assert_eq!(
        ask(&mut connection, "b.test").status,
        200,
        "the connection goes on"
    );
    let labels = [("reason", "misdirected"), ("route", "(none)")];
    assert_eq!(
        balancer.metrics().sum("balancer_errors_total", &labels),
        6.0
    );
}

#[test]
fn explain_says_421_where_the_listener_does() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = sites(&authority, &origin, "");
    for (name, host) in [
        ("a.test", "b.test"),
        ("a.test", "Other.test:8443"),
        ("first.test", "elsewhere.test"),
        ("first.test", "a.test."),
        ("elsewhere.test", "unnamed.test"),
    ] {
        let tls = TlsOptions {
            any_certificate: true,
            ..TlsOptions::default()
        };
        let tls = tls.build(&authority, name);
        let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
        let status = ask(&mut connection, host).status;
        let (url, field) = (format!("https://{name}/"), format!("host: {host}"));
        let (other, server_name) = (format!("https://{host}/"), format!("--server-name={name}"));
        for arguments in [
            ["GET", &url, "-H", &field].as_slice(),
            &["GET", &other, &server_name],
        ] {
            let told = Command::new(BINARY)
                .current_dir(balancer.directory())
                .arg("explain")
                .args(arguments)
                .output()
                .unwrap();
            let text = String::from_utf8(told.stdout).unwrap();
            assert_eq!(
                text.contains("421, another certificate"),
                status == 421,
                "{name}, {host}: {status}\n{text}"
            );
            assert_eq!(told.status.code(), Some(i32::from(status == 421)), "{text}");
        }
    }
}

#[test]
fn hosts_without_a_certificate_belong_to_the_first() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = sites(&authority, &origin, "");
    for name in ["first.test", "unnamed.test"] {
        let tls = Tls::new(&authority, name);
        let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
        assert_eq!(ask(&mut connection, "elsewhere.test").status, 200);
        assert_eq!(ask(&mut connection, "first.test").status, 200);
        ask(&mut connection, "a.test").assert_made_by_balancer(421);
    }
}

#[test]
fn client_without_a_server_name_may_ask_for_every_host() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = sites(&authority, &origin, "");
    let tls = Tls::new(&authority, "127.0.0.1");
    let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
    for host in ["first.test", "a.test", "other.test", "elsewhere.test"] {
        assert_eq!(ask(&mut connection, host).status, 200, "{host}");
    }
}

#[test]
fn http2_connection_is_shared_by_the_hosts_of_its_certificate_only() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = sites(&authority, &origin, "");
    let connection = H2::connect(balancer.address("https"), &Tls::new(&authority, "a.test"));
    let ask = |host: &str, body: &'static [u8]| {
        let request = Request::post(format!("https://{host}/"));
        connection
            .send(request.body(Full::new(body.into())).unwrap())
            .unwrap()
    };
    assert_eq!(ask("a.test", b"").status, 200);
    assert_eq!(ask("b.test", b"body").status, 200);
    let count = origin.request_count();
    for host in ["other.test", "elsewhere.test"] {
        for body in [&b""[..], b"body"] {
            let reply = ask(host, body);
            assert_eq!(reply.status, 421);
            assert!(reply.headers.contains_key("proxy-status"));
        }
    }
    assert_eq!(origin.request_count(), count, "no endpoint was asked");
    assert_eq!(ask("b.test", b"").status, 200, "the connection goes on");
}

#[test]
fn client_with_a_certificate_is_misdirected_likewise() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let keys = "client_auth = \"required\"\nclient_ca = \"ca.pem\"";
    let balancer = sites(&authority, &origin, keys);
    let identity = authority.issue(&["client.test"]);
    let tls = TlsOptions {
        identity: Some(&identity),
        ..TlsOptions::default()
    }
    .build(&authority, "a.test");
    let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
    assert_eq!(ask(&mut connection, "b.test").status, 200);
    ask(&mut connection, "other.test").assert_made_by_balancer(421);
}

#[test]
fn with_one_certificate_every_host_is_served() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&authority, &with_server(&origin, ""), |_| {});
    let tls = client(&authority, None);
    let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
    assert_eq!(ask(&mut connection, "elsewhere.test").status, 200);
}

// ---- who a client is ----------------------------------------------------------------------------------------------------

const IDENTITY: &str = r#"client_auth = "optional"
client_ca = "ca.pem"
forward_identity = { certificate = "Client-Cert", subject = "X-Client-Subject", san = "X-Client-San", fingerprint = "X-Client-Fingerprint" }
"#;

const IDENTITY_FIELDS: [&str; 4] = [
    "client-cert",
    "x-client-subject",
    "x-client-san",
    "x-client-fingerprint",
];

/// What a client may try to pass as itself: twice, in any case, and in spellings that CGI takes for the same.
const FORGED: &str = "Client-Cert: :AAAA:\r\nclient-cert: :BBBB:\r\nX-Client-Subject: CN=root\r\nX-CLIENT-SUBJECT: CN=root\r\n\
    X_Client_Subject: CN=root\r\nx-client_subject: CN=root\r\nX-Client-San: DNS:root\r\nX-Client-Fingerprint: 00\r\n\
    X-Client-Fingerprint: 01\r\nConnection: x-client-subject, client-cert\r\n";

fn is_free_of_identity(head: &Head) -> bool {
    let raw = String::from_utf8_lossy(&head.raw).to_ascii_lowercase();
    !raw.contains("root") && !raw.contains("client-") && !raw.contains("client_")
}

#[test]
fn endpoint_is_told_whose_certificate_was_verified() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&authority, &with_server(&origin, IDENTITY), |_| {});
    let identity = authority.issue_with(&["client.test"], |parameters| {
        let name = &mut parameters.distinguished_name;
        name.push(DnType::OrganizationName, "Example, Inc.\r\nX-Role: admin");
        let uri = "spiffe://example.test/a,b".try_into().unwrap();
        parameters.subject_alt_names.push(SanType::URI(uri));
    });
    let folder = TempDir::new().unwrap();
    identity.write(folder.path(), "client");
    let tls = client(&authority, Some(&identity));
    let check = |head: &Head| {
        assert_eq!(
            head.field("x-client-subject"),
            Some("O=Example\\, Inc.\\0D\\0AX-Role: admin,CN=client.test")
        );
        assert_eq!(
            head.field("x-client-san"),
            Some("DNS:client.test,URI:spiffe://example.test/a\\,b")
        );
        let text = identity.chain.lines().filter(|line| !line.starts_with('-'));
        let text: String = text.map(str::trim).collect();
        assert_eq!(head.field("client-cert"), Some(&*format!(":{text}:")));
        assert_eq!(head.field("x-client-fingerprint").map(str::len), Some(64));
        let raw = String::from_utf8_lossy(&head.raw);
        assert!(!raw.contains("root") && !raw.contains("AAAA:") && !raw.contains("_client"));
    };
    let mut connection = Connection::secure(balancer.address("https"), &tls).unwrap();
    for forged in ["", FORGED] {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{forged}\r\n"));
        assert_eq!(connection.reply().status, 200);
        check(&origin.last_request().head);
    }
    let connection = H2::connect(balancer.address("https"), &tls);
    let mut request = Request::get(format!("https://{HOST}/"));
    for name in IDENTITY_FIELDS.into_iter().chain(["x_client_subject"]) {
        request = request.header(name, "root").header(name, "root");
    }
    assert_eq!(
        connection
            .send(request.body(Full::default()).unwrap())
            .unwrap()
            .status,
        200
    );
    check(&origin.last_request().head);
}

#[test]
fn fingerprint_is_the_one_openssl_shows() {
    let Some(openssl) = peer("openssl", "openssl") else {
        return;
    };
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&authority, &with_server(&origin, IDENTITY), |_| {});
    let identity = authority.issue(&["client.test"]);
    identity.write(balancer.directory(), "client");
    let output = Command::new(openssl)
        .args([
            "x509",
            "-in",
            "client.pem",
            "-noout",
            "-fingerprint",
            "-sha256",
        ])
        .current_dir(balancer.directory())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let shown = shown.trim().split('=').nth(1).expect("a fingerprint");
    assert!(is_served(
        balancer.address("https"),
        &client(&authority, Some(&identity))
    ));
    assert_eq!(
        origin.last_request().head.field("x-client-fingerprint"),
        Some(&*shown.replace(':', "").to_ascii_lowercase())
    );
}

#[test]
fn nobody_can_pass_for_a_client_with_a_certificate() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    // The plain listener asks for no certificate, and even believes its clients about their addresses.
    let config = with_server(&origin, IDENTITY).replace(
        "[listener.http]",
        "[listener.http]\ntrusted_proxies = [\"127.0.0.0/8\"]",
    );
    let balancer = start(&authority, &config, |_| {});
    let tls = client(&authority, None);
    let plain = Connection::open(balancer.http());
    let secure = Connection::secure(balancer.address("https"), &tls).unwrap();
    for mut connection in [plain, secure] {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{FORGED}\r\n"));
        assert_eq!(connection.reply().status, 200);
        let head = origin.last_request().head;
        assert!(is_free_of_identity(&head), "{head:?}");

        connection.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Sum, X-Client-Subject, Client-Cert, X-Client-San, X-Client-Fingerprint, X_Client_Subject\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Client-Subject: CN=root\r\nx-client-subject: CN=root\r\nClient-Cert: :AA:\r\n\
             X-Client-San: DNS:root\r\nX-Client-Fingerprint: 00\r\nX_Client_Subject: CN=root\r\n\r\n"
        ));
        assert_eq!(connection.reply().status, 200);
        let received = origin.last_request();
        assert_eq!(received.body.expect("a body").bytes, b"hi");
    }
    let connection = H2::connect(balancer.address("https"), &tls);
    let mut request = Request::get(format!("https://{HOST}/"));
    for name in IDENTITY_FIELDS.into_iter().chain(["x_client_subject"]) {
        request = request.header(name, "root").header(name, "root");
    }
    assert_eq!(
        connection
            .send(request.body(Full::default()).unwrap())
            .unwrap()
            .status,
        200
    );
    let head = origin.last_request().head;
    assert!(is_free_of_identity(&head), "{head:?}");
}

#[test]
fn trailers_cannot_say_who_a_client_is() {
    use std::io::Read;
    use std::net::TcpListener;

    let authority = Authority::new("test");
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let unused = Origin::named("unused");
    let config = with_server(&unused, IDENTITY).replace(
        &unused.address().to_string(),
        &endpoint.local_addr().unwrap().to_string(),
    );
    let balancer = start(&authority, &config, |_| {});
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum, X-Client-Subject, X-Client-San\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Client-Subject: CN=root\r\nX-Sum: 1\r\nX-Client-San: DNS:root\r\nX-Client-San: b\r\n\r\n"
    ));
    let (mut stream, _) = endpoint.accept().unwrap();
    stream
        .set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    let (mut received, mut buffer) = (String::new(), [0; 4096]);
    while !received
        .split_once("\r\n0\r\n")
        .is_some_and(|(_, trailers)| trailers.ends_with("\r\n\r\n") || trailers == "\r\n")
    {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "cut: {received}");
        received.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let (_, trailers) = received.split_once("\r\n0\r\n").expect("a last chunk");
    assert_eq!(trailers, "x-sum: 1\r\n\r\n");
}

#[test]
fn without_such_fields_in_the_file_only_the_standard_one_is_kept_from_strangers() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&authority, &with_server(&origin, ""), |_| {});
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nClient-Cert: :AA:\r\nX-Client-Subject: mine\r\n\r\n"
    ));
    assert_eq!(connection.reply().status, 200);
    let head = origin.last_request().head;
    assert_eq!(head.field("x-client-subject"), Some("mine"));
    assert_eq!(head.field("client-cert"), None);
}

// ---- revocation ---------------------------------------------------------------------------------------------------------

const REVOCATION: &str =
    "client_auth = \"required\"\nclient_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\n";

#[test]
fn revoked_client_is_refused_from_the_reload_on_even_with_a_session_to_resume() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let [good, bad] = ["good.test", "bad.test"].map(|name| authority.issue(&[name]));
    let config = with_server(&origin, REVOCATION);
    let nobody = authority.revocation_list(&[]);
    let balancer = start(&authority, &config, |directory| {
        fs::write(directory.join("crl.pem"), &nobody).unwrap();
    });
    let address = balancer.address("https");
    let crl = balancer.directory().join("crl.pem");
    for version in [&TLS12, &TLS13] {
        let with = |identity| {
            let options = TlsOptions {
                versions: vec![version],
                identity: Some(identity),
                ..TlsOptions::default()
            };
            options.build(&authority, HOST).resuming()
        };
        let (good, revoked) = (with(&good), with(&bad));
        assert!(is_served(address, &good) && is_served(address, &revoked));
        let mut open = Connection::secure(address, &revoked).unwrap();
        assert!(open.is_resumed(), "{version:?}");
        assert_eq!(open.get("/").status, 200);

        fs::write(&crl, authority.revocation_list(&[&bad])).unwrap();
        balancer.reloaded(&config);
        assert!(!is_served(address, &revoked), "{version:?}");
        assert!(is_served(address, &good), "{version:?}");
        assert_eq!(
            open.get("/").status,
            200,
            "a connection made before goes on"
        );

        fs::write(&crl, &nobody).unwrap();
        balancer.reloaded(&config);
        assert!(is_served(address, &revoked), "the list was replaced");
    }
    fs::write(&crl, "").unwrap();
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("accepted")
    };
    assert!(
        problems.contains("https.tls.client_crl: no revocation list in "),
        "{problems}"
    );
    assert!(
        is_served(address, &client(&authority, Some(&good))),
        "what was in use stays"
    );
}

#[test]
fn client_of_an_authority_without_a_list_is_refused_and_the_log_says_so() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let balancer = start(&authority, &with_server(&origin, REVOCATION), |directory| {
        let list = Authority::new("other").revocation_list(&[]);
        fs::write(directory.join("crl.pem"), list).unwrap();
    });
    let identity = authority.issue(&["client.test"]);
    assert!(!is_served(
        balancer.address("https"),
        &client(&authority, Some(&identity))
    ));
    let warnings = balancer.log().join("\n");
    assert!(
        warnings.contains("no revocation list of CN=test in "),
        "{warnings}"
    );
}

// ---- resumption ---------------------------------------------------------------------------------------------------------

#[test]
fn client_with_a_certificate_resumes_at_every_worker_and_is_still_known() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let config = with_server(&origin, IDENTITY);
    let balancer = start(&authority, &config, |_| {});
    let address = balancer.address("https");
    let identity = authority.issue(&["client.test"]);
    for version in [&TLS12, &TLS13] {
        let options = TlsOptions {
            versions: vec![version],
            identity: Some(&identity),
            ..TlsOptions::default()
        };
        let tls = options.build(&authority, HOST).resuming();
        for round in 0..6 {
            let mut connection = Connection::secure(address, &tls).unwrap();
            assert_eq!(connection.get("/").status, 200);
            assert_eq!(connection.is_resumed(), round > 0, "{version:?}, {round}");
            let head = origin.last_request().head;
            assert_eq!(head.field("x-client-subject"), Some("CN=client.test"));
            if round == 3 {
                balancer.reloaded(&config);
            }
        }
    }
}

#[test]
fn session_of_one_client_authentication_is_worth_nothing_under_another() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let listener = |name: &str, auth: &str| {
        format!(
            "[listener.{name}]\naddress = \"127.0.0.1:0\"\n[listener.{name}.tls]\n\
             certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}]\n{auth}\n"
        )
    };
    let config = [
        listener("open", ""),
        listener(
            "optional",
            "client_auth = \"optional\"\nclient_ca = \"ca.pem\"",
        ),
        listener(
            "required",
            "client_auth = \"required\"\nclient_ca = \"ca.pem\"",
        ),
        listener(
            "others",
            "client_auth = \"required\"\nclient_ca = \"others.pem\"",
        ),
        simple(&[&origin]),
    ];
    let balancer = start(&authority, &config.concat(), |directory| {
        fs::write(directory.join("others.pem"), Authority::new("others").pem()).unwrap();
    });
    let identity = authority.issue(&["client.test"]);
    for version in [&TLS12, &TLS13] {
        let with = |identity| {
            let options = TlsOptions {
                versions: vec![version],
                identity,
                ..TlsOptions::default()
            };
            options.build(&authority, HOST).resuming()
        };
        let stranger = with(None);
        for listener in ["open", "optional"] {
            assert!(is_served(balancer.address(listener), &stranger));
            assert!(is_served(balancer.address(listener), &stranger));
            assert!(!is_served(balancer.address("required"), &stranger));
        }
        let known = with(Some(&identity));
        for _ in 0..2 {
            assert!(is_served(balancer.address("required"), &known));
            assert!(!is_served(balancer.address("others"), &known));
        }
    }
}

/// `openssl s_client` of a client with a certificate: asks once, and says what it made of the handshake.
fn s_client(openssl: &Path, balancer: &Balancer, arguments: &[&str]) -> String {
    let mut child = Command::new(openssl)
        .args([
            "s_client",
            "-connect",
            &balancer.address("https").to_string(),
        ])
        .args([
            "-servername",
            HOST,
            "-CAfile",
            "ca.pem",
            "-verify_return_error",
            "-ign_eof",
        ])
        .args(arguments)
        .current_dir(balancer.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let mut input = child.stdin.take().expect("stdin is piped");
    std::io::Write::write_all(&mut input, request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn openssl_resumes_shows_its_certificate_and_is_held_to_the_policy() {
    let Some(openssl) = peer("openssl", "openssl") else {
        return;
    };
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let keys = IDENTITY.replace("optional", "required");
    let config = with_server(&origin, &keys);
    let balancer = start(&authority, &config, |directory| {
        authority.issue(&["client.test"]).write(directory, "client");
    });
    let identity = ["-cert", "client.pem", "-key", "client.key"];
    let said = s_client(&openssl, &balancer, &[]);
    assert!(
        !said.contains("HTTP/1.1 200"),
        "without a certificate: {said}"
    );
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let ask = |session: [&str; 2]| {
            let arguments = [&identity[..], &[version], &session].concat();
            let said = s_client(&openssl, &balancer, &arguments);
            assert!(said.contains("HTTP/1.1 200"), "{name}: {said}");
            let head = origin.last_request().head;
            assert_eq!(head.field("x-client-subject"), Some("CN=client.test"));
            said
        };
        let said = ask(["-sess_out", "session.pem"]);
        assert!(said.contains(&format!("New, {name}, Cipher is ")), "{said}");
        let said = ask(["-sess_in", "session.pem"]);
        assert!(
            said.contains(&format!("Reused, {name}, Cipher is ")),
            "{said}"
        );
    }
    balancer.reloaded(&with_server(
        &origin,
        &format!("policy = \"modern\"\n{keys}"),
    ));
    let with = |version| s_client(&openssl, &balancer, &[&identity[..], &[version]].concat());
    assert!(with("-tls1_3").contains("HTTP/1.1 200"));
    assert!(!with("-tls1_2").contains("HTTP/1.1 200"));
}

// ---- policy -------------------------------------------------------------------------------------------------------------

#[test]
fn policies_decide_on_versions() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    for (keys, expected) in [
        ("", true),
        ("policy = \"intermediate\"", true),
        ("policy = \"intermediate\"\nmin_version = \"1.3\"", false),
        ("policy = \"modern\"", false),
    ] {
        let balancer = start(&authority, &with_server(&origin, keys), |_| {});
        let with = |version| {
            let options = TlsOptions {
                versions: vec![version],
                ..TlsOptions::default()
            };
            Connection::secure(balancer.address("https"), &options.build(&authority, HOST))
        };
        assert_eq!(with(&TLS12).is_ok(), expected, "{keys}");
        let connection = with(&TLS13).unwrap();
        assert_eq!(connection.tls_version(), ProtocolVersion::TLSv1_3);
        assert_eq!(connection.key_exchange(), NamedGroup::X25519MLKEM768);
    }
}

// ---- renewal ------------------------------------------------------------------------------------------------------------

/// Points `server.pem` and `server.key` at the pair in `version`, as Kubernetes does: by one link that all lead through.
fn point_at(directory: &Path, version: &str) {
    let beside = directory.join("..data_tmp");
    symlink(version, &beside).unwrap();
    fs::rename(beside, directory.join("..data")).unwrap();
}

#[test]
fn certificate_is_renewed_without_a_signal_and_a_broken_one_is_not_taken() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let [first, second, third] = std::array::from_fn(|_| authority.issue(&[HOST]));
    let config =
        with_server(&origin, "") + "\n[process]\nworkers = 2\ncertificate_poll = \"100ms\"\n";
    let balancer = Balancer::start_with(&config, |directory| {
        for (version, leaf) in [("1", &first), ("2", &second)] {
            fs::create_dir(directory.join(version)).unwrap();
            leaf.write(&directory.join(version), "server");
        }
        point_at(directory, "1");
        for file in ["server.pem", "server.key"] {
            symlink(Path::new("..data").join(file), directory.join(file)).unwrap();
        }
    });
    let tls = Tls::new(&authority, HOST);
    let connect = || Connection::secure(balancer.address("https"), &tls).unwrap();
    let mut old = connect();
    assert!(old.certificate() == first.certificate);
    // The file is being edited: nobody has asked for it to be read.
    balancer.write_configuration("[[route]]\n");

    point_at(balancer.directory(), "2");
    eventually("the second certificate is shown", || {
        connect().certificate() == second.certificate
    });
    assert_eq!(old.get("/").status, 200, "a connection made before goes on");
    let generation = balancer.metrics().sum("balancer_config_generation", &[]);
    assert_eq!(generation, 2.0);

    // Half of a new pair is there.
    let replace = |name, text: &str| {
        let beside = balancer.directory().join("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, balancer.directory().join("2").join(name)).unwrap();
    };
    replace("server.pem", &third.chain);
    let refused = || {
        balancer.events(
            "changed certificates rejected; those in use stay, and the files are tried again",
        )
    };
    eventually("the broken pair is noticed", || refused().len() == 1);
    let problems = refused()[0]["problems"].as_str().unwrap().to_owned();
    assert!(
        problems.contains("does not match the first certificate in "),
        "{problems}"
    );
    assert!(connect().certificate() == second.certificate);
    // Polls go on meanwhile, and say nothing more.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(refused().len(), 1);

    replace("server.key", &third.key);
    eventually("the third certificate is shown", || {
        connect().certificate() == third.certificate
    });
    assert_eq!(connect().get("/").status, 200);
    let metrics = balancer.metrics();
    let count = |result| metrics.sum("balancer_certificate_reloads_total", &[("result", result)]);
    assert_eq!((count("accepted"), count("rejected")), (2.0, 1.0));
    assert_eq!(metrics.sum("balancer_config_reloads_total", &[]), 0.0);
    eventually("both are told", || {
        balancer.events("certificates reloaded").len() == 2
    });
}

#[test]
fn revocation_lists_are_renewed_without_a_signal() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let config = with_server(&origin, REVOCATION)
        + "\n[process]\nworkers = 2\ncertificate_poll = \"100ms\"\n";
    let balancer = start(&authority, &config, |directory| {
        fs::write(directory.join("crl.pem"), authority.revocation_list(&[])).unwrap();
    });
    let identity = authority.issue(&["client.test"]);
    let tls = client(&authority, Some(&identity));
    assert!(is_served(balancer.address("https"), &tls));
    let list = authority.revocation_list(&[&identity]);
    fs::write(balancer.directory().join("crl.pem"), list).unwrap();
    eventually("the client is refused", || {
        !is_served(balancer.address("https"), &tls)
    });
}

#[test]
fn file_that_hangs_holds_nothing_up() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let config =
        with_server(&origin, "") + "\n[process]\nworkers = 2\ncertificate_poll = \"100ms\"\n";
    let mut balancer = start(&authority, &config, |_| {});
    // Whoever opens a pipe waits for somebody to write into it.
    let pipe = balancer.directory().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::rename(&pipe, balancer.directory().join("server.pem")).unwrap();
    // Long enough for a look to begin; then nothing tells of it.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(is_served(
        balancer.address("https"),
        &client(&authority, None)
    ));
    balancer.signal(Signal::TERM);
    assert!(balancer.wait_exit().success());
}

#[test]
fn without_polling_nothing_is_read_unasked() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let config = with_server(&origin, "");
    let balancer = start(&authority, &config, |_| {});
    let tls = Tls::new(&authority, HOST);
    let connect = || Connection::secure(balancer.address("https"), &tls).unwrap();
    let before = connect().certificate();
    authority
        .issue(&[HOST])
        .write(balancer.directory(), "server");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(connect().certificate() == before);
    balancer.reloaded(&config);
    assert!(connect().certificate() != before);
}

// ---- expiry -------------------------------------------------------------------------------------------------------------

const DAY: i64 = 24 * 60 * 60;

#[test]
fn certificate_that_ends_soon_is_warned_of_by_check_and_in_the_log() {
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let config = with_server(&origin, "");
    for (left, expected) in [
        (15 * DAY, None),
        (13 * DAY + 60, Some("13 days")),
        (3660, Some("1 hour")),
    ] {
        let balancer = Balancer::start_with(&config, |directory| {
            authority
                .issue_for(&[HOST], left)
                .write(directory, "server");
        });
        let checked = Command::new(BINARY)
            .arg("check")
            .current_dir(balancer.directory())
            .output()
            .unwrap();
        assert!(checked.status.success());
        let checked = String::from_utf8(checked.stderr).unwrap();
        let warnings: Vec<String> = balancer
            .log()
            .into_iter()
            .filter(|line| line.contains("listener.https.tls.certificates[0]"))
            .collect();
        match expected {
            Some(left) => {
                let says = format!("server.pem ends in {left}, on 20");
                assert!(checked.contains(&says), "{checked}");
                assert!(
                    checked.contains("listener.https.tls.certificates[0]"),
                    "{checked}"
                );
                assert_eq!(warnings.len(), 1);
                assert!(
                    warnings[0].contains(&says) && warnings[0].contains("\"WARN\""),
                    "{warnings:?}"
                );
            }
            None => {
                assert!(!checked.contains("ends in"), "{checked}");
                assert_eq!(warnings, [""; 0]);
            }
        }
        let end = balancer.metrics().sum(
            "balancer_tls_certificate_not_after_timestamp_seconds",
            &[("listener", "https")],
        );
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        #[allow(clippy::cast_precision_loss)]
        let off = end - now.unwrap().as_secs_f64() - left as f64;
        assert!(off.abs() < 30.0, "{off}");
    }
}
