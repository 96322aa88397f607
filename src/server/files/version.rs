//! One state of a file, and the validators that stand for it.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use sha2::{Digest, Sha256};

/// A file that was written more recently may be written again without its times showing it: the
/// kernel's clock for them is coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// Bytes of the digest that make an ETag.
const ETAG_BYTES: usize = 12;

/// What is known of a file's content without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    device: u64,
    inode: u64,
}

/// An entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag {
    /// With its quotes.
    pub opaque: String,
    /// Whether it stands for these very bytes.
    pub strong: bool,
}

impl Version {
    pub fn of(metadata: &Metadata) -> Version {
        Version {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether a file that was this is likely the same still. A new name or mode, or the loss of
    /// its name to another file, are no change of what it holds.
    pub fn has_content_of(&self, other: &Version) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }

    pub fn is_older_than(&self, other: &Version) -> bool {
        self.modified < other.modified
    }

    /// The tag of a file that is in this state `now`.
    ///
    /// The time of the last change to the file itself, its content or its inode, is a part of it:
    /// programs can set the other one back. What was written only now has a weak one.
    pub fn etag(&self, now: SystemTime) -> ETag {
        let mut hash = Sha256::new();
        let numbers = [self.modified.0, self.modified.1, self.changed.0, self.changed.1];
        numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
        let numbers = [self.size, self.device, self.inode];
        numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));

        let mut opaque = String::with_capacity(2 * ETAG_BYTES + 2);
        opaque.push('"');
        for byte in &hash.finalize()[..ETAG_BYTES] {
            let _ = write!(opaque, "{byte:02x}");
        }
        opaque.push('"');
        let age = now.duration_since(time(self.changed));
        ETag { opaque, strong: age.is_ok_and(|age| age >= SETTLED) }
    }

    /// When it was modified, in whole seconds and never later than `now`, as HTTP has it.
    pub fn last_modified(&self, now: SystemTime) -> SystemTime {
        let whole = time((self.modified.0, 0));
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        whole.min(SystemTime::UNIX_EPOCH + Duration::from_secs(now))
    }
}

impl ETag {
    /// As an answer says it.
    pub fn header(&self) -> HeaderValue {
        let text = match self.strong {
            true => self.opaque.clone(),
            false => format!("W/{}", self.opaque),
        };
        // Hexadecimal digits in quotes are always a value.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("W/\"\""))
    }
}

/// What lies before 1970 is as if it were 1970: HTTP's dates know no minus.
fn time((seconds, nanoseconds): (i64, i64)) -> SystemTime {
    let since = Duration::new(
        u64::try_from(seconds).unwrap_or(0),
        u32::try_from(nanoseconds).unwrap_or(0).min(999_999_999),
    );
    // Beyond what HTTP's dates can say, which end with the year 9999.
    const LAST: u64 = 253_402_300_799;
    SystemTime::UNIX_EPOCH + since.min(Duration::from_secs(LAST))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn version(seconds: i64) -> Version {
        Version { size: 10, modified: (seconds, 5), changed: (seconds, 5), device: 1, inode: 2 }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn each_state_has_a_tag_of_its_own() {
        let now = at(2000);
        let base = version(1000);
        let others = [
            Version { size: 11, ..base },
            Version { modified: (1000, 6), ..base },
            Version { changed: (1001, 5), ..base },
            Version { inode: 3, ..base },
            Version { device: 2, ..base },
        ];
        for other in others {
            assert_ne!(other.etag(now), base.etag(now), "{other:?}");
        }
        assert_eq!(base.etag(now), base.etag(at(3000)));
    }

    #[test]
    fn what_was_written_only_now_has_a_weak_tag() {
        assert!(!version(1000).etag(at(1001)).strong);
        assert!(!version(1000).etag(at(900)).strong, "written in the future");
        assert!(version(1000).etag(at(1003)).strong);
        assert!(version(1000).etag(at(1001)).header().to_str().unwrap().starts_with("W/\""));
    }

    #[test]
    fn nothing_was_modified_in_the_future_or_before_1970() {
        assert_eq!(version(1000).last_modified(at(2000)), at(1000));
        assert_eq!(version(3000).last_modified(at(2000)), at(2000));
        assert_eq!(version(-5).last_modified(at(2000)), at(0));
        assert_eq!(version(i64::MAX).last_modified(at(2000)), at(2000));
    }
}
