//! A request's head as a bundle has it: without what may be a secret.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::guest;

/// Bytes of a path, a header's name and a value; a longer one is cut.
const MAX_PATH: usize = 1024;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 256;

/// Headers in a bundle; of more, these are the first.
const MAX_HEADERS: usize = 100;

/// The headers that are shown. What else there is may be a secret: cookies and tokens have any
/// name, and so may what applications think of.
const SHOWN: [&str; 22] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "dnt",
    "pragma",
    "priority",
    "range",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "upgrade-insecure-requests",
    "user-agent",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The head of the request that a guest failed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// As in the log and in `x-request-id`.
    pub id: String,
    pub method: String,
    pub host: String,
    /// Without its query.
    pub path: String,
    pub headers: Vec<Header>,
}

/// A header: its value where it is known to be harmless, otherwise only how long that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Of the value.
    pub bytes: usize,
}

impl Head {
    pub fn new(head: &guest::head::Head) -> Self {
        let header = |(name, value): (&HeaderName, &http::HeaderValue)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            Header {
                name: cut(name.as_str(), MAX_NAME),
                value: is_shown(name).then(|| cut(&text, MAX_VALUE)),
                bytes: value.len(),
            }
        };
        Self {
            id: head.id.to_string(),
            method: cut(head.method.as_str(), MAX_NAME),
            host: cut(head.uri.authority().map_or("", |it| it.as_str()), MAX_VALUE),
            path: cut(head.uri.path(), MAX_PATH),
            headers: head.headers.iter().take(MAX_HEADERS).map(header).collect(),
        }
    }
}

fn is_shown(name: &HeaderName) -> bool {
    SHOWN.contains(&name.as_str())
}

/// At most `max` bytes of it.
pub(super) fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_that_is_shown_sounds_like_a_secret() {
        let secret = ["auth", "cookie", "token", "secret", "key", "password", "session"];
        for name in SHOWN {
            assert!(!secret.iter().any(|word| name.contains(word)), "{name}");
        }
        for name in ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"] {
            assert!(!is_shown(&HeaderName::from_static(name)), "{name}");
        }
    }
}
