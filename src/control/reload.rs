//! One reload: load, compare, build, swap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use tracing::info;

use super::changes::Changes;
use super::manifest::ManifestFile;
use crate::certificates::Certificates;
use crate::config::{CertificateFiles, Config, Policy, Problem};
use crate::generation::{App, Builder, Credentials, Current, Generation};
use crate::settle::{SETTLE, changed_within};
use crate::stats::Stats;
use crate::systemd;
use crate::users::{UserFiles, users_files};

/// Retired apps whose idle instances are kept for the case that the change is taken back.
const MAX_RETIRED: usize = 32;

/// Replaces the current generation when its files have changed.
pub struct Reloader {
    manifest: ManifestFile,
    /// What the process was started with: some of it holds until its end.
    started: Config,
    current: Arc<Current>,
    builder: Arc<Builder>,
    /// What waits for retired pools to empty.
    tasks: TaskTracker,
    retired: Vec<Arc<App>>,
    /// Retired apps that are not kept warm any more, until their last instances are gone.
    leaving: Vec<Arc<App>>,
    /// What was last said about the manifest and the files of credentials: said once.
    said: String,
    /// What is wrong with them now, and since when.
    wrong: (String, Instant),
}

/// What one reload came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Absent where nothing changed, or nothing could.
    pub swap: Option<Swap>,
    /// What is wrong, as far as it was not said before.
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
    /// Something may be half written.
    pub look_again: bool,
    /// A component is being compiled that a later look takes.
    pub compiling: bool,
    /// Nothing is wrong with any file, whether that was said before or not.
    pub clean: bool,
}

/// A generation went, another came.
#[derive(Debug)]
pub struct Swap {
    pub number: u64,
    pub retired: u64,
    pub apps: usize,
    /// Apps whose instances are not those of before.
    pub changed: usize,
    pub changes: Changes,
    pub elapsed: Duration,
}

impl Reloader {
    /// Of the manifest as it was when the generation that serves was read.
    pub fn new(
        manifest: ManifestFile,
        current: Arc<Current>,
        builder: Arc<Builder>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            manifest,
            started: current.load().config.clone(),
            current,
            builder,
            tasks,
            retired: Vec::new(),
            leaving: Vec::new(),
            said: String::new(),
            wrong: (String::new(), Instant::now()),
        }
    }

    /// Where reloads are counted.
    pub fn stats(&self) -> &Stats {
        self.builder.stats()
    }

    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Resolves when a component is compiled that no reload waited for: the next one takes it.
    pub async fn compiled(&self) {
        self.builder.compiled().await;
    }

    /// Has the next look try again what failed by no fault of the component's own.
    pub fn try_again(&self) {
        self.builder.try_again();
    }

    /// Looks at every file and swaps in a new generation if one of them changed.
    ///
    /// On an error the current generation keeps serving: nothing is swapped
    /// until the new one is complete. When `asked` for, problems that were
    /// told before are told again.
    pub async fn reload(&mut self, asked: bool) -> Outcome {
        if asked {
            self.said.clear();
        }
        let started = Instant::now();
        let running = self.current.load();
        let mut outcome = Outcome::default();

        let manifest = self.manifest.clone();
        let before = running.clone();
        let read = tokio::task::spawn_blocking(move || read(&manifest, &before)).await;
        let read = read.unwrap_or(Read::Unfinished);
        if !self.has_settled(&read) {
            outcome.look_again = true;
            return outcome;
        }
        let (config, credentials) = match read {
            Read::Usable(config, renewed, taken) => {
                self.manifest = taken;
                outcome.clean = renewed.problems.is_empty();
                self.say_once(renewed.problems, &mut outcome);
                (*config, renewed.credentials)
            }
            Read::Unusable(problems) => {
                self.say_once(problems, &mut outcome);
                return outcome;
            }
            Read::Unfinished => return outcome,
        };

        self.free_drained();
        let built = self
            .builder
            .build(running.number + 1, config, credentials, Some(&running), &self.retired, |_| {})
            .await;
        outcome.compiling = built.compiling;
        outcome.clean &= built.faults.is_empty() && !built.compiling;
        for fault in &built.faults {
            outcome.look_again |= fault.unfinished;
            if !fault.unfinished && (asked || !fault.known) {
                let state = match fault.serving {
                    true => "its last good version goes on serving",
                    false => "its hosts answer 503",
                };
                outcome.problems.push(format!("{}; {state}", fault.problem));
            }
        }
        if built.unchanged {
            return outcome;
        }

        let mut next = built.generation;
        outcome.warnings = refused(&self.started, &next.config);
        if running.config.warnings != next.config.warnings {
            outcome.warnings.extend(next.config.warnings.iter().cloned());
        }
        let changed = changed(&running, &next);
        if changed == 0 && running.serves_as(&next) {
            // Only what is known of bad files has changed.
            next.number = running.number;
            drop(self.current.swap(next));
            return outcome;
        }

        systemd::reloading();
        let changes = Changes::between(&running, &next);
        let number = next.number;
        let apps = next.apps.len();
        let retiring = retiring(&running, &next);
        self.retired.retain(|old| !next.apps.values().any(|app| app.same_pool(old)));
        // From here on no new request finds the old generation. Its pools live
        // on in the requests that hold it, and until their instances are gone.
        drop(self.current.swap(next));
        self.retire(retiring, running.number);
        systemd::ready(&format!("serving {apps} apps, generation {number}"));
        outcome.swap = Some(Swap {
            number,
            retired: running.number,
            apps,
            changed,
            changes,
            elapsed: started.elapsed(),
        });
        outcome
    }

    fn retire(&mut self, apps: Vec<Arc<App>>, generation: u64) {
        for app in &apps {
            let Some(pool) = app.pool.clone() else { continue };
            let name = app.name.clone();
            let current = self.current.clone();
            self.tasks.spawn(async move {
                let started = Instant::now();
                pool.emptied().await;
                if current.load().has(&pool) {
                    // The change was taken back; it is merely idle.
                    return;
                }
                info!(app = %name, generation, elapsed = ?started.elapsed(), "drained");
            });
        }
        self.retired.extend(apps);
        let excess = self.retired.len().saturating_sub(MAX_RETIRED);
        for app in self.retired.drain(..excess) {
            if let Some(pool) = &app.pool {
                pool.evict(true);
            }
            self.leaving.push(app);
        }
    }

    /// Lets retired apps go whose last instance is gone.
    fn free_drained(&mut self) {
        let is_drained = |app: &mut Arc<App>| app.pool.as_ref().is_none_or(|pool| pool.live() == 0);
        let mut drained: Vec<_> = self.retired.extract_if(.., is_drained).collect();
        drained.extend(self.leaving.extract_if(.., is_drained));
        self.builder.free(drained);
    }

    /// Lets every instance go as soon as it is idle: the process is stopping.
    pub fn evict(&self) {
        let current = self.current.load();
        for app in current.apps.values().chain(&self.retired).chain(&self.leaving) {
            if let Some(pool) = &app.pool {
                pool.evict(true);
            }
        }
    }

    /// Whether what was read is worth acting upon: a file may be missing for a moment, or
    /// not fit another, while new ones take their places. Problems count once they last.
    fn has_settled(&mut self, read: &Read) -> bool {
        let problems = match read {
            Read::Unfinished => return false,
            Read::Usable(_, renewed, _) => &renewed.problems,
            Read::Unusable(problems) => problems,
        };
        let text = text(problems).join("\n");
        if text != self.wrong.0 {
            self.wrong = (text, Instant::now());
        }
        problems.is_empty() || self.wrong.1.elapsed() >= SETTLE
    }

    /// Passes on problems that are not those of the last time.
    fn say_once(&mut self, problems: Vec<Problem>, outcome: &mut Outcome) {
        let text = text(&problems);
        let all = text.join("\n");
        if all != self.said {
            outcome.problems.extend(text);
            self.said = all;
        }
    }
}

