//! `[traces]`: which requests are traced, and where their spans are sent.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http::uri::{PathAndQuery, Scheme, Uri};

use super::host::Host;
use super::peers::Proxies;
use super::problem::Located;
use super::read::{Table, Value, quoted};
use super::settings::count;

/// What OTLP adds to the endpoint for traces.
const TRACES_PATH: &str = "/v1/traces";

const EXAMPLE: &str = "http://127.0.0.1:4318";
const DEFAULT_NAME: &str = "tidegate";
const MAX_SAMPLE: usize = 1_000_000_000;
const MAX_HEADERS: usize = 32;
/// Bytes of the name of a service.
const MAX_NAME: usize = 255;

/// What a batch is sent with in any case.
const OURS: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Where batches of spans are posted, by OTLP over HTTP.
    pub endpoint: Uri,
    /// The root of the collector's certificate. Absent: one of the system's.
    pub ca_root: Option<Located<PathBuf>>,
    /// One request in so many is traced, of those that come without a trace that is trusted.
    pub sample: NonZeroUsize,
    pub trust_parent: TrustParent,
    /// What each batch is sent with.
    pub headers: HeaderMap,
    /// More of them, as lines of `name: value`; read for each batch.
    pub headers_file: Option<Located<PathBuf>>,
    /// What the collector knows this process as.
    pub service_name: String,
}

/// Whose `traceparent` is believed: it says which trace a request is of, and whether that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustParent {
    /// That of trusted proxies.
    Proxies,
    /// Anybody's.
    Everyone,
    Nobody,
}

impl Traces {
    /// What is likely not meant.
    pub(super) fn warning(&self) -> Option<String> {
        let has_headers = !self.headers.is_empty() || self.headers_file.is_some();
        let is_local = |host: &Host| {
            host.as_str() == "localhost" || host.address().is_some_and(|ip| ip.is_loopback())
        };
        let host = self.endpoint.authority().and_then(|at| Host::from_authority(at.as_str()));
        let is_open =
            self.endpoint.scheme() == Some(&Scheme::HTTP) && !host.is_some_and(|it| is_local(&it));
        (has_headers && is_open).then(|| {
            "traces.endpoint is plain HTTP to another machine: the headers of [traces] can be read on the way".to_owned()
        })
    }
}

/// Reads `[traces]`.
pub(super) fn traces(table: &mut Table<'_>, proxies: &Proxies) -> Option<Traces> {
    let endpoint = table.require("endpoint", &quoted(EXAMPLE), endpoint);
    let is_https = endpoint.as_ref().is_some_and(|it| it.scheme() == Some(&Scheme::HTTPS));
    let ca_root = table.take("ca_root", |value| match is_https || endpoint.is_none() {
        true => value.located_path("certs/root.pem"),
        false => value.reject(
            "this is about the collector's certificate, and plain HTTP has none",
            "write the endpoint as https://..., or leave ca_root out",
        ),
    });
    let words = [
        ("proxies", TrustParent::Proxies),
        ("everyone", TrustParent::Everyone),
        ("nobody", TrustParent::Nobody),
    ];
    let trust_parent = table.take("trust_parent", |value| match value.one_of(&words) {
        Some(TrustParent::Proxies) if proxies.trusted.is_empty() => value.reject(
            "no proxy is trusted, so none of their traces is followed",
            "add trusted_proxies = [\"10.0.0.0/8\"] to [server], or leave trust_parent out",
        ),
        word => word,
    });
    Some(Traces {
        ca_root,
        sample: table.take("sample", |value| value.one_in(MAX_SAMPLE)).unwrap_or(count(100)),
        trust_parent: trust_parent.unwrap_or(TrustParent::Proxies),
        headers: table.take("headers", headers).unwrap_or_default(),
        headers_file: table
            .take("headers_file", |value| value.located_path("secrets/otlp-headers")),
        service_name: table
            .take("service_name", service_name)
            .unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        endpoint: endpoint?,
    })
}

fn endpoint(value: &Value<'_>) -> Option<Uri> {
    let text = value.string(EXAMPLE)?;
    let what = "the URL of an OTLP collector";
    let help = format!("write one such as {}", quoted(EXAMPLE));
    let Ok(base) = text.parse::<Uri>() else { return value.expected(what, help) };
    let is_http = base.scheme() == Some(&Scheme::HTTP) || base.scheme() == Some(&Scheme::HTTPS);
    let is_host = base.authority().is_some_and(|at| {
        !at.as_str().contains('@') && Host::from_authority(at.as_str()).is_some()
    });
    if !is_http || !is_host || base.query().is_some() || text.contains('#') {
        return value.expected(what, help);
    }
    let path = base.path().trim_end_matches('/');
    if path.ends_with(TRACES_PATH) {
        return value
            .reject(format!("{TRACES_PATH} is added to the endpoint"), "leave it out here");
    }
    let path = PathAndQuery::try_from(format!("{path}{TRACES_PATH}")).ok()?;
    let mut parts = base.into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn headers(value: &Value<'_>) -> Option<HeaderMap> {
    let example = "{ x-scope-orgid = \"edge\" }";
    let mut table =
        value.as_table(&format!("a table such as {example}"), &format!("write {example}"))?;
    let entries = table.entries();
    if entries.len() > MAX_HEADERS {
        return value.reject(
            format!("expected at most {MAX_HEADERS} headers, found {}", entries.len()),
            "leave some out",
        );
    }
    let mut headers = HeaderMap::new();
    for (name, value) in entries {
        let Some(text) = value.string("edge") else { continue };
        match header(name, text) {
            Ok((name, text)) => drop(headers.append(name, text)),
            Err(why) => drop(value.reject::<()>(why, "write another one, or leave it out")),
        }
    }
    Some(headers)
}

/// A header that batches may be sent with.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let quoted_name = quoted(name);
    let name: HeaderName =
        name.parse().map_err(|_| format!("{quoted_name} is no name of a header"))?;
    if OURS.contains(&name) {
        return Err(format!("the header {name} is tidegate's to set"));
    }
    // What it was is not said: it may be a secret.
    let mut value: HeaderValue =
        value.parse().map_err(|_| format!("the value of {name} cannot be sent"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn service_name(value: &Value<'_>) -> Option<String> {
    let name = value.string(DEFAULT_NAME)?;
    match name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        true => value.expected("the name of a service", "write one such as \"tidegate\""),
        false => Some(name.to_owned()),
    }
}
