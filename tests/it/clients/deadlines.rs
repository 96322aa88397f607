//! Clients that are slow on purpose are closed in time, whatever they are slow with, and no other client is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Frame;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::slow::{PREFACE, SETTINGS, Shape, is_held, shapes};
use crate::support::client::{Version, piped, raw, send, status, trusting, whole};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site};

const PART: &str = "Clients: deadlines";

/// The kits, with time enough that only the clients' own deadlines end anything.
fn site(clients: &str) -> Site {
    let site = Site::new(&manifest(clients));
    for name in ["kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

fn manifest(clients: &str) -> String {
    format!(
        "[defaults]\nrequest_timeout = \"120s\"\nstream_idle_timeout = \"120s\"\n\
         post_return_timeout = \"1s\"\nmax_response_body = \"1TiB\"\n\
         [apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n\
         [apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n\
         [hosts]\n\"p2.test\" = \"p2\"\n\"p3.test\" = \"p3\"\n\
         [clients]\n{clients}"
    )
}

/// The deadlines as they are by default, or a part of them where there is no time for that. Not
/// shorter: a busy machine keeps the good clients waiting for a second at times.
fn scaled() -> (&'static str, Duration, Duration) {
    match times(1, 10) {
        10 => ("", Duration::from_secs(10), Duration::from_secs(35)),
        _ => (
            "handshake_timeout = \"2500ms\"\nhead_timeout = \"2500ms\"\nbody_timeout = \"4s\"\n\
             write_timeout = \"4s\"\n",
            Duration::from_millis(2500),
            // Among them are 2 s for a guest to answer for a late upload; the rest is for a busy machine.
            Duration::from_secs(12),
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_slow_shapes_are_closed_in_time_while_a_good_client_sees_nothing() {
    let (clients, least, most) = scaled();
    let site = site(clients);
    let server = Arc::new(site.start());
    let begun = Instant::now();
    let end = begun + most;

    let mut slow = JoinSet::new();
    for (secure, version) in [(false, Version::H1), (true, Version::H1), (true, Version::H2)] {
        for shape in shapes(least / 2) {
            // Without TLS the first bytes tell the protocol; with it the handshake does.
            if !secure || shape.version == version {
                slow.spawn(run(shape, secure, site.root(), Arc::clone(&server), end));
            }
        }
    }
    let over = CancellationToken::new();
    let good = tokio::spawn(good_clients(site.root(), Arc::clone(&server), over.clone()));

    let mut longest = Duration::ZERO;
    let closed = slow.join_all().await;
    over.cancel();
    for (shape, took) in closed {
        let figure = match took {
            Some(took) => format!("closed after {:.1} s", took.as_secs_f64()),
            None => "still open".to_owned(),
        };
        longest = longest.max(took.unwrap_or(Duration::MAX));
        Shown { part: PART, tried: &shape, times: 1, bound: &format!("{least:?} to {most:?}") }
            .holds(figure, took.is_some_and(|took| took >= least.mul_f64(0.9) && took < most));
    }
    let (asked, waited) = good.await.expect("a good client was hurt");
    Shown {
        part: PART,
        tried: "a good client beside all of them: requests, and a slow but steady upload",
        times: asked,
        bound: "all answered",
    }
    .holds(format!("all answered, the slowest in {waited:?}"), asked > 20);
    for limit in
        ["handshake_timeout", "head_timeout", "body_timeout", "min_body_rate", "write_timeout"]
    {
        server.wait_for_log(&format!("limit=clients.{limit} "));
    }
}

/// Is slow until the server closes the connection: what was tried, and how long that took.
async fn run(
    shape: Shape,
    secure: bool,
    root: String,
    server: Arc<Server>,
    end: Instant,
) -> (String, Option<Duration>) {
    let what = format!("{}, {}", shape.name, if secure { "TLS" } else { "plain" });
    let address = if secure { server.https } else { server.http };
    let socket = TcpSocket::new_v4().expect("a socket");
    if !shape.reads {
        // So that it is soon full.
        socket.set_recv_buffer_size(16 << 10).expect("a small buffer");
    }
    // Before the server's own clock: what holds us up is not taken from what it grants.
    let begun = Instant::now();
    let io = socket.connect(address).await.expect("connect");
    let ends = (address, io.local_addr().expect("an address"));
    if !secure || shape.bytes.is_empty() {
        return (what, drive(shape, io, ends, (begun, end)).await);
    }
    let name = ServerName::try_from("p2.test").expect("a name");
    let connector = TlsConnector::from(trusting(&root, shape.version));
    let io = connector.connect(name, io).await.expect("TLS");
    (what, drive(shape, io, ends, (begun, end)).await)
}

async fn drive<I>(
    shape: Shape,
    io: I,
    ends: (SocketAddr, SocketAddr),
    (begun, end): (Instant, Instant),
) -> Option<Duration>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut read, mut write) = tokio::io::split(io);
    let client = tokio::spawn(async move {
        if write.write_all(&shape.bytes).await.is_err() || write.flush().await.is_err() {
            return;
        }
        let trickle = async {
            let Some((bytes, pause)) = shape.trickle else { return std::future::pending().await };
            loop {
                sleep(pause).await;
                if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
        };
        let drain = async {
            while shape.reads && read.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
            std::future::pending::<()>().await;
        };
        tokio::join!(trickle, drain);
    });
    let mut held = true;
    while held && Instant::now() < end {
        // Not more often: each looks through the table of all sockets.
        sleep(Duration::from_millis(200)).await;
        held = is_held(ends);
    }
    client.abort();
    (!held).then(|| begun.elapsed())
}

/// How many requests were answered meanwhile, and the longest wait. Panics where one was not.
async fn good_clients(
    root: String,
    server: Arc<Server>,
    over: CancellationToken,
) -> (usize, Duration) {
    let upload = tokio::spawn(steady_upload(Arc::clone(&server), over.clone()));
    let (mut asked, mut longest) = (0, Duration::ZERO);
    let transports = [
        Transport::plain(&server),
        Transport::tls(&server, Version::H1, &root),
        Transport::tls(&server, Version::H2, &root),
    ];
    let mut connections = vec![];
    for transport in &transports {
        connections.push(Connection::open(transport, "p3.test").await.expect("open"));
    }
    while !over.is_cancelled() {
        for connection in &mut connections {
            let begun = Instant::now();
            let reply = connection.get("/hello").await.expect("an answer");
            assert_eq!(reply.status, 200);
            (asked, longest) = (asked + 1, longest.max(begun.elapsed()));
        }
        sleep(Duration::from_millis(50)).await;
    }
    upload.await.expect("the steady upload");
    (asked, longest)
}

/// Bytes a second of an upload that is twice as fast as it has to be.
const STEADY: usize = 1024;

/// With rests of half a second.
async fn steady_upload(server: Arc<Server>, over: CancellationToken) {
    let io = TcpStream::connect(server.http).await.expect("connect");
    let (chunks, body) = piped();
    let request =
        Request::post("/discard").header("host", "p2.test").body(body).expect("a request");
    let answer = tokio::spawn(send(io, Version::H1, request));
    let (begun, mut sent) = (Instant::now(), 0);
    while !over.is_cancelled() {
        // By the clock: what a busy machine holds up is made good.
        let due = STEADY + begun.elapsed().as_millis() as usize * STEADY / 1000;
        chunks.send(Frame::data(vec![b'x'; due - sent].into())).expect("not cut");
        sent = due;
        sleep(Duration::from_millis(500)).await;
    }
    drop(chunks);
    let answer = answer.await.expect("no panic").expect("an answer");
    assert_eq!(whole(answer).await.expect("whole").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_read_is_not_held_against_its_client() {
    let site = site("body_timeout = \"1s\"\nmin_body_rate = \"1MiB\"\n");
    let server = site.start();
    for (host, version) in
        [("p2.test", Version::H1), ("p3.test", Version::H1), ("p3.test", Version::H2)]
    {
        let io = TcpStream::connect(server.http).await.expect("connect");
        let (chunks, body) = piped();
        let uri = match version {
            Version::H1 => "/sleep?ms=3000".to_owned(),
            Version::H2 => format!("http://{host}/sleep?ms=3000"),
        };
        let mut request = Request::post(uri);
        if version == Version::H1 {
            request = request.header("host", host);
        }
        chunks.send(Frame::data(vec![b'x'; 1000].into())).expect("a chunk");
        let answer = send(io, version, request.body(body).expect("a request")).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{host} {version:?}");
    }
    assert!(server.logged("limit=clients.").is_empty(), "{:#?}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_upload_is_an_error_to_its_guest_and_the_end_of_its_connection() {
    let site = site("body_timeout = \"1s\"\n");
    let server = site.start();
    for host in ["p2.test", "p3.test"] {
        let head = format!("POST /discard HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100\r\n\r\n");
        let answer = raw(server.http, format!("{head}half")).await;
        assert!(status(&answer) >= 400, "{answer}");
        server.wait_for_log(&format!("host={host} method=POST path=/discard"));
    }
    server.wait_for_log("limit=clients.body_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rests_is_kept_for_keep_alive_timeout() {
    let site = site("keep_alive_timeout = \"1s\"\n");
    let server = site.start();
    let root = site.root();
    for transport in [Transport::plain(&server), Transport::tls(&server, Version::H2, &root)] {
        let mut connection = Connection::open(&transport, "p3.test").await.expect("open");
        connection.get("/hello").await.expect("an answer");
        let rests = Instant::now();
        sleep(Duration::from_millis(500)).await;
        assert!(!connection.is_closed(), "closed too soon");
        while !connection.is_closed() {
            assert!(rests.elapsed() < PATIENCE, "not closed");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(rests.elapsed() >= Duration::from_millis(900), "{:?}", rests.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_grow_old_and_no_request_is_lost_by_it() {
    let site = site("max_age = \"1s\"\n");
    let server = site.start();
    let root = site.root();
    let end = Instant::now() + Duration::from_secs(times(4, 20) as u64);
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let transport = match number % 2 {
            0 => Transport::plain(&server),
            _ => Transport::tls(&server, Version::H2, &root),
        };
        clients.spawn(async move {
            let (mut asked, mut opened) = (0_usize, 0_usize);
            while Instant::now() < end {
                let mut connection = Connection::open(&transport, "p3.test").await.expect("open");
                opened += 1;
                while Instant::now() < end && !connection.is_closed() {
                    match connection.get("/sleep?ms=20").await {
                        Ok(reply) => assert_eq!(reply.status, 200),
                        // The server had said that it takes no more, so none was sent.
                        Err(error) => {
                            let error = error.downcast::<hyper::Error>().expect("an error of HTTP");
                            assert!(error.is_canceled() || error.is_closed(), "{error:?}");
                            break;
                        }
                    }
                    asked += 1;
                }
            }
            (asked, opened)
        });
    }
    let (asked, opened) =
        clients.join_all().await.into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    Shown {
        part: PART,
        tried: "requests without a pause on connections that live for a second",
        times: asked,
        bound: "none lost",
    }
    .holds(format!("none lost on {opened} connections"), opened >= 16 && asked > opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_follow_a_reload_for_new_connections() {
    let site = site("head_timeout = \"60s\"\n");
    let server = site.start();
    let old = TcpStream::connect(server.http).await.expect("connect");
    let old = (server.http, old.local_addr().expect("an address"), old);
    sleep(Duration::from_millis(100)).await;

    site.write_manifest(&manifest("head_timeout = \"1s\"\n"));
    server.wait_for_log("generation=2");
    let mut new = TcpStream::connect(server.http).await.expect("connect");
    new.write_all(&[PREFACE, SETTINGS].concat()).await.expect("send");
    let begun = Instant::now();
    let mut rest = vec![];
    let _ = timeout(PATIENCE, new.read_to_end(&mut rest)).await.expect("closed");

    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
    assert!(is_held((old.0, old.1)), "one that was there before keeps its own");
}
