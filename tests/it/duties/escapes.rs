//! No spelling, link or race leads out of a folder of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

use super::{folder, put, site};
use crate::support::client::{Version, ask, get, get_tls, status};
use crate::support::connection::{Connection, Transport};
use crate::support::server::Site;

const SECRET: &str = "the secret";

/// How often a folder is asked for while it is exchanged for a link out of it.
const RACES: usize = 4000;

/// Each is tried as it is, below `/`, and below a route's prefix.
const SPELLINGS: &[&str] = &[
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/./../secret.txt",
    "/..//secret.txt",
    "//../secret.txt",
    "/.../secret.txt",
    "/sub/..",
    "/..",
    "/.",
    "/%2e%2e/secret.txt",
    "/%2E%2E/secret.txt",
    "/.%2e/secret.txt",
    "/%2e./secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%2fsecret.txt",
    "/..%2Fsecret.txt",
    "/%2e%2e%5csecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/..%c0%afsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/..%e0%80%afsecret.txt",
    "/..%25%32%66secret.txt",
    "/%252e%252e/secret.txt",
    "/%252e%252e%252fsecret.txt",
    "/..%00/secret.txt",
    "/a.txt%00.png",
    "/%00",
    "/..;/secret.txt",
    "/..%3b/secret.txt",
    "/sub/%2e%2e/%2e%2e/secret.txt",
    "/sub%2f..%2f..%2fsecret.txt",
    "/%2fetc%2fpasswd",
    "//etc/passwd",
    "/%2fetc/passwd",
    "///etc/passwd",
    "/file:///etc/passwd",
    "/..%0a/secret.txt",
    "/%0d%0a",
    "/..%09/secret.txt",
    "/.. /secret.txt",
    "/..%20/secret.txt",
    "/..%u2215secret.txt",
    "/%u002e%u002e/secret.txt",
    "/%zz",
    "/%",
    "/..%ff/secret.txt",
    "/out.txt",
    "/out-absolute.txt",
    "/out/secret.txt",
    "/out-absolute/secret.txt",
    "/out-twice.txt",
    "/up/secret.txt",
    "/loop",
    "/dangling",
    "/fd/0",
    "/environ",
    "/cwd/secret.txt",
    "/pipe",
    "/socket",
    "/device",
    "/.hidden",
    "/.hidden-folder/a.txt",
    "/sub/.hidden",
    "/%2ehidden",
    "/a.txt/",
    "/a.txt/../secret.txt",
    "/a.txt/.",
    "/proc/self/environ",
];

/// A folder with links that lead everywhere, and a secret beside it.
fn trap() -> Site {
    let site =
        site(r#""files.test" = { "/" = { files = "public" }, "/prefix" = { files = "public" } }"#);
    put(&site, "secret.txt", SECRET.as_bytes());
    put(&site, "public/a.txt", b"inside");
    put(&site, "public/sub/b.txt", b"below");
    for hidden in [".hidden", ".hidden-folder/a.txt", "sub/.hidden"] {
        put(&site, &format!("public/{hidden}"), SECRET.as_bytes());
    }
    let outside = site.path("secret.txt");
    for (name, to) in [
        ("out.txt", "../secret.txt"),
        ("out-absolute.txt", outside.to_str().expect("a path")),
        ("out", ".."),
        ("out-absolute", outside.parent().and_then(|it| it.to_str()).expect("a path")),
        ("out-twice.txt", "out.txt"),
        ("up", "sub/../.."),
        ("loop", "loop"),
        ("dangling", "nothing"),
        ("fd", "/proc/self/fd"),
        ("environ", "/proc/self/environ"),
        ("cwd", "/proc/self/cwd"),
        ("within.txt", "sub/b.txt"),
        ("within", "sub"),
        ("sub/around.txt", "../a.txt"),
    ] {
        symlink(to, site.path("public").join(name)).expect("make a link");
    }
    let mode = Mode::from_raw_mode(0o644);
    mknodat(CWD, site.path("public/pipe"), FileType::Fifo, mode, 0).expect("make a pipe");
    UnixListener::bind(site.path("public/socket")).expect("make a socket");
    // Not everywhere may a test make one; what it leads to is `/dev/zero`.
    let zero = makedev(1, 5);
    let device = mknodat(CWD, site.path("public/device"), FileType::CharacterDevice, mode, zero);
    if let Err(error) = device {
        eprintln!("without a device: {error}");
    }
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_leads_out_of_the_folder() {
    assert!(SPELLINGS.len() > 40);
    let site = trap();
    let server = site.start();

    for path in SPELLINGS {
        for prefix in ["", "/prefix"] {
            let path = format!("{prefix}{path}");
            let answer = ask(&server, "GET", &path, "host: files.test\r\n").await;
            assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
            assert!(!answer.contains(SECRET) && !answer.contains("root:"), "{path}: {answer}");
        }
    }
    for (path, text) in [
        ("/a.txt", "inside"),
        ("/%61%2etxt", "inside"),
        ("/within.txt", "below"),
        ("/within/b.txt", "below"),
        ("/sub/around.txt", "inside"),
        ("/prefix/within/around.txt", "inside"),
    ] {
        let reply = get(&server, "files.test", path).await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, text), "{path}");
    }
    // HTTP/2 has no other way in.
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/out.txt"] {
        let reply = get_tls(&site, &server, "files.test", path, Version::H2).await;
        assert_eq!(reply.expect("an answer").status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_well_known_is_not_hidden() {
    let site = folder("files = \"public\"", &[(".well-known/security.txt", "Contact: us")]);
    let server = site.start();
    let reply = get(&server, "files.test", "/.well-known/security.txt").await.expect("an answer");
    assert_eq!(reply.text(), "Contact: us");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_race_leads_out_of_the_folder() {
    let site = folder("files = \"public\"", &[("d/file.txt", "inside")]);
    put(&site, "outside/file.txt", SECRET.as_bytes());
    symlink("../outside", site.path("public/link")).expect("make a link");
    let server = site.start();

    let stop = Arc::new(AtomicBool::new(false));
    let exchanges = Arc::new(AtomicUsize::new(0));
    let (folder, link) = (site.path("public/d"), site.path("public/link"));
    let exchanger = thread::spawn({
        let (stop, exchanges) = (Arc::clone(&stop), Arc::clone(&exchanges));
        move || {
            while !stop.load(Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).expect("exchange");
                exchanges.fetch_add(1, Relaxed);
            }
        }
    });
    let (mut inside, mut refused) = (0, 0);
    let mut connection =
        Connection::open(&Transport::plain(&server), "files.test").await.expect("a connection");
    for _ in 0..RACES {
        let reply = connection.get("/d/file.txt").await.expect("an answer");
        match (reply.status.as_u16(), reply.text()) {
            (200, "inside") => inside += 1,
            (404, text) if !text.contains(SECRET) => refused += 1,
            // So many changes on the way that the kernel would not say.
            (503, _) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    stop.store(true, Relaxed);
    exchanger.join().expect("no panic");
    let exchanges = exchanges.load(Relaxed);
    eprintln!("{exchanges} exchanges, {inside} answers from inside, {refused} refused");
    assert!(inside > 0 && refused > 0 && exchanges > RACES);
    assert!(fs::read_to_string(site.path("outside/file.txt")).expect("it is there") == SECRET);
}
