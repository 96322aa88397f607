//! `cors`: which pages of other origins may read the answers here.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::super::read::Value;
use super::headers::names;

/// Origins that one route lists at the most.
const MAX_ORIGINS: usize = 256;
const MAX_METHODS: usize = 32;

/// No browser keeps an answer longer than a day.
const MAX_AGE: Duration = Duration::from_secs(86_400);
const DEFAULT_AGE: Duration = Duration::from_secs(600);

/// What browsers are told about requests from other origins.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    pub origins: CorsOrigins,
    /// What a page may ask with.
    pub methods: Vec<Method>,
    /// What a page may add to its requests, beside what any page may.
    pub headers: Vec<HeaderName>,
    /// What a page may read of an answer, beside what any page may.
    pub expose: Vec<HeaderName>,
    /// Whether cookies and the like are sent along.
    pub credentials: bool,
    /// For how long a browser may remember a preflight's answer.
    pub max_age: Duration,
}

/// Whose pages may ask.
#[derive(Clone, Debug, PartialEq)]
pub enum CorsOrigins {
    Any,
    /// As browsers write them.
    Listed(Vec<HeaderValue>),
}

pub(super) fn cors(value: &Value<'_>) -> Option<Cors> {
    let help = "write { origins = [\"https://app.example.com\"] }";
    let table = value.as_table("a table with `origins`", help)?;
    table.read(|table| {
        let origins = table.require("origins", "[\"https://app.example.com\"]", origins);
        let methods = table.take("methods", methods);
        let headers = table.take("headers", |value| names(value, stars));
        let expose = table.take("expose", |value| names(value, stars));
        let credentials = table.take("credentials", |value| {
            let credentials = value.flag()?;
            if credentials && origins == Some(CorsOrigins::Any) {
                return value.reject(
                    "with credentials any page could act for whoever looks at it",
                    "list the origins instead of \"*\"",
                );
            }
            Some(credentials)
        });
        let max_age = table.take("max_age", |value| value.duration(MAX_AGE));
        Some(Cors {
            origins: origins?,
            methods: methods.unwrap_or_else(|| vec![Method::GET, Method::HEAD, Method::POST]),
            headers: headers.unwrap_or_default(),
            expose: expose.unwrap_or_default(),
            credentials: credentials.unwrap_or(false),
            max_age: max_age.unwrap_or(DEFAULT_AGE),
        })
    })
}

fn origins(value: &Value<'_>) -> Option<CorsOrigins> {
    let items = value.as_list("a list of origins", "write [\"https://app.example.com\"]")?;
    if let [only] = items.as_slice()
        && only.text() == Some("*")
    {
        return Some(CorsOrigins::Any);
    }
    if items.is_empty() {
        return value.reject("no origin is listed, so no page may read anything", "list one");
    }
    let origins = value.origins(MAX_ORIGINS)?;
    // A host and a port are always a header's value.
    let origins = origins.iter().filter_map(|it| HeaderValue::try_from(it.to_string()).ok());
    Some(CorsOrigins::Listed(origins.collect()))
}

fn methods(value: &Value<'_>) -> Option<Vec<Method>> {
    let items = value.as_list("a list of methods", "write [\"GET\", \"PUT\"]")?;
    if items.len() > MAX_METHODS {
        let message = format!("expected at most {MAX_METHODS} methods, found {}", items.len());
        return value.reject(message, "leave some out");
    }
    let method = |item: &Value<'_>| {
        let text = item.string("GET")?;
        let is_one = text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'-' | b'_'));
        match Method::from_bytes(text.as_bytes()).ok().filter(|_| is_one) {
            Some(method) => Some(method),
            None => item.expected("a method in capital letters", "write one such as \"PUT\""),
        }
    };
    let methods: Vec<_> = items.iter().map(method).collect();
    methods.into_iter().collect()
}

/// A star is a name by the letter, and to browsers every name but some.
fn stars(name: &str) -> Option<&'static str> {
    (name == "*").then_some("browsers do not take it for every header, so name each")
}
