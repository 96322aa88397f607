//! `request_headers` and `response_headers`: what is removed, set and added.

use http::{HeaderName, HeaderValue};

use super::super::read::{Value, quoted};

/// Headers that one table names at the most.
const MAX_HEADERS: usize = 64;

const SHAPE: &str =
    "a table such as { set = { x-frame-options = \"DENY\" }, remove = [\"server\"] }";

/// Changes to headers, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderRules {
    pub remove: Vec<HeaderName>,
    /// Instead of those of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside those of that name.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Why a name cannot stand in a list, if it cannot.
type Reserved = fn(&str) -> Option<&'static str>;

/// Reads the changes to what apps are handed.
pub(super) fn request_headers(value: &Value<'_>) -> Option<HeaderRules> {
    let table = value.as_table(SHAPE, "write { set = { NAME = \"VALUE\" } }")?;
    table.read(|table| {
        let reserved = reserved_in_requests;
        let set = table.take("set", |value| fields(value, reserved)).unwrap_or_default();
        let remove = table.take("remove", |value| names(value, reserved)).unwrap_or_default();
        Some(HeaderRules { remove, set, add: Vec::new() })
    })
}

/// Reads the changes to what clients are answered.
pub(super) fn response_headers(value: &Value<'_>) -> Option<HeaderRules> {
    let table = value.as_table(SHAPE, "write { set = { NAME = \"VALUE\" } }")?;
    table.read(|table| {
        let reserved = reserved_in_responses;
        let set = table.take("set", |value| fields(value, reserved)).unwrap_or_default();
        let add = table.take("add", |value| fields(value, reserved)).unwrap_or_default();
        let remove = table.take("remove", |value| names(value, reserved)).unwrap_or_default();
        Some(HeaderRules { remove, set, add })
    })
}

/// Names of headers, for whatever they are listed.
pub(super) fn names(value: &Value<'_>, reserved: Reserved) -> Option<Vec<HeaderName>> {
    let items = value.as_list("a list of header names", "write [\"NAME\"]")?;
    is_few(value, items.len())?;
    let names: Vec<_> =
        items.iter().map(|item| name(item, item.string("x-powered-by")?, reserved)).collect();
    names.into_iter().collect()
}

fn fields(value: &Value<'_>, reserved: Reserved) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut table = value
        .as_table("a table such as { x-frame-options = \"DENY\" }", "write { NAME = \"VALUE\" }")?;
    let entries = table.entries();
    is_few(value, entries.len())?;
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut complete = true;
    for (text, value) in entries {
        let name = name(&value, text, reserved);
        let content = value.string("VALUE").and_then(|text| match header_value(text) {
            Some(content) => Some(content),
            None => value.expected(
                "a header's value, which is one line of ASCII text",
                "leave out line breaks and all other characters",
            ),
        });
        match name.zip(content) {
            Some((name, _)) if fields.iter().any(|(other, _)| *other == name) => {
                complete = false;
                value.reject::<()>(format!("`{name}` is given twice"), "leave one of them out");
            }
            Some(field) => fields.push(field),
            None => complete = false,
        }
    }
    complete.then_some(fields)
}

fn name(value: &Value<'_>, text: &str, reserved: Reserved) -> Option<HeaderName> {
    let Ok(name) = HeaderName::try_from(text) else {
        let message = format!("{} is not the name of a header", quoted(text));
        return value.reject(message, "write one such as \"x-frame-options\"");
    };
    match reserved(name.as_str()) {
        Some(why) => value.reject(format!("`{name}` cannot stand here: {why}"), "leave it out"),
        None => Some(name),
    }
}

/// One line of ASCII text: what else a header may hold means different things to different readers.
pub(in super::super) fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|_| text.is_ascii())
}

fn is_few(value: &Value<'_>, count: usize) -> Option<()> {
    if count > MAX_HEADERS {
        let message = format!("expected at most {MAX_HEADERS} headers, found {count}");
        return value.reject(message, "leave some out");
    }
    Some(())
}

fn reserved_in_requests(name: &str) -> Option<&'static str> {
    match name {
        "host" => Some("it is the host that the client asked for"),
        "expect" => Some("tidegate answers it"),
        "forwarded" | "x-real-ip" | "x-request-id" | "client-cert" | "client-cert-chain" => {
            Some("tidegate says in it who asks")
        }
        _ if name.starts_with("x-forwarded-") => Some("tidegate says in it who asks"),
        _ => reserved(name),
    }
}

fn reserved_in_responses(name: &str) -> Option<&'static str> {
    match name {
        "date" => Some("it is the time of the answer"),
        _ => reserved(name),
    }
}

fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "transfer-encoding"
        | "upgrade"
        | "te"
        | "trailer"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization" => Some("it is about the connection"),
        "content-length" | "content-encoding" | "content-range" => {
            Some("it says how the body is to be read")
        }
        _ => None,
    }
}
