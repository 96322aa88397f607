//! Whether the client has the file already, or wants it in one state only: RFC 9110, section 13.

use std::time::SystemTime;

use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderValue};

use super::version::ETag;

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wants what it was before.
    Failed,
}

/// Judges a GET or HEAD of a file, in the order of RFC 9110, section 13.2.2.
pub fn judge(request: &HeaderMap, etag: &ETag, modified: SystemTime) -> Verdict {
    if request.contains_key(IF_MATCH) {
        if !names(request, IF_MATCH, |tag, weak| !weak && etag.strong && tag == etag.opaque) {
            return Verdict::Failed;
        }
    } else if date(request, IF_UNMODIFIED_SINCE).is_some_and(|date| modified > date) {
        return Verdict::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        if names(request, IF_NONE_MATCH, |tag, _| tag == etag.opaque) {
            return Verdict::NotModified;
        }
    } else if date(request, IF_MODIFIED_SINCE).is_some_and(|date| modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// Whether a part of the file fits what the client has of it, where it says so by If-Range.
///
/// Only what stands for the very bytes will do.
pub fn may_have_part(request: &HeaderMap, etag: &ETag, modified: SystemTime) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if !etag.strong {
        return false;
    }
    condition.as_bytes() == etag.opaque.as_bytes() || parse(condition) == Some(modified)
}

fn date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    // What is no date, or several of them, is no condition.
    let mut dates = request.get_all(name).iter();
    let first = dates.next()?;
    if dates.next().is_some() { None } else { parse(first) }
}

fn parse(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Whether a list of tags is `*`, or has one that `is_it` takes, given with whether it is weak.
fn names(request: &HeaderMap, name: HeaderName, is_it: impl Fn(&str, bool) -> bool) -> bool {
    request.get_all(name).iter().filter_map(|list| list.to_str().ok()).any(|list| {
        if list.trim() == "*" {
            return true;
        }
        let mut rest = list;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (weak, tag) = match rest.strip_prefix("W/") {
                Some(tag) => (true, tag),
                None => (false, rest),
            };
            // What follows something that is no tag is not understood.
            let Some(end) = tag.strip_prefix('"').and_then(|tag| tag.find('"')) else {
                return false;
            };
            // Its quotes are counted.
            let (tag, after) = tag.split_at(end + 2);
            if is_it(tag, weak) {
                return true;
            }
            rest = after;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DATE: &str = "Thu, 01 Jan 1970 00:16:40 GMT";
    const BEFORE: &str = "Thu, 01 Jan 1970 00:16:39 GMT";
    const LATER: &str = "Thu, 01 Jan 1970 00:16:41 GMT";

    fn request(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn modified() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
    }

    fn tag(strong: bool) -> ETag {
        ETag { opaque: "\"a,b\"".to_owned(), strong }
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        use Verdict::{Failed, NotModified, Send};
        let cases: &[(&[(&str, &str)], Verdict)] = &[
            (&[], Send),
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\", W/\"y\",\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"a\"")], Send),
            (&[("if-none-match", "a,b")], Send),
            (&[("if-none-match", "")], Send),
            (&[("if-modified-since", DATE)], NotModified),
            (&[("if-modified-since", LATER)], NotModified),
            (&[("if-modified-since", BEFORE)], Send),
            (&[("if-modified-since", "yesterday")], Send),
            (&[("if-modified-since", DATE), ("if-modified-since", DATE)], Send),
            // The tag is the better one.
            (&[("if-none-match", "\"x\""), ("if-modified-since", DATE)], Send),
            (&[("if-match", "\"a,b\"")], Send),
            (&[("if-match", "*")], Send),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "")], Failed),
            (&[("if-unmodified-since", DATE)], Send),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], Send),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Failed),
            (&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], NotModified),
        ];
        for (headers, verdict) in cases {
            let headers: Vec<_> = headers.to_vec();
            assert_eq!(judge(&request(&headers), &tag(true), modified()), *verdict, "{headers:?}");
        }
        let strong = request(&[("if-match", "\"a,b\"")]);
        assert_eq!(judge(&strong, &tag(false), modified()), Failed, "a weak tag is not enough");
    }

    #[test]
    fn a_part_is_of_the_very_bytes() {
        let may = |value, strong| {
            may_have_part(&request(&[("if-range", value)]), &tag(strong), modified())
        };
        assert!(may_have_part(&HeaderMap::new(), &tag(false), modified()));
        assert!(may("\"a,b\"", true) && may(DATE, true));
        assert!(!may("\"a,b\"", false) && !may(DATE, false));
        assert!(!may("W/\"a,b\"", true) && !may("\"x\"", true));
        assert!(!may(LATER, true) && !may(BEFORE, true) && !may("*", true));
    }
}
