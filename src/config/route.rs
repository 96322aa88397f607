//! What answers below one path prefix of a host: an app, or tidegate itself, and what it does besides.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};

use super::app::AppName;
use super::duties::{Duties, duties, header_value};
use super::files::{Files, files};
use super::read::{Table, Value, enumerated, quoted};
use super::suggest::closest;

/// Bytes of a fixed response's body: it is kept in memory, and written into a manifest.
const MAX_BODY: usize = 64 << 10;

const ROUTE: &str = "an app's name or a route such as { redirect = \"https://example.com\" }";

/// What the keys of a route's target are, of which it has one.
const TARGETS: [&str; 4] = ["app", "redirect", "respond", "files"];

/// What answers below a path prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub target: Target,
    /// Absent where there are none, as for most: they cost nothing then.
    pub duties: Option<Box<Duties>>,
}

/// What makes the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    App(AppName),
    Redirect(Redirect),
    Respond(Respond),
    Files(Files),
}

/// Another place.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub status: StatusCode,
    /// An `http` or `https` URI, or a path.
    pub to: HeaderValue,
    /// Whether what the request has after the route's prefix, and its query, is put after `to`;
    /// which then has no query itself, and no `/` at its end.
    pub keep_path: bool,
}

/// Always the same response.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    pub status: StatusCode,
    /// Absent where there is no body.
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
}

impl Route {
    /// The route to an app, and nothing more.
    pub fn to_app(app: AppName) -> Route {
        Route { target: Target::App(app), duties: None }
    }

    /// The app that answers, where it is one.
    pub fn app(&self) -> Option<&AppName> {
        match &self.target {
            Target::App(app) => Some(app),
            Target::Redirect(_) | Target::Respond(_) | Target::Files(_) => None,
        }
    }
}

/// Reads a route, whose app is to be among the `declared`.
pub(super) fn route(value: &Value<'_>, declared: &[&str]) -> Option<Route> {
    if value.text().is_some() {
        return app(value, declared).map(Route::to_app);
    }
    let table = value.as_table(ROUTE, "write the name of an app below [apps]")?;
    table.read(|table| {
        let target = target(table, declared);
        let duties = duties(table, target.as_ref());
        Some(Route { target: target?, duties })
    })
}

fn target(table: &mut Table<'_>, declared: &[&str]) -> Option<Target> {
    let given: Vec<_> = TARGETS.into_iter().filter(|key| table.has(key)).collect();
    let app = table.take("app", |value| app(value, declared)).map(Target::App);
    let redirect = table.take("redirect", redirect).map(Target::Redirect);
    let respond = table.take("respond", respond).map(Target::Respond);

    let files = table.take("files", files).map(Target::Files);

    let names = |keys: &[&str], last| enumerated(keys.iter().map(|key| format!("`{key}`")), last);
    match given.as_slice() {
        [_] => return app.or(redirect).or(respond).or(files),
        // A slip in a key's name is reported as such, and needs no second report.
        [] if TARGETS.iter().any(|key| table.slip_of(key).is_some()) => {}
        [] => {
            let problem = table.place.problem("a route needs something that answers");
            let help = format!("add one of {}", names(&TARGETS, "and"));
            table.source.report(problem.with_help(help));
        }
        several => {
            let message = format!("a route has one answer, found {}", names(several, "and"));
            let problem = table.place.problem(message);
            table.source.report(problem.with_help("leave all but one of them out"));
        }
    }
    None
}

/// Reads the name of an app, which is to be among the `declared`.
fn app(value: &Value<'_>, declared: &[&str]) -> Option<AppName> {
    let Some(name) = value.text() else {
        return value.expected("the name of an app", "write the name of an app below [apps]");
    };
    if declared.contains(&name) {
        // A name that is declared but not valid has been reported where it is declared.
        return AppName::parse(name);
    }

    let help = match closest(name, declared.iter().copied()) {
        Some(known) => format!("did you mean {}?", quoted(known)),
        None if AppName::parse(name).is_some() => {
            format!("add [apps.{name}] with its component, or name another app")
        }
        None => "write the name of an app below [apps]".to_owned(),
    };
    value.reject(format!("no app is named {}", quoted(name)), help)
}

