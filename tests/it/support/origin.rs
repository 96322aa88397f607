//! A server that guests ask, good or bad at it by the path they ask for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certificates::pair;

/// See the module. Its tasks end with it.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What came in.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// Connections that the client has closed, or we have.
    closed: AtomicUsize,
    /// Handshakes that resumed a session.
    resumed: AtomicUsize,
    /// Heads of requests, each with the part of its body that came along.
    requests: Mutex<Vec<String>>,
}

impl Origin {
    /// Speaks plain HTTP on a port of the system's choice.
    pub async fn plain() -> Origin {
        Origin::serve(loopback().await, None)
    }

    /// The same at this address; none where the machine has no such address.
    pub async fn try_at(address: SocketAddr) -> Option<Origin> {
        let listener = TcpListener::bind(address).await.ok()?;
        Some(Origin::serve(listener, None))
    }

    /// Speaks TLS, with a certificate for `host` from the root of [`super::certificates::root`].
    pub async fn tls(host: &str) -> Origin {
        let pair = pair(host);
        let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a pair that fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Origin::serve(loopback().await, Some(acceptor))
    }

    fn serve(listener: TcpListener, tls: Option<TlsAcceptor>) -> Origin {
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen::default());
        let all = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // Dropped with this task, it ends those of the connections.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, tls) = (Arc::clone(&all), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                if stream.get_ref().1.handshake_kind()
                                    == Some(rustls::HandshakeKind::Resumed)
                                {
                                    seen.resumed.fetch_add(1, Ordering::SeqCst);
                                }
                                converse(stream, &seen).await;
                            }
                        }
                    }
                    seen.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Origin { address, seen, task }
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections that came in so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.connections() - self.seen.closed.load(Ordering::SeqCst)
    }

    /// TLS sessions that were resumed so far.
    pub fn resumed(&self) -> usize {
        self.seen.resumed.load(Ordering::SeqCst)
    }

    /// Requests that came in so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().expect("a lock").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("bind the origin")
}

/// Answers request after request, until one side has enough.
async fn converse(mut io: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) {
    let mut ahead = Vec::new();
    let mut served = 0;
    while let Some(request) = read(&mut io, &mut ahead, seen).await {
        if answer(&mut io, &request, served).await.is_err() {
            return;
        }
        served += 1;
    }
    let _ = io.shutdown().await;
}

/// One request: what came of it until its end, or until the connection's.
async fn read(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ahead: &mut Vec<u8>,
    seen: &Seen,
) -> Option<String> {
    let head_end = loop {
        if let Some(at) = find(ahead, b"\r\n\r\n") {
            break at + 4;
        }
        if more(io, ahead).await == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&ahead[..head_end]).to_ascii_lowercase();
    let mut body_end = head_end;
    if let Some((_, length)) = head.split_once("\r\ncontent-length: ") {
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        body_end += length;
    }
    if let Some((_, early)) = head.split_once(" /early?") {
        let text = format!("early {}\n", early.split(' ').next().unwrap_or_default());
        whole(io, &text).await.ok()?;
    }
    let chunked = head.contains("\r\ntransfer-encoding: chunked\r\n");
    let stalls = head.contains(" /never-read");
    let mut whole = true;
    loop {
        let end = match chunked {
            true => find(&ahead[head_end..], b"0\r\n\r\n").map(|at| head_end + at + 5),
            false => (ahead.len() >= body_end).then_some(body_end),
        };
        if let Some(end) = end {
            body_end = end;
            break;
        }
        if stalls {
            std::future::pending::<()>().await;
        }
        if more(io, ahead).await == 0 {
            whole = false;
            body_end = ahead.len();
            break;
        }
    }
    let request = String::from_utf8_lossy(&ahead[..body_end]).into_owned();
    ahead.drain(..body_end);
    let noted = if whole { request.clone() } else { format!("CUT {request}") };
    seen.requests.lock().expect("a lock").push(noted);
    whole.then_some(request)
}

async fn more(io: &mut (impl AsyncRead + Unpin), ahead: &mut Vec<u8>) -> usize {
    let mut part = vec![0; 64 << 10];
    let count = io.read(&mut part).await.unwrap_or(0);
    ahead.extend_from_slice(&part[..count]);
    count
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// What the path asks for. An error ends the connection.
async fn answer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    served: usize,
) -> std::io::Result<()> {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let end = || Err(std::io::Error::other("the connection ends here"));
    match path {
        "/slow-head" => {
            tokio::time::sleep(Duration::from_millis(query.parse().unwrap_or(0))).await;
            whole(io, "slow\n").await
        }
        "/never" => until_gone(io).await,
        "/slow-body" => {
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").await?;
            until_gone(io).await
        }
        "/endless" => {
            io.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            loop {
                io.write_all(&chunk).await?;
            }
        }
        "/drip" => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            io.write_all(head).await?;
            for _ in 0..query.parse().unwrap_or(0) / 100 {
                io.write_all(b"5\r\ndrop\n\r\n").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            io.write_all(b"0\r\n\r\n").await
        }
        "/truncated" => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
            io.write_all(head).await?;
            io.shutdown().await?;
            end()
        }
        "/short" => {
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").await?;
            io.shutdown().await?;
            end()
        }
        "/large" => {
            let size: usize = query.parse().unwrap_or(0);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            io.write_all(head.as_bytes()).await?;
            io.write_all(&vec![b'x'; size]).await
        }
        "/huge-head" => {
            io.write_all(b"HTTP/1.1 200 OK\r\nx-huge: ").await?;
            for _ in 0..64 {
                io.write_all(&[b'x'; 16 << 10]).await?;
            }
            io.write_all(b"\r\ncontent-length: 0\r\n\r\n").await
        }
        "/endless-head" => {
            io.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                io.write_all(b"x-more: and more\r\n").await?;
            }
        }
        "/many-headers" => {
            let headers: String = (0..1000).map(|n| format!("x-{n}: {n}\r\n")).collect();
            let head = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
            io.write_all(head.as_bytes()).await
        }
        "/not-http" => {
            io.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await?;
            end()
        }
        "/switch" => {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n";
            io.write_all(head).await
        }
        "/hints" => {
            io.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await?;
            whole(io, "hinted\n").await
        }
        "/redirect" => {
            let head =
                format!("HTTP/1.1 302 Found\r\nlocation: {query}\r\ncontent-length: 0\r\n\r\n");
            io.write_all(head.as_bytes()).await
        }
        // As a server does whose keep-alive timeout has just passed.
        "/once" if served > 0 => end(),
        // A second response that nobody asked for, for whoever comes next.
        "/poison" => {
            let twice = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood\
                         HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
            io.write_all(twice.as_bytes()).await
        }
        "/close" => {
            io.write_all(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nclosed",
            )
            .await?;
            io.shutdown().await?;
            end()
        }
        // Answered already, before its body was read.
        "/early" => Ok(()),
        "/seen" => whole(io, request).await,
        _ => whole(io, "hello from the origin\n").await,
    }
}

/// Says nothing, and ends the connection when the client does.
async fn until_gone(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    while more(io, &mut Vec::new()).await > 0 {}
    Err(std::io::Error::other("the client is gone"))
}

async fn whole(io: &mut (impl AsyncWrite + Unpin), text: &str) -> std::io::Result<()> {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    io.write_all(answer.as_bytes()).await
}
