//! `tidegate profile`: samples what a running app computes, and writes that to a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde::Serialize;
use time::OffsetDateTime;

use super::admin_client::{Ask, Trouble, escaped};
use super::show::paint::tame;
use super::{EXIT_FAILURE, fail, print};
use crate::guest::files::write_by_rename;
use crate::guest::profile::{Hot, MAX_DEMAND, Summary};

/// How long the profile may take once its samples are there.
const WRITTEN_WITHIN: Duration = Duration::from_secs(40);

/// Functions that are named.
const NAMED: usize = 5;

/// What is profiled, for how long, and where that goes.
#[derive(clap::Args)]
pub struct Wanted {
    /// The app
    app: String,
    /// For how long samples are taken
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_DEMAND.as_secs()))]
    seconds: u64,
    /// The file to write [default: APP-DATE-TIME.json]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Told<'a> {
    file: &'a Path,
    samples: u64,
    instances: usize,
    hottest: &'a [Hot],
}

pub fn profile(wanted: &Wanted) -> ExitCode {
    let Wanted { app, seconds, output, ask } = wanted;
    let client = match ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    let path = format!("/v1/apps/{}/profile?seconds={seconds}", escaped(app));
    let within = Duration::from_secs(*seconds) + WRITTEN_WITHIN;
    let json = match client.bytes(Method::POST, &path, within) {
        Ok(json) => json,
        Err(trouble) => return Trouble::report(trouble),
    };
    let summary = match Summary::of(&json) {
        Ok(summary) => summary,
        Err(error) => return fail(EXIT_FAILURE, format!("the answer is no profile: {error}")),
    };
    let file = output.clone().unwrap_or_else(|| default_name(app).into());
    if let Err(error) = write_by_rename(&file, |it| it.write_all(&json)) {
        return fail(EXIT_FAILURE, format!("cannot write {}: {error}", file.display()));
    }
    let Summary { samples, instances, hottest } = &summary;
    let hottest = &hottest[..hottest.len().min(NAMED)];
    match ask.json {
        true => {
            let told = Told { file: &file, samples: *samples, instances: *instances, hottest };
            print(&serde_json::to_string_pretty(&told).unwrap_or_default())
        }
        false => print(&text(app, &file, &summary, hottest)),
    }
}

fn text(app: &str, file: &Path, summary: &Summary, hottest: &[Hot]) -> String {
    let Summary { samples, instances, .. } = summary;
    let file = file.display();
    if *samples == 0 {
        return format!("wrote {file}, without a sample: no instance of {app} computed");
    }
    let mut lines = vec![
        format!("wrote {file}: {samples} samples of {instances} instances"),
        "the hottest functions, by samples in themselves:".to_owned(),
    ];
    lines.extend(hottest.iter().map(|Hot { function, samples: own }| {
        let (part, function) = (*own as f64 * 100.0 / *samples as f64, tame(function));
        format!("{part:6.1} %  {function}")
    }));
    lines.push("open it at https://profiler.firefox.com: it stays in your browser".to_owned());
    lines.join("\n")
}

fn default_name(app: &str) -> String {
    let now = OffsetDateTime::now_utc();
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second) = now.to_hms();
    let month = u8::from(month);
    format!("{app}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_a_guest_gives_its_functions_do_not_move_the_cursor() {
        let hottest = [Hot { function: "a\x1b[2J\r\u{9b}1A".to_owned(), samples: 1 }];
        let summary = Summary { samples: 4, instances: 1, hottest: hottest.to_vec() };

        let text = text("app", Path::new("app.json"), &summary, &hottest);

        assert!(text.contains("  25.0 %  a [2J  1A\n"), "{text:?}");
    }
}
