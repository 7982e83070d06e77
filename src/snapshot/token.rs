//! What lets programs that cannot open the unix socket change something: a token, read from a file. Of it a digest is kept, so that
//! it cannot be shown, and comparing takes the same time whatever is given.

use std::fmt;
use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};

use crate::config::{self, Problem, TokenFile};
use crate::units::ByteSize;

/// A token.
#[derive(Clone)]
pub struct Token(Digest);

impl Token {
    /// Whether `given` is the same.
    pub fn is(&self, given: &[u8]) -> bool {
        let given = digest(&SHA256, given);
        verify_slices_are_equal(self.0.as_ref(), given.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The token of `file`. Problems do not show it.
pub(super) fn token(file: &TokenFile) -> Result<Token, Problem> {
    let path = file.path.display();
    let problem = |message: String| Err(file.place.problem(message));
    let make = format!("make one: (umask 077; openssl rand -hex 32 > {path})");
    let text = match config::read_file(&file.path, LARGEST) {
        Ok(text) => text,
        Err(error) => return problem(format!("{path} cannot be read: {error}; {make}")),
    };
    let mode = match file.path.metadata() {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) => return problem(format!("{path} cannot be read: {error}; {make}")),
    };
    if mode & FOR_OTHERS != 0 {
        return problem(format!(
            "{path} is open to others (mode {mode:04o}): whoever reads it may take endpoints out; chmod 600 {path}"
        ));
    }
    let token = text.trim_ascii();
    if token.len() < SHORTEST {
        return problem(format!(
            "{path} holds {} characters: at least {SHORTEST}; {make}",
            token.len()
        ));
    }
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if !token.iter().all(is_allowed) {
        return problem(format!(
            "{path} holds more than one token: letters, digits and -._~+/= only (RFC 6750); {make}"
        ));
    }
    Ok(Token(digest(&SHA256, token)))
}

const SHORTEST: usize = 16; // 64 bits in hexadecimal digits
const LARGEST: ByteSize = ByteSize::kibibytes(4);
/// Nothing for others, and nobody else may write.
const FOR_OTHERS: u32 = 0o027;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::path::Path;

    use super::*;

    const GOOD: &str = "0123456789abcdef";

    fn read(text: &str, mode: u32) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let config = "[admin]\ntoken_file = \"token\"\n[listener.l]\naddress = \"127.0.0.1:1\"\n";
        let config = config::parse(config, &folder.path().join("f")).unwrap();
        token(&config.admin.token_file.unwrap()).map_err(|problem| problem.to_string())
    }

    #[test]
    fn token_is_itself_and_nothing_else() {
        for text in [GOOD.to_owned(), format!(" {GOOD}\r\n")] {
            let token = read(&text, 0o640).unwrap();
            assert!(token.is(GOOD.as_bytes()));
            for other in [
                "",
                "0123456789abcdeF",
                "0123456789abcde",
                "0123456789abcdef ",
            ] {
                assert!(!token.is(other.as_bytes()), "{other}");
            }
            assert_eq!(format!("{token:?}"), "Token(…)");
        }
    }

    #[test]
    fn file_that_others_may_open_or_that_holds_no_token_is_refused_without_showing_it() {
        for (text, mode, why) in [
            (GOOD, 0o644, "open to others (mode 0644)"),
            (GOOD, 0o620, "open to others (mode 0620)"),
            ("", 0o600, "holds 0 characters"),
            ("0123456789abcde\n", 0o600, "holds 15 characters"),
            ("0123456789abcdef\n0123456789abcdef", 0o600, "more than one"),
            ("0123456789abcdé", 0o600, "more than one"),
        ] {
            let problem = read(text, mode).unwrap_err();
            assert!(problem.contains(why), "{problem}");
            assert!(problem.contains(":2:"), "{problem}");
            assert!(text.is_empty() || !problem.contains(text), "{problem}");
        }
        let missing = TokenFile {
            path: Path::new("/nowhere").into(),
            ..config::parse(
                "[admin]\ntoken_file = \"t\"\n[listener.l]\naddress = \"127.0.0.1:1\"\n",
                Path::new("f"),
            )
            .unwrap()
            .admin
            .token_file
            .unwrap()
        };
        let problem = token(&missing).unwrap_err().to_string();
        assert!(problem.contains("cannot be read"), "{problem}");
    }
}
