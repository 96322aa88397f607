//! The guests, and what they are asked for.

use std::path::{Path, PathBuf};

/// What every small answer says.
pub const HELLO: &str = "hello world\n";

/// What a request asks for, with the body it brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    pub title: &'static str,
    pub path: &'static str,
    pub upload: usize,
    /// Bytes of the answer's body: a wrong one ends the bench.
    pub answer: usize,
    /// Its guests: those of the app `hello`, or the ones with many routes.
    pub small: bool,
}

/// All of them, the small answer first: the targets are about that one.
pub const ERRANDS: [Errand; 4] = [
    Errand { title: "12 bytes", path: "/", upload: 0, answer: HELLO.len(), small: true },
    Errand {
        title: "64 KiB",
        path: "/blob?bytes=65536",
        upload: 0,
        answer: 64 << 10,
        small: false,
    },
    Errand {
        title: "1 MiB",
        path: "/blob?bytes=1048576",
        upload: 0,
        answer: 1 << 20,
        small: false,
    },
    Errand {
        title: "64 KiB upload",
        path: "/discard",
        upload: 64 << 10,
        answer: "65536".len(),
        small: false,
    },
];

/// Which version of WASI a guest is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    P2,
    P3,
}

impl Errand {
    /// The guest that can do it.
    pub fn guest(&self, wasi: Wasi) -> PathBuf {
        path(match (self.small, wasi) {
            (true, Wasi::P2) => "apps/hello.wasm",
            (true, Wasi::P3) => "tests/guests/hello-p3.wasm",
            (false, Wasi::P2) => "tests/guests/kit-p2.wasm",
            (false, Wasi::P3) => "tests/guests/kit-p3.wasm",
        })
    }
}

/// A file of this package.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The bytes of a guest.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
