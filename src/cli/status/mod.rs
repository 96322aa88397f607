//! `tidegate status`: what runs, and first of all what is wrong; once, or again and again.

mod text;
mod troubles;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use time::OffsetDateTime;

use super::admin_client::{Ask, Client, Trouble};
use super::show::paint::Paint;
use super::show::screen::{self, Screen};
use super::{EXIT_FAILURE, fail, print};
use crate::admin::shapes::Status;
use text::View;

const PATH: &str = "/v1/status";

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How it is shown.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    ask: Ask,
    /// Look every second, until q or Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub fn status(options: &Options) -> ExitCode {
    let client = match options.ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    match (options.watch, options.ask.json) {
        (true, json) => watch(&client, json),
        (false, true) => super::pass_on(&client, PATH),
        (false, false) => match client.get::<Status>(PATH) {
            Ok(status) => print(&picture(&status, None, screen::width()).join("\n")),
            Err(trouble) => trouble.report(),
        },
    }
}

/// Shows it every second: drawn over on a terminal, one after the other elsewhere.
fn watch(client: &Client, json: bool) -> ExitCode {
    let screen = if json { Ok(None) } else { Screen::open() };
    let shown = screen.and_then(|screen| match screen {
        Some(screen) => draw(client, &screen).map(|never| match never {}),
        None => print_on(client, json),
    });
    match shown {
        Ok(code) => code,
        // A reader who has left, such as `head`, wants no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}

/// Draws until the process ends: see [`Screen`].
fn draw(client: &Client, screen: &Screen) -> io::Result<std::convert::Infallible> {
    let mut before = None;
    loop {
        let asked = Instant::now();
        match client.get::<Status>(PATH) {
            Ok(status) => {
                // Another size is another picture of the same.
                let until = asked + INTERVAL;
                loop {
                    screen.draw(&picture(&status, before.as_ref(), screen::width()))?;
                    screen.pause(until.saturating_duration_since(Instant::now()));
                    if Instant::now() >= until {
                        break;
                    }
                }
                before = Some((status, asked));
            }
            Err(trouble) => {
                screen.draw(&unanswered(&trouble))?;
                screen.pause(INTERVAL);
                before = None;
            }
        }
    }
}

fn print_on(client: &Client, json: bool) -> io::Result<ExitCode> {
    let mut before: Option<(Status, Instant)> = None;
    let mut stdout = io::stdout();
    loop {
        let asked = Instant::now();
        let status = match client.get::<Status>(PATH) {
            Ok(status) => status,
            Err(trouble) => return Ok(trouble.report()),
        };
        match json {
            true => writeln!(stdout, "{}", serde_json::to_string(&status)?)?,
            false => {
                let lines = picture(&status, before.as_ref(), None);
                writeln!(stdout, "{}\n", lines.join("\n"))?;
            }
        }
        stdout.flush()?;
        before = Some((status, asked));
        thread::sleep(INTERVAL.saturating_sub(asked.elapsed()));
    }
}

fn picture(
    status: &Status,
    before: Option<&(Status, Instant)>,
    width: Option<usize>,
) -> Vec<String> {
    let before = before.map(|(status, at)| (status, at.elapsed()));
    let (paint, now) = (Paint::for_stdout(), OffsetDateTime::now_utc());
    View { status, before, now, width, paint }.lines()
}

/// What is drawn while there is no answer: it may come back.
fn unanswered(trouble: &Trouble) -> Vec<String> {
    let text = format!("no answer: {trouble}");
    text.lines().map(str::to_owned).collect()
}
