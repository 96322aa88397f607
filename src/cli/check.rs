//! `tidegate check`: the path of `run` without sockets and without writing anything.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{EXIT_CONFIG, EXIT_FAILURE, fail, print, progress, runtime};
use crate::admin::Token;
use crate::certificates::{Certificates, LocalCa};
use crate::config::{Admin, Config, Problem, Problems};
use crate::generation::{Builder, Credentials, Generation};
use crate::guest::{Compiler, Engines};
use crate::users::UserFiles;

pub fn check(named: Option<&Path>) -> ExitCode {
    let path = match Config::find(named) {
        Ok(path) => path,
        Err(error) => return fail(EXIT_CONFIG, error),
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) => return report(problems.0),
    };
    let (apps, hosts) = (config.apps.len(), config.hosts.len());
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    match problems(config) {
        Ok(problems) if problems.is_empty() => {
            print(&format!("{}: good: {apps} apps on {hosts} hosts", path.display()))
        }
        Ok(problems) => report(problems),
        Err(error) => fail(EXIT_FAILURE, error),
    }
}

fn report(problems: Vec<Problem>) -> ExitCode {
    let count = problems.len();
    eprintln!("{}", Problems(problems));
    eprintln!("{count} {}", if count == 1 { "problem" } else { "problems" });
    ExitCode::from(EXIT_CONFIG)
}

/// Everything wrong with the files that `config` names.
fn problems(config: Config) -> Result<Vec<Problem>, String> {
    let ca = Arc::new(LocalCa::ephemeral().map_err(|error| error.to_string())?);
    let (certificates, mut problems) = match Certificates::load(&config, &ca) {
        Ok(certificates) => (certificates, Vec::new()),
        // The components are looked at all the same.
        Err(problems) => (Certificates::none(&config, &ca), problems),
    };
    let users = UserFiles::load(&config, TaskTracker::new()).unwrap_or_else(|wrong| {
        problems.extend(wrong);
        UserFiles::none(TaskTracker::new())
    });
    if let Admin::Tcp(tcp) = &config.admin {
        problems.extend(Token::read(&tcp.token_file).err());
    }
    let credentials = Credentials { certificates: Arc::new(certificates), users: Arc::new(users) };
    let engines = Engines::new().map_err(|error| format!("{error:#}"))?;
    let bar = progress::bar(config.apps.len());
    let runtime = runtime().map_err(|error| error.to_string())?;
    let built = runtime.block_on(async {
        let builder =
            Builder::new(engines, Compiler::this_program(), None, None, TaskTracker::new());
        let progress = |app: &_| {
            bar.set_message(format!("{app}"));
            bar.inc(1);
        };
        let build = async |before: Option<&Generation>| {
            builder.build(1, config.clone(), credentials.clone(), before, &[], progress).await
        };
        let mut built = build(None).await;
        while built.compiling {
            builder.compiled().await;
            built = build(Some(&built.generation)).await;
        }
        built
    });
    bar.finish_and_clear();
    problems.extend(built.faults.into_iter().map(|fault| fault.problem));
    problems.sort_by_key(|problem| problem.place.line);
    Ok(problems)
}
