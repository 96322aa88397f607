//! What jobs came to: noted in the schedule, and said in the log.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Advice, Done, Session};
use crate::acme::account;
use crate::acme::failure::{Failure, Of};
use crate::acme::pace::AUTHORITY;
use crate::config::HostPattern;

impl Session<'_> {
    /// Takes note of what a job came to, and says it.
    pub(super) async fn finish(&mut self, done: Done) {
        match done {
            Done::Order(host, Ok(kept)) => {
                let first = self.schedule.kept(&host).is_none();
                let (expires, renewal) =
                    (date(kept.not_after), date(self.schedule.obtained(&host, kept)));
                match first {
                    true => info!(%host, expires, renewal, "got a certificate"),
                    false => info!(%host, expires, renewal, "renewed the certificate"),
                }
                self.authority.succeeded();
                (self.office.published)();
            }
            // What failed because it was stopped is no failure.
            _ if self.stop.is_cancelled() => {}
            Done::Account(Ok(account)) => self.account = Some(account),
            Done::Account(Err(failure)) => self.authority_failed(&failure).await,
            Done::Order(host, Err(failure)) if failure.of == Of::Host => {
                self.authority.succeeded();
                self.host_failed(&host, &failure);
            }
            Done::Order(host, Err(failure)) => {
                self.schedule.put_back(&host);
                self.authority_failed(&failure).await;
            }
            Done::Advice(host, advice) => {
                let advised = match advice {
                    Advice::Within(window, again) => Some((window, again)),
                    Advice::Unsupported => {
                        debug!("the authority does not say when to renew");
                        self.gives_advice = false;
                        None
                    }
                    Advice::None(reason) => {
                        debug!(%host, reason, "the authority does not say when to renew");
                        None
                    }
                };
                if let Some((window, _)) = advised
                    && window.end < OffsetDateTime::now_utc()
                {
                    warn!(%host, "the authority wants the certificate renewed at once, as where it is revoked");
                }
                self.schedule.advised(&host, advised);
            }
        }
    }

    /// All hosts wait: none would do better.
    async fn authority_failed(&mut self, failure: &Failure) {
        let now = Instant::now();
        // Jobs that ran at the same time have failed of the same.
        if !self.authority.is_due(now) {
            return;
        }
        // It is opened again, by the files and the directory as they are then.
        self.account = None;
        if failure.of == Of::Account {
            account::forget(&self.dir).await;
        }
        let wait = self.authority.failed(AUTHORITY, failure.wait, now);
        warn!(
            directory = self.settings.directory,
            attempt = self.authority.failures,
            again_in = seconds(wait),
            "no certificates for now: {}; what is there goes on being served",
            words(failure)
        );
    }

    fn host_failed(&mut self, host: &HostPattern, failure: &Failure) {
        let Some(wait) = self.schedule.failed(host, failure.wait) else { return };
        let (attempt, again_in) = (self.schedule.failures(host), seconds(wait));
        let generation = self.office.current.load();
        let now = OffsetDateTime::now_utc();
        match generation.certificates.kept(host) {
            Some(kept) if kept.not_after - now > (kept.not_after - kept.not_before) / 10 => {
                let until = date(kept.not_after);
                warn!(%host, attempt, again_in, "not renewed: {}; the present certificate is good until {until}", words(failure));
            }
            Some(kept) => {
                let until = date(kept.not_after);
                error!(%host, attempt, again_in, "not renewed: {}; the present certificate ends on {until}", words(failure));
            }
            None => {
                error!(%host, attempt, again_in, "no certificate: {}; the local authority's is served", words(failure));
            }
        }
    }
}

fn words(failure: &Failure) -> String {
    match &failure.help {
        Some(help) => format!("{} ({help})", failure.reason),
        None => failure.reason.clone(),
    }
}

/// As the log writes it; a second more or less is nothing here.
fn seconds(wait: Duration) -> String {
    format!("{}s", wait.as_secs())
}

fn date(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}
