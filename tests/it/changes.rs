//! Files change in many ways, and each is noticed; what is half written is not taken.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::client::{answer, until_answer};
use crate::support::connection::Transport;
use crate::support::server::{Server, Site, USUAL, hello_version, run, wait_until};
use crate::support::traffic::Traffic;

/// Between the pieces of a file that is written slowly.
const PAUSE: Duration = Duration::from_millis(250);

/// A file that rests for a second counts as whole. A machine that kept a test waiting so long
/// between two pieces has shown nothing.
const STALLED: Duration = Duration::from_millis(900);

/// Times that a slow write is begun anew after the machine stalled in it.
const ATTEMPTS: usize = 5;

/// What is not seen by the watch is found this much later at the latest, with some slack.
const RESCANNED: Duration = Duration::from_secs(12);

/// A site with one host whose answer tells the version of the component, and another the manifest's.
fn greeting(word: &str) -> String {
    USUAL.replace("[apps.p2]", &format!("env = {{ GREETING = \"{word}\" }}\n\n[apps.p2]"))
}

fn site() -> (Site, Server) {
    let site = Site::usual();
    site.write_manifest(&greeting("one"));
    let server = site.start();
    (site, server)
}

async fn until_taken(server: &Server, word: &str, version: u32) {
    until_answer(server, "hello.test", "/", &format!("200 {word} world")).await;
    until_answer(server, "hello.test", "/version", &format!("200 {version:08}")).await;
    assert_eq!(server.complaints(), [""; 0]);
}

/// Earlier than the periodic rescan would have found it.
fn found_by_an_event(server: &Server, changed: Instant) {
    let took = changed.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "only the rescan found it: {took:?}, {:#?}",
        server.log()
    );
}

