//! Judges a request's head and prepares it for a guest.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    CONNECTION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version};

use super::bind::Scheme;
use super::forwarded::{FORWARDED_FOR, FORWARDED_PROTO, Sender};
use super::response::Refusal;
use crate::config::Host;
use crate::request_id::RequestId;
use crate::traces::{TRACEPARENT, TRACESTATE, Trace};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The cookie of a browser that has logged in at the address of `admin`. It is for no guest.
pub const ADMIN_COOKIE: &str = "tidegate_admin";

/// Whom a request is for: as the client wrote it, and what it means.
#[derive(Debug)]
pub struct Named {
    pub authority: Authority,
    pub host: Host,
}

/// Which trace a guest is told that its request is of.
pub enum Told<'a> {
    /// None is recorded here: what the client says is for the guest to judge.
    AsItCame,
    /// The request is not traced. What the client says of that is not believed.
    OfNone,
    Of(&'a Trace),
}

/// Whether requests of that version are streams of a connection, as on HTTP/2 and HTTP/3.
pub fn has_streams(version: Version) -> bool {
    version >= Version::HTTP_2
}

/// Whether guests are asked at all: they serve requests for paths, and no tunnels or echoes of the client's own bytes.
pub fn judge(parts: &Parts) -> Result<(), Refusal> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    // Methods mind their case, and not all that read them do.
    if !parts.method.as_str().bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'-' | b'_')) {
        return Err(Refusal::Malformed("a method is written in capital letters"));
    }
    if !parts.uri.path().starts_with('/') {
        return Err(Refusal::Malformed("the path does not begin with /"));
    }
    // hyper looks at the last one only. What else there is would reach a guest as if it were its body.
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(coding), None) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Err(Refusal::Malformed("no transfer encoding but chunked is understood"))
        }
        (Some(_), Some(_)) => Err(Refusal::Malformed("there is more than one Transfer-Encoding")),
        _ => Ok(()),
    }
}

/// Whom a request is for.
///
/// HTTP/2 and HTTP/3 say it in `:authority`, HTTP/1 in its one Host header; where both
/// are there, they must agree. Anything else means different hosts to different
/// readers, which is how requests are smuggled past a check.
pub fn named(parts: &Parts, scheme: Scheme, streams: bool) -> Result<Named, Refusal> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = match (headers.next(), headers.next()) {
        (_, Some(_)) => return Err(Refusal::Malformed("there is more than one Host header")),
        (Some(header), None) => Some(parse(header)?),
        (None, None) => None,
    };
    match (parts.uri.authority(), header) {
        (None, Some(header)) => Ok(header),
        (None, None) => Err(Refusal::Malformed("there is no Host header")),
        (Some(_), None) if !streams => Err(Refusal::Malformed("there is no Host header")),
        (Some(authority), header) => {
            let named = check(authority.clone())?;
            let port = |named: &Named| named.authority.port_u16().unwrap_or(scheme.port());
            match header {
                Some(header) if header.host != named.host || port(&header) != port(&named) => Err(
                    Refusal::Malformed("the Host header is not the host of the request's target"),
                ),
                Some(_) | None => Ok(named),
            }
        }
    }
}

fn parse(header: &HeaderValue) -> Result<Named, Refusal> {
    Authority::try_from(header.as_bytes()).map_err(|_| MALFORMED).and_then(check)
}

fn check(authority: Authority) -> Result<Named, Refusal> {
    let text = authority.as_str();
    let host = Some(text)
        .filter(|text| !text.contains('@'))
        .and_then(Host::from_authority)
        .ok_or(MALFORMED)?;
    // Ports above 65535 parse as text.
    if authority.port().is_some() && authority.port_u16().is_none() {
        return Err(MALFORMED);
    }
    Ok(Named { authority, host })
}

const TOO_MANY: Refusal = Refusal::Malformed("there are too many headers");
const MALFORMED: Refusal = Refusal::Malformed("the Host header is not a host");
const COOKIES: Refusal = Refusal::Malformed("the cookies are no header");

/// Makes the head what guests are handed: an absolute URI, no headers that
/// concern the connection, and what we know about the client instead of what it says.
pub fn prepare(
    parts: &mut Parts,
    authority: Authority,
    sender: &Sender,
    id: RequestId,
    told: Told<'_>,
) -> Result<(), Refusal> {
    let Sender { scheme, address, .. } = sender;
    let host = parts.headers.remove(HOST);
    let unwanted = match told {
        Told::AsItCame => is_not_for_guests,
        Told::OfNone | Told::Of(_) => is_not_for_guests_nor_trace,
    };
    strip(&mut parts.headers, unwanted);
    settle_cookies(&mut parts.headers, has_streams(parts.version))?;

    let host = match host {
        Some(host) => host,
        None => HeaderValue::try_from(authority.as_str()).map_err(|_| MALFORMED)?,
    };
    let proto = HeaderValue::from_static(scheme.as_str());
    // The map grows once then, and not with nearly each of them.
    let more = if let Told::Of(_) = told { 7 } else { 5 };
    parts.headers.try_reserve(more).map_err(|_| TOO_MANY)?;
    let set = [
        (FORWARDED, forwarded(address, *scheme, &host)?),
        (FORWARDED_FOR, address.clone()),
        (FORWARDED_PROTO, proto),
        (FORWARDED_HOST, host),
        (REQUEST_ID, header(id)),
    ];
    for (name, value) in set {
        // As many as HTTP/1 takes at the most are far below what a map holds.
        parts.headers.try_insert(name, value).map_err(|_| TOO_MANY)?;
    }
    if let Told::Of(trace) = told {
        trace.tell(&mut parts.headers);
    }

    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(match scheme {
        Scheme::Http => http::uri::Scheme::HTTP,
        Scheme::Https => http::uri::Scheme::HTTPS,
    });
    uri.authority = Some(authority);
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(uri).map_err(|_| Refusal::Malformed("the target is no URI"))?;
    Ok(())
}

