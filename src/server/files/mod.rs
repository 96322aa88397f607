//! Answers from a folder of files.
//!
//! `path` makes a file's name of a request's path. `look` finds what answers it, when it has its
//! turn at the `disk`: `open` opens a file below the folder and nowhere else, `version` tells one
//! state of it from another, `conditions` and `range` judge what the client has and wants. `body`
//! carries what is too long for one chunk. The folder is looked at anew for each request and
//! nothing of it is kept, so a file that is replaced is right at once.

mod body;
mod conditions;
mod disk;
mod look;
mod media_type;
mod open;
mod path;
mod range;
mod version;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use tracing::warn;

pub use body::FileBody;
pub use disk::Disk;
use look::{Failure, Look};

use super::connection::Client;
use super::response::Refusal;
use crate::config::{Files, Peer};
use crate::limit::Limit;

/// The body of an answer from a folder.
pub enum Content {
    /// All of it.
    Whole(Bytes),
    File(FileBody),
}

/// The answer to a request of `peer` for a file below the route's `prefix`.
pub async fn answer(
    files: &Arc<Files>,
    prefix: &str,
    head: Parts,
    peer: Peer,
    client: &Client,
) -> Result<Response<Content>, Refusal> {
    let is_head = match head.method {
        Method::GET => false,
        Method::HEAD => true,
        _ => return Err(Refusal::ReadOnly),
    };
    let Some(turn) = client.bounds.disk.turn().await else {
        client.activity.tally().reached(Limit::FileReads, peer);
        return Err(Refusal::BusyFiles);
    };
    let look = Look {
        files: Arc::clone(files),
        name: path::name(head.uri.path(), prefix),
        is_head,
        uri: head.uri,
        request: head.headers,
        client: peer,
        bounds: Arc::clone(&client.bounds),
    };
    let failure = match turn.run(move || look.answer()).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(failure)) => failure,
        Err(error) => Failure::Io(error),
    };
    match failure {
        Failure::Refused(refusal) => Err(refusal),
        Failure::TooMany => {
            client.activity.tally().reached(Limit::OpenFiles, peer);
            Err(Refusal::BusyFiles)
        }
        Failure::Changed => Err(Refusal::BusyFiles),
        Failure::Io(error) => {
            if client.activity.tally().may_warn() {
                warn!(dir = %files.dir.value.display(), %error, "a file could not be read");
            }
            // Clients are not told what is there and not for them.
            Err(match error.kind() {
                io::ErrorKind::PermissionDenied => Refusal::UnknownPath,
                _ => Refusal::Unreadable,
            })
        }
    }
}
