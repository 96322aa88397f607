//! Files of components, which are read, and those that tidegate writes by itself, in
//! directories where it also clears up: compiled code and profiles.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A larger component is refused: it is read into memory whole.
pub const MAX_COMPONENT: u64 = 256 << 20;

/// A temporary file older than this was left by a crash.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// What temporary files have in their extension, before numbers that make them unique.
const TEMPORARY: &str = "tmp-";

/// Whether what `meta` describes can be read as a component: to be asked before it is
/// opened, as opening a pipe would wait for a writer.
///
/// # Errors
/// Why not.
pub fn check_component(meta: &Metadata) -> io::Result<()> {
    if !meta.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if meta.len() > MAX_COMPONENT {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_COMPONENT >> 20)));
    }
    Ok(())
}

/// Has `write` fill a private file, so that a reader, and a crash, sees all of it or
/// nothing. Returns the file.
///
/// # Errors
/// When it cannot be written: what was there before is there still, and nothing else.
pub fn write_by_rename(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let temporary =
        path.with_extension(format!("{TEMPORARY}{}-{:x}", std::process::id(), unique()));
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written =
        write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    match written {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// The files of `dir` whose names `wanted` accepts, with their sizes, the newest first.
/// What another process removes meanwhile is left out.
pub fn newest_first(dir: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&wanted) {
            continue;
        }
        match entry.metadata().and_then(|meta| Ok((meta.modified()?, meta.len()))) {
            Ok((modified, size)) => files.push((modified, size, entry.path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files.into_iter().map(|(_, size, path)| (size, path)).collect())
}

/// Removes temporary files that a crash left in `dir`, where `ours` accepts the name.
pub fn remove_leftovers(dir: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    let is_temporary = |name: &str| {
        name.rsplit_once('.').is_some_and(|(stem, end)| end.starts_with(TEMPORARY) && ours(stem))
    };
    for (_, path) in newest_first(dir, is_temporary)? {
        let age = fs::metadata(&path).and_then(|meta| meta.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > LEFTOVER_AGE) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, unless another process did so first.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_old_temporary_files_of_ours_are_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, age: u64| {
            let path = dir.path().join(name);
            fs::write(&path, "x").unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(then).unwrap();
            path
        };
        let left = file("ours.tmp-1-0", 2 * 3600);
        let kept =
            [file("ours.tmp-2-0", 60), file("theirs.tmp-1-0", 7200), file("ours.json", 7200)];
        remove_leftovers(dir.path(), |stem| stem == "ours").unwrap();
        assert!(!left.exists());
        assert!(kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn removing_a_file_that_another_process_removed_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("gone")).unwrap();
    }
}
