//! Has the operator's command edit a record: `HOOK present NAME VALUE`, and `HOOK cleanup NAME VALUE`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Edit;
use crate::acme::failure::shortened;

/// Bytes of what a hook says that are read; the rest goes nowhere.
const SAID_MAX: u64 = 4096;

/// How long what a hook has said is still read once it has ended. A process that it left behind may hold the
/// other end for as long as it runs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends well when the command does. It is killed when this is dropped.
pub async fn run(command: &[String], edit: Edit, name: &str, value: &str) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Err("the hook has no name".to_owned()) };
    let verb = match edit {
        Edit::Add => "present",
        Edit::Remove => "cleanup",
    };
    let mut child = Command::new(program)
        .args(arguments)
        .args([verb, name, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let mut said = Vec::new();
    let mut listening = Box::pin(listen(child.stderr.take(), &mut said));
    let status = tokio::select! {
        () = &mut listening => child.wait().await,
        status = child.wait() => {
            // What was read until then is what there is.
            let _ = timeout(LAST_WORDS, &mut listening).await;
            status
        }
    };
    drop(listening);
    let status = status.map_err(|error| format!("cannot wait for {program}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => {
            let said = shortened(&String::from_utf8_lossy(&said));
            let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
            Err(format!("{program} ended with {status}: {said}"))
        }
    }
}

/// Adds what is said to `kept` as it comes, up to a bound. The rest is read as well, so that a hook that says
/// much can end.
async fn listen(said: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut said) = said else { return };
    let mut start = (&mut said).take(SAID_MAX);
    // What was said until an error is what there is.
    while start.read_buf(kept).await.is_ok_and(|read| read > 0) {}
    let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_a_hook_leaves_behind_is_not_waited_for() {
        let hook = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned);
        let run = async |script| {
            let (hook, name) = (hook(script), "_acme-challenge.a.test");
            let running = run(&hook, Edit::Add, name, "value");
            timeout(Duration::from_secs(20), running).await.expect("it ends with the hook")
        };

        assert_eq!(run("sleep 60 & exit 0").await, Ok(()));
        let error = run("echo no such zone >&2; sleep 60 & exit 3").await.unwrap_err();
        assert!(error.ends_with("exit status: 3: no such zone"), "{error}");
    }
}