/// Reads `"https://example.com/new"` or `{ to = "https://example.com/new", status = 301 }`.
fn redirect(value: &Value<'_>) -> Option<Redirect> {
    let status = StatusCode::PERMANENT_REDIRECT;
    if value.text().is_some() {
        return Some(Redirect { status, to: location(value, false)?, keep_path: false });
    }

    let help = "write { to = \"https://example.com/new\" }";
    let table = value.as_table("a URL or a table with a `to`", help)?;
    table.read(|table| {
        let status = table.take("status", |value| {
            let known = [301, 302, 303, 307, 308];
            match value.code().filter(|code| known.contains(&code.as_u16())) {
                Some(code) => Some(code),
                None => value.expected(
                    "301, 302, 303, 307 or 308",
                    "write 308 for a redirect that lasts, 307 for one that does not",
                ),
            }
        });
        let keep_path = table.take("keep_path", Value::flag).unwrap_or(false);
        let example = "\"https://example.com/new\"";
        let to = table.require("to", example, |value| location(value, keep_path))?;
        Some(Redirect { status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT), to, keep_path })
    })
}

/// Where a redirect leads: a URL, or a path of the same host.
fn location(value: &Value<'_>, keep_path: bool) -> Option<HeaderValue> {
    let help = "write one such as \"https://example.com/new\" or \"/new\"";
    let text = value.string("https://example.com/new")?;
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
    let is_url = text.starts_with("https://") || text.starts_with("http://");
    let uri = Uri::try_from(text).ok().filter(|uri| is_path || (is_url && uri.host().is_some()));
    if uri.is_none() {
        return value.expected("a URL or a path that starts with `/`", help);
    }
    if keep_path && text.contains(['?', '#']) {
        return value.reject(
            "with `keep_path` the request's path and query come after this",
            "leave out the query",
        );
    }
    let text = if keep_path { text.trim_end_matches('/') } else { text };
    match header_value(text) {
        Some(to) => Some(to),
        None => value.expected("a URL in ASCII", help),
    }
}

fn respond(value: &Value<'_>) -> Option<Respond> {
    let help = "write { status = 200, body = \"hello\" }";
    let table = value.as_table("a table such as { status = 404, body = \"gone\" }", help)?;
    table.read(|table| {
        let has_type = table.has("content_type");
        let status = table.take("status", |value| {
            match value.code().filter(|code| !code.is_informational() && code.as_u16() < 600) {
                Some(code) if code.is_redirection() => {
                    value.reject("a fixed response is no redirect", "write `redirect` instead")
                }
                Some(code) => Some(code),
                None => value.expected("a status from 200 to 599", "write one such as 200 or 404"),
            }
        });
        let status = status.unwrap_or(StatusCode::OK);
        let body = table.take("body", |value| {
            let text = value.string("hello")?;
            if text.len() > MAX_BODY {
                return value.reject(
                    format!("a fixed response has at most 64KiB, found {} bytes", text.len()),
                    "leave it to an app",
                );
            }
            if !text.is_empty() && has_no_body(status) {
                return value.reject(format!("a {status} has no body"), "leave it out");
            }
            Some(Bytes::copy_from_slice(text.as_bytes()))
        });
        let body = body.unwrap_or_default();
        let content_type = table.take("content_type", |value| {
            let text = value.string("text/plain")?;
            match header_value(text).filter(|_| text.contains('/')) {
                Some(media_type) => Some(media_type),
                None => value.expected("a media type", "write one such as \"text/plain\""),
            }
        });
        let default = HeaderValue::from_static("text/plain; charset=utf-8");
        let content_type = content_type.or((!has_type && !body.is_empty()).then_some(default));
        Some(Respond { status, content_type, body })
    })
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT)
}
