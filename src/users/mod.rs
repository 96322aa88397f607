//! Files of users and the hashes of their passwords, and whether a password is one of theirs.
//!
//! `file` reads what `htpasswd` writes, `checks` bounds how much is computed at a time. What is
//! here belongs to one generation, as certificates do, and a file that did not change keeps what
//! is known of it.

mod checks;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::config::{Config, Located, Problem};
use checks::{Checks, Proven};
use file::Hash;

pub use checks::Crowded;

/// Bytes of a password that are looked at: longer ones are no user's.
const PASSWORD_MAX: usize = 1024;

/// All files of users that a manifest names.
pub struct UserFiles {
    files: BTreeMap<PathBuf, Arc<Users>>,
    checks: Arc<Checks>,
}

/// Files of users read again.
pub struct RenewedUsers {
    /// The same `Arc` as before where nothing changed.
    pub users: Arc<UserFiles>,
    /// What is wrong with files whose former users are kept.
    pub problems: Vec<Problem>,
}

/// The users of one file.
pub struct Users {
    hashes: Arc<HashMap<String, Hash>>,
    checks: Arc<Checks>,
    /// What was found right.
    proven: Proven,
}

/// A user's name and password, as a client sends them.
pub struct Login {
    pub name: String,
    pub password: Vec<u8>,
}

impl UserFiles {
    /// No files yet. `tasks` waits for what is computed.
    pub fn none(tasks: TaskTracker) -> UserFiles {
        UserFiles { files: BTreeMap::new(), checks: Arc::new(Checks::new(tasks)) }
    }

    /// Reads the files that `config` names. Every problem is reported, not only the first.
    ///
    /// Reads files: not for async threads.
    pub fn load(config: &Config, tasks: TaskTracker) -> Result<UserFiles, Vec<Problem>> {
        let none = Arc::new(UserFiles::none(tasks));
        let (files, failed) = none.read_all(config);
        match failed.is_empty() {
            true => Ok(UserFiles { files, checks: Arc::clone(&none.checks) }),
            false => Err(failed.into_values().flatten().collect()),
        }
    }

    /// The files of `config`, where `running` were read before.
    ///
    /// A file that went bad leaves the users that were read from it before; a manifest that newly
    /// names a bad one is refused.
    ///
    /// Reads files: not for async threads.
    pub fn renew(running: &Arc<UserFiles>, config: &Config) -> Result<RenewedUsers, Vec<Problem>> {
        let (mut files, failed) = running.read_all(config);
        let mut kept = Vec::new();
        let mut refused = Vec::new();
        for (path, problems) in failed {
            match running.files.get(&path) {
                Some(users) => {
                    files.insert(path, Arc::clone(users));
                    kept.extend(problems);
                }
                None => refused.extend(problems),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let is_same = files.len() == running.files.len()
            && files
                .iter()
                .zip(&running.files)
                .all(|(new, old)| new.0 == old.0 && Arc::ptr_eq(new.1, old.1));
        let users = match is_same {
            true => Arc::clone(running),
            false => Arc::new(UserFiles { files, checks: Arc::clone(&running.checks) }),
        };
        Ok(RenewedUsers { users, problems: kept })
    }

    /// The users of the file at `path`; nobody where it was not read.
    pub fn get(&self, path: &Path) -> Arc<Users> {
        self.files.get(path).cloned().unwrap_or_else(|| self.users(HashMap::new()))
    }

    /// Reads every file: those that can be used, and what is wrong with the others. Users that
    /// are those of before are the same.
    #[allow(clippy::type_complexity, reason = "what there is, and what is wrong, by file")]
    fn read_all(
        &self,
        config: &Config,
    ) -> (BTreeMap<PathBuf, Arc<Users>>, BTreeMap<PathBuf, Vec<Problem>>) {
        let mut files = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for Located { value: path, place } in users_files(config) {
            if files.contains_key(path) || failed.contains_key(path) {
                continue;
            }
            match file::read(path) {
                Ok(hashes) => {
                    let same = self.files.get(path).filter(|users| *users.hashes == hashes);
                    let users = same.cloned().unwrap_or_else(|| self.users(hashes));
                    files.insert(path.clone(), users);
                }
                Err(faults) => {
                    let problem = |fault: file::Fault| fault.at(place, path);
                    failed.insert(path.clone(), faults.into_iter().map(problem).collect());
                }
            }
        }
        (files, failed)
    }

    fn users(&self, hashes: HashMap<String, Hash>) -> Arc<Users> {
        let checks = Arc::clone(&self.checks);
        Arc::new(Users { hashes: Arc::new(hashes), checks, proven: Proven::default() })
    }
}

/// The files that `config` names, in the order of its hosts.
pub fn users_files(config: &Config) -> impl Iterator<Item = &Located<PathBuf>> {
    let routes = config.hosts.values().flat_map(|paths| paths.iter()).map(|(_, route)| route);
    routes.filter_map(|route| route.duties.as_ref()?.users_file())
}

impl Users {
    /// Whether this was found right before: that costs next to nothing.
    pub fn knows(&self, login: &Login) -> bool {
        self.proven.contains(&self.checks.digest(login))
    }

    /// Whether the password is the user's. It is computed off the async threads, after `begin`
    /// has agreed to that.
    ///
    /// A name that is nobody's takes as long as one that is somebody's.
    ///
    /// # Errors
    /// When too many wait already to be told the same, or what `begin` says.
    pub async fn check<E: From<Crowded>>(
        &self,
        login: &Login,
        begin: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let turn = self.checks.turn().await?;
        // Of many requests that a page makes at once, the first one computes it.
        let digest = self.checks.digest(login);
        if self.proven.contains(&digest) {
            return Ok(true);
        }
        begin()?;
        if login.password.len() > PASSWORD_MAX {
            return Ok(false);
        }
        let (hashes, name) = (Arc::clone(&self.hashes), login.name.clone());
        let password = login.password.clone();
        let is_right = turn.compute(move || match hashes.get(&name) {
            Some(hash) => hash.is_of(&password),
            None => {
                if let Some(hash) = hashes.values().next() {
                    hash.is_of(&password);
                }
                false
            }
        });
        let is_right = is_right.await;
        if is_right {
            self.proven.add(digest);
        }
        Ok(is_right)
    }
}
