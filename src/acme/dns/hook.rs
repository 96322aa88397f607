//! Has the operator's command edit a record: `HOOK present NAME VALUE`, and `HOOK cleanup NAME VALUE`.

use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Edit;
use crate::acme::failure::shortened;

/// Bytes of what a hook says that are read; the rest goes nowhere.
const SAID_MAX: u64 = 4096;

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
    let said = child.stderr.take();
    let (status, said) = tokio::join!(child.wait(), listen(said));
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

/// What is said, up to a bound. The rest is read as well, so that a hook that says much can end.
async fn listen(said: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut said) = said {
        // What was said until an error is what there is.
        let _ = (&mut said).take(SAID_MAX).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
    }
    kept
}