/// Truncates the file and writes it piece by piece. False where the machine stalled meanwhile.
///
/// On a thread of its own: what else the test does holds up none of the pieces.
async fn write_slowly(path: PathBuf, pieces: Vec<Vec<u8>>) -> bool {
    let write = move || {
        let mut file = File::create(path).expect("truncate it");
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        for piece in pieces {
            std::thread::sleep(PAUSE);
            file.write_all(&piece).expect("write a piece");
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest < STALLED
    };
    tokio::task::spawn_blocking(write).await.expect("a writer")
}

/// The manifest as it is on disk: with the ports.
fn whole(site: &Site, word: &str) -> Vec<u8> {
    let text = fs::read_to_string(site.manifest()).expect("the manifest");
    text.replace("GREETING = \"one\"", &format!("GREETING = \"{word}\"")).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_by_rename() {
    let (site, server) = site();
    // The way of vim: the old file is moved aside, the new one written, the backup removed.
    for (name, bytes) in
        [("config.toml", whole(&site, "two")), ("apps/hello.wasm", hello_version(2))]
    {
        let (path, backup) = (site.path(name), site.path(&format!("{name}~")));
        fs::rename(&path, &backup).expect("move it aside");
        fs::write(&path, bytes).expect("write it");
        fs::remove_file(&backup).expect("remove the backup");
    }
    until_taken(&server, "two", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_aside_for_a_while() {
    let (site, server) = site();
    for (name, bytes) in
        [("config.toml", whole(&site, "two")), ("apps/hello.wasm", hello_version(2))]
    {
        fs::remove_file(site.path(name)).expect("remove it");
        tokio::time::sleep(PAUSE).await;
        fs::write(site.path(name), bytes).expect("write it");
    }
    until_taken(&server, "two", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_in_place() {
    let (site, server) = site();
    fs::write(site.manifest(), whole(&site, "two")).expect("write the manifest");
    fs::write(site.path("apps/hello.wasm"), hello_version(2)).expect("write the component");
    until_taken(&server, "two", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_written_slowly_is_taken_once_it_is_whole() {
    for _ in 0..ATTEMPTS {
        let (site, server) = site();
        let mut traffic = Traffic::default();
        let transport = Transport::plain(&server);
        // The kits have nothing at `/`, and say so themselves.
        let right = ["one world", "two world", "no such route"];
        for host in ["hello.test", "p2.test", "p3.test"] {
            traffic.add(
                &transport,
                (host, "/"),
                20,
                || (),
                move |(), _, reply| match right.contains(&reply.text().trim()) {
                    true => Ok(()),
                    false => Err(format!("{} {:?}", reply.status, reply.text())),
                },
            );
        }

        let text = String::from_utf8(whole(&site, "two")).expect("text");
        // After most lines what is there so far would be a manifest.
        let pieces = text.split_inclusive("\n\n").map(|lines| lines.as_bytes().to_vec());
        if !write_slowly(site.manifest(), pieces.collect()).await {
            continue;
        }

        until_taken(&server, "two", 1).await;
        traffic.stop().await;
        return;
    }
    panic!("the machine stalled in each of {ATTEMPTS} attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_written_slowly_is_taken_once_it_is_whole() {
    for _ in 0..ATTEMPTS {
        let (site, server) = site();
        let mut traffic = Traffic::default();
        traffic.add(
            &Transport::plain(&server),
            ("hello.test", "/version"),
            20,
            || (),
            |(), _, reply| match ["00000001", "00000002"].contains(&reply.text().trim()) {
                true => Ok(()),
                false => Err(format!("{} {:?}", reply.status, reply.text())),
            },
        );

        let bytes = hello_version(2);
        let pieces = bytes.chunks(bytes.len() / 12).map(<[u8]>::to_vec);
        if !write_slowly(site.path("apps/hello.wasm"), pieces.collect()).await {
            continue;
        }

        until_taken(&server, "one", 2).await;
        traffic.stop().await;
        return;
    }
    panic!("the machine stalled in each of {ATTEMPTS} attempts");
}

/// The directories are watched from a moment after the files were read: what changes in between counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_during_the_start_is_taken_at_once() {
    let site = Site::usual();
    site.write_manifest(&greeting("one"));
    let command = site.command();
    let starting = tokio::task::spawn_blocking(|| Server::spawn(command));
    // All components are read before the first is compiled.
    let is_read = || fs::read_dir(site.path("state/cache")).is_ok_and(|kept| kept.count() > 0);
    wait_until("a component is compiled", is_read);
    site.put("apps/hello.wasm", &hello_version(2));
    site.put("config.toml", &whole(&site, "two"));
    let server = starting.await.expect("a server");
    let serving = Instant::now();

    until_taken(&server, "two", 2).await;
    found_by_an_event(&server, serving);
}

/// As Kubernetes mounts a ConfigMap: the files are links through `..data`, itself a link that is swapped.
#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_data_link_is_followed() {
    let site = Site::usual();
    let mount = site.path("mount");
    let fill = |version: u32, word: &str| {
        let dir = mount.join(format!("..2024_{version}"));
        fs::create_dir_all(&dir).expect("make a directory");
        fs::write(dir.join("hello.wasm"), hello_version(version)).expect("write the component");
        let text = greeting(word).replace("apps/hello.wasm", "hello.wasm");
        let text = text.replace("apps/kit", "../apps/kit");
        let server = "[server]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\nstate_dir = \"../state\"\n";
        fs::write(dir.join("config.toml"), format!("{server}{text}")).expect("write the manifest");
        symlink(format!("..2024_{version}"), mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swap the link");
    };
    fill(1, "one");
    for name in ["config.toml", "hello.wasm"] {
        symlink(Path::new("..data").join(name), mount.join(name)).expect("a link");
    }
    let server = Server::spawn(run(&mount.join("config.toml")));

    for (version, word) in [(2, "two"), (3, "three")] {
        fill(version, word);
        let swapped = Instant::now();
        until_taken(&server, word, version).await;
        found_by_an_event(&server, swapped);
        fs::remove_dir_all(mount.join(format!("..2024_{}", version - 1))).expect("remove the old");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_deleted_and_made_again_is_watched_again() {
    let (site, server) = site();
    for version in [2, 3] {
        fs::remove_dir_all(site.path("apps")).expect("remove the directory");
        until_missing(&server, version).await;
        assert_eq!(answer(&server, "hello.test", "/").await, "200 one world");

        fs::create_dir(site.path("apps")).expect("make it again");
        site.put("apps/kit-p2.wasm", &hello_version(9));
        site.put("apps/kit-p3.wasm", &hello_version(9));
        site.put("apps/hello.wasm", &hello_version(version));
        let made = Instant::now();
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
        found_by_an_event(&server, made);
    }
}

/// Until it has been said of every app that its file is missing, for the `version - 1`st time.
async fn until_missing(server: &Server, version: u32) {
    let times = 3 * (version as usize - 1);
    while server.logged("cannot be served").len() < times {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_swapped_for_another_is_followed() {
    let (site, server) = site();
    for version in [2, 4] {
        fs::create_dir(site.path("next")).expect("make a directory");
        for file in ["kit-p2", "kit-p3"] {
            let from = site.path(&format!("apps/{file}.wasm"));
            fs::copy(from, site.path(&format!("next/{file}.wasm"))).expect("copy a guest");
        }
        fs::write(site.path("next/hello.wasm"), hello_version(version)).expect("write it");
        fs::rename(site.path("apps"), site.path(&format!("old{version}"))).expect("move the old");
        fs::rename(site.path("next"), site.path("apps")).expect("put the new in its place");
        let swapped = Instant::now();
        until_taken(&server, "one", version).await;
        // The new directory is the one that is watched.
        site.put("apps/hello.wasm", &hello_version(version + 1));
        until_taken(&server, "one", version + 1).await;
        found_by_an_event(&server, swapped);
    }
}

/// The content of a link changes where the link leads.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_of_a_link_is_watched_where_it_is() {
    let (site, server) = site();
    fs::create_dir(site.path("releases")).expect("make a directory");
    site.put("releases/hello.wasm", &hello_version(2));
    symlink("../releases/hello.wasm", site.path("apps/link")).expect("a link");
    fs::rename(site.path("apps/link"), site.path("apps/hello.wasm")).expect("put it in place");
    until_taken(&server, "one", 2).await;

    site.put("releases/hello.wasm", &hello_version(3));
    let changed = Instant::now();
    until_taken(&server, "one", 3).await;
    found_by_an_event(&server, changed);
}

/// A change through another name of the same file gives no event in the directory that is watched.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_event_tells_is_found_by_the_rescan() {
    let (site, server) = site();
    fs::create_dir(site.path("other")).expect("make a directory");
    let other = site.path("other/hello.wasm");
    fs::hard_link(site.path("apps/hello.wasm"), &other).expect("link it");
    tokio::time::sleep(Duration::from_secs(1)).await;

    fs::write(&other, hello_version(2)).expect("write it");
    let changed = Instant::now();
    until_taken(&server, "one", 2).await;
    assert!(changed.elapsed() < RESCANNED, "{:?}", changed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_means_look_now() {
    let (site, server) = site();
    fs::create_dir(site.path("other")).expect("make a directory");
    let other = site.path("other/hello.wasm");
    fs::hard_link(site.path("apps/hello.wasm"), &other).expect("link it");
    tokio::time::sleep(Duration::from_secs(1)).await;

    for version in 2..5 {
        fs::write(&other, hello_version(version)).expect("write it");
        server.signal(libc::SIGHUP);
        let asked = Instant::now();
        until_taken(&server, "one", version).await;
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
}