fn text(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

enum Read {
    /// With the manifest's file as it was taken.
    Usable(Box<Config>, Renewed, ManifestFile),
    Unusable(Vec<Problem>),
    /// A file was changed so recently that more may be to come.
    Unfinished,
}

/// Credentials read again, and what is wrong with files whose former content is kept.
struct Renewed {
    credentials: Credentials,
    problems: Vec<Problem>,
}

impl Renewed {
    fn read(running: &Generation, config: &Config) -> Result<Renewed, Vec<Problem>> {
        let certificates = Certificates::renew(&running.certificates, &running.config, config);
        let users = UserFiles::renew(&running.users, config);
        match (certificates, users) {
            (Ok(certificates), Ok(users)) => Ok(Renewed {
                problems: [certificates.problems, users.problems].concat(),
                credentials: Credentials {
                    certificates: certificates.certificates,
                    users: users.users,
                },
            }),
            (certificates, users) => {
                let refused = [certificates.err(), users.err()];
                Err(refused.into_iter().flatten().flatten().collect())
            }
        }
    }
}

/// Reads the manifest, the certificates and the users.
fn read(manifest: &ManifestFile, running: &Generation) -> Read {
    let Some(taken) = manifest.look() else {
        return Read::Unfinished;
    };
    let path = taken.path();
    let config = match Config::load(path) {
        _ if !taken.is_unchanged() => return Read::Unfinished,
        Ok(config) => config,
        Err(_) if changed_within(path, SETTLE) => return Read::Unfinished,
        Err(problems) => return Read::Unusable(problems.0),
    };
    let renewed = Renewed::read(running, &config);
    let is_clean = renewed.as_ref().is_ok_and(|renewed| renewed.problems.is_empty());
    // A certificate and its key are two files, and one is there before the other.
    let is_fresh = |pair: &CertificateFiles| {
        [&pair.cert, &pair.key].iter().any(|file| changed_within(&file.value, SETTLE))
    };
    let is_fresh_ca = |policy: &Policy| {
        policy.client_auth.iter().any(|auth| changed_within(&auth.ca.value, SETTLE))
    };
    let is_fresh = config.certificates.values().any(is_fresh)
        || config.policies.values().any(is_fresh_ca)
        || users_files(&config).any(|file| changed_within(&file.value, SETTLE));
    if !is_clean && is_fresh {
        return Read::Unfinished;
    }
    match renewed {
        Ok(renewed) => Read::Usable(Box::new(config), renewed, taken),
        Err(problems) => Read::Unusable(problems),
    }
}

/// Settings that only a restart can apply, by name.
fn refused(started: &Config, next: &Config) -> Vec<String> {
    started
        .changes_needing_restart(next)
        .into_iter()
        .map(|key| format!("{key} changed in the manifest and is not applied: it needs a restart, or an upgrade"))
        .collect()
}

fn changed(running: &Generation, next: &Generation) -> usize {
    next.apps
        .iter()
        .filter(|(name, app)| match running.apps.get(*name) {
            Some(old) if old.pool.is_none() && app.pool.is_none() => false,
            Some(old) => !old.same_pool(app),
            None => true,
        })
        .count()
}

/// Apps whose pool is not in the next generation.
fn retiring(running: &Generation, next: &Generation) -> Vec<Arc<App>> {
    running
        .apps
        .values()
        .filter(|old| old.pool.is_some() && !next.apps.values().any(|app| app.same_pool(old)))
        .cloned()
        .collect()
}
