//! `tidegate reload`: has the running tidegate look at its files, and prints what became of them.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::admin_client::{Ask, Trouble};
use super::show::paint::tame_lines;
use super::{EXIT_CONFIG, print};
use crate::admin::shapes::{Change, ChangeKind, Changes, Looked, Verdict};

/// More than the server takes for it.
const TIMEOUT: Duration = Duration::from_secs(620);

pub fn reload(ask: &Ask) -> ExitCode {
    let client = match ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    match client.ask::<Looked>(Method::POST, "/v1/reload", TIMEOUT) {
        Ok(looked) if ask.json => show(&looked, serde_json::to_string_pretty(&looked).ok()),
        Ok(looked) => show(&looked, None),
        Err(trouble) => Trouble::report(trouble),
    }
}

fn show(looked: &Looked, json: Option<String>) -> ExitCode {
    let printed = print(&json.unwrap_or_else(|| text(looked)));
    match looked.result {
        Verdict::Refused | Verdict::Partial => ExitCode::from(EXIT_CONFIG),
        Verdict::Unchanged | Verdict::Applied | Verdict::Started => printed,
    }
}

fn text(looked: &Looked) -> String {
    let generation = looked.generation;
    let mut lines = vec![match looked.result {
        Verdict::Unchanged => {
            let since = looked.last_reload.as_ref().map(|last| format!(" since {}", last.at));
            format!("nothing new: generation {generation} serves{}", since.unwrap_or_default())
        }
        Verdict::Refused => format!("refused: generation {generation} goes on serving"),
        Verdict::Partial => format!("generation {generation} serves, but for what is wrong below"),
        Verdict::Applied | Verdict::Started => format!("generation {generation} serves"),
    }];
    // What was just written has been found by the watch, as a rule: that is what was asked about.
    let is_of_watch = looked.result == Verdict::Unchanged;
    let last = looked.last_reload.iter().filter(|_| is_of_watch);
    for reload in looked.reloads.iter().chain(last) {
        lines.extend(changes(&reload.changes));
        let told = |what, text| format!("{what}: {}", tame_lines(text));
        lines.extend(reload.problems.iter().map(|problem| told("problem", problem)));
        lines.extend(reload.warnings.iter().map(|warning| told("warning", warning)));
    }
    lines.join("\n")
}

/// A line for each thing that changed.
fn changes(changes: &Changes) -> Vec<String> {
    let word = |kind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    };
    let line = |what: &str, name: &str, kind, keys: &[String]| match keys {
        [] => format!("{} {what} {name}", word(kind)),
        keys => format!("{} {what} {name}: {}", word(kind), keys.join(", ")),
    };
    let apps = changes.apps.iter().map(|app| {
        let component = match (&app.digest_from, &app.digest_to) {
            (None, None) => None,
            (from, to) => Some(format!("component {} -> {}", short(from), short(to))),
        };
        line("app", &app.name, app.change, &[app.keys.clone(), Vec::from_iter(component)].concat())
    });
    let change = |what: &'static str| {
        move |change: &Change| line(what, &change.name, change.change, &change.keys)
    };
    let hosts = changes.hosts.iter().map(change("host"));
    let certificates = changes.certificates.iter().map(change("certificate"));
    let sections = changes.sections.iter().map(|name| format!("changed [{name}]"));
    apps.chain(hosts).chain(certificates).chain(sections).collect()
}

/// Enough of a digest for a person to tell it from another.
fn short(digest: &Option<String>) -> &str {
    digest.as_deref().and_then(|digest| digest.get(..12)).unwrap_or("none")
}
