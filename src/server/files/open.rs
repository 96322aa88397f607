//! Opens files below a folder, and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::version::Version;

/// How often a look is repeated that met a change of the folders on its way.
const RACE_TRIES: usize = 16;

/// Why there is no file.
#[derive(Debug)]
pub enum Unopened {
    /// There is none, or none for clients.
    Missing,
    /// There are no descriptors left, or no memory.
    TooMany,
    Io(io::Error),
}

/// The folder itself, for one look at it: it may be another one a moment later.
pub fn folder(path: &Path) -> Result<OwnedFd, Unopened> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|errno| unopened(errno, path))
}

/// The file `name` below `root` and its state, or none where it is a folder.
///
/// The kernel sees to it that no part of the name, link or race leads out of the folder: links
/// within it are followed, absolute ones are not.
pub fn file(root: &OwnedFd, name: &Path) -> Result<Option<(File, Version)>, Unopened> {
    // NONBLOCK: nobody may ever write into a pipe that lies there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    let file = loop {
        match openat2(root, name, flags, Mode::empty(), resolve) {
            Ok(file) => break File::from(file),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if tries < RACE_TRIES => tries += 1,
            Err(errno) => return Err(unopened(errno, name)),
        }
    };
    let metadata = file.metadata().map_err(Unopened::Io)?;
    if metadata.is_dir() {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err(Unopened::Missing);
    }
    Ok(Some((file, Version::of(&metadata))))
}

fn unopened(errno: Errno, path: &Path) -> Unopened {
    match errno {
        // XDEV: it leads out of the folder. NXIO: a socket, or a device without its driver.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::NAMETOOLONG
        | Errno::XDEV
        | Errno::NXIO
        | Errno::INVAL => Unopened::Missing,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => Unopened::TooMany,
        errno => {
            let error = io::Error::from(errno);
            Unopened::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
    }
}
