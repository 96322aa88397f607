//! What is wrong, the worst first: what somebody who was woken wants to read before all else.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::shapes::{App, AppState, Certificate, LimitReached, Reload, Status, Verdict};
use crate::cli::show::human;
use crate::cli::show::paint::Tone;

/// A certificate that ends sooner should have been renewed by now.
pub const EXPIRY_NEAR: Duration = Duration::from_secs(14 * 24 * 3600);

/// A limit that was reached since then is told of.
const LIMIT_RECENT: Duration = Duration::from_secs(60);

/// So full is the node's memory when that is worth a word.
const MEMORY_NEAR: f64 = 0.9;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub tone: Tone,
    pub title: String,
    /// One line for each that it is about.
    pub details: Vec<String>,
}

/// When a certificate ends, as seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    In(Duration),
    Near(Duration),
    Past(Duration),
}

/// All that is wrong.
pub fn troubles(status: &Status, now: OffsetDateTime) -> Vec<Trouble> {
    let mut all = Vec::new();
    all.extend(apps(status, AppState::Failed, Tone::Bad, "cannot be served"));
    all.extend(certificates(status, now));
    all.extend(status.last_reload.as_ref().and_then(|reload| refused(reload, now)));
    all.extend(apps(status, AppState::Stale, Tone::Warning, "served by an earlier version"));
    all.extend(apps(status, AppState::Compiling, Tone::Warning, "being compiled"));
    all.extend(drained(status));
    all.extend(queues(status));
    all.extend(memory(status));
    all.extend(limits(status, now));
    all.extend(lost_lines(status));
    all
}

impl Expiry {
    /// Of a certificate that ends then (RFC 3339).
    pub fn of(expires: &str, now: OffsetDateTime) -> Option<Expiry> {
        let left = OffsetDateTime::parse(expires, &Rfc3339).ok()? - now;
        let span = left.unsigned_abs();
        Some(match left.is_negative() {
            true => Expiry::Past(span),
            false if span < EXPIRY_NEAR => Expiry::Near(span),
            false => Expiry::In(span),
        })
    }

    pub fn tone(self) -> Tone {
        match self {
            Expiry::In(_) => Tone::Plain,
            Expiry::Near(_) => Tone::Warning,
            Expiry::Past(_) => Tone::Bad,
        }
    }

    pub fn text(self) -> String {
        match self {
            Expiry::In(left) | Expiry::Near(left) => format!("in {}", human::duration(left)),
            Expiry::Past(ago) => format!("expired {} ago", human::duration(ago)),
        }
    }
}

fn apps(status: &Status, state: AppState, tone: Tone, what: &str) -> Option<Trouble> {
    let detail = |app: &App| match &app.fault {
        Some(fault) => format!("{}: {fault}", app.name),
        None => app.name.clone(),
    };
    let are = status.apps.iter().filter(|app| app.state == state);
    let details: Vec<_> = are.map(detail).collect();
    let title = match state {
        AppState::Failed => format!("{} {what}: their hosts answer 503", some(&details, "app")),
        _ => format!("{} {} {what}", some(&details, "app"), is(&details)),
    };
    (!details.is_empty()).then_some(Trouble { tone, title, details })
}

fn certificates(status: &Status, now: OffsetDateTime) -> Vec<Trouble> {
    let expiry = |it: &Certificate| Expiry::of(it.expires.as_deref()?, now);
    let those = |tone: Tone, what: &str| {
        let are = status.certificates.iter().filter_map(|it| Some((it, expiry(it)?)));
        let are = are.filter(|(_, expiry)| expiry.tone() == tone);
        let details: Vec<_> =
            are.map(|(it, expiry)| format!("{}: {}", it.host, expiry.text())).collect();
        let title = format!("{} {what}", some(&details, "certificate"));
        (!details.is_empty()).then_some(Trouble { tone, title, details })
    };
    let expired = those(Tone::Bad, "expired");
    let near = those(Tone::Warning, "close to expiry");
    expired.into_iter().chain(near).collect()
}

