//! Log files: a new one each period or quarter of the allowed size, and the oldest removed.
//!
//! tracing-appender rolls by time only, and so cannot keep a bound on bytes:
//! one busy day fills the disk. Names are like its own, `tidegate.2026-11-24.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;

use super::sink::Output;
use crate::config::{Log, Rotation};

/// How often to look whether the file is still the one in the directory.
const LOOK: Duration = Duration::from_secs(60);

/// The part of the allowed size that one file takes before the next is begun.
const PARTS: u64 = 4;

const PREFIX: &str = "tidegate";
const SUFFIX: &str = "log";

/// The file that is written to, and its retired siblings.
pub struct RollingFile {
    dir: PathBuf,
    rotation: Rotation,
    keep: usize,
    total_max: u64,
    active: Active,
    looked: Instant,
    /// The last write did.
    failed: bool,
}

struct Active {
    path: PathBuf,
    file: File,
    size: u64,
    /// Names the period it is for.
    stamp: String,
}

impl RollingFile {
    /// Opens the file of this moment, in a directory that is made if need be.
    pub fn open(dir: &Path, log: &Log) -> io::Result<RollingFile> {
        let active = Active::open(dir, stamp(log.rotation, OffsetDateTime::now_utc()))?;
        let file = RollingFile {
            dir: dir.to_owned(),
            rotation: log.rotation,
            keep: log.keep.get(),
            total_max: log.max_total_size,
            active,
            looked: Instant::now(),
            failed: false,
        };
        file.prune();
        Ok(file)
    }

    fn write_at(&mut self, now: OffsetDateTime, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(self.part_len(rest));
            self.roll(now, part.len() as u64);
            if let Err(error) = self.active.file.write_all(part) {
                // Some of it may have been written, and another file may be in place by the next time.
                self.active.size = self.active.file.metadata().map_or(0, |meta| meta.len());
                self.failed = true;
                return Err(error);
            }
            self.active.size += part.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// How much of `lines` goes into one file: whole lines, as many as it has room for, but one at least.
    fn part_len(&self, lines: &[u8]) -> usize {
        let max = usize::try_from(self.part_max()).unwrap_or(usize::MAX);
        if lines.len() <= max {
            return lines.len();
        }
        match lines[..max].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1),
        }
    }

    /// Begins a new file where that is due. When that fails the old one goes on: a line in the wrong file is better than none.
    fn roll(&mut self, now: OffsetDateTime, coming: u64) {
        let stamp = stamp(self.rotation, now);
        let gone = (self.failed || self.looked.elapsed() >= LOOK) && {
            self.failed = false;
            self.looked = Instant::now();
            !self.active.is_in_place()
        };
        let full = self.active.size > 0 && self.active.size + coming > self.part_max();
        if full && stamp == self.active.stamp && !gone {
            let retired =
                (1..).map(|number| self.dir.join(name(&stamp, number))).find(|path| !path.exists());
            let moved =
                retired.is_some_and(|retired| fs::rename(&self.active.path, retired).is_ok());
            if !moved {
                return;
            }
        } else if stamp == self.active.stamp && !gone {
            return;
        }
        if let Ok(next) = Active::open(&self.dir, stamp) {
            self.active = next;
            self.prune();
        }
    }

    /// Removes the oldest files until count and size are right, with room for the active one to grow.
    fn prune(&self) {
        let mut retired = self.retired();
        retired.sort();
        let mut count = retired.len();
        let mut total: u64 = retired.iter().map(|(_, _, size)| size).sum();
        let total_max = self.total_max - self.part_max().max(self.active.size).min(self.total_max);
        for (_, path, size) in retired {
            if count <= self.keep && total <= total_max {
                break;
            }
            // One that cannot be removed stays counted, and a younger one goes in its place.
            if fs::remove_file(path).is_ok() {
                count -= 1;
                total -= size;
            }
        }
    }

    /// The files that are no longer written to: by age, with their sizes.
    fn retired(&self) -> Vec<(SystemTime, PathBuf, u64)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        entries
            .flatten()
            .filter(|entry| {
                is_ours(&entry.file_name().to_string_lossy()) && entry.path() != self.active.path
            })
            .filter_map(|entry| {
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, entry.path(), metadata.len()))
            })
            .collect()
    }

    fn part_max(&self) -> u64 {
        (self.total_max / PARTS).max(1)
    }
}

impl Output for RollingFile {
    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write_at(OffsetDateTime::now_utc(), lines)
    }

    fn name(&self) -> String {
        self.active.path.display().to_string()
    }
}

impl Active {
    fn open(dir: &Path, stamp: String) -> io::Result<Active> {
        fs::create_dir_all(dir)?;
        let path = dir.join(name(&stamp, 0));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut size = file.metadata()?.len();
        // A process that was killed may have left half a line: the next one is not its other half.
        if ends_within_a_line(&file, size) && file.write_all(b"\n").is_ok() {
            size += 1;
        }
        Ok(Active { path, file, size, stamp })
    }

    /// Whether the directory still has this file under its name: somebody may have removed or rotated it.
    fn is_in_place(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

fn ends_within_a_line(file: &File, size: u64) -> bool {
    let mut last = *b"\n";
    size > 0 && file.read_exact_at(&mut last, size - 1).is_ok() && last != *b"\n"
}

/// Names the period that `now` is in.
fn stamp(rotation: Rotation, now: OffsetDateTime) -> String {
    let date = now.date();
    let (hour, minute, _) = now.to_hms();
    match rotation {
        Rotation::Minutely => format!("{date}-{hour:02}-{minute:02}"),
        Rotation::Hourly => format!("{date}-{hour:02}"),
        Rotation::Daily => date.to_string(),
        Rotation::Never => String::new(),
    }
}

/// The name of a period's file; those retired within it for their size are numbered from 1.
fn name(stamp: &str, number: u64) -> String {
    let mut name = PREFIX.to_owned();
    if !stamp.is_empty() {
        name = format!("{name}.{stamp}");
    }
    if number > 0 {
        name = format!("{name}.{number}");
    }
    format!("{name}.{SUFFIX}")
}

/// Whether a file has a name that we give: others in the directory are not ours to remove.
fn is_ours(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|middle| {
        middle.starts_with('.')
            && middle.ends_with('.')
            && middle.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'.')
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
