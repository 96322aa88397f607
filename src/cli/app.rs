//! `tidegate drain` and `tidegate kill`: what is done to one app of the running tidegate.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use http::Method;

use super::admin_client::{ANSWER_TIMEOUT, Ask, Client, Trouble, escaped};
use super::{EXIT_FAILURE, fail, print};
use crate::admin::shapes::{Drained, Killed, Undrained};

/// Has the app take no requests, and waits until its last instance is gone.
pub fn drain(ask: &Ask, app: &str) -> ExitCode {
    let client = match ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    let mut last = None;
    let watched = client.lines(Method::POST, &path(app, "drain"), |line| {
        let Ok(line) = serde_json::from_slice::<Drained>(line) else { return false };
        if ask.json {
            print(&serde_json::to_string(&line).unwrap_or_default());
        } else {
            progress(&line, last.as_ref());
        }
        last = Some(line);
        true
    });
    match (watched, last) {
        (Err(trouble), _) => trouble.report(),
        (Ok(()), Some(last)) if last.done => match ask.json {
            true => ExitCode::SUCCESS,
            false => print(&format!(
                "{app} is drained: its requests are answered 503 until `tidegate drain --undo {app}`"
            )),
        },
        (Ok(()), Some(last)) if last.undone => fail(
            EXIT_FAILURE,
            format!("{app} takes requests again: its drain was undone meanwhile"),
        ),
        (Ok(()), Some(last)) => fail(
            EXIT_FAILURE,
            format!(
                "{} instances of {app} are still busy; it takes no requests all the same\n  help: `tidegate instances {app}` tells with what, and `tidegate kill {app}` ends them",
                last.instances
            ),
        ),
        (Ok(()), None) => fail(EXIT_FAILURE, "tidegate left before it answered"),
    }
}

/// How many are left, where that is news; on a terminal in one line.
fn progress(now: &Drained, before: Option<&Drained>) {
    if now.done || before.is_some_and(|before| before.instances == now.instances) {
        return;
    }
    // What cannot be written is progress only.
    let _ = match io::stderr().is_terminal() {
        true => write!(io::stderr(), "\r{} instances of {} are left \r", now.instances, now.app),
        false => writeln!(io::stderr(), "{} instances of {} are left", now.instances, now.app),
    };
}

/// Lets the app take requests again.
pub fn undrain(ask: &Ask, app: &str) -> ExitCode {
    answered(ask, |client| {
        let told: Undrained = client.ask(Method::POST, &path(app, "undrain"), ANSWER_TIMEOUT)?;
        let text = format!("{} takes requests", told.app);
        Ok(shown(ask, &told, text))
    })
}

/// Ends all instances of the app.
pub fn kill(ask: &Ask, app: &str) -> ExitCode {
    answered(ask, |client| {
        let told: Killed = client.ask(Method::POST, &path(app, "kill"), ANSWER_TIMEOUT)?;
        let text = format!(
            "ended {} instances of {}: new requests get fresh ones",
            told.instances, told.app
        );
        Ok(shown(ask, &told, text))
    })
}

/// Prints what is answered.
pub fn answered(ask: &Ask, question: impl FnOnce(&Client) -> Result<String, Trouble>) -> ExitCode {
    let client = match ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    match question(&client) {
        Ok(text) => print(&text),
        Err(trouble) => trouble.report(),
    }
}

/// An answer as JSON where that was asked for, or else as `text`.
pub fn shown(ask: &Ask, answer: &impl serde::Serialize, text: String) -> String {
    match ask.json {
        true => serde_json::to_string_pretty(answer).unwrap_or_default(),
        false => text,
    }
}

fn path(app: &str, what: &str) -> String {
    format!("/v1/apps/{}/{what}", escaped(app))
}
