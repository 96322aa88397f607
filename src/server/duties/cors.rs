//! Which pages of other origins may read the answers of a route (Fetch, section 3.3).

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};

use crate::config::{Cors, CorsOrigins};

/// The answer to a browser that asks first whether its page may send a request.
///
/// It never reaches the target. To a page that may not it says nothing of what others may;
/// [`share`] adds who may ask.
pub fn preflight(cors: &Cors, head: &Parts) -> Option<Response<Bytes>> {
    let origin = head.headers.get(ORIGIN)?;
    if head.method != Method::OPTIONS || !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allowed(cors, Some(origin)).is_some() {
        let headers = response.headers_mut();
        let methods = cors.methods.iter().map(Method::as_str);
        insert(headers, ACCESS_CONTROL_ALLOW_METHODS, methods);
        insert(headers, ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.iter().map(HeaderName::as_str));
        headers.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().into());
    }
    Some(response)
}

/// Says in an answer to a request of `origin` which pages may read it, whatever the target said.
pub fn share(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    for name in [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
    // Also without an origin: a cache may keep the answer for one that has it.
    if matches!(cors.origins, CorsOrigins::Listed(_)) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    let Some(allowed) = allowed(cors, origin) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    insert(headers, ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.iter().map(HeaderName::as_str));
}

/// How an answer names the pages that may read it, if there are any.
fn allowed(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    match &cors.origins {
        CorsOrigins::Any => Some(HeaderValue::from_static("*")),
        CorsOrigins::Listed(all) => origin.filter(|origin| all.contains(origin)).cloned(),
    }
}

/// Inserts a list, unless it is empty.
fn insert<'a>(headers: &mut HeaderMap, name: HeaderName, items: impl Iterator<Item = &'a str>) {
    let list = items.collect::<Vec<_>>().join(", ");
    // Names of methods and headers are always a value.
    if let Some(list) = HeaderValue::try_from(list).ok().filter(|list| !list.is_empty()) {
        headers.insert(name, list);
    }
}
