//! Asks responders about certificates that name one, and has their answers shown in handshakes (RFC 6960).
//!
//! `subject` is what to ask, `fetch` the way to a responder, `response` judges what it answers, by whom
//! `signature` tells; `kept` are the files, `pace` the times, and `followed` the certificates. `outcome` takes note
//! of an answer: a good one goes to the `Staples` of `certificates`; any other changes nothing, but for one that
//! says that the certificate is revoked.

mod fetch;
mod followed;
mod kept;
mod outcome;
mod pace;
mod response;
mod signature;
mod subject;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::certificates::Certificates;
use crate::generation::{Current, blocking};
use crate::shutdown::Shutdown;
use followed::{Followed, SUBJECTS_MAX};
use outcome::{Answered, date, question};

/// Questions under way at a time.
const QUESTIONS_MAX: usize = 4;

/// Something is looked at this often at the least.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Keeps what is stapled to the certificates of the current generation in step with their responders.
pub struct Stapler {
    /// Where responses are kept.
    dir: PathBuf,
    current: Arc<Current>,
    /// Those that are followed now.
    certificates: Option<Arc<Certificates>>,
    /// By the certificate itself.
    subjects: BTreeMap<Vec<u8>, Followed>,
    /// Those about which there is nothing to ask, looked at once.
    others: BTreeMap<Vec<u8>, Arc<CertifiedKey>>,
    hurry: Hurry,
    questions: FuturesUnordered<BoxFuture<'static, Answered>>,
}

/// An operator's word that responders may say something else now.
#[derive(Clone, Default)]
pub struct Hurry(Arc<Notify>);

impl Hurry {
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

impl Stapler {
    /// Shows what was kept about the certificates of the current generation.
    pub async fn open(state_dir: PathBuf, current: Arc<Current>, hurry: Hurry) -> Stapler {
        let mut stapler = Stapler {
            dir: kept::dir(&state_dir),
            current,
            certificates: None,
            subjects: BTreeMap::new(),
            others: BTreeMap::new(),
            hurry,
            questions: FuturesUnordered::new(),
        };
        stapler.follow().await;
        stapler
    }

    /// Asks what is due until shutdown begins. What is under way then is given up.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut changes = self.current.changes();
        while !shutdown.has_begun() {
            self.follow().await;
            self.ask();
            let wake = self.wake();
            tokio::select! {
                biased;
                () = shutdown.begun() => {}
                Some(answered) = self.questions.next(), if !self.questions.is_empty() => {
                    self.take(answered).await;
                }
                () = self.hurry.0.notified() => {
                    self.subjects.values_mut().for_each(Followed::hurry);
                }
                _ = changes.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes the certificates of the current generation, and what was kept about those that are new.
    async fn follow(&mut self) {
        let certificates = Arc::clone(&self.current.load().certificates);
        if self.certificates.as_ref().is_some_and(|it| Arc::ptr_eq(it, &certificates)) {
            return;
        }
        let mut shown = BTreeMap::new();
        for (host, certificate) in certificates.known() {
            if let Some(leaf) = certificate.cert.first() {
                shown.entry(leaf.to_vec()).or_insert((host.clone(), Arc::clone(certificate)));
            }
        }
        let is_shown = |leaf: &Vec<u8>, known: &CertifiedKey| {
            shown.get(leaf).is_some_and(|(_, it)| it.cert == known.cert)
        };
        self.subjects.retain(|leaf, followed| is_shown(leaf, &followed.certificate));
        self.others.retain(|leaf, known| is_shown(leaf, known));
        shown
            .retain(|leaf, _| !self.subjects.contains_key(leaf) && !self.others.contains_key(leaf));
        let others = shown.clone();

        let (dir, room) = (self.dir.clone(), SUBJECTS_MAX - self.subjects.len());
        let wanted = self.subjects.values().map(|it| it.file.clone()).collect();
        let new = blocking(move || followed::read(&dir, shown, room, wanted)).await;
        for (leaf, mut followed, kept) in new {
            if let Some((response, validity)) = kept {
                certificates.staples().put(&followed.certificate, &response, validity.until);
                followed.due += pace::refresh(validity, SystemTime::now());
                let (host, until) = (&followed.host, date(validity.until));
                info!(%host, until, "stapled the OCSP response that was kept");
            }
            self.subjects.insert(leaf, followed);
        }
        // Where there was no room, one that was left out may have it later.
        if self.subjects.len() < SUBJECTS_MAX {
            let others = others.into_iter().filter(|(leaf, _)| !self.subjects.contains_key(leaf));
            self.others.extend(others.map(|(leaf, (_, certificate))| (leaf, certificate)));
        }
        certificates.staples().retain(|leaf| self.subjects.contains_key(leaf));
        self.certificates = Some(certificates);
    }

    /// Asks what is due, as far as there is room.
    fn ask(&mut self) {
        let now = Instant::now();
        let due = self.subjects.iter_mut().filter(|(_, it)| !it.is_asked && it.due <= now);
        for (leaf, followed) in due.take(QUESTIONS_MAX.saturating_sub(self.questions.len())) {
            followed.is_asked = true;
            let (leaf, subject) = (leaf.clone(), Arc::clone(&followed.subject));
            let question = async move { Answered { leaf, outcome: question(&subject).await } };
            self.questions.push(question.boxed());
        }
    }

    /// When to look again, where nothing happens before.
    fn wake(&self) -> Instant {
        let later = Instant::now() + LOOK_AGAIN;
        if self.questions.len() >= QUESTIONS_MAX {
            return later;
        }
        let waiting = self.subjects.values().filter(|it| !it.is_asked).map(|it| it.due);
        waiting.min().map_or(later, |due| due.min(later))
    }
}
