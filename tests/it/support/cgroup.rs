//! A control group of its own for a server, so that it has no more memory than a small box.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::wait_until;

const GROUPS: &str = "/sys/fs/cgroup";

/// Removed when dropped, which waits for its processes to end.
pub struct Group {
    dir: PathBuf,
    files: &'static Files,
}

/// What the files of a version are called.
struct Files {
    limit: &'static str,
    peak: &'static str,
    /// Has a line with how many processes were killed for want of memory.
    kills: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    kills: "memory.oom_control",
};

const V2: Files = Files { limit: "memory.max", peak: "memory.peak", kills: "memory.events" };

impl Group {
    /// A group with so many bytes of memory.
    ///
    /// # Errors
    /// Why there can be none here.
    pub fn new(memory: usize) -> Result<Group, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-test-{}-{number}", std::process::id());
        let root = Path::new(GROUPS);
        let (dir, files) = match root.join("memory").join(V1.limit).exists() {
            true => (root.join("memory").join(name), &V1),
            false => (root.join(name), &V2),
        };
        let said = |what: &Path, error| format!("{}: {error}", what.display());
        fs::create_dir(&dir).map_err(|error| said(&dir, error))?;
        let group = Group { dir, files };
        let limit = group.dir.join(files.limit);
        fs::write(&limit, memory.to_string()).map_err(|error| said(&limit, error))?;
        Ok(group)
    }

    /// What runs `command` in the group, under the same process id.
    pub fn running(&self, command: &Command) -> Command {
        let mut inside = Command::new("/bin/sh");
        inside.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        inside.arg(self.dir.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            inside.current_dir(dir);
        }
        inside
    }

    /// The most that its processes had at a time, files in the page cache and all, in bytes.
    pub fn peak(&self) -> usize {
        self.read(self.files.peak).trim().parse().expect("a number")
    }

    /// How many of its processes were killed because there was no memory.
    pub fn kills(&self) -> usize {
        let text = self.read(self.files.kills);
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.trim().parse().ok()).expect("how many were killed")
    }

    fn read(&self, name: &str) -> String {
        let path = self.dir.join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            wait_until("the group is empty", || fs::remove_dir(&self.dir).is_ok());
        }
    }
}
