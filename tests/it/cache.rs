//! Compiled code in the state directory is run only where tidegate itself has put it there, for
//! this component and this engine, and nothing has changed it since.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::guest::cache::Cache;
use tidegate::guest::code::{Code, Label};
use tidegate::guest::compile::compile;
use tidegate::guest::component::Digest;

use crate::support::client::answer;
use crate::support::holds::{Shown, times};
use crate::support::pool::{cached, engines, guest};
use crate::support::server::{Server, Site, hello_version, wait_until};

const PART: &str = "Tenants: compiled-code cache";

/// Bytes at the end of a file: the label, and the seal upon it.
const TRAILER: usize = Label::SIZE + 32;

/// A cache that holds the code of one component.
struct Stored {
    dir: TempDir,
    cache: Cache,
    component: Digest,
    path: PathBuf,
    good: Vec<u8>,
}

impl Stored {
    fn new(bytes: &[u8]) -> Stored {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path()).expect("a cache");
        cached(&cache, bytes);
        let path = files(&dir.path().join("cache")).remove(0);
        let good = fs::read(&path).expect("the code");
        let stored = Stored { dir, cache, component: Digest::of(bytes), path, good };
        assert!(stored.is_taken(), "what was stored is found");
        stored
    }

    fn is_taken(&self) -> bool {
        self.cache.load(&engines(), &self.component).is_some()
    }

    /// Whether the file is still taken when it holds `bytes`.
    fn takes(&self, bytes: &[u8]) -> bool {
        fs::write(&self.path, bytes).expect("write it");
        self.is_taken()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a file").path()).collect()
}

/// A component of a few hundred bytes.
fn small() -> Vec<u8> {
    guest("trap-at-start")
}

#[test]
fn every_flipped_bit_is_found() {
    let stored = Stored::new(&small());
    let size = stored.good.len();
    // Each bit of the label and the seal, and of every so many bytes of code.
    let step = times(16, 1);
    let code = (0..size - TRAILER).step_by(step);
    let mut tried = 0;
    for at in code.chain(size - TRAILER..size) {
        for bit in 0..8 {
            let mut flipped = stored.good.clone();
            flipped[at] ^= 1 << bit;
            assert!(!stored.takes(&flipped), "bit {bit} of byte {at} of {size}");
            tried += 1;
        }
    }
    assert!(stored.takes(&stored.good), "the same as it was");
    let what = format!("one bit flipped of {}", size * 8);
    Shown { part: PART, tried: &what, times: tried, bound: "refused" }.holds("all refused", true);
}

#[test]
fn what_is_cut_or_longer_is_found() {
    let stored = Stored::new(&small());
    let size = stored.good.len();
    for length in (0..size).step_by(size / 100).chain(size - TRAILER - 1..size) {
        assert!(!stored.takes(&stored.good[..length]), "cut to {length} of {size}");
    }
    for more in [&[0][..], &[0; 4096], &stored.good] {
        assert!(!stored.takes(&[&stored.good, more].concat()), "{} bytes more", more.len());
        assert!(!stored.takes(&[more, &stored.good].concat()), "{} bytes before", more.len());
    }
    for foreign in [&b""[..], b"\x7fELF", &small(), &[0; 100_000]] {
        assert!(!stored.takes(foreign));
    }
    assert!(stored.takes(&stored.good));
}

#[test]
fn what_was_made_elsewhere_is_found() {
    let stored = Stored::new(&small());
    let other = Stored::new(&[&small()[..], &[0, 2, 1, b'n']].concat());
    assert!(!stored.takes(&other.good), "another component's");
    let same = Stored::new(&small());
    assert_eq!(same.path.file_name(), stored.path.file_name());
    assert!(!stored.takes(&same.good), "another installation's, with another key");

    // The label and seal of one upon the code of another.
    let (code, label) = stored.good.split_at(stored.good.len() - TRAILER);
    let mut swapped = code.to_vec();
    swapped[code.len() / 2] ^= 0xff;
    assert!(!stored.takes(&[&swapped, label].concat()));

    // What the cache itself kept for another engine, under this name.
    let (code, mut label) = compile(&small()).expect("it compiles");
    label.engines = Digest::of(b"an older version");
    drop(stored.cache.keep(Code::in_memory(&code, label).expect("memory")));
    let kept = files(&stored.dir.path().join("cache"));
    let older = kept.iter().find(|path| **path != stored.path).expect("another file");
    assert!(!stored.takes(&fs::read(older).expect("it")), "an older version's");
    assert!(stored.takes(&stored.good));
}

#[test]
fn what_others_could_have_changed_is_found() {
    let stored = Stored::new(&small());
    let cache = stored.dir.path().join("cache");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set its mode");
    };
    for wrong in [0o620, 0o602, 0o666] {
        mode(&stored.path, wrong);
        assert!(!stored.is_taken(), "a file of mode {wrong:o}");
    }
    mode(&stored.path, 0o600);
    assert!(stored.is_taken());
    for wrong in [0o720, 0o702, 0o777] {
        mode(&cache, wrong);
        assert!(!stored.is_taken(), "a directory of mode {wrong:o}");
    }
    mode(&cache, 0o700);
    assert!(stored.is_taken());

    // Only root can give files away.
    if std::os::unix::fs::chown(&stored.path, Some(65_534), None).is_ok() {
        assert!(!stored.is_taken(), "another user's file");
        std::os::unix::fs::chown(&stored.path, Some(0), None).expect("take it back");
        std::os::unix::fs::chown(&cache, Some(65_534), None).expect("give it away");
        assert!(!stored.is_taken(), "another user's directory");
        std::os::unix::fs::chown(&cache, Some(0), None).expect("take it back");
    }
    assert!(stored.is_taken());
}

