//! The file of a Unix socket: made for us alone, taken over from a process that is gone, and removed at the end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect: whoever may write to the file. Its user and its group ...
pub const FOR_GROUP: u32 = 0o660;

/// ... or its user alone.
pub const FOR_USER: u32 = 0o600;

/// The file of a socket that we have made. Dropping it removes the file, if it is still that one
/// and this process' own.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    made: Identity,
    owned: Owned,
}

/// Whether the file of a socket is this process' to remove: not while another one serves there.
///
/// Clones are of the same file.
#[derive(Clone, Debug)]
pub struct Owned(Arc<AtomicBool>);

/// What tells a file from one that comes after it, also where the number of its inode is used again.
type Identity = (u64, u64, Option<SystemTime>);

/// Listens at `path`, for those whom `mode` lets write to the file, with room for `backlog` connections.
///
/// A socket that nobody listens at is what a process left that was killed, and is replaced.
///
/// # Errors
/// When another process listens there, when something else than a socket is there, or when there
/// can be none.
pub fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    // Two that start at the same time would each take the other's socket for one that was left.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let turn = File::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other(format!("there is no folder {}", folder.display()))
        }
        _ => error,
    })?;
    turn.lock()?;

    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path, true)?;
    // Nobody can connect before it listens, so the umask has let nobody in.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Removes a socket that nobody listens at.
fn make_room(path: &Path) -> io::Result<()> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::other(
            "there is a file that is no socket; remove it, or write another path",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One with a full backlog is not waited for.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl SocketFile {
    /// The file of a socket that another process has made, and owns for now.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of_another(path: &Path) -> io::Result<SocketFile> {
        SocketFile::of(path, false)
    }

    fn of(path: &Path, owned: bool) -> io::Result<SocketFile> {
        let owned = Owned(Arc::new(AtomicBool::new(owned)));
        Ok(SocketFile { path: path.to_owned(), made: identity(path)?, owned })
    }

    pub fn owned(&self) -> Owned {
        self.owned.clone()
    }
}

impl Owned {
    pub fn set(&self, owned: bool) {
        self.0.store(owned, Relaxed);
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let file = path.symlink_metadata()?;
    Ok((file.dev(), file.ino(), file.created().ok()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have its own there by now.
        if self.owned.0.load(Relaxed) && identity(&self.path).is_ok_and(|there| there == self.made)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn it_is_there_for_its_user_and_group_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (listener, file) = bind(&path, FOR_GROUP, 8).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        assert!(UnixStream::connect(&path).is_ok());

        let taken = bind(&path, FOR_GROUP, 8).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the first goes on");

        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn one_that_was_left_is_replaced_and_is_not_the_old_ones_to_remove() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (listener, left) = bind(&path, FOR_GROUP, 8).unwrap();
        drop(listener);
        assert!(path.exists());

        let (_listener, _file) = bind(&path, FOR_GROUP, 8).unwrap();
        drop(left);
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn one_that_another_process_has_is_left_until_it_is_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (_listener, theirs) = bind(&path, FOR_GROUP, 8).unwrap();
        drop(SocketFile::of_another(&path).unwrap());
        assert!(path.exists());

        let ours = SocketFile::of_another(&path).unwrap();
        theirs.owned().set(false);
        ours.owned().set(true);
        drop(theirs);
        assert!(path.exists());
        drop(ours);
        assert!(!path.exists());
    }

    #[test]
    fn of_several_that_start_at_once_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for _ in 0..100 {
            let (listener, left) = bind(&path, FOR_GROUP, 8).unwrap();
            drop(listener);
            std::mem::forget(left);
            let bound: Vec<_> = thread::scope(|scope| {
                let starts: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| bind(&path, FOR_GROUP, 8))).collect();
                starts.into_iter().filter_map(|start| start.join().unwrap().ok()).collect()
            });
            assert_eq!(bound.len(), 1);
            assert!(UnixStream::connect(&path).is_ok());
        }
    }

    #[test]
    fn one_whose_backlog_is_full_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (_listener, _file) = bind(&path, FOR_GROUP, 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&path, FOR_GROUP, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn nothing_else_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        fs::write(&path, "precious").unwrap();
        let link = folder.path().join("b.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            assert!(bind(path, FOR_GROUP, 8).unwrap_err().to_string().contains("no socket"));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let nowhere = bind(&folder.path().join("no/a.sock"), FOR_GROUP, 8).unwrap_err();
        assert!(nowhere.to_string().contains("no folder"), "{nowhere}");
    }
}
