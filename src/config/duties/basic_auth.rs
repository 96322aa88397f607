//! `basic_auth`: who may come, by a file of users and the hashes of their passwords.

use std::path::PathBuf;

use http::HeaderValue;

use super::super::problem::Located;
use super::super::read::Value;
use super::super::settings::required_path;

/// Whom a route is for.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuth {
    /// What a client without a password is told: `Basic realm="..."`.
    pub challenge: HeaderValue,
    /// Absolute; lines of `NAME:HASH`.
    pub users_file: Located<PathBuf>,
}

pub(super) fn basic_auth(value: &Value<'_>) -> Option<BasicAuth> {
    let help = "write { users_file = \"users.htpasswd\" }";
    let table = value.as_table("a table with a `users_file`", help)?;
    table.read(|table| {
        let realm = table.take("realm", |value| {
            let realm = value.string("admin")?;
            let allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
            if realm.is_empty() || !realm.bytes().all(allowed) {
                return value.expected(
                    "a realm of ASCII characters without quotes",
                    "write one such as \"admin\"",
                );
            }
            Some(realm)
        });
        let users_file = required_path(table, "users_file", "users.htpasswd");
        let challenge =
            format!("Basic realm=\"{}\", charset=\"UTF-8\"", realm.unwrap_or("restricted"));
        // Its characters were looked at.
        let challenge = HeaderValue::try_from(challenge).ok()?;
        Some(BasicAuth { challenge, users_file: users_file? })
    })
}
