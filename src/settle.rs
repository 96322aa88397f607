//! How long ago a file was last changed: what was changed just now may still be written to.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file changed less than this ago may only be half written: what is wrong with it waits.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Whether the file was changed less than [`SETTLE`] ago.
pub fn is_fresh(meta: &Metadata) -> bool {
    is_younger(meta, SETTLE)
}

/// Whether the file at `path`, or the link that leads to it, was changed less than `age` ago.
pub fn changed_within(path: &Path, age: Duration) -> bool {
    let looks = [fs::metadata(path), fs::symlink_metadata(path)];
    looks.into_iter().flatten().any(|meta| is_younger(&meta, age))
}

/// Judged by the change time, which no `touch` or `cp -p` sets back. A clock
/// that went backwards makes a file look fresh: it is read once more, no harm.
fn is_younger(meta: &Metadata, age: Duration) -> bool {
    let seconds = u64::try_from(meta.ctime()).unwrap_or(0);
    let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    match SystemTime::now().duration_since(changed) {
        Ok(passed) => passed < age,
        Err(ahead) => ahead.duration() < age,
    }
}
