//! `profile`: which instances are sampled, and what of that is kept.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::read::{Table, Value, quoted};
use super::settings::{MAX_KEPT_FILES, MAX_TIMEOUT, MAX_TOTAL_SIZE, count};

const MAX_SAMPLE_INTERVAL: Duration = Duration::from_secs(60);
const MAX_SAMPLE: usize = 1_000_000;

/// What is slow where the manifest does not say.
const OVER: Duration = Duration::from_secs(1);

/// Sampling of guest code, per store.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub interval: Duration,
    /// One store in this many is sampled.
    pub sample: NonZeroUsize,
    pub when: When,
    /// Absolute.
    pub dir: PathBuf,
    pub max_files: NonZeroUsize,
    /// Bytes of profiles kept at the most.
    pub max_total_size: u64,
}

/// What is kept of a store that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All of it, when the store ends.
    Always,
    /// Each request that was one of these, when it has ended.
    Requests {
        /// It took longer than this.
        slow: Option<Duration>,
        failed: bool,
    },
}

/// The words of `when`.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Always,
    Slow,
    Failed,
}

/// A profile, or `false` for none where the defaults have one.
pub(super) fn profile(value: &Value<'_>, base: Option<&Profile>) -> Option<Option<Profile>> {
    if value.value.as_bool() == Some(false) {
        return Some(None);
    }

    let help = "write { } for a profile with the default settings, or false for none";
    let table = value.as_table("a table such as { sample = \"1/100\" }", help)?;
    Some(Some(table.read(|table| {
        let base = base.cloned().unwrap_or_else(|| Profile {
            interval: Duration::from_millis(1),
            sample: count(100),
            when: When::Always,
            dir: table.source.dir.join("profiles"),
            max_files: count(200),
            max_total_size: 64 << 20,
        });
        Profile {
            interval: table
                .take("interval", |v| v.duration(MAX_SAMPLE_INTERVAL))
                .unwrap_or(base.interval),
            sample: table.take("sample", |value| value.one_in(MAX_SAMPLE)).unwrap_or(base.sample),
            when: when(table, base.when),
            dir: table.take("dir", |value| value.path("profiles")).unwrap_or(base.dir),
            max_files: table
                .take("max_files", |value| value.count(MAX_KEPT_FILES))
                .unwrap_or(base.max_files),
            max_total_size: table
                .take("max_total_size", |v| v.size(1, MAX_TOTAL_SIZE))
                .unwrap_or(base.max_total_size),
        }
    })))
}

/// `when`, and `over`, which belongs to it.
fn when(table: &mut Table<'_>, base: When) -> When {
    let known = match base {
        When::Requests { slow: Some(over), .. } => over,
        When::Always | When::Requests { slow: None, .. } => OVER,
    };
    let when = table.take("when", |value| words(value, known)).unwrap_or(base);
    let over = table.take("over", |value| match when {
        When::Requests { slow: Some(_), .. } => value.duration(MAX_TIMEOUT),
        When::Always | When::Requests { slow: None, .. } => value.reject(
            "`over` says which requests are slow, and no profile is kept of those",
            "add when = \"slow\", or leave it out",
        ),
    });
    match (when, over) {
        (When::Requests { slow: Some(_), failed }, Some(over)) => {
            When::Requests { slow: Some(over), failed }
        }
        _ => when,
    }
}

/// One word, or a list of those that go together.
fn words(value: &Value<'_>, over: Duration) -> Option<When> {
    let requests = [("slow", Word::Slow), ("failed", Word::Failed)];
    if value.text().is_some() {
        let all = [("always", Word::Always), requests[0], requests[1]];
        let word = value.one_of(&all)?;
        return Some(of(&[word], over));
    }
    let help = "write \"always\", \"slow\", \"failed\" or [\"slow\", \"failed\"]";
    let items = value.as_list("one of these words, or a list of them", help)?;
    if items.is_empty() {
        return value.expected("one of these words, or a list of them", help);
    }
    let mut words = Vec::new();
    for item in &items {
        let word = item.one_of(&requests)?;
        if words.contains(&word) {
            let text = quoted(item.text().unwrap_or_default());
            return item.reject(format!("{text} is given twice"), "leave one out");
        }
        words.push(word);
    }
    Some(of(&words, over))
}

fn of(words: &[Word], over: Duration) -> When {
    match words {
        [Word::Always] => When::Always,
        words => When::Requests {
            slow: words.contains(&Word::Slow).then_some(over),
            failed: words.contains(&Word::Failed),
        },
    }
}
