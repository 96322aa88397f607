//! The certificates that there is something to ask about, and what is kept about each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use tokio::time::Instant;
use tracing::{info, warn};

use super::kept;
use super::response::{Validity, verify};
use super::subject::Subject;
use crate::config::HostPattern;

/// Certificates that are asked about. More are served without what is said of them.
pub const SUBJECTS_MAX: usize = 1024;

/// A certificate that there is something to ask about.
pub struct Followed {
    pub subject: Arc<Subject>,
    pub certificate: Arc<CertifiedKey>,
    /// A host that shows it, for the log.
    pub host: HostPattern,
    pub file: PathBuf,
    /// When the responder is asked next.
    pub due: Instant,
    pub is_asked: bool,
    pub failures: u32,
    /// What was last said about it: said once.
    pub said: String,
}

impl Followed {
    /// It is asked about at once, and what comes of it is told again.
    pub fn hurry(&mut self) {
        self.due = Instant::now();
        self.said.clear();
    }
}

pub type New = (Vec<u8>, Followed, Option<(Vec<u8>, Validity)>);

/// The certificates among these that name a responder, with what is kept about each. What is kept about others
/// than those, and than what else is `wanted`, is removed.
pub fn read(
    dir: &Path,
    shown: BTreeMap<Vec<u8>, (HostPattern, Arc<CertifiedKey>)>,
    room: usize,
    mut wanted: BTreeSet<PathBuf>,
) -> Vec<New> {
    let mut new = Vec::new();
    let mut left_out = 0_usize;
    for (leaf, (host, certificate)) in shown {
        let subject = match Subject::of(&certificate.cert) {
            Ok(Some(_)) if new.len() >= room => {
                left_out += 1;
                continue;
            }
            Ok(Some(subject)) => Arc::new(subject),
            Ok(None) => continue,
            Err(reason) => {
                info!(%host, reason, "the certificate names an OCSP responder that cannot be asked: nothing is stapled");
                continue;
            }
        };
        let file = kept::file(dir, &leaf);
        let kept = kept::read(&file).ok().and_then(|response| {
            let validity = verify(&response, &subject, SystemTime::now()).ok()?;
            Some((response, validity))
        });
        wanted.insert(file.clone());
        let followed = Followed {
            subject,
            certificate,
            host,
            file,
            due: Instant::now(),
            is_asked: false,
            failures: 0,
            said: String::new(),
        };
        new.push((leaf, followed, kept));
    }
    if left_out > 0 {
        warn!(
            left_out,
            most = SUBJECTS_MAX,
            "too many certificates name OCSP responders: nothing is stapled to the rest"
        );
    }
    kept::prune(dir, &wanted);
    new
}
