//! Says in header fields whose certificate a client has shown. Every value is visible ASCII, however the certificate was made.

use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::ToDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::certificates::address;
use super::files;
use crate::config::ForwardIdentity;
use crate::message::hexadecimal;

/// The fields that `names` asks for, of a certificate that was verified.
pub(super) fn fields(
    names: &ForwardIdentity,
    certificate: &CertificateDer<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let parsed = || {
        X509Certificate::from_der(certificate)
            .ok()
            .map(|(_, parsed)| parsed)
    };
    let mut fields = Vec::new();
    let mut push = |name: &Option<HeaderName>, value: &dyn Fn() -> Option<String>| {
        let Some(name) = name else { return };
        if let Some(value) = value().and_then(|value| HeaderValue::try_from(value).ok()) {
            fields.push((name.clone(), value));
        }
    };
    push(&names.certificate, &|| Some(byte_sequence(certificate)));
    push(&names.subject, &|| Some(subject(parsed()?.subject())));
    push(&names.san, &|| alternative_names(&parsed()?));
    push(&names.fingerprint, &|| {
        Some(hexadecimal::digits(files::sha256(certificate).as_ref()))
    });
    fields
}

/// RFC 9440 §2.2, RFC 9651 §3.3.5: base64 between colons.
fn byte_sequence(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

/// RFC 4514: the most specific name first.
fn subject(name: &X509Name<'_>) -> String {
    let names: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (at, name) in names.into_iter().rev().enumerate() {
        for (index, attribute) in name.iter().enumerate() {
            match (at, index) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    // RFC 4514 §3: the names every reader knows. Others stand as numbers, and their values as they are encoded.
    let known = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => "",
    };
    let value = attribute.attr_value();
    match attribute.as_str() {
        Ok(value) if !known.is_empty() => {
            text.push_str(known);
            text.push('=');
            push_escaped(text, value, b"\"+,;<>\\=");
        }
        _ => {
            text.push_str(if known.is_empty() { &oid } else { known });
            text.push_str("=#");
            text.push_str(&hexadecimal::digits(
                &value.to_der_vec().unwrap_or_default(),
            ));
        }
    }
}

/// `DNS:a.example,URI:spiffe://b,IP:192.0.2.1,email:c@d`; none where there are no such names.
fn alternative_names(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut text = String::new();
    for name in &names.value.general_names {
        let (kind, value) = match name {
            GeneralName::DNSName(name) => ("DNS:", (*name).to_owned()),
            GeneralName::URI(uri) => ("URI:", (*uri).to_owned()),
            GeneralName::RFC822Name(address) => ("email:", (*address).to_owned()),
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(address) => ("IP:", IpAddr::to_string(&address)),
                None => continue,
            },
            // What has no common spelling.
            _ => continue,
        };
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(kind);
        push_escaped(&mut text, &value, b",\\");
    }
    (!text.is_empty()).then_some(text)
}

/// As RFC 4514 §2.4 has it, so that no value reads as two: `\` before what is `special`; what is not visible ASCII as `\` and two hexadecimal digits for each byte.
fn push_escaped(text: &mut String, value: &str, special: &[u8]) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if special.contains(&byte) => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\20"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn names() -> ForwardIdentity {
        let name = |name| Some(HeaderName::from_static(name));
        ForwardIdentity {
            certificate: name("client-cert"),
            subject: name("subject"),
            san: name("san"),
            fingerprint: name("fingerprint"),
        }
    }

    fn told(params: CertificateParams) -> Vec<(String, String)> {
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        fields(&names(), certificate.der())
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    }

    fn named(entries: &[(DnType, &str)]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in entries {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params
    }

    #[test]
    fn bytes_are_a_structured_byte_sequence() {
        for (bytes, text) in [
            ("", "::"),
            ("f", ":Zg==:"),
            ("fo", ":Zm8=:"),
            ("foo", ":Zm9v:"),
            ("foob", ":Zm9vYg==:"),
            ("fooba", ":Zm9vYmE=:"),
            ("foobar", ":Zm9vYmFy:"),
        ] {
            assert_eq!(byte_sequence(bytes.as_bytes()), text); // RFC 4648 §10
        }
        assert_eq!(byte_sequence(&[0xfb, 0xff]), ":+/8=:");
    }

    #[test]
    fn subject_stands_with_the_most_specific_name_first() {
        let told = told(named(&[
            (DnType::CountryName, "AT"),
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, "Ann"),
        ]));
        assert_eq!(
            told[1],
            ("subject".to_owned(), "CN=Ann,O=Example,C=AT".to_owned())
        );
    }

    #[test]
    fn no_name_can_be_read_as_two_or_as_another_field() {
        for (name, text) in [
            ("Ann,O=Admins", "CN=Ann\\,O\\=Admins"),
            ("Ann+OU=x", "CN=Ann\\+OU\\=x"),
            (" #a ", "CN=\\20#a\\20"),
            ("#a", "CN=\\#a"),
            ("a\r\nX-Role: admin", "CN=a\\0D\\0AX-Role: admin"),
            ("Ünal", "CN=\\C3\\9Cnal"),
            ("a\\b", "CN=a\\\\b"),
        ] {
            assert_eq!(told(named(&[(DnType::CommonName, name)]))[1].1, text);
        }
    }

    #[test]
    fn unknown_attributes_stand_by_number_as_they_are_encoded() {
        let told = told(named(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")]));
        assert_eq!(told[1].1, "1.2.3.4=#0c0178");
    }

    #[test]
    fn alternative_names_stand_with_their_kind() {
        let mut params = named(&[]);
        params.subject_alt_names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::URI("spiffe://example/a,b".try_into().unwrap()),
            SanType::Rfc822Name("c@d.example".try_into().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
        assert_eq!(
            told(params)[2].1,
            "DNS:a.example,URI:spiffe://example/a\\,b,email:c@d.example,IP:2001:db8::1"
        );
    }

    proptest! {
        #[test]
        fn escaped_text_is_visible_and_means_what_it_was_made_of(value: String) {
            let mut text = String::new();
            push_escaped(&mut text, &value, b"\"+,;<>\\=");
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let (mut bytes, mut read) = (Vec::new(), text.bytes());
            while let Some(byte) = read.next() {
                prop_assert!(!b"\"+,;<>=".contains(&byte));
                let escaped = if byte == b'\\' { read.next() } else { None };
                bytes.push(match escaped {
                    None => byte,
                    Some(high) if high.is_ascii_hexdigit() => {
                        let digits = [high, read.next().unwrap()].map(char::from);
                        let digits: String = digits.iter().collect();
                        u8::from_str_radix(&digits, 16).unwrap()
                    }
                    Some(special) => special,
                });
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), value);
        }
    }

    #[test]
    fn certificate_and_fingerprint_are_of_the_certificate_itself() {
        let told = told(named(&[(DnType::CommonName, "a")]));
        let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["client-cert", "subject", "fingerprint"],
            "it has no other names"
        );
        assert!(told[0].1.starts_with(":MII") && told[0].1.ends_with(':'));
        assert_eq!(told[2].1.len(), 64);
    }
}
