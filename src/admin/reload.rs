//! Reloads: asking for one, and what became of the latest.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::answer::{Failure, Outcome, json};
use super::router::Call;
use super::shapes::{self, Looked, Reload, Reloads, time};
use crate::config::{Difference, DifferenceKind};
use crate::control::{AppChange, Changes, Entry, Verdict};

/// Components that are large take minutes to compile.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// The latest reloads.
pub async fn reloads(call: Call) -> Outcome {
    let all = call.admin.history.all();
    json(&Reloads { reloads: all.iter().map(|entry| reload_shape(entry)).collect() })
}

/// Looks at the files, and answers when it is known what became of them.
pub async fn reload(call: Call) -> Outcome {
    let asked = (call.admin.reload)();
    let told = asked.await.map_err(|_| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the server stops, or too many wait already")
    })?;
    json(&Looked {
        result: result(&told.entries),
        generation: call.admin.current.load().number,
        reloads: told.entries.iter().map(|entry| reload_shape(entry)).collect(),
        last_reload: call.admin.history.all().first().map(|entry| reload_shape(entry)),
    })
}

/// What became of all of them together.
fn result(entries: &[Arc<Entry>]) -> shapes::Verdict {
    let is = |wanted: &[Verdict]| entries.iter().any(|entry| wanted.contains(&entry.verdict));
    match (is(&[Verdict::Applied, Verdict::Partial]), is(&[Verdict::Refused, Verdict::Partial])) {
        (true, true) => shapes::Verdict::Partial,
        (true, false) => shapes::Verdict::Applied,
        (false, true) => shapes::Verdict::Refused,
        (false, false) => shapes::Verdict::Unchanged,
    }
}

pub fn reload_shape(entry: &Entry) -> Reload {
    Reload {
        at: time(entry.at),
        result: match entry.verdict {
            Verdict::Started => shapes::Verdict::Started,
            Verdict::Applied => shapes::Verdict::Applied,
            Verdict::Partial => shapes::Verdict::Partial,
            Verdict::Refused => shapes::Verdict::Refused,
        },
        generation: entry.generation,
        elapsed_ms: entry.elapsed.map(|elapsed| elapsed.as_secs_f64() * 1000.0),
        changes: changes_shape(&entry.changes),
        problems: entry.problems.clone(),
        warnings: entry.warnings.clone(),
    }
}

fn changes_shape(changes: &Changes) -> shapes::Changes {
    shapes::Changes {
        apps: changes.apps.iter().map(app_shape).collect(),
        hosts: changes.hosts.iter().map(change_shape).collect(),
        certificates: changes.certificates.iter().map(change_shape).collect(),
        sections: changes.sections.clone(),
    }
}

fn app_shape(app: &AppChange) -> shapes::AppChange {
    let AppChange { difference, digests } = app;
    let (from, to) = digests.unwrap_or_default();
    shapes::AppChange {
        name: difference.name.clone(),
        change: kind_shape(difference.kind),
        keys: difference.keys.clone(),
        digest_from: from.map(|digest| digest.to_string()),
        digest_to: to.map(|digest| digest.to_string()),
    }
}

fn change_shape(difference: &Difference) -> shapes::Change {
    shapes::Change {
        name: difference.name.clone(),
        change: kind_shape(difference.kind),
        keys: difference.keys.clone(),
    }
}

fn kind_shape(kind: DifferenceKind) -> shapes::ChangeKind {
    match kind {
        DifferenceKind::Added => shapes::ChangeKind::Added,
        DifferenceKind::Removed => shapes::ChangeKind::Removed,
        DifferenceKind::Changed => shapes::ChangeKind::Changed,
    }
}
