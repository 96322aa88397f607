//! Answers that no guest made: which status a failure is, and its page.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};

use super::insight;
use super::request::{REQUEST_ID, header};
use crate::pool::{Failure, Fault, Insight};
use crate::request_id::RequestId;

/// When to ask again for an app whose component is not there, or that is drained.
const NOT_LOADED_RETRY: Duration = Duration::from_secs(10);

/// When to ask again for a file.
const BUSY_FILES_RETRY: Duration = Duration::from_secs(1);

/// What guests may be asked, for those who asked something else.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Why a request has no answer from a guest.
#[derive(Debug)]
pub enum Refusal {
    /// Not a request that can be understood in one way only, and why.
    Malformed(&'static str),
    UnknownHost,
    UnknownPath,
    Method,
    /// Sent over a connection whose certificate is another host's.
    Misdirected,
    /// Sent over plain HTTP, and to be sent there instead.
    Insecure(HeaderValue),
    /// The target has more bytes than targets may have.
    LongTarget,
    /// There are more headers, or larger ones, than there may be.
    LargeHead(&'static str),
    /// The app's component is missing or bad; why, where the client may see it.
    NotLoaded(Option<Arc<Insight>>),
    /// The client has made as many requests as it may.
    TooMany {
        retry_after: Duration,
    },
    /// The client has to say who it is, in this way.
    Unauthorized {
        challenge: HeaderValue,
    },
    /// So many passwords wait to be looked at that this one is not.
    Crowded {
        retry_after: Duration,
    },
    /// Files are only read.
    ReadOnly,
    /// There are too many open files, or this one changes too fast.
    BusyFiles,
    /// A file could not be read, and the log says why.
    Unreadable,
    /// The file is not, or not any more, what the client wants it to be.
    Precondition,
    /// The file, of this size, has no such part.
    Range {
        size: u64,
    },
    /// The guest's answer is none.
    BadAnswer,
    Pool(Failure),
}

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Html,
    Json,
}

impl Refusal {
    /// The table: each reason, its status, and what the client is told. What the guest said is not among it.
    fn explain(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Malformed(reason) => (StatusCode::BAD_REQUEST, reason),
            Refusal::UnknownHost => (StatusCode::NOT_FOUND, "no such host here"),
            Refusal::UnknownPath => (StatusCode::NOT_FOUND, "no such path here"),
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "this method is not served here"),
            Refusal::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "this connection is for another host")
            }
            Refusal::Insecure(_) => {
                (StatusCode::PERMANENT_REDIRECT, "this host is served over HTTPS")
            }
            Refusal::LongTarget => (StatusCode::URI_TOO_LONG, "the request's target is too long"),
            Refusal::LargeHead(reason) => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason),
            Refusal::NotLoaded(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the application is not loaded")
            }
            Refusal::TooMany { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too many requests from your address")
            }
            Refusal::Unauthorized { .. } => {
                (StatusCode::UNAUTHORIZED, "a name and a password are needed here")
            }
            Refusal::Crowded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked")
            }
            Refusal::ReadOnly => (StatusCode::METHOD_NOT_ALLOWED, "files are only read here"),
            Refusal::BusyFiles => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many files are being read")
            }
            Refusal::Unreadable => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read")
            }
            Refusal::Precondition => {
                (StatusCode::PRECONDITION_FAILED, "the file is not what you expect")
            }
            Refusal::Range { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such part")
            }
            Refusal::Pool(Failure::Busy { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the application is busy")
            }
            Refusal::Pool(Failure::Drained) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the application takes no requests for now")
            }
            Refusal::Pool(Failure::TimedOut | Failure::Exhausted(_)) => {
                (StatusCode::GATEWAY_TIMEOUT, "the application did not answer in time")
            }
            Refusal::Pool(Failure::Guest(_)) | Refusal::BadAnswer => {
                (StatusCode::BAD_GATEWAY, "the application failed")
            }
            Refusal::Pool(Failure::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large")
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::NotLoaded(_) | Refusal::Pool(Failure::Drained) => Some(NOT_LOADED_RETRY),
            Refusal::BusyFiles => Some(BUSY_FILES_RETRY),
            Refusal::TooMany { retry_after }
            | Refusal::Crowded { retry_after }
            | Refusal::Pool(Failure::Busy { retry_after }) => Some(*retry_after),
            _ => None,
        }
    }

    /// What the client may see of a guest's inside: nothing, but in an app in `dev`.
    fn insight(&self) -> Option<&Insight> {
        match self {
            Refusal::NotLoaded(insight)
            | Refusal::Pool(Failure::Exhausted(insight) | Failure::Guest(Fault { insight, .. })) => {
                insight.as_deref()
            }
            _ => None,
        }
    }

    /// Whether what follows on the connection cannot be trusted, or is not worth reading.
    fn closes(&self) -> bool {
        // After a CONNECT the client may go on as if in its tunnel.
        matches!(
            self,
            Refusal::Malformed(_)
                | Refusal::Method
                | Refusal::LongTarget
                | Refusal::LargeHead(_)
                | Refusal::Pool(Failure::TooLarge)
        )
    }

    /// The page, as the client's Accept header prefers it.
    pub fn page(
        &self,
        accept: Option<&HeaderValue>,
        id: RequestId,
        streams: bool,
    ) -> Response<Bytes> {
        let (status, reason) = self.explain();
        let format = Format::preferred(accept);
        let mut page = Response::new(format.write(status, reason, id, self.insight()));
        *page.status_mut() = status;
        let headers = page.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, header(id));
        if let Some(wait) = self.retry_after() {
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64),
            );
        }
        match self {
            Refusal::Method => {
                headers.insert(ALLOW, HeaderValue::from_static(METHODS));
            }
            Refusal::Unauthorized { challenge } => {
                headers.insert(WWW_AUTHENTICATE, challenge.clone());
            }
            Refusal::Insecure(location) => {
                headers.insert(LOCATION, location.clone());
            }
            Refusal::ReadOnly => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Refusal::Range { size } => {
                let range = HeaderValue::try_from(format!("bytes */{size}"));
                headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
            }
            _ => {}
        }
        // Where there are streams they are closed, and there is no such header.
        if self.closes() && !streams {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        page
    }
}

