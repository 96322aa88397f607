//! File system events as hints, and nothing else.
//!
//! Directories are watched, not files: that covers editors that rename, links
//! that are swapped, and files that are not there yet. What an event says is
//! ignored, but that reading is no change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::Hint;
use crate::config::Config;
use crate::users::users_files;

/// Directories watched at the most; the others are found by the rescan.
const MAX_DIRECTORIES: usize = 4096;

/// Watches the directories of everything that a config names.
pub struct Watch {
    /// Absent where the system gives none; the rescan serves alone then.
    watcher: Option<RecommendedWatcher>,
    /// Each directory with its identity: one that was made anew is watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    failed: bool,
}

impl Watch {
    /// Starts with nothing watched.
    pub fn start(hint: Hint) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as an overflow, may hide a change.
            let is_change = event.map_or(true, |event| match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                EventKind::Access(_) => false,
                _ => true,
            });
            if is_change {
                hint.give();
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "files cannot be watched; changes are looked for every {:?}", super::RESCAN))
            .ok();
        Self { watcher, watched: BTreeMap::new(), failed: false }
    }

    /// Watches what `config` names, and nothing more. True when some of it was not watched
    /// before: what changed there since it was read has given no hint.
    pub fn follow(&mut self, config: &Config) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let mut more = false;
        let wanted = directories(config);
        self.watched.retain(|dir, identity| {
            let keep = wanted.get(dir) == Some(identity);
            if !keep {
                // It is gone, or another one is in its place.
                let _ = watcher.unwatch(dir);
            }
            keep
        });
        for (dir, identity) in wanted {
            if self.watched.contains_key(&dir) {
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(dir, identity);
                    more = true;
                }
                Err(error) if !self.failed => {
                    self.failed = true;
                    warn!(dir = %dir.display(), %error, "a directory cannot be watched; changes in it are looked for every {:?}", super::RESCAN);
                }
                Err(_) => {}
            }
        }
        more
    }
}

/// The directories in which a change can matter, with their identities.
fn directories(config: &Config) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut found = BTreeMap::new();
    let components = config.apps.values().map(|app| &app.component.value);
    let certificates =
        config.certificates.values().flat_map(|files| [&files.cert.value, &files.key.value]);
    let users = users_files(config).map(|file| &file.value);
    let authorities = config.policies.values().filter_map(|policy| policy.client_auth.as_ref());
    let authorities = authorities.map(|auth| &auth.ca.value);
    let files = components.chain(certificates).chain(users).chain(authorities);
    for file in [&config.path].into_iter().chain(files) {
        add_parent(&mut found, file);
        // A link's own directory is not where its content changes.
        if let Ok(target) = fs::canonicalize(file)
            && target != *file
        {
            add_parent(&mut found, &target);
        }
    }
    for folder in &config.folders {
        add(&mut found, folder);
        add_parent(&mut found, folder);
    }
    found
}

fn add_parent(found: &mut BTreeMap<PathBuf, (u64, u64)>, path: &Path) {
    if let Some(parent) = path.parent() {
        add(found, parent);
        // Where it is told that the directory itself was replaced.
        if let Some(above) = parent.parent()
            && above != Path::new("/")
        {
            add(found, above);
        }
    }
}

/// Adds `dir`, or the nearest directory above it that is there.
fn add(found: &mut BTreeMap<PathBuf, (u64, u64)>, dir: &Path) {
    if found.len() >= MAX_DIRECTORIES || found.contains_key(dir) {
        return;
    }
    for dir in dir.ancestors() {
        if let Ok(meta) = fs::metadata(dir) {
            found.insert(dir.to_owned(), (meta.dev(), meta.ino()));
            return;
        }
    }
}
