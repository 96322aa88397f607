use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use time::macros::datetime;

use super::*;
use crate::config::{LogFormat, LogLevel};

const MORNING: OffsetDateTime = datetime!(2026-11-24 09:59:59 UTC);

fn log(rotation: Rotation, keep: usize, max_total_size: u64) -> Log {
    Log {
        dir: None,
        format: LogFormat::Text,
        level: LogLevel::Info,
        rotation,
        keep: NonZeroUsize::new(keep).unwrap(),
        max_total_size,
    }
}

fn open(dir: &TempDir, log: &Log) -> RollingFile {
    RollingFile::open(dir.path(), log).expect("open a log file")
}

/// Names and contents, by name.
fn files(dir: &TempDir) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap_or_default())
        })
        .collect();
    files.sort();
    files
}

fn contents(dir: &TempDir) -> String {
    files(dir).into_iter().map(|(_, content)| content).collect()
}

#[test]
fn each_period_has_its_file() {
    let later = [
        (Rotation::Minutely, "tidegate.2026-11-24-09-59.log", Duration::from_secs(1)),
        (Rotation::Hourly, "tidegate.2026-11-24-09.log", Duration::from_secs(1)),
        (Rotation::Daily, "tidegate.2026-11-24.log", Duration::from_secs(15 * 3600)),
    ];
    for (rotation, first, later) in later {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(&dir, &log(rotation, 7, 1 << 20));

        file.write_at(MORNING, b"one\n").unwrap();
        file.write_at(MORNING, b"two\n").unwrap();
        file.write_at(MORNING + later, b"three\n").unwrap();

        let files = files(&dir);
        let of = |wanted: &str| files.iter().find(|(_, content)| content == wanted);
        assert_eq!(of("one\ntwo\n").map(|(name, _)| name.as_str()), Some(first), "{files:?}");
        assert!(of("three\n").is_some(), "{files:?}");
    }
}

#[test]
fn a_log_that_never_rotates_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir, &log(Rotation::Never, 7, 1 << 20));

    file.write_at(MORNING, b"one\n").unwrap();
    file.write_at(MORNING + Duration::from_secs(90_000), b"two\n").unwrap();

    assert_eq!(files(&dir), [("tidegate.log".to_owned(), "one\ntwo\n".to_owned())]);
}

#[test]
fn a_restart_goes_on_with_the_file_of_the_period() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(Rotation::Never, 7, 1 << 20);

    open(&dir, &log).write_lines(b"one\n").unwrap();
    open(&dir, &log).write_lines(b"two\n").unwrap();

    assert_eq!(contents(&dir), "one\ntwo\n");
}

#[test]
fn a_line_that_a_kill_cut_short_stays_apart_from_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(Rotation::Never, 7, 1 << 20);
    fs::write(dir.path().join("tidegate.log"), "one\nhalf a li").unwrap();

    open(&dir, &log).write_lines(b"two\n").unwrap();
    open(&dir, &log).write_lines(b"three\n").unwrap();

    assert_eq!(contents(&dir), "one\nhalf a li\ntwo\nthree\n");
}

#[test]
fn the_newest_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir, &log(Rotation::Minutely, 2, 1 << 20));

    for minute in 0..6 {
        let now = MORNING + Duration::from_secs(60 * minute);
        file.write_at(now, format!("{minute}\n").as_bytes()).unwrap();
        age(&dir);
    }

    // The one that is written to, and two retired ones.
    assert_eq!(contents(&dir), "3\n4\n5\n");
}

#[test]
fn all_files_together_stay_below_their_size() {
    const MAX: u64 = 4000;
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir, &log(Rotation::Never, 100, MAX));
    let line = |number| format!("{number:049}\n");

    for number in 0..1000 {
        file.write_at(MORNING, line(number).as_bytes()).unwrap();
        let size = contents(&dir).len() as u64;
        assert!(size <= MAX, "{size} bytes after line {number}");
    }

    let kept = contents(&dir);
    assert!(kept.len() as u64 > MAX / 2, "{} bytes are left", kept.len());
    assert!(kept.contains(&line(999)), "the newest line is gone");
}

#[test]
fn a_batch_larger_than_a_file_is_spread_over_several() {
    const MAX: u64 = 4000;
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir, &log(Rotation::Never, 100, MAX));
    let batch: String = (0..200).map(|number| format!("{number:049}\n")).collect();

    file.write_at(MORNING, batch.as_bytes()).unwrap();

    let kept = contents(&dir);
    assert!(kept.len() as u64 <= MAX, "{} bytes", kept.len());
    assert!(kept.lines().all(|line| line.len() == 49), "a line was torn");
    assert!(kept.contains("0199\n"));
}

#[test]
fn files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tidegate.log.bak", "tidegate-2026.log", "tidegate.notes.log", "other.log"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let mut file = open(&dir, &log(Rotation::Minutely, 1, 100));

    for minute in 0..5 {
        file.write_at(MORNING + Duration::from_secs(60 * minute), &[b'x'; 50]).unwrap();
    }

    assert_eq!(files(&dir).iter().filter(|(_, content)| content == "mine").count(), 4);
}

#[test]
fn after_a_failed_write_the_file_in_the_directory_is_the_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.log");
    symlink("/dev/full", &path).unwrap();
    let mut file = open(&dir, &log(Rotation::Never, 7, 1 << 20));

    let error = file.write_lines(b"lost\n").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    fs::remove_file(&path).unwrap();
    file.write_lines(b"kept\n").unwrap();

    assert_eq!(contents(&dir), "kept\n");
}

/// Sets the files' times apart: on some file systems they are coarse.
fn age(dir: &TempDir) {
    for entry in fs::read_dir(dir.path()).unwrap() {
        let file = File::options().append(true).open(entry.unwrap().path()).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(1)).unwrap();
    }
}
