//! `balancer certs`: a development authority and a server certificate signed by it.
//!
//! For machines one trusts oneself on: the authority's key lies next to its certificate. Not for sites others visit.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use x509_parser::time::ASN1Time;

use crate::message::hexadecimal;
use crate::units::unix_seconds;

/// Make a development authority and a server certificate signed by it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder to write to; made if it does not exist.
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub dir: PathBuf,
    /// Replace what is there, the authority too: it must then be trusted anew.
    #[arg(long)]
    pub force: bool,
    /// Host names (also `*.example.com`) and IP addresses the certificate is for.
    #[arg(value_name = "NAME", default_values = DEFAULT_NAMES)]
    pub names: Vec<String>,
}

/// Makes the certificates and says what was written. Exit code 1 if anything stands in the way.
pub fn run(args: &Args) -> ExitCode {
    match generate(&args.dir, &args.names, args.force) {
        Ok(written) => {
            // A reader that went away is no reason to fail: the files are written.
            let _ = io::stdout().write_all(written.report().as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "balancer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where [`generate`] put things.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// `ca.pem`: what clients are to trust.
    pub ca: PathBuf,
    /// `ca.key`: the authority's key, mode 0600.
    pub ca_key: PathBuf,
    /// `localhost.pem`: the server's certificate.
    pub chain: PathBuf,
    /// `localhost.key`: its key, mode 0600.
    pub key: PathBuf,
    /// What the certificate is for.
    pub names: Vec<String>,
}

impl Written {
    fn in_folder(dir: &Path, names: &[String]) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            chain: dir.join("localhost.pem"),
            key: dir.join("localhost.key"),
            names: names.to_vec(),
        }
    }

    fn report(&self) -> String {
        let ca = quoted(&self.ca);
        format!(
            "{}  development authority, valid for a year\n\
             {}  its key: whoever has it can pose as any site to those who trust the authority\n\
             {}  certificate for {}\n\
             {}  its key\n\
             \n\
             Trust it for one request:\n\
             curl --cacert {ca} https://localhost:8443/\n\
             or on this machine (Debian, as root):\n\
             cp {ca} /usr/local/share/ca-certificates/balancer-development.crt && update-ca-certificates\n",
            self.ca.display(),
            self.ca_key.display(),
            self.chain.display(),
            self.names.join(", "),
            self.key.display(),
        )
    }
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file is there already.
    #[error("{} already exists: keep it, choose another --dir, or replace everything with --force", .0.display())]
    Exists(PathBuf),
    /// A name no certificate can hold.
    #[error("{0:?} is not a host name, a wildcard like *.example.com, or an IP address")]
    Name(String),
    /// The certificate cannot be made.
    #[error("certificate for {}: {source}", names.join(", "))]
    Generate {
        /// What it was to be for.
        names: Vec<String>,
        /// Why not.
        source: rcgen::Error,
    },
    /// A file or folder cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes an authority and a certificate for `names` in `dir`: ECDSA P-256, valid for a year. Unless `force` is set,
/// refuses to replace any of the four files and then writes none.
pub fn generate(dir: &Path, names: &[String], force: bool) -> Result<Written, CertsError> {
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(CertsError::Name(name.clone()));
    }
    let written = Written::in_folder(dir, names);
    let paths = [&written.ca, &written.ca_key, &written.chain, &written.key];
    if !force
        && let Some(path) = paths
            .into_iter()
            .find(|path| path.symlink_metadata().is_ok())
    {
        return Err(CertsError::Exists(path.clone()));
    }

    let made = Made::for_names(names).map_err(|source| CertsError::Generate {
        names: names.to_vec(),
        source,
    })?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| CertsError::Write { path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(at(dir))?;
    for (path, text, mode) in [
        (&written.ca_key, &made.ca_key, SECRET),
        (&written.ca, &made.ca, PUBLIC),
        (&written.key, &made.key, SECRET),
        (&written.chain, &made.chain, PUBLIC),
    ] {
        replace(path, text, mode).map_err(at(path))?;
    }
    Ok(written)
}

/// The four files' texts.
struct Made {
    ca: String,
    ca_key: String,
    chain: String,
    key: String,
}

impl Made {
    fn for_names(names: &[String]) -> Result<Self, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        // Told apart in a list of trusted authorities, where several may have gathered.
        let mark = hexadecimal::digits(&ca_key.der_bytes()[1..5]);
        let mut ca = CertificateParams::new([])?;
        ca.distinguished_name.push(
            DnType::CommonName,
            format!("balancer development authority {mark}"),
        );
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut ca);
        let ca = CertifiedIssuer::self_signed(ca, ca_key)?;

        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(names)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "balancer development");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        validity(&mut server);
        let server = server.signed_by(&key, &ca)?;
        Ok(Self {
            ca: ca.pem(),
            ca_key: ca.key().serialize_pem(),
            chain: server.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// From an hour ago, for clocks that are a little behind, to a year from now.
fn validity(params: &mut CertificateParams) {
    let now = SystemTime::now();
    for (field, moment) in [
        (&mut params.not_before, now - HOUR),
        (&mut params.not_after, now + YEAR),
    ] {
        let seconds = i64::try_from(unix_seconds(moment)).unwrap_or(i64::MAX);
        if let Ok(time) = ASN1Time::from_timestamp(seconds) {
            *field = time.to_datetime();
        }
    }
}

/// Writes a file whole or not at all, and with its mode from the first byte on: a reload may be reading it.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)
}

fn is_name(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// A path as a word of `sh`.
pub(super) fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if path.bytes().all(plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// What the certificate is for unless names are given.
pub const DEFAULT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;
const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{
        Certificate, ClientAuth, Clients, ForwardIdentity, ListenerTls, Place, TlsVersion,
    };
    use crate::tls::{Alpn, Tickets, server};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_listener_accepts_what_was_made_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new/certs");
        let written = generate(&dir, &names(&DEFAULT_NAMES), false).unwrap();
        let place = Place {
            file: Path::new("balancer.toml").into(),
            line: 1,
            column: 1,
            key: "".into(),
        };
        let tls = ListenerTls {
            certificates: vec![Certificate {
                chain: written.chain,
                key: written.key,
                place: place.clone(),
            }],
            min_version: TlsVersion::Tls13,
            client_auth: ClientAuth::Required(Clients {
                ca: written.ca,
                place,
                crl: None,
                forward_identity: ForwardIdentity::default(),
            }),
        };
        let server = server(
            &tls,
            Alpn {
                http2: true,
                http1: true,
            },
            &Tickets::new().unwrap(),
        )
        .unwrap();
        assert_eq!(server.warnings, []);
        assert_eq!(server.certificates[0].names, DEFAULT_NAMES);
    }

    #[test]
    fn keys_are_readable_by_their_owner_only_even_when_they_replace_open_ones() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("localhost.key");
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let written = generate(folder.path(), &names(&["a.example"]), true).unwrap();
        for path in [written.key, written.ca_key] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn files_that_exist_are_kept_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("localhost.key");
        fs::write(&key, "mine").unwrap();
        let error = generate(folder.path(), &names(&["a.example"]), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} already exists: keep it, choose another --dir, or replace everything with --force",
                key.display()
            )
        );
        assert_eq!(fs::read_to_string(&key).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "",
            "https://a.example/",
            "a b",
            "a..b",
            "*",
            "*.*.example",
            "-a",
            "a:443",
            "ä.example",
        ] {
            let error = generate(folder.path(), &names(&["a.example", name]), false).unwrap_err();
            assert!(matches!(error, CertsError::Name(_)), "{name}: {error}");
        }
        for name in [
            "a",
            "*.example",
            "xn--4ca.example",
            "::1",
            "192.0.2.1",
            "under_score.example",
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn paths_are_words_of_the_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-1/ca.pem")), "/tmp/a-1/ca.pem");
        assert_eq!(
            quoted(Path::new("/tmp/it's here/ca.pem")),
            r"'/tmp/it'\''s here/ca.pem'"
        );
    }
}
