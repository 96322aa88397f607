//! Gets certificates for the manifest's hosts from an authority, by ACME (RFC 8555), and renews them.
//!
//! `schedule` knows what is due and `pace` how long to wait, `order` gets one certificate by the account
//! that `account` keeps, `proof` shows the authority that a host is ours, through the server or through
//! `dns`, and `http` is the way to it; `session` has them do so. A certificate becomes
//! a file in `state_dir`, and a hint has `control` build a generation that shows it. What went wrong is said in
//! the words of `failure`, and what was there before stays as it was.

mod account;
mod dns;
mod failure;
mod http;
mod order;
mod pace;
mod proof;
mod schedule;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::challenges::Challenges;
use crate::generation::{Current, blocking};
use crate::shutdown::Shutdown;
pub use http::Https;
use session::Session;

/// What the work is done with.
pub struct Office {
    pub state_dir: PathBuf,
    /// Whose hosts are looked after.
    pub current: Arc<Current>,
    /// Where the server looks for proofs.
    pub challenges: Arc<Challenges>,
    /// Told when there is a new certificate.
    pub published: Box<dyn Fn() + Send + Sync>,
    pub hurry: Hurry,
}

/// An operator's word that what failed may be tried again at once.
#[derive(Clone, Default)]
pub struct Hurry(Arc<Notify>);

impl Hurry {
    pub fn ask(&self) {
        self.0.notify_one();
    }

    async fn asked(&self) {
        self.0.notified().await;
    }
}

/// Looks after the certificates of the current generation's hosts until shutdown begins.
pub async fn run(office: Office, shutdown: Shutdown) {
    let mut changes = office.current.changes();
    while !shutdown.has_begun() {
        changes.mark_unchanged();
        let settings = office.current.load().config.acme.clone();
        match settings {
            Some(settings) => Session::new(&office, settings).serve(shutdown.token()).await,
            // Nothing to do before the manifest has changed.
            None => tokio::select! {
                () = shutdown.begun() => {}
                _ = changes.changed() => {}
            },
        }
    }
}