/// Makes the cookies what guests are handed: where requests are streams in one field, as browsers
/// send one for each cookie there, which is for us to undo (RFC 9113, 8.2.3; RFC 9114, 4.2.1);
/// and everywhere without [`ADMIN_COOKIE`].
///
/// A cookie is sent to all ports of its host, so guests of the name that `admin` is reached by
/// would be shown an operator's session.
fn settle_cookies(headers: &mut HeaderMap, streams: bool) -> Result<(), Refusal> {
    let mut fields = headers.get_all(COOKIE).iter();
    let Some(first) = fields.next() else { return Ok(()) };
    let second = fields.next();
    let is_split = streams && second.is_some();
    let has_ours = [Some(first), second]
        .into_iter()
        .flatten()
        .chain(fields)
        .any(|field| cookies(field.as_bytes()).any(is_ours));
    if !is_split && !has_ours {
        return Ok(());
    }

    let fields = headers.get_all(COOKIE).iter();
    let kept = fields.map(|field| without_ours(field.as_bytes()));
    let mut kept: Vec<_> = kept.filter(|field| !field.is_empty()).collect();
    if is_split && !kept.is_empty() {
        kept = vec![kept.join(&b"; "[..])];
    }
    headers.remove(COOKIE);
    for field in kept {
        // Parts of values are values.
        let field = HeaderValue::from_maybe_shared(Bytes::from(field)).map_err(|_| COOKIES)?;
        headers.try_append(COOKIE, field).map_err(|_| TOO_MANY)?;
    }
    Ok(())
}

fn without_ours(field: &[u8]) -> Vec<u8> {
    if !cookies(field).any(is_ours) {
        return field.to_vec();
    }
    let others: Vec<_> = cookies(field).filter(|cookie| !is_ours(cookie)).collect();
    others.join(&b';').trim_ascii().to_vec()
}

/// Each cookie with the spaces around it. Quotes hide no `;`, for browsers know none.
fn cookies(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

fn is_ours(cookie: &[u8]) -> bool {
    let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.trim_ascii() == ADMIN_COOKIE.as_bytes()
}

/// What RFC 7239 says in one header. A client that is an IPv6 address stands in brackets there.
fn forwarded(
    client: &HeaderValue,
    scheme: Scheme,
    host: &HeaderValue,
) -> Result<HeaderValue, Refusal> {
    let (client, host) = (client.as_bytes(), host.as_bytes());
    let (open, close) = match client.contains(&b':') {
        true => ("\"[", "]\""),
        false => ("", ""),
    };
    // The host was parsed, so there is nothing in it to escape.
    let parts: [&[u8]; 8] = [
        b"for=",
        open.as_bytes(),
        client,
        close.as_bytes(),
        b";host=\"",
        host,
        b"\";proto=",
        scheme.as_str().as_bytes(),
    ];
    HeaderValue::from_maybe_shared(Bytes::from(parts.concat())).map_err(|_| MALFORMED)
}

/// The id as a header's value.
pub fn header(id: RequestId) -> HeaderValue {
    let mut text = String::with_capacity(16);
    let _ = write!(text, "{id}");
    // Hexadecimal digits are always a value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Removes from a guest's answer what concerns the connection: that is ours.
pub fn strip_answer(headers: &mut HeaderMap) {
    strip(headers, is_of_connection);
}

/// One pass over names that are there, as each name that is looked up and absent costs as much as one that is not.
fn strip(headers: &mut HeaderMap, unwanted: fn(&HeaderName, &HeaderValue) -> bool) {
    // No allocation where there is nothing to remove, which is nearly always.
    let mut doomed: Vec<HeaderName> = Vec::new();
    for (name, value) in headers.iter() {
        if unwanted(name, value) {
            doomed.push(name.clone());
        }
        if name == CONNECTION {
            let named = value.to_str().unwrap_or_default().split(',');
            doomed.extend(named.filter_map(|name| HeaderName::try_from(name.trim()).ok()));
        }
    }
    for name in doomed {
        headers.remove(name);
    }
}

fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization" => true,
        // Said from end to end by gRPC, for which it is the sign that trailers arrive.
        "te" => name == TE && value != "trailers",
        _ => false,
    }
}

fn is_not_for_guests(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        // hyper answers it.
        "expect" => true,
        other => {
            is_for_us_to_say(other)
                || dashed(other).is_some_and(|twin| is_for_us_to_say(&twin))
                || is_of_connection(name, value)
        }
    }
}

/// A header's name with `-` for each `_`, where it has one: the two are one name to guests that
/// make variables of headers, as CGI does (CVE-2015-0219).
pub fn dashed(name: &str) -> Option<String> {
    name.contains('_').then(|| name.replace('_', "-"))
}

/// Whether the header tells who sent a request, and how.
fn is_for_us_to_say(name: &str) -> bool {
    match name {
        "forwarded" | "x-real-ip" | "x-request-id" => true,
        // Who the client is by its certificate (RFC 9440).
        "client-cert" | "client-cert-chain" => true,
        other => other.starts_with("x-forwarded-"),
    }
}

fn is_not_for_guests_nor_trace(name: &HeaderName, value: &HeaderValue) -> bool {
    *name == TRACEPARENT || *name == TRACESTATE || is_not_for_guests(name, value)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
