//! A guest's request as it is written to a connection: framed by us, for the origin that was checked.

use http::header::{CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error};

use crate::config::Origin;

/// The head of a request, and the length of its body where the guest said one.
pub struct Head {
    pub http: Request<()>,
    pub length: Option<u64>,
}

impl Head {
    /// What `request` asks of `origin`.
    ///
    /// # Errors
    /// What in it cannot be sent.
    pub fn new(request: Request<()>, origin: &Origin) -> Result<Self, Error> {
        let (parts, ()) = request.into_parts();
        // A tunnel is no request, and would lead anywhere.
        if parts.method == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let length = content_length(&parts.headers)?;
        let mut http = Request::new(());
        *http.method_mut() = parts.method;
        *http.uri_mut() = target(&parts.uri)?;
        *http.version_mut() = Version::HTTP_11;
        *http.headers_mut() = parts.headers;
        let headers = http.headers_mut();
        // None comes through the guest's interfaces; what a server would be misled by goes here again.
        for name in &DEFAULT_FORBIDDEN_HEADERS {
            headers.remove(name);
        }
        headers.remove(TE);
        let host = HeaderValue::try_from(origin.authority());
        headers.insert(HOST, host.map_err(|_| Error::HttpRequestUriInvalid)?);
        Ok(Self { http, length })
    }

    /// Whether a request of this method usually has a body.
    pub fn expects_body(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(self.http.method())
    }

    /// Whether it may be sent twice and mean the same.
    pub fn is_idempotent(&self) -> bool {
        self.http.method().is_idempotent()
    }

    /// Says that a body follows whose length is not known, for methods that usually have none.
    pub fn set_chunked(&mut self) {
        let chunked = HeaderValue::from_static("chunked");
        self.http.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

/// One number of digits, or none.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) if values.next().is_none() => Ok(Some(length)),
        _ => Err(Error::HttpRequestBodySize(None)),
    }
}

/// The target of a request to an origin: a path, and perhaps a query.
fn target(uri: &Uri) -> Result<Uri, Error> {
    let text = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let text = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Uri::try_from(text).map_err(|_| Error::HttpRequestUriInvalid),
        false => Err(Error::HttpRequestUriInvalid),
    }
}