impl Format {
    /// The first that the client names: browsers begin with HTML, programs that want JSON say so.
    fn preferred(accept: Option<&HeaderValue>) -> Format {
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let types = accept.split(',').filter_map(|range| range.split(';').next());
        types
            .map(|range| range.trim().to_ascii_lowercase())
            .find_map(|range| match range.as_str() {
                "text/html" | "application/xhtml+xml" => Some(Format::Html),
                "text/plain" => Some(Format::Text),
                range if range == "application/json" || range.ends_with("+json") => {
                    Some(Format::Json)
                }
                _ => None,
            })
            .unwrap_or(Format::Text)
    }

    fn media_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
        }
    }

    /// The reasons are ours and hold nothing to escape; an insight is the guest's.
    fn write(
        self,
        status: StatusCode,
        reason: &str,
        id: RequestId,
        insight: Option<&Insight>,
    ) -> Bytes {
        let (number, title) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
        let page = match self {
            Format::Text => {
                let more = insight.map(insight::text).unwrap_or_default();
                format!("{number} {title}\n{reason}\nrequest {id}\n{more}")
            }
            Format::Html => {
                let more = insight.map(insight::html).unwrap_or_default();
                format!(
                    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{number} {title}</title>\
                     <h1>{number} {title}</h1><p>{reason}</p><p><small>request {id}</small></p>{more}</html>\n"
                )
            }
            Format::Json => {
                let more = insight.map(insight::json).unwrap_or_default();
                format!(
                    "{{\"status\":{number},\"error\":\"{reason}\",\"request_id\":\"{id}\"{more}}}\n"
                )
            }
        };
        Bytes::from(page)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::HeaderValue;
    use http::{Response, StatusCode};

    use super::Refusal;
    use crate::pool::Failure;
    use crate::request_id::RequestId;

    fn page(refusal: &Refusal, accept: Option<&'static str>) -> (Response<()>, String) {
        let accept = accept.map(HeaderValue::from_static);
        let (head, body) = refusal.page(accept.as_ref(), RequestId::next(), false).into_parts();
        (Response::from_parts(head, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn each_failure_has_its_status() {
        let table = [
            (Refusal::Malformed("no"), 400),
            (Refusal::UnknownHost, 404),
            (Refusal::UnknownPath, 404),
            (Refusal::Method, 405),
            (Refusal::Misdirected, 421),
            (Refusal::Insecure(HeaderValue::from_static("https://a.test/")), 308),
            (Refusal::LongTarget, 414),
            (Refusal::LargeHead("no"), 431),
            (Refusal::NotLoaded(None), 503),
            (Refusal::TooMany { retry_after: Duration::from_secs(1) }, 429),
            (Refusal::Unauthorized { challenge: HeaderValue::from_static("Basic") }, 401),
            (Refusal::Crowded { retry_after: Duration::from_secs(1) }, 503),
            (Refusal::ReadOnly, 405),
            (Refusal::BusyFiles, 503),
            (Refusal::Unreadable, 500),
            (Refusal::Precondition, 412),
            (Refusal::Range { size: 10 }, 416),
            (Refusal::BadAnswer, 502),
            (Refusal::Pool(Failure::Busy { retry_after: Duration::from_secs(1) }), 503),
            (Refusal::Pool(Failure::Drained), 503),
            (Refusal::Pool(Failure::TimedOut), 504),
            (Refusal::Pool(Failure::Exhausted(None)), 504),
            (Refusal::Pool(Failure::Guest("secret".into())), 502),
            (Refusal::Pool(Failure::TooLarge), 413),
        ];
        for (refusal, status) in table {
            let (head, body) = page(&refusal, None);
            assert_eq!(head.status(), StatusCode::from_u16(status).unwrap(), "{refusal:?}");
            assert!(!body.contains("secret"));
            let waits = matches!(status, 429 | 503);
            assert_eq!(head.headers().contains_key("retry-after"), waits, "{refusal:?}");
            let asks = head.headers().contains_key("www-authenticate");
            assert_eq!(asks, status == 401, "{refusal:?}");
        }
    }

    #[test]
    fn a_page_comes_as_the_client_prefers() {
        let cases = [
            (None, "text/plain; charset=utf-8"),
            (Some("*/*"), "text/plain; charset=utf-8"),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), "text/html; charset=utf-8"),
            (Some("application/json, text/plain, */*"), "application/json"),
            (Some("application/problem+json"), "application/json"),
        ];
        for (accept, media_type) in cases {
            let (head, body) = page(&Refusal::UnknownHost, accept);
            assert_eq!(head.headers()["content-type"], media_type);
            let id = head.headers()["x-request-id"].to_str().unwrap();
            assert!(body.contains(id), "{body}");
        }
    }

    #[test]
    fn a_json_page_is_json() {
        let (_, body) = page(&Refusal::UnknownHost, Some("application/json"));

        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["status"], 404);
        assert_eq!(json["error"], "no such host here");
    }

    #[test]
    fn a_wait_is_rounded_up_to_seconds() {
        let busy = Refusal::Pool(Failure::Busy { retry_after: Duration::from_millis(1200) });
        assert_eq!(page(&busy, None).0.headers()["retry-after"], "2");
    }
}
