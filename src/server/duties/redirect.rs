//! Redirects: to one place, or to where the rest of the path leads below it.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, LOCATION};
use http::{Response, Uri};

use crate::config::Redirect;
use crate::server::response::Refusal;

/// The redirect of a request for `uri` on the route of `prefix`.
pub fn redirect(redirect: &Redirect, prefix: &str, uri: &Uri) -> Result<Response<Bytes>, Refusal> {
    let location = match redirect.keep_path {
        true => below(&redirect.to, prefix, uri)?,
        false => redirect.to.clone(),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// `to` with what `uri` has after `prefix`.
fn below(to: &HeaderValue, prefix: &str, uri: &Uri) -> Result<HeaderValue, Refusal> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // `/` matches what is not below any path as well.
    let rest = path.strip_prefix(prefix.trim_end_matches('/')).unwrap_or_default();
    let mut location = BytesMut::from(to.as_bytes());
    if to.is_empty() {
        // Two slashes at the beginning would lead to the host that the client names after them.
        location.extend_from_slice(b"/");
        location.extend_from_slice(rest.trim_start_matches(['/', '\\']).as_bytes());
    } else {
        location.extend_from_slice(rest.as_bytes());
    }
    HeaderValue::from_maybe_shared(location.freeze())
        .map_err(|_| Refusal::Malformed("the target has bytes that no header may have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &'static str, prefix: &str, uri: &str) -> String {
        let to = HeaderValue::from_static(to);
        let location = below(&to, prefix, &uri.parse().unwrap()).unwrap();
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_rest_of_the_path_and_the_query_are_kept() {
        let new = "https://b.example/new";
        assert_eq!(location(new, "/old", "/old"), "https://b.example/new");
        assert_eq!(location(new, "/old", "/old/x?y=1"), "https://b.example/new/x?y=1");
        assert_eq!(location(new, "/", "/x"), "https://b.example/new/x");
        assert_eq!(location("/new", "/old", "/old/"), "/new/");
        assert_eq!(location(new, "/old", "/old?q"), "https://b.example/new?q");
    }

    #[test]
    fn no_path_leads_to_a_host_that_the_client_names() {
        for evil in ["/old//evil.example", "/old/\\evil.example", "/old///\\/evil.example"] {
            assert_eq!(location("", "/old", evil), "/evil.example");
        }
        assert_eq!(
            location("https://b.example", "/", "/@evil.example"),
            "https://b.example/@evil.example"
        );
        assert_eq!(location("https://b.example", "/", "//evil"), "https://b.example//evil");
    }
}
