//! Files and directories of secrets, which only this user can read: each is there whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory, and those above it, for this user only; one that is there becomes so.
///
/// # Errors
/// When it cannot be made, or belongs to somebody else.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

/// Writes a file whole or not at all, for this user only; what was there goes on being there until then.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_aside(path, bytes, |unfinished| fs::rename(unfinished, path))
}

/// The same where there is no file yet.
///
/// # Errors
/// When it cannot be written, or there is one by then.
pub fn write_first(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_aside(path, bytes, |unfinished| {
        fs::hard_link(unfinished, path)?;
        fs::remove_file(unfinished)
    })
}

/// Writes a private file beside `path` and has it put in its place.
fn write_aside(
    path: &Path,
    bytes: &[u8],
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        // A rest of an earlier process with this id would keep its own mode.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        place(&unfinished)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}
