//! A server with 512 MiB, and a thousand clients whose guests take all they get.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::cgroup::Group;
use crate::support::client::get;
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

const MEMORY: usize = 512 << 20;
const CLIENTS: usize = 1000;

/// Limits of the apps that no longer limit them, so that only the node's own do.
const MANIFEST: &str = r#"
[defaults]
max_instances = 4000
app_memory = "64GiB"
max_in_flight = 100000
queue = 100000
cpu_time = "1s"

[apps.hello]
component = "apps/hello.wasm"
[apps.kit-p2]
component = "apps/kit-p2.wasm"
[apps.kit-p3]
component = "apps/kit-p3.wasm"
[apps.hostile-p2]
component = "apps/hostile-p2.wasm"
[apps.hostile-p3]
component = "apps/hostile-p3.wasm"
[apps.tables]
component = "apps/tables.wasm"

[hosts]
"hello.test" = "hello"
"kit-p2.test" = "kit-p2"
"kit-p3.test" = "kit-p3"
"hostile-p2.test" = "hostile-p2"
"hostile-p3.test" = "hostile-p3"
"tables.test" = "tables"
"#;

type Bomb = (&'static str, &'static str, usize);

/// What the clients ask for, of whom; those with an upload send one, and nobody reads an answer.
const BOMBS: &[Bomb] = &[
    ("kit-p2", "/grow?mib=120", 0),
    ("kit-p3", "/grow?mib=120", 0),
    // Every byte of 100 MB is written to.
    ("hostile-p2", "/from-list?count=100&bytes=1000000", 0),
    ("hostile-p3", "/from-list?count=100&bytes=1000000", 0),
    ("kit-p2", "/sleep?ms=1000", 0),
    ("kit-p3", "/sleep?ms=1000", 0),
    ("tables", "/", 0),
    ("kit-p2", "/echo", 8 << 20),
    ("kit-p3", "/echo", 8 << 20),
    ("kit-p2", "/never-read", 8 << 20),
    ("kit-p3", "/never-read", 8 << 20),
    ("kit-p2", "/stream?bytes=100000000", 0),
    ("kit-p3", "/stream?bytes=100000000", 0),
    ("kit-p2", "/blob?bytes=380000", 0),
    ("kit-p3", "/blob?bytes=380000", 0),
    ("hostile-p2", "/fields?count=1000&bytes=30000", 0),
    ("hostile-p3", "/fields?count=1000&bytes=30000", 0),
    // What the host held for the first must be the system's again before the second takes as much.
    ("hostile-p2", "/bodies?count=600", 0),
    ("hostile-p3", "/bodies?count=600&bytes=100000", 0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hostile_requests_leave_a_small_box_alive_and_its_other_app_served() {
    let site = Site::new(MANIFEST);
    for name in ["hello", "kit-p2", "kit-p3", "hostile-p2", "hostile-p3", "tables"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    let group = Group::new(MEMORY);
    let mut server = match &group {
        Ok(group) => Server::spawn(group.running(&site.command())),
        Err(reason) => {
            eprintln!("\n!!! NOT TESTED IN A CONTROL GROUP, only by what is resident: {reason}\n");
            let memory = MEMORY / 4 * 3;
            let listen = "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]";
            site.write_manifest(&format!("[server]\nmemory = {memory}\n{listen}\n{MANIFEST}"));
            site.start()
        }
    };

    let sent = Arc::new(AtomicUsize::new(0));
    let (mut answered, mut wrong) = (0, Vec::new());
    let mut slowest = Duration::ZERO;
    // All of them side by side, and then each by itself, or the last two.
    let alone = BOMBS.chunks(1).skip(BOMBS.len() - times(2, BOMBS.len()));
    let lasting = |bombs: &[Bomb]| if bombs.len() > 1 { times(6, 60) } else { times(4, 10) };
    for bombs in std::iter::once(BOMBS).chain(alone) {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(hostile_client(number, server.http, bombs, sent.clone()));
        }
        let end = Instant::now() + Duration::from_secs(lasting(bombs) as u64);
        while Instant::now() < end {
            let start = Instant::now();
            match get(&server, "hello.test", "/").await {
                Ok(reply) if reply.status == 200 => answered += 1,
                Ok(reply) => wrong.push(format!("{} {}", reply.status, reply.text())),
                Err(error) => wrong.push(error.to_string()),
            }
            slowest = slowest.max(start.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        clients.shutdown().await;
    }
    let resident = server.peak();

    let asked = answered + wrong.len();
    let row = |tried, bound| Shown {
        part: "Tenants: memory",
        tried,
        times: sent.load(Ordering::Relaxed),
        bound,
    };
    let figure = format!("{answered} of {asked}, the slowest after {slowest:.1?}; {wrong:.3?}");
    row("1,000 hostile requests at a time, 512 MiB: another app's answers", "all of them")
        .holds(figure, wrong.is_empty() && answered > 50);
    let mib = resident >> 20;
    match &group {
        Ok(group) => {
            let (peak, kills) = (group.peak() >> 20, group.kills());
            row("1,000 hostile requests at a time in a cgroup of 512 MiB", "nothing is killed")
                .holds(
                    format!("{kills} killed, {mib} MiB resident, {peak} MiB with files"),
                    kills == 0 && resident < MEMORY,
                );
        }
        Err(_) => row("1,000 hostile requests at a time, as in 512 MiB", "less is resident")
            .holds(format!("{mib} MiB"), resident < MEMORY),
    }
    server.signal(libc::SIGTERM);
    assert!(server.exit().success(), "{:#?}", server.complaints());
}

/// Sends one bomb after another, each on a connection from another address than its neighbours'.
async fn hostile_client(number: usize, server: SocketAddr, bombs: &[Bomb], sent: Arc<AtomicUsize>) {
    let from = Ipv4Addr::from(0x7f01_0000 + number as u32 / 10);
    let upload = vec![b'x'; 64 << 10];
    for (app, path, body) in bombs.iter().cycle().skip(number % bombs.len()) {
        // Who is refused a connection tries again.
        let _ = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            let mut io = socket.connect(server).await?;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {app}.test\r\ncontent-length: {body}\r\n\r\n"
            );
            io.write_all(head.as_bytes()).await?;
            sent.fetch_add(1, Ordering::Relaxed);
            let upload = async {
                for _ in 0..body / upload.len() {
                    io.write_all(&upload).await?;
                }
                std::io::Result::Ok(())
            };
            let _ = tokio::time::timeout(Duration::from_secs(2), upload).await;
            let _ = io.readable().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            io.read(&mut [0; 16]).await
        }
        .await;
    }
}
