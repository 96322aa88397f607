//! The dashboard: a page and what it loads, all in the program. It asks what others ask, from the browser.

use http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY};
use http::{Response, StatusCode};

use super::answer::{Body, Failure, Outcome, whole};
use super::router::Call;

/// Nothing but these files runs or is shown, and they make no markup of text: the page shows names
/// that guests and clients have chosen.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of what the page loads.
const FILES: [(&str, &str, &str); 15] = [
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("app.js", SCRIPT, include_str!("dashboard/app.js")),
    ("apps.js", SCRIPT, include_str!("dashboard/apps.js")),
    ("ask.js", SCRIPT, include_str!("dashboard/ask.js")),
    ("dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("flame.js", SCRIPT, include_str!("dashboard/flame.js")),
    ("format.js", SCRIPT, include_str!("dashboard/format.js")),
    ("history.js", SCRIPT, include_str!("dashboard/history.js")),
    ("profile.js", SCRIPT, include_str!("dashboard/profile.js")),
    ("profiles.js", SCRIPT, include_str!("dashboard/profiles.js")),
    ("reloads.js", SCRIPT, include_str!("dashboard/reloads.js")),
    ("spark.js", SCRIPT, include_str!("dashboard/spark.js")),
    ("tables.js", SCRIPT, include_str!("dashboard/tables.js")),
    ("troubles.js", SCRIPT, include_str!("dashboard/troubles.js")),
];

pub async fn page(_: Call) -> Outcome {
    Ok(guarded(HTML, include_str!("dashboard/index.html")))
}

pub async fn file(call: Call) -> Outcome {
    let name = call.required("file")?;
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    let (_, media_type, content) =
        found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "the page has no such file"))?;
    Ok(guarded(media_type, content))
}

fn guarded(media_type: &'static str, content: &'static str) -> Response<Body> {
    let mut answer = whole(media_type, content);
    const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (OPENER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    answer.headers_mut().extend(HeaderMap::from_iter(headers));
    answer
}
