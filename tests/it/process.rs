//! The process as an operator, a shell or systemd meets it: exit codes, signals, crashes.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::certificates::pair;
use crate::support::client::{Version, answer, get};
use crate::support::connection::{Connection, Transport};
use crate::support::server::{Server, Site, USUAL, hello_version, wait_until};

/// What the manifest says, and by when a process that drains must be gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The usual site, where a request may take longer than the drain.
fn patient() -> Site {
    let site = Site::usual();
    // An endless response is longer than most soon.
    let text = USUAL
        .replace("_timeout = \"2s\"", "_timeout = \"30s\"")
        .replace("[defaults]", "[defaults]\nmax_response_body = \"1TiB\"");
    site.write_manifest(&format!(
        "[server]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\ndrain_timeout = \"3s\"\n{text}"
    ));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn either_signal_ends_an_idle_server_at_once_with_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let site = patient();
        let mut server = site.start();
        // An instance that idles must not be waited for.
        assert_eq!(answer(&server, "p3.test", "/hello").await, "200 hello world");
        let told = Instant::now();
        server.signal(signal);
        assert_eq!(server.exit().code(), Some(0));
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_finish_and_no_new_ones_are_taken() {
    let site = patient();
    let mut server = site.start();
    let transports = [
        Transport::plain(&server),
        Transport::tls(&server, Version::H1, &site.root()),
        Transport::tls(&server, Version::H2, &site.root()),
    ];
    let mut running = Vec::new();
    for transport in &transports {
        for host in ["p2.test", "p3.test"] {
            let mut connection = Connection::open(transport, host).await.expect("a connection");
            running.push(tokio::spawn(async move {
                let reply = connection.get("/drip?ms=200&count=8").await;
                (reply, connection)
            }));
        }
    }
    let mut idle = Vec::new();
    for transport in &transports {
        let mut connection = Connection::open(transport, "p2.test").await.expect("a connection");
        assert_eq!(connection.get("/hello").await.expect("an answer").status, 200);
        idle.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    server.signal(libc::SIGTERM);
    server.wait_for_log("stopping");
    let refused = async || get(&server, "p2.test", "/hello").await.is_err();
    let end = Instant::now() + Duration::from_secs(1);
    while !refused().await {
        assert!(Instant::now() < end, "new connections are still served");
    }
    while idle.iter().any(|connection| !connection.is_closed()) {
        assert!(Instant::now() < end, "idle connections are not told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    for request in running {
        let (reply, connection) = request.await.expect("the request");
        assert_eq!(reply.expect("all of it").text(), "tick\n".repeat(8));
        drop(connection);
    }
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(server.logged("drain_timeout is over"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_end_is_cut_at_drain_timeout() {
    for path in ["/never-answer", "/endless", "/spin?ms=0"] {
        for host in ["p2.test", "p3.test"] {
            let site = patient();
            let mut server = site.start();
            let server_address = Transport::plain(&server);
            let request = tokio::spawn(async move {
                let mut connection = Connection::open(&server_address, host).await?;
                connection.get(path).await
            });
            // It has to be under way, on a busy machine as well.
            tokio::time::sleep(Duration::from_secs(1)).await;

            let told = Instant::now();
            server.signal(libc::SIGTERM);
            assert_eq!(server.exit().code(), Some(0), "{host}{path}");
            let took = told.elapsed();
            assert!(took < DRAIN_TIMEOUT, "{host}{path}: {took:?}");
            assert!(took > DRAIN_TIMEOUT / 2, "{host}{path}: it was not waited for: {took:?}");
            assert!(request.await.expect("the request").is_err(), "{host}{path} looks whole");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let site = patient();
    let mut server = site.start();
    let transport = Transport::plain(&server);
    tokio::spawn(async move {
        let mut connection = Connection::open(&transport, "p2.test").await?;
        connection.get("/never-answer").await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    server.signal(libc::SIGTERM);
    server.wait_for_log("stopping");
    let told = Instant::now();
    server.signal(libc::SIGINT);
    assert_eq!(server.exit().code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
}

#[test]
fn a_wrong_manifest_or_certificate_is_78() {
    let site = Site::usual();
    site.write_manifest(&USUAL.replace("[hosts]", "[hosts]\n\"new.test\" = \"helo\""));
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("config.toml:22: hosts.\"new.test\": no app is named"), "{said}");

    fs::create_dir(site.path("certs")).expect("make certs/");
    pair("other.test").put(&site, "hello");
    site.write_manifest(&format!(
        "{USUAL}[tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    ));
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("does not cover hello.test"), "{said}");
}

#[test]
fn without_a_manifest_it_says_where_it_looked_and_what_to_copy() {
    if Path::new("/etc/tidegate/config.toml").exists() {
        eprintln!("NOT TESTED: this machine has a manifest in /etc/tidegate");
        return;
    }
    let site = Site::usual();
    fs::remove_file(site.manifest()).expect("remove it");
    for command in ["run", "check"] {
        let (status, said) = site.tidegate(&[command]);
        assert_eq!(status.code(), Some(78), "{said}");
        for part in ["config.toml", "/etc/tidegate/config.toml", "config.example.toml"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_port_in_use_is_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let site = Site::usual();
    site.write_manifest(&format!("[server]\nhttp = [\"{address}\"]\n{USUAL}"));
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let site = Site::usual();
    for arguments in [&[][..], &["serve"], &["run", "--fast"], &["inspect"]] {
        let (status, said) = site.tidegate(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    }
    let (status, said) = site.tidegate(&["--help"]);
    assert_eq!(status.code(), Some(0));
    for part in ["run", "check", "inspect", "78", "config.example.toml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (status, said) = site.tidegate(&["--version"]);
    assert_eq!(status.code(), Some(0));
    assert_eq!(said.trim(), concat!("tidegate ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_tells_every_problem_and_writes_nothing() {
    let site = Site::usual();
    fs::create_dir(site.path("certs")).expect("make certs/");
    pair("other.test").put(&site, "hello");
    site.write_manifest(&format!(
        "{USUAL}[tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    ));
    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    fs::remove_file(site.path("apps/kit-p3.wasm")).expect("remove it");
    let before = files(site.path("").as_path());

    let (status, said) = site.tidegate(&["check"]);

    assert_eq!(status.code(), Some(78), "{said}");
    for part in
        ["apps.p2.component", "apps.p3.component", "does not cover hello.test", "3 problems"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(files(site.path("").as_path()), before);

    let good = Site::usual();
    let before = files(good.path("").as_path());
    let (status, said) = good.tidegate(&["check"]);
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(files(good.path("").as_path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_it_starts_again_with_whatever_is_in_its_cache() {
    let site = Site::usual();
    let mut server = site.start();
    let root = site.root();
    for version in 2..5 {
        site.put("apps/hello.wasm", &hello_version(version));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.signal(libc::SIGKILL);
    server.exit();

    let cut = |size: fn(u64) -> u64| {
        for entry in fs::read_dir(site.path("state/cache")).expect("the cache") {
            let entry = entry.expect("a file");
            let file = fs::OpenOptions::new().write(true).open(entry.path()).expect("open it");
            file.set_len(size(entry.metadata().expect("its size").len())).expect("cut it");
        }
    };
    for size in [|size| size, |size| size / 2, |_| 0, |size| size + 100_000] {
        cut(size);
        let mut server = site.start();
        assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000004");
        assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world");
        assert_eq!(answer(&server, "p3.test", "/hello").await, "200 hello world");
        assert_eq!(site.root(), root, "clients would have to trust another root");
        server.signal(libc::SIGKILL);
        server.exit();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_may_share_a_state_directory() {
    let site = Site::usual();
    let commands = [site.command(), site.command()];
    let starts = commands.map(|command| tokio::task::spawn_blocking(|| Server::spawn(command)));
    for start in starts {
        let server = Arc::new(start.await.expect("a server"));
        assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world");
        let transport = Transport::tls(&server, Version::H2, &site.root());
        let mut connection =
            Connection::open(&transport, "p3.test").await.expect("the root that is on disk");
        assert_eq!(connection.get("/hello").await.expect("an answer").status, 200);
    }
}

#[test]
fn a_server_whose_standard_error_is_closed_serves_on() {
    let site = Site::usual();
    let script = "exec \"$0\" run --config config.toml 2>&-";
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it");
    site.write_manifest(&format!("[server]\nhttp = [\"{port}\"]\n{USUAL}"));
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tidegate")])
        .current_dir(site.path(""))
        .spawn()
        .expect("start it");
    wait_until("it listens", || std::net::TcpStream::connect(port).is_ok());
    // SAFETY: the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(i32::try_from(child.id()).expect("an id"), libc::SIGTERM) };
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

/// Every file below `dir`, with its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.display().to_string();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => _ = found.insert(name.clone(), fs::read(&path).expect("a file")),
        }
        found.insert(format!("{name}/"), Vec::new());
    }
    found
}
