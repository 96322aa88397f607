//! How much memory this process may have: the machine's, or its control group's.

use std::fs;
use std::path::{Path, PathBuf};

const GROUPS: &str = "/sys/fs/cgroup";

/// Where nothing can be read: what a small box has.
const UNKNOWN: u64 = 1 << 30;

/// Bytes of memory: the least of the machine's and of the limits of the control groups that
/// this process is in, whichever version they are of.
pub fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(Path::new(GROUPS), &groups);
    let limits = limits.iter().filter_map(|path| limit(&fs::read_to_string(path).ok()?));
    limits.chain(machine).min().unwrap_or(UNKNOWN)
}

/// The machine's memory by `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The files that hold the limits of the groups in `/proc/self/cgroup`, and of those around them.
///
/// In a container the path may be one of the host's that is not there; the container's own
/// group is then what is mounted, so the topmost is always among them.
fn limit_files(mount: &Path, groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mount.join(controllers), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let groups = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(groups.map(|group| mount.join(group).join(file)));
    }
    files
}

/// A limit as the file has it; `max` is none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_groups_around_are_looked_at() {
        let files = |groups| {
            let files = limit_files(Path::new("/g"), groups);
            files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            files("0::/system.slice/tidegate.service\n"),
            [
                "/g/system.slice/tidegate.service/memory.max",
                "/g/system.slice/memory.max",
                "/g/memory.max"
            ]
        );
        assert_eq!(
            files("5:memory:/docker/a\n4:cpu:/docker/a\n0::/\n"),
            [
                "/g/memory/docker/a/memory.limit_in_bytes",
                "/g/memory/docker/memory.limit_in_bytes",
                "/g/memory/memory.limit_in_bytes",
                "/g/memory.max"
            ]
        );
        assert!(files("").is_empty() && files("nonsense").is_empty());
    }

    #[test]
    fn what_the_files_hold_is_bytes() {
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24684100 kB\n"), Some(24_684_100 << 10));
        assert_eq!(total(""), None);
        assert!(memory() > 1 << 20);
    }
}