#[test]
fn what_is_no_file_of_its_own_is_found_and_not_waited_for() {
    let stored = Stored::new(&small());
    let elsewhere = stored.dir.path().join("elsewhere");
    fs::rename(&stored.path, &elsewhere).expect("move it");
    assert!(!stored.is_taken(), "nothing");
    std::os::unix::fs::symlink(&elsewhere, &stored.path).expect("a link");
    assert!(!stored.is_taken(), "a symbolic link");
    fs::remove_file(&stored.path).expect("remove it");
    fs::hard_link(&elsewhere, &stored.path).expect("a link");
    assert!(!stored.is_taken(), "a hard link");
    fs::remove_file(&stored.path).expect("remove it");
    assert!(Command::new("mkfifo").arg(&stored.path).status().expect("mkfifo").success());
    assert!(!stored.is_taken(), "a pipe");
    fs::remove_file(&stored.path).expect("remove it");
    let _socket = std::os::unix::net::UnixListener::bind(&stored.path).expect("a socket");
    assert!(!stored.is_taken(), "a socket");

    // Whatever it is, the next compilation puts a file there.
    cached(&stored.cache, &small());
    assert!(stored.is_taken());
    fs::remove_file(&stored.path).expect("remove it");
    fs::create_dir(&stored.path).expect("a directory");
    assert!(!stored.is_taken(), "a directory");
    cached(&stored.cache, &small());
    assert_eq!(files(&stored.dir.path().join("cache")), [stored.path], "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_compiles_again_what_it_cannot_trust_and_says_so() {
    let site = Site::new("[hosts]\n\"*.test\" = { folder = \"apps\" }\n");
    site.put("apps/one.wasm", &hello_version(1));
    site.put("apps/two.wasm", &hello_version(2));
    let stop = |mut server: Server| {
        server.signal(libc::SIGTERM);
        server.exit();
    };
    let serves = async |server: &Server| {
        assert_eq!(answer(server, "one.test", "/version").await, "200 00000001");
        assert_eq!(answer(server, "two.test", "/version").await, "200 00000002");
    };
    let server = site.start();
    assert_eq!(server.logged("compiled a component").len(), 2);
    serves(&server).await;
    stop(server);
    let server = site.start();
    assert_eq!(server.logged("loaded compiled code").len(), 2);
    serves(&server).await;
    stop(server);

    let [a, b] = files(&site.path("state/cache")).try_into().expect("two files");
    let aside = site.path("aside");
    fs::rename(&a, &aside).expect("swap them");
    fs::rename(&b, &a).expect("swap them");
    fs::rename(&aside, &b).expect("swap them");
    let server = site.start();
    let said = server.logged("it is another component's, or another engine's");
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().all(|line| line.contains("compiled code cannot be used, compiling again")));
    assert_eq!(server.logged("compiled a component").len(), 2);
    serves(&server).await;
    stop(server);

    fs::set_permissions(site.path("state/cache"), PermissionsExt::from_mode(0o777)).expect("mode");
    let server = site.start();
    server.wait_for_log("compiled code is not kept: each start compiles");
    assert_eq!(server.logged("compiled a component").len(), 2);
    serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_no_code_and_leaves_nothing_torn() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return eprintln!("only root can make a small disk: not tried");
    }
    let site = Site::new("[hosts]\n\"*.test\" = { folder = \"apps\" }\n");
    site.put("apps/one.wasm", &hello_version(1));
    fs::create_dir(site.path("state")).expect("a directory");
    fs::set_permissions(site.path("state"), PermissionsExt::from_mode(0o700)).expect("its mode");
    let server = || {
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o size=100k,mode=700 t state && exec \"$0\" run",
        ]);
        command.arg(env!("CARGO_BIN_EXE_tidegate")).current_dir(site.path(""));
        Server::spawn(command)
    };
    let server = server();
    let said = server.wait_for_log("compiled code was not kept");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(answer(&server, "one.test", "/version").await, "200 00000001");
    let state =
        PathBuf::from(format!("/proc/{}/root{}", server.pid(), site.path("state").display()));
    assert!(state.join("cache.key").exists(), "{state:?}");
    assert_eq!(files(&state.join("cache")), [""; 0].map(PathBuf::from), "no part of it");
    Shown {
        part: PART,
        tried: "code that the disk has no room for",
        times: 1,
        bound: "no torn file",
    }
    .holds("none, and it serves", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_app_has_used_for_a_day_is_dropped() {
    let site = Site::new("[hosts]\n\"*.test\" = { folder = \"apps\" }\n");
    site.put("apps/one.wasm", &hello_version(1));
    let server = site.start();
    let first = files(&site.path("state/cache")).remove(0);
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
    fs::File::open(&first).and_then(|file| file.set_modified(yesterday)).expect("age it");
    site.put("apps/two.wasm", &hello_version(2));
    server.wait_for_log("reloaded");
    wait_until("the second is kept", || files(&site.path("state/cache")).len() == 2);
    assert!(first.exists(), "one that an app uses, however old");

    site.put("apps/one.wasm", &hello_version(3));
    server.wait_for_log("generation=3 retired=2");
    fs::remove_file(site.path("apps/two.wasm")).expect("remove it");
    server.wait_for_log("generation=4 retired=3");
    // Until its last instance is gone it might come back, and its code is wanted.
    wait_until("the first is dropped", || {
        site.put("apps/three.wasm", &hello_version(3));
        std::thread::sleep(Duration::from_millis(300));
        let _ = fs::remove_file(site.path("apps/three.wasm"));
        std::thread::sleep(Duration::from_millis(300));
        !first.exists()
    });
    assert_eq!(files(&site.path("state/cache")).len(), 2, "the others are kept for a day");
}
