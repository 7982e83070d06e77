//! Entries of systemd's journal: the line as the message, and its members as fields, so that `journalctl BALANCER_STATUS=502`
//! finds it. Pure.

use serde_json::Value;

/// Writes the entry for `line` (systemd.io, "Native Journal Protocol").
pub(super) fn entry(out: &mut Vec<u8>, line: &[u8]) {
    field(out, "MESSAGE", line);
    // LOG_INFO and local0, as for syslog.
    field(out, "PRIORITY", b"6");
    field(out, "SYSLOG_FACILITY", b"16");
    field(out, "SYSLOG_IDENTIFIER", b"balancer");
    // A line in combined format is only a message.
    let Ok(Value::Object(members)) = serde_json::from_slice(line) else {
        return;
    };
    for (name, value) in &members {
        let name = format!("BALANCER_{}", name.to_ascii_uppercase());
        match value {
            Value::String(text) => field(out, &name, text.as_bytes()),
            Value::Number(_) | Value::Bool(_) => field(out, &name, value.to_string().as_bytes()),
            // In the message.
            Value::Array(_) | Value::Object(_) | Value::Null => {}
        }
    }
}

/// `NAME=value`, or where that would end early its length and what it is.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_fields() {
        let mut out = Vec::new();
        let line = br#"{"status":502,"path":"/x","failed_attempts":[{"ms":1}],"total_ms":0.5}"#;
        entry(&mut out, line);
        let text = String::from_utf8(out).unwrap();
        let expected = r#"MESSAGE={"status":502,"path":"/x","failed_attempts":[{"ms":1}],"total_ms":0.5}
PRIORITY=6
SYSLOG_FACILITY=16
SYSLOG_IDENTIFIER=balancer
BALANCER_PATH=/x
BALANCER_STATUS=502
BALANCER_TOTAL_MS=0.5
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn no_value_begins_a_field_of_its_own() {
        let mut out = Vec::new();
        entry(&mut out, br#"{"query":"a\nPRIORITY=0"}"#);
        let length = 12_u64.to_le_bytes();
        let expected = [&b"BALANCER_QUERY\n"[..], &length, b"a\nPRIORITY=0\n"].concat();
        assert!(out.ends_with(&expected));
    }

    #[test]
    fn a_line_of_text_is_a_message() {
        let mut out = Vec::new();
        entry(&mut out, b"192.0.2.1 - - []");
        assert!(out.starts_with(b"MESSAGE=192.0.2.1 - - []\nPRIORITY=6\n"));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4);
    }
}
