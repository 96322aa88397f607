//! Asks one responder, and takes note of what it answers.

use std::time::SystemTime;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tracing::{info, warn};

use super::response::{Refusal, Validity};
use super::subject::Subject;
use super::{Stapler, fetch, kept, pace, response};
use crate::generation::blocking;

/// A question that was answered, or not.
pub struct Answered {
    pub leaf: Vec<u8>,
    pub outcome: Result<(Bytes, Validity), Failure>,
}

/// Why there is nothing new to show.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Fetch(#[from] fetch::Trouble),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Stapler {
    /// Shows and keeps what was answered, or leaves things as they are and says why.
    pub(super) async fn take(&mut self, Answered { leaf, outcome }: Answered) {
        let (Some(followed), Some(certificates)) =
            (self.subjects.get_mut(&leaf), &self.certificates)
        else {
            // It is not shown any more.
            return;
        };
        let staples = certificates.staples();
        followed.is_asked = false;
        let (host, responder) = (&followed.host, &followed.subject.responder);
        let failure = match outcome {
            Ok((response, validity)) => {
                staples.put(&followed.certificate, &response, validity.until);
                followed.due = Instant::now() + pace::refresh(validity, SystemTime::now());
                followed.failures = 0;
                followed.said.clear();
                info!(%host, %responder, until = date(validity.until), "stapled an OCSP response");
                let file = followed.file.clone();
                if let Err(error) = blocking(move || kept::write(&file, &response)).await {
                    warn!(path = %followed.file.display(), %error, "cannot keep an OCSP response: it is shown until the next restart only");
                }
                return;
            }
            Err(failure) => failure,
        };
        followed.failures = followed.failures.saturating_add(1);
        let again = pace::retry(followed.failures);
        followed.due = Instant::now() + again;
        let said = failure.to_string();
        let is_new = said != followed.said;
        followed.said = said;
        if matches!(failure, Failure::Refused(Refusal::Revoked)) {
            staples.retain(|it| it != leaf);
            let file = followed.file.clone();
            // Where it stays, a restart shows it until it expires or is asked for.
            let _ = blocking(move || std::fs::remove_file(file)).await;
            if is_new {
                warn!(%host, %responder, "the certificate is revoked, and served without an OCSP response: have a new one issued");
            }
        } else if is_new {
            warn!(%host, %responder, error = %failure, ?again, "there is no new OCSP response: what was stapled before is shown until it expires");
        }
    }
}

/// What the responder says of `subject`, as far as it can be shown.
pub async fn question(subject: &Subject) -> Result<(Bytes, Validity), Failure> {
    let question = subject.request().map_err(Refusal::Unreadable)?;
    let response = fetch::fetch(&subject.responder, question).await?;
    let validity = response::verify(&response, subject, SystemTime::now())?;
    Ok((response, validity))
}

/// A time as the log has it.
pub fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}
