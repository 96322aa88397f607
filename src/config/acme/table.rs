//! Reads `[tls.acme]` and the tables below it.

use std::time::Duration;

use http::Uri;

use super::{Acme, Challenge, Dns, DnsEditor, ExternalAccount, TsigAlgorithm, TsigKey};
use crate::config::host::Host;
use crate::config::problem::{Located, Problem};
use crate::config::read::{Table, Value, quoted};
use crate::config::settings::required_path;

/// Let's Encrypt, whose certificates browsers trust.
const DEFAULT_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How long other name servers have, by default, to learn of a record.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Words of a hook's command line.
const MAX_HOOK_WORDS: usize = 64;

/// What only DNS updates need.
const FOR_UPDATES: [&str; 4] = ["server", "key_name", "key_file", "algorithm"];

/// Reads `[tls.acme]`.
pub(in crate::config) fn acme(table: &mut Table<'_>) -> Option<Acme> {
    terms(table);
    let email = table.take("email", email);
    let directory = table.take("directory", directory);
    let ca_root = table.take("ca_root", |value| value.located_path("certs/root.pem"));
    let challenge = challenge(table);
    let external_account = table.take("external_account", |value| {
        let table = value.as_table("a table", "write [tls.acme.external_account]")?;
        table.read(external_account)
    });
    Some(Acme {
        email,
        directory: directory.unwrap_or_else(|| DEFAULT_DIRECTORY.to_owned()),
        ca_root,
        challenge: challenge?,
        external_account,
    })
}

fn challenge(table: &mut Table<'_>) -> Option<Challenge> {
    let words = ["http-01", "tls-alpn-01", "dns-01"].map(|word| (word, word));
    let is_given = table.has("challenge");
    let word = table.take("challenge", |value| value.one_of(&words));
    let word = if is_given { word } else { Some("http-01") };

    match (word, table.get("dns")) {
        (Some("dns-01"), None) => table.source.report(no_editor(table)),
        (Some(_), Some(dns)) if word != Some("dns-01") => {
            dns.reject::<()>(
                "this says who writes the records of dns-01, and the challenge is another",
                "add challenge = \"dns-01\" to [tls.acme], or leave this out",
            );
        }
        _ => {}
    }
    let dns = table.take("dns", |value| {
        value.as_table("a table", "write [tls.acme.dns]").and_then(|table| table.read(dns))
    });
    match word? {
        "http-01" => Some(Challenge::Http01),
        "tls-alpn-01" => Some(Challenge::TlsAlpn01),
        _ => dns.map(Challenge::Dns01),
    }
}

fn no_editor(table: &Table<'_>) -> Problem {
    table.place.problem("dns-01 needs to know who writes its records").with_help(
        "add hook = [\"/path/to/hook\"] to [tls.acme.dns], or server = \"10.0.0.1:53\" with key_name and key_file",
    )
}

/// Nobody but the operator can agree to an authority's terms.
fn terms(table: &mut Table<'_>) {
    let help = "read the terms of the authority, and write terms_agreed = true if you agree";
    if !table.has("terms_agreed") && table.slip_of("terms_agreed").is_none() {
        let problem = table.place.problem("`terms_agreed` is missing");
        table.source.report(problem.with_help(help));
    }
    table.take("terms_agreed", |value| match value.value.as_bool() {
        Some(true) => Some(()),
        _ => value.expected("true", help),
    });
}

fn email(value: &Value<'_>) -> Option<String> {
    let text = value.string("ops@example.com")?;
    let is_address = text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'?');
    match is_address && is_plain && !text.starts_with("mailto:") {
        true => Some(text.to_owned()),
        false => value.expected("an e-mail address", "write one such as \"ops@example.com\""),
    }
}

fn directory(value: &Value<'_>) -> Option<String> {
    let text = value.string(DEFAULT_DIRECTORY)?;
    let uri: Option<Uri> = text.parse().ok();
    let is_https = uri.is_some_and(|uri| {
        uri.scheme_str() == Some("https")
            && uri.authority().is_some_and(|at| {
                !at.as_str().contains('@') && Host::from_authority(at.as_str()).is_some()
            })
    });
    match is_https {
        true => Some(text.to_owned()),
        false => value.expected(
            "the https URL of an ACME directory",
            format!("write one such as {}", quoted(DEFAULT_DIRECTORY)),
        ),
    }
}

fn dns(table: &mut Table<'_>) -> Option<Dns> {
    let wait = table.take("wait", |value| value.duration(MAX_WAIT)).unwrap_or(DEFAULT_WAIT);
    let (by_hook, by_update) = (table.has("hook"), table.has("server"));
    if !by_hook && !by_update {
        table.source.report(no_editor(table));
    }
    let hook = table.take("hook", hook).map(DnsEditor::Hook);
    let update = match by_update && !by_hook {
        true => update(table),
        false => {
            for key in FOR_UPDATES {
                table.take(key, |value| {
                    value.reject::<()>(
                        "this is about DNS updates, which need `server` and no `hook`",
                        "leave it out",
                    )
                });
            }
            None
        }
    };
    Some(Dns { editor: hook.or(update)?, wait })
}

fn hook(value: &Value<'_>) -> Option<Located<Vec<String>>> {
    let mut words = value.strings("/etc/tidegate/dns-hook")?;
    let program = words.first().filter(|program| !program.is_empty());
    let is_usable = words.len() <= MAX_HOOK_WORDS && !words.iter().any(|word| word.contains('\0'));
    let Some(program) = program.filter(|_| is_usable) else {
        return value.expected(
            &format!("a command of 1 to {MAX_HOOK_WORDS} words"),
            "write the path of a program, such as [\"/etc/tidegate/dns-hook\"]",
        );
    };
    let absolute = value.source.absolute(program).ok()?;
    words[0] = absolute.into_os_string().into_string().ok()?;
    Some(Located { value: words, place: value.place.clone() })
}

fn update(table: &mut Table<'_>) -> Option<DnsEditor> {
    let server = table.take("server", |value| {
        value.text().and_then(|text| text.parse().ok()).or_else(|| {
            value.expected("the address and port of a name server", "write \"10.0.0.1:53\"")
        })
    });
    let name = table.require("key_name", "\"tidegate\"", |value| {
        let name = value.string("tidegate")?;
        match Host::from_name(name) {
            Ok(name) => Some(name),
            Err(_) => value.expected("the name of a key", "write it as the name server has it"),
        }
    });
    let file = required_path(table, "key_file", "secrets/dns.key");
    let algorithms = [
        ("hmac-sha256", TsigAlgorithm::HmacSha256),
        ("hmac-sha384", TsigAlgorithm::HmacSha384),
        ("hmac-sha512", TsigAlgorithm::HmacSha512),
    ];
    let algorithm = table
        .take("algorithm", |value| value.one_of(&algorithms))
        .unwrap_or(TsigAlgorithm::HmacSha256);
    Some(DnsEditor::Update {
        server: server?,
        key: TsigKey { name: name?, file: file?, algorithm },
    })
}

fn external_account(table: &mut Table<'_>) -> Option<ExternalAccount> {
    let key_id = table.require("key_id", "\"kid-1\"", |value| match value.string("kid-1")? {
        "" => value.expected("the id of a key", "write it as the authority gave it to you"),
        id => Some(id.to_owned()),
    });
    let hmac_key_file = required_path(table, "hmac_key_file", "secrets/eab.key");
    Some(ExternalAccount { key_id: key_id?, hmac_key_file: hmac_key_file? })
}
