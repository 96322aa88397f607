//! The load: clients that ask over connections kept alive, as fast as they are answered.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::guests::Errand;
use super::machine::{cpu_time, setting};
use super::parse::Answer;
use super::streams::{http2, http3};

/// Uncounted at the beginning of a round: connections, handshakes, the first instances.
const WARM_UP: Duration = Duration::from_millis(150);

const READ_SIZE: usize = 256 << 10;

/// Who is asked.
#[derive(Clone)]
pub struct Whom {
    pub address: SocketAddr,
    pub host: String,
    pub over: Over,
}

/// What is spoken.
#[derive(Clone)]
pub enum Over {
    Plain,
    Tls(TlsConnector),
    Http2(TlsConnector),
    Http3(quinn::ClientConfig),
}

/// What a round showed.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub requests_per_second: f64,
    /// Microseconds from a request's first byte to its answer's last.
    pub p50: f64,
    pub p99: f64,
    /// CPU microseconds of the server per request.
    pub cpu: f64,
}

#[derive(Default)]
pub struct Count {
    requests: AtomicU64,
    /// Nanoseconds.
    latencies: Mutex<Vec<u32>>,
    stop: AtomicBool,
}

/// Lets `connections` clients ask for `time`, while the processes `pids` answer.
pub async fn round(
    whom: &Whom,
    errand: Errand,
    connections: usize,
    time: Duration,
    pids: &[u32],
) -> Round {
    let count = Arc::new(Count::default());
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(whom.clone(), errand, count.clone())))
        .collect();
    let spinning = setting("SPIN", 1.0) != 0.0;
    let awake = spinning.then(|| tokio::spawn(stay_awake(count.clone())));
    tokio::time::sleep(WARM_UP).await;

    count.latencies.lock().expect("latencies").clear();
    let requests = count.requests.load(Ordering::Relaxed);
    let all = || pids.iter().copied().map(cpu_time).sum::<Duration>();
    let (begun, cpu) = (Instant::now(), all());
    tokio::time::sleep(time).await;
    let (elapsed, cpu) = (begun.elapsed(), all() - cpu);
    let requests = (count.requests.load(Ordering::Relaxed) - requests) as f64;

    count.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client ends").expect("every request is answered");
    }
    if let Some(awake) = awake {
        awake.await.expect("it ends");
    }
    let mut latencies = std::mem::take(&mut *count.latencies.lock().expect("latencies"));
    latencies.sort_unstable();
    let percentile = |part: f64| match latencies.len() {
        0 => f64::NAN,
        n => f64::from(latencies[((n - 1) as f64 * part) as usize]) / 1e3,
    };
    Round {
        requests_per_second: requests / elapsed.as_secs_f64(),
        p50: percentile(0.5),
        p99: percentile(0.99),
        cpu: cpu.as_secs_f64() * 1e6 / requests,
    }
}

/// Keeps this thread from sleeping.
///
/// Whoever wakes a core that sleeps pays for it, on a virtual machine with
/// several microseconds: here the server, with each answer that finds all
/// clients asleep. That would charge a server the more the sooner it answers,
/// and has nothing to do with it: over a network nobody is woken.
async fn stay_awake(count: Arc<Count>) {
    while !count.stop.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
}

/// Asks once; an error while there is nobody who answers.
pub async fn ask_once(whom: &Whom, errand: Errand) -> io::Result<()> {
    let count = Arc::new(Count { stop: true.into(), ..Count::default() });
    client(whom.clone(), errand, count).await
}

/// Asks once over plain HTTP; the answer's body.
pub async fn text(whom: &Whom, errand: Errand) -> io::Result<String> {
    let mut stream = TcpStream::connect(whom.address).await?;
    stream.write_all(&request(&whom.host, errand)).await?;
    let mut buffer = vec![0; READ_SIZE];
    let mut answer = Answer::keeping_body();
    read_answer(&mut stream, &mut answer, &mut buffer).await?;
    String::from_utf8(answer.body.unwrap_or_default()).map_err(io::Error::other)
}

impl Count {
    /// Counts an answer of so many bytes to what was asked at `begun`. Whether it was the last.
    pub fn answered(&self, errand: Errand, size: usize, begun: Instant) -> bool {
        assert_eq!(size, errand.answer, "the answer's size");
        let latency = u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.latencies.lock().expect("latencies").push(latency);
        self.stop.load(Ordering::Relaxed)
    }
}

async fn client(whom: Whom, errand: Errand, count: Arc<Count>) -> io::Result<()> {
    let tcp = async || {
        let stream = TcpStream::connect(whom.address).await?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    let name = || ServerName::try_from(whom.host.clone()).map_err(io::Error::other);
    match &whom.over {
        Over::Plain => ask(tcp().await?, &whom.host, errand, &count).await,
        Over::Tls(tls) => {
            let stream = tls.connect(name()?, tcp().await?).await?;
            ask(stream, &whom.host, errand, &count).await
        }
        Over::Http2(tls) => {
            let stream = tls.connect(name()?, tcp().await?).await?;
            http2(stream, &whom, errand, &count).await
        }
        Over::Http3(config) => http3(config, &whom, errand, &count).await,
    }
}

/// Asks again and again, until told to stop.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    errand: Errand,
    count: &Count,
) -> io::Result<()> {
    let request = request(host, errand);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let begun = Instant::now();
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut answer = Answer::default();
        read_answer(&mut stream, &mut answer, &mut buffer).await?;
        if count.answered(errand, answer.size, begun) {
            return Ok(());
        }
    }
}

/// Reads one answer to its end, as much at a time as the buffer holds.
pub async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut Answer,
    buffer: &mut [u8],
) -> io::Result<()> {
    loop {
        match stream.read(buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            size if answer.feed(&buffer[..size]) => return Ok(()),
            _ => {}
        }
    }
}

fn request(host: &str, errand: Errand) -> Vec<u8> {
    let path = errand.path;
    match errand.upload {
        0 => format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes(),
        upload => {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {upload}\r\n\r\n");
            let mut request = head.into_bytes();
            request.resize(request.len() + upload, 7);
            request
        }
    }
}

/// TLS for `protocol` that trusts the authority in `file`.
pub fn trusting(file: &Path, protocol: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(file).expect("the authority's certificate");
    roots.add(root).expect("a usable authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config
}
