//! The code of the usual guests, compiled once for all tests of a build: a start compiles in a
//! process that yields to all others, which on a machine full of tests takes its time.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::server::Site;

/// What a state directory holds of it: the code, and the key that it is trusted by.
const CODE: &str = "cache";
const KEY: &str = "cache.key";

/// Puts the code into the state directory of a site that has not been started.
pub fn put(state: &Path) {
    copy(prepared(), state);
}

/// A state directory with the code, for the tidegate of this build.
fn prepared() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let program = fs::metadata(env!("CARGO_BIN_EXE_tidegate")).expect("the program");
        let build = format!("{}-{}-{}", program.mtime(), program.mtime_nsec(), program.len());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("usual-{build}"));
        if !path.exists() {
            let site = Site::usual_uncompiled();
            drop(site.start());
            // Another test process may have been first: then its is as good.
            let mine = path.with_extension(format!("{}", std::process::id()));
            copy(&site.path("state"), &mine);
            let _ = fs::rename(&mine, &path);
        }
        path
    })
}

/// Only private files and directories are trusted; the files' modes come along.
fn copy(from: &Path, to: &Path) {
    let mut private = DirBuilder::new();
    private.mode(0o700);
    for dir in [to, &to.join(CODE)] {
        private.create(dir).expect("make a directory");
    }
    fs::copy(from.join(KEY), to.join(KEY)).expect("copy the key");
    for file in fs::read_dir(from.join(CODE)).expect("the code") {
        let file = file.expect("an entry");
        fs::copy(file.path(), to.join(CODE).join(file.file_name())).expect("copy the code");
    }
}
