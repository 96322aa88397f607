//! `tidegate logs`: the last lines of the log as they were written, and those that come.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::admin_client::{ANSWER_TIMEOUT, At, escaped};
use super::{EXIT_FAILURE, fail};

#[derive(Args)]
pub struct Options {
    /// Only lines about this app
    #[arg(value_name = "APP")]
    app: Option<String>,
    /// Go on with the lines that come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines; about 1000 are kept
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: usize,
    /// Lines of the access log too, as requests end; they are not kept
    #[arg(long, requires = "follow")]
    access: bool,
    #[command(flatten)]
    at: At,
}

pub fn logs(options: &Options) -> ExitCode {
    let client = match options.at.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    let app = options.app.as_ref().map_or(String::new(), |app| format!("&app={}", escaped(app)));
    let Options { follow, access, lines, .. } = options;
    let path = format!("/v1/logs?lines={lines}&follow={follow}&access={access}{app}");
    let mut stdout = io::stdout();
    let mut written = Ok(());
    let asked = match follow {
        true => client.lines(Method::GET, &path, |line| {
            written = stdout.write_all(line).and_then(|()| stdout.write_all(b"\n"));
            written.is_ok()
        }),
        false => client.bytes(Method::GET, &path, ANSWER_TIMEOUT).map(|lines| {
            written = stdout.write_all(&lines);
        }),
    };
    if let Err(trouble) = asked {
        return trouble.report();
    }
    match written.and_then(|()| stdout.flush()) {
        Ok(()) if *follow => {
            eprintln!("tidegate: the log has ended: tidegate stops");
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}
