//! A disk that is small enough to be full.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

/// A small file system of its own. Unmounted when dropped.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one at `path`, which needs root.
    pub fn mount(path: PathBuf) -> io::Result<Disk> {
        fs::create_dir_all(&path)?;
        let target = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: all arguments are strings that live through the call.
        let mounted = unsafe {
            libc::mount(
                c"tidegate-test".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=32m".as_ptr().cast(),
            )
        };
        if mounted != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Disk { path })
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Leaves room for no byte.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while file.write(&block).is_ok_and(|written| written > 0) {}
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("remove the filler");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "unmount {}", self.path.display());
    }
}
