//! Reads `listener.tls`.

use http::HeaderName;

use super::header;
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{
    Certificate, ClientAuth, ClientCrl, Clients, ForwardIdentity, ListenerTls, TlsVersion,
};

pub(super) fn tls(table: &mut Table<'_>) -> Option<ListenerTls> {
    let certificates = table.required(
        "certificates",
        "[{ chain = \"server.pem\", key = \"server.key\" }]",
    );
    let certificates = certificates.and_then(|value| {
        let elements = value.non_empty_array(
            "an array of tables such as [{ chain = \"server.pem\", key = \"server.key\" }]",
            "; TLS needs one",
        )?;
        Some(elements.iter().filter_map(certificate).collect())
    });
    let min_version = min_version(table);
    let client_auth = client_auth(table);
    Some(ListenerTls {
        certificates: certificates?,
        min_version,
        client_auth,
    })
}

pub(super) fn certificate(value: &Value<'_>) -> Option<Certificate> {
    value.table(|table| {
        let chain = table
            .required("chain", "\"server.pem\"")
            .and_then(|value| value.path());
        let key = table
            .required("key", "\"server.key\"")
            .and_then(|value| value.path());
        Some(Certificate {
            chain: chain?,
            key: key?,
            place: table.place(),
        })
    })?
}

/// The lowest version that `policy` and `min_version` allow.
fn min_version(table: &mut Table<'_>) -> TlsVersion {
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let policies = [
        ("intermediate", TlsVersion::Tls12),
        ("modern", TlsVersion::Tls13),
    ];
    let policy = table
        .get("policy")
        .and_then(|value| value.one_of(&policies, &[]))
        .unwrap_or(TlsVersion::Tls12);
    let Some(value) = table.get("min_version") else {
        return policy;
    };
    let least = value.one_of(&versions, &[]);
    if least == Some(TlsVersion::Tls12) && policy == TlsVersion::Tls13 {
        value.report(
            "contradicts policy = \"modern\", which is TLS 1.3 only; leave one of the two out",
        );
    }
    least.unwrap_or(policy)
}

fn client_auth(table: &mut Table<'_>) -> ClientAuth {
    #[derive(Clone, Copy)]
    enum Kind {
        Off,
        Optional,
        Required,
    }
    let kinds = [
        ("off", Kind::Off),
        ("optional", Kind::Optional),
        ("required", Kind::Required),
    ];
    let auth_value = table.get("client_auth");
    let ca_value = table.get("client_ca");
    let crl_value = table.get("client_crl");
    let forward_value = table.get("forward_identity");
    let ca = ca_value
        .as_ref()
        .and_then(|value| Some((value.path()?, value.place())));
    let crl = crl_value.as_ref().and_then(|value| {
        Some(ClientCrl {
            path: value.path()?,
            place: value.place(),
        })
    });
    let forward_identity = forward_value
        .as_ref()
        .and_then(|value| value.table(forward_identity))
        .unwrap_or_default();
    let kind = match &auth_value {
        Some(value) => match value.one_of(&kinds, &[]) {
            Some(kind) => kind,
            None => return ClientAuth::Off,
        },
        None => Kind::Off,
    };
    match (kind, &auth_value) {
        (Kind::Off, _) => {
            for value in [ca_value, crl_value, forward_value].iter().flatten() {
                value.source.report(
                    value.key_place(),
                    "has no effect unless client_auth is \"optional\" or \"required\"",
                );
            }
        }
        (Kind::Optional | Kind::Required, Some(value)) if ca_value.is_none() => {
            value.report("needs client_ca, such as client_ca = \"clients.pem\"");
        }
        (Kind::Optional | Kind::Required, _) => {}
    }
    let Some((ca, place)) = ca else {
        return ClientAuth::Off;
    };
    let clients = Clients {
        ca,
        place,
        crl,
        forward_identity,
    };
    match kind {
        Kind::Off => ClientAuth::Off,
        Kind::Optional => ClientAuth::Optional(clients),
        Kind::Required => ClientAuth::Required(clients),
    }
}

fn forward_identity(table: &mut Table<'_>) -> ForwardIdentity {
    let mut taken: Vec<HeaderName> = Vec::new();
    let mut is_empty = true;
    let [certificate, subject, san, fingerprint] = ["certificate", "subject", "san", "fingerprint"]
        .map(|key| {
            let value = table.get(key)?;
            is_empty = false;
            let name = header::name_to_set(&value)?;
            if taken.contains(&name) {
                value.report(format!(
                    "{name} is there twice; each needs a field of its own"
                ));
                return None;
            }
            taken.push(name.clone());
            Some(name)
        });
    if is_empty {
        table.report("names no field; set one, such as certificate = \"Client-Cert\"");
    }
    ForwardIdentity {
        certificate,
        subject,
        san,
        fingerprint,
    }
}
