//! Everything with one authority, for as long as the manifest's `[tls.acme]` stays as it is: what is due is
//! begun here, and `outcome` takes note of how it ended.

mod outcome;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use instant_acme::{Account, CertificateIdentifier, Error};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failure::Failure;
use super::order::{Wanted, obtain};
use super::pace::{Pace, Window};
use super::proof::Prover;
use super::schedule::{Schedule, Task};
use super::{Office, account, blocking};
use crate::certificates::kept::{self, Kept};
use crate::config::{Acme, HostPattern};

/// Orders and questions under way at a time.
const JOBS_MAX: usize = 8;

/// Something is looked at this often at the least.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// One authority, and what is under way with it.
pub struct Session<'a> {
    office: &'a Office,
    settings: Acme,
    /// The authority's directory in `state_dir`.
    dir: PathBuf,
    prover: Arc<Prover>,
    account: Option<Account>,
    /// Of what concerns all hosts.
    authority: Pace,
    /// Whether the authority says when to renew.
    gives_advice: bool,
    schedule: Schedule,
    /// The generation whose hosts are in the schedule.
    generation: u64,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Ends the jobs.
    stop: CancellationToken,
}

/// What a job came to.
enum Done {
    Account(Result<Account, Failure>),
    Order(HostPattern, Result<Kept, Failure>),
    Advice(HostPattern, Advice),
}

enum Advice {
    Within(Window, Duration),
    /// Not this time, and why.
    None(String),
    /// Never.
    Unsupported,
}

impl<'a> Session<'a> {
    pub fn new(office: &'a Office, settings: Acme) -> Session<'a> {
        let challenges = Arc::clone(&office.challenges);
        Session {
            dir: kept::authority_dir(&office.state_dir, &settings.directory),
            prover: Arc::new(Prover::new(settings.challenge.clone(), challenges)),
            office,
            settings,
            account: None,
            authority: Pace::default(),
            gives_advice: true,
            schedule: Schedule::default(),
            generation: 0,
            jobs: FuturesUnordered::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Looks after the hosts until the settings change or `shutdown` comes. What is under way then ends
    /// before this does, with nothing of it left in the DNS.
    pub async fn serve(mut self, shutdown: CancellationToken) {
        let mut changes = self.office.current.changes();
        while !shutdown.is_cancelled() && self.follow().await {
            self.begin();
            let wake = self.wake();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done).await,
                () = self.office.hurry.asked() => {
                    self.authority.hurry();
                    self.schedule.hurry();
                }
                _ = changes.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
        self.stop.cancel();
        while let Some(done) = self.jobs.next().await {
            self.finish(done).await;
        }
    }

    /// Takes the hosts of the current generation. False where its authority is another.
    async fn follow(&mut self) -> bool {
        let generation = self.office.current.load();
        if generation.config.acme.as_ref() != Some(&self.settings) {
            return false;
        }
        if self.generation == generation.number {
            return true;
        }
        let first = self.generation == 0;
        self.generation = generation.number;
        let wanted = generation.config.acme_hosts();
        self.schedule.retain(|host| wanted.contains(host));
        let new: Vec<_> = wanted.iter().filter(|it| !self.schedule.has(it)).cloned().collect();
        if first {
            info!(
                directory = self.settings.directory,
                challenge = self.prover.name(),
                hosts = wanted.len(),
                "certificates come from the authority"
            );
        }
        let dir = self.dir.clone();
        let read = blocking(move || {
            if first {
                kept::prune(&dir, &wanted);
            }
            new.into_iter().map(|host| (read(&dir, &host), host)).collect::<Vec<_>>()
        });
        for (kept, host) in read.await {
            self.schedule.add(host, kept);
        }
        true
    }

    /// Begins what is due, as far as there is room.
    fn begin(&mut self) {
        let wall = OffsetDateTime::now_utc();
        if !self.authority.is_due(Instant::now()) {
            return;
        }
        let Some(account) = self.account.clone() else {
            let is_wanted = self.schedule.wake(self.gives_advice, wall) <= Instant::now();
            if self.jobs.is_empty() && is_wanted {
                let (settings, dir) = (self.settings.clone(), self.dir.clone());
                let open = async move { Done::Account(account::open(&settings, &dir).await) };
                self.jobs.push(self.until_stopped(open.boxed()));
            }
            return;
        };
        while self.jobs.len() < JOBS_MAX
            && let Some(task) = self.schedule.next(self.gives_advice, wall)
        {
            let account = account.clone();
            let job = match task {
                Task::Order(host) => {
                    info!(%host, "asking for a certificate");
                    let replaced =
                        self.schedule.replaced(&host).and_then(|kept| identifier(kept).ok());
                    let wanted =
                        Wanted { host: host.clone(), dir: self.dir.clone(), replaces: replaced };
                    let (prover, stop) = (Arc::clone(&self.prover), self.stop.clone());
                    let order = obtain(account, wanted, prover, stop);
                    async move { Done::Order(host, order.await) }.boxed()
                }
                Task::Advice(host) => {
                    let id = self.schedule.kept(&host).map(identifier);
                    let advice = async move { Done::Advice(host, advice(account, id).await) };
                    self.until_stopped(advice.boxed())
                }
            };
            self.jobs.push(job);
        }
    }

    /// A job that leaves nothing behind when it is dropped.
    fn until_stopped(&self, job: BoxFuture<'static, Done>) -> BoxFuture<'static, Done> {
        let stop = self.stop.clone();
        let stopped = || Done::Account(Err(Failure::of_host("stopped before it was done")));
        async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => stopped(),
                done = job => done,
            }
        }
        .boxed()
    }

    /// When to look again, where nothing happens before.
    fn wake(&self) -> Instant {
        let later = Instant::now() + LOOK_AGAIN;
        let is_waiting = match &self.account {
            Some(_) => self.jobs.len() >= JOBS_MAX,
            None => !self.jobs.is_empty(),
        };
        if is_waiting {
            return later;
        }
        let next = self.schedule.wake(self.gives_advice, OffsetDateTime::now_utc());
        self.authority.until().map_or(next, |until| next.max(until)).min(later)
    }
}

fn read(dir: &std::path::Path, host: &HostPattern) -> Option<Kept> {
    let path = kept::file(dir, host);
    match Kept::read(&path, host, None) {
        Ok(kept) => Some(kept),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(%host, path = %path.display(), %error, "the kept certificate cannot be used: another is asked for");
            }
            None
        }
    }
}

/// A certificate as the authority calls it.
fn identifier(kept: &Kept) -> Result<CertificateIdentifier<'static>, String> {
    let leaf = kept.certificate.cert.first().ok_or("it is empty")?;
    CertificateIdentifier::try_from(leaf).map(CertificateIdentifier::into_owned)
}

async fn advice(
    account: Account,
    id: Option<Result<CertificateIdentifier<'static>, String>>,
) -> Advice {
    let id = match id {
        Some(Ok(id)) => id,
        Some(Err(error)) => return Advice::None(error),
        None => return Advice::None("there is no certificate".to_owned()),
    };
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            Advice::Within(Window { start: window.start, end: window.end }, again)
        }
        Err(Error::Unsupported(_)) => Advice::Unsupported,
        Err(error) => Advice::None(Failure::from(error).reason),
    }
}
