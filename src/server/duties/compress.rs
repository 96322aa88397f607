//! Compression of answers that are not compressed yet, for clients that like it.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderValue,
};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;

use super::coding::{liked, vary};
use crate::config::{Coding, Peer};
use crate::limit::Limit;
use crate::server::body::Body;
use crate::server::connection::Client;

/// A shorter answer fits into a packet as it is.
const LENGTH_MIN: u64 = 1024;

/// Digests of what is sent, which is another thing once it is compressed.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What a request's client likes of what its route offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    coding: Option<Coding>,
}

impl Compression {
    /// None where the route offers nothing.
    pub fn of(request: &HeaderMap, offer: &[Coding]) -> Option<Compression> {
        (!offer.is_empty()).then(|| Compression { coding: liked(request, offer).first().copied() })
    }

    /// Compresses the answer if that is of use, and says in it what caches have to know.
    pub fn apply(self, response: &mut Response<Body>, peer: Peer, client: &Client) {
        let Some(what) = judge(response.status(), response.headers()) else { return };
        let declared = response.headers().get(CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        let length = declared.or(response.body().size_hint().exact());
        if what == Fit::Whole && length.is_some_and(|length| length < LENGTH_MIN) {
            return;
        }

        vary(response.headers_mut());
        let Some(coding) = self.coding else { return };
        match what {
            Fit::Whole => {}
            Fit::Part => return,
            // What the client has was compressed, and this tells its cache that it is the same.
            Fit::NotModified => return weaken(response.headers_mut()),
        }
        let Some(place) = client.bounds.encoders.take(peer) else {
            client.activity.tally().reached(Limit::CompressedStreams, peer);
            return;
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        DIGESTS.iter().for_each(|digest| drop(headers.remove(*digest)));
        weaken(headers);
        response.body_mut().compress(coding, length, place);
    }
}

/// What is done about an answer that may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Whole,
    /// It is sent as it is, and says the same of the whole as the whole does.
    Part,
    /// It has no body, and says the same as if it had.
    NotModified,
}

/// Whether an answer may be compressed, or the whole that it is of: that is of a kind that gets
/// smaller by it, and nobody forbids it.
fn judge(status: StatusCode, headers: &HeaderMap) -> Option<Fit> {
    let fit = match status {
        StatusCode::NOT_MODIFIED => Fit::NotModified,
        StatusCode::PARTIAL_CONTENT => Fit::Part,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => return None,
        _ if headers.contains_key(CONTENT_RANGE) => return None,
        _ => Fit::Whole,
    };
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let directives = headers.get_all(CACHE_CONTROL).iter();
    let mut directives =
        directives.flat_map(|list| list.to_str().unwrap_or_default().split(',').map(str::trim));
    if directives.any(|directive| directive.eq_ignore_ascii_case("no-transform")) {
        return None;
    }
    match headers.get(CONTENT_TYPE) {
        Some(media_type) => is_compressible(media_type.to_str().ok()?).then_some(fit),
        // A 304 need not say it.
        None => (fit == Fit::NotModified).then_some(fit),
    }
}

/// Whether what is of this type gets smaller: text, code and some others, but no pictures, films
/// or archives, which are compressed already.
fn is_compressible(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/xml"
                | "application/wasm"
                | "application/x-ndjson"
                | "application/jsonl"
                | "application/yaml"
                | "application/toml"
                | "application/graphql"
                | "application/rtf"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
        )
}

/// Makes a strong entity tag a weak one: compressed anew, the bytes may be others.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn an_answer_is_compressed_where_that_helps_and_nobody_forbids_it() {
        let html = ("content-type", "text/html; charset=utf-8");
        let judged = |status: u16, fields: &[_]| {
            judge(StatusCode::from_u16(status).unwrap(), &headers(fields))
        };
        assert_eq!(judged(200, &[html]), Some(Fit::Whole));
        assert_eq!(judged(404, &[html]), Some(Fit::Whole));
        assert_eq!(judged(200, &[("content-type", "Application/LD+JSON")]), Some(Fit::Whole));
        assert_eq!(judged(206, &[html, ("content-range", "bytes 0-1/2")]), Some(Fit::Part));
        assert_eq!(judged(304, &[]), Some(Fit::NotModified));
        assert_eq!(judged(304, &[html]), Some(Fit::NotModified));

        for status in [204, 205] {
            assert_eq!(judged(status, &[html]), None, "{status}");
        }
        assert_eq!(judged(200, &[]), None);
        assert_eq!(judged(200, &[("content-type", "image/png")]), None);
        assert_eq!(judged(304, &[("content-type", "image/png")]), None);
        for other in [
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "public, No-Transform"),
        ] {
            assert_eq!(judged(200, &[html, other]), None, "{other:?}");
        }
        assert_eq!(judged(200, &[html, ("cache-control", "public")]), Some(Fit::Whole));
    }

    #[test]
    fn a_strong_tag_is_made_weak() {
        for (before, after) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\"")] {
            let mut headers = headers(&[("etag", before)]);
            weaken(&mut headers);
            assert_eq!(headers[ETAG], after);
        }
    }
}