fn refused(reload: &Reload, now: OffsetDateTime) -> Option<Trouble> {
    let ago = ago(&reload.at, now);
    let (tone, title) = match reload.result {
        Verdict::Refused => (
            Tone::Bad,
            format!("the last change was refused {ago}: generation {} goes on", reload.generation),
        ),
        Verdict::Partial => (Tone::Warning, format!("the last change was taken in part {ago}")),
        Verdict::Started if !reload.problems.is_empty() => {
            (Tone::Warning, format!("not all could be served at the start {ago}"))
        }
        Verdict::Started | Verdict::Unchanged | Verdict::Applied => return None,
    };
    Some(Trouble { tone, title, details: reload.problems.clone() })
}

fn drained(status: &Status) -> Option<Trouble> {
    let are = status.apps.iter().filter(|app| app.drained);
    let detail = |app: &App| format!("{0}: `tidegate drain --undo {0}` takes that back", app.name);
    let details: Vec<_> = are.map(detail).collect();
    let (some, is) = (some(&details, "app"), is(&details));
    let title = format!("{some} {is} drained: requests are answered 503");
    (!details.is_empty()).then_some(Trouble { tone: Tone::Warning, title, details })
}

fn lost_lines(status: &Status) -> Option<Trouble> {
    let (dropped, lost) = (status.log.dropped, status.log.lost);
    let title = format!(
        "log lines are missing since the start: {} were too many, {} could not be written",
        human::count(dropped),
        human::count(lost)
    );
    let details = Vec::new();
    (dropped + lost > 0).then_some(Trouble { tone: Tone::Warning, title, details })
}

fn queues(status: &Status) -> Option<Trouble> {
    let are = status.apps.iter().filter(|app| app.waiting > 0);
    let details: Vec<_> = are
        .map(|app| {
            let busy = app.instances.busy + app.instances.starting;
            format!(
                "{}: {} wait, {busy} instances are busy",
                app.name,
                human::count(app.waiting as u64)
            )
        })
        .collect();
    let title = format!("requests wait for instances of {}", some(&details, "app"));
    (!details.is_empty()).then_some(Trouble { tone: Tone::Warning, title, details })
}

fn memory(status: &Status) -> Option<Trouble> {
    let (used, limit) = (status.memory.used_bytes, status.memory.limit_bytes);
    let is_near = limit > 0 && used as f64 / limit as f64 >= MEMORY_NEAR;
    is_near.then(|| Trouble {
        tone: Tone::Warning,
        title: format!(
            "instances hold {} of the {} that server.memory grants",
            human::bytes(used),
            human::bytes(limit)
        ),
        details: Vec::new(),
    })
}

fn limits(status: &Status, now: OffsetDateTime) -> Option<Trouble> {
    let recent = |limit: &&LimitReached| since(&limit.last, now) < LIMIT_RECENT;
    let detail = |of: &str, limit: &LimitReached| {
        let times = human::count(limit.times);
        format!("{of}: {} {}, {times} times in all", limit.limit, ago(&limit.last, now))
    };
    let apps = status.apps.iter().flat_map(|app| {
        app.limits.iter().filter(recent).map(move |limit| detail(&app.name, limit))
    });
    let clients = status.limits.iter().filter(recent).map(|limit| detail("clients", limit));
    let details: Vec<_> = apps.chain(clients).collect();
    let title = format!("{} reached in the last minute", some(&details, "limit"));
    (!details.is_empty()).then_some(Trouble { tone: Tone::Warning, title, details })
}

/// How long ago that was, in words.
pub fn ago(at: &str, now: OffsetDateTime) -> String {
    match since(at, now) {
        Duration::MAX => "at an unknown time".to_owned(),
        since if since.as_secs() == 0 => "just now".to_owned(),
        since => format!("{} ago", human::duration(since)),
    }
}

fn since(at: &str, now: OffsetDateTime) -> Duration {
    let since = OffsetDateTime::parse(at, &Rfc3339).map(|at| now - at);
    // Clocks may differ a little.
    since.map_or(Duration::MAX, |since| since.try_into().unwrap_or(Duration::ZERO))
}

fn some(all: &[String], what: &str) -> String {
    match all.len() {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

fn is(all: &[String]) -> &'static str {
    if all.len() == 1 { "is" } else { "are" }
}
