//! HTTP clients: a new connection for each request, over plain TCP or TLS, HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::Pair;
use super::server::{PATIENCE, Server, Site};

/// Which protocol to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    H1,
    H2,
}

/// The hosts of both kinds of guest, on the usual site.
pub const GUESTS: [&str; 2] = ["p2.test", "p3.test"];

pub const VERSIONS: [Version; 2] = [Version::H1, Version::H2];

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Anything that may go wrong with a request.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A client that trusts the root certificate `pem`, and offers one protocol.
pub fn trusting(pem: &str, version: Version) -> Arc<ClientConfig> {
    trusting_as(pem, version, None)
}

/// The same, which shows a certificate of its own where it is asked for one.
pub fn trusting_as(pem: &str, version: Version, own: Option<&Pair>) -> Arc<ClientConfig> {
    speaking(rustls::DEFAULT_VERSIONS, pem, version, own)
}

/// The same, over these versions of TLS.
pub fn speaking(
    tls: &[&'static SupportedProtocolVersion],
    pem: &str,
    version: Version,
    own: Option<&Pair>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("a PEM certificate")).expect("a root certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls)
        .expect("protocol versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            let chain = vec![CertificateDer::from(own.der.clone())];
            builder.with_client_auth_cert(chain, key).expect("a pair that fits")
        }
    };
    config.alpn_protocols = vec![match version {
        Version::H1 => b"http/1.1".to_vec(),
        Version::H2 => b"h2".to_vec(),
    }];
    Arc::new(config)
}

/// A TLS connection to `address` for the host `sni`.
pub async fn connect(
    address: SocketAddr,
    sni: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Error> {
    let tcp = TcpStream::connect(address).await?;
    Ok(TlsConnector::from(config).connect(ServerName::try_from(sni.to_owned())?, tcp).await?)
}

/// Sends one request over `io`, whose URI is the path, and reads the head of the answer.
pub async fn send<I, B>(
    io: I,
    version: Version,
    request: Request<B>,
) -> Result<Response<Incoming>, Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Error>,
{
    let io = TokioIo::new(io);
    match version {
        Version::H1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        }
        Version::H2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        }
    }
}

/// GET of `http://HOST/PATH`, on a connection of its own.
pub async fn get(server: &Server, host: &str, path: &str) -> Result<Reply, Error> {
    get_at(server.http, host, path).await
}

/// The same, of the server at `address`.
pub async fn get_at(address: SocketAddr, host: &str, path: &str) -> Result<Reply, Error> {
    let io = TcpStream::connect(address).await?;
    let request = Request::get(path).header("host", host).body(Full::default())?;
    whole(send(io, Version::H1, request).await?).await
}

/// The status and the text of `http://HOST/PATH`; `000` and the error where there is no answer.
pub async fn answer(server: &Server, host: &str, path: &str) -> String {
    match get(server, host, path).await {
        Ok(reply) => format!("{} {}", reply.status.as_str(), reply.text().trim()),
        Err(error) => format!("000 {error}"),
    }
}

/// Waits until `http://HOST/PATH` is answered with the status and text that `expected` begins.
pub async fn until_answer(server: &Server, host: &str, path: &str, expected: &str) {
    let end = Instant::now() + PATIENCE;
    let mut got = answer(server, host, path).await;
    while !got.starts_with(expected) {
        assert!(
            Instant::now() < end,
            "{host}{path}: {got:?} instead of {expected:?}, and {:#?}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
        got = answer(server, host, path).await;
    }
}

/// GET of `https://HOST/PATH`, on a connection of its own whose certificate is verified.
pub async fn get_tls(
    site: &Site,
    server: &Server,
    host: &str,
    path: &str,
    version: Version,
) -> Result<Reply, Error> {
    request_tls(site, server, host, version, Request::get(path).body(Full::default())?).await
}

/// Sends `request`, whose URI is a path, to `https://HOST`.
pub async fn request_tls(
    site: &Site,
    server: &Server,
    host: &str,
    version: Version,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Error> {
    let io = connect(server.https, host, trusting(&site.root(), version)).await?;
    let (mut head, body) = request.into_parts();
    match version {
        Version::H1 => {
            head.headers.insert("host", host.parse()?);
        }
        Version::H2 => head.uri = format!("https://{host}{}", head.uri).parse()?,
    }
    whole(send(io, version, Request::from_parts(head, body)).await?).await
}

/// POST of `body` to `http://HOST/PATH`.
pub async fn post(server: &Server, host: &str, path: &str, body: &str) -> Result<Reply, Error> {
    let io = TcpStream::connect(server.http).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", host)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    whole(send(io, Version::H1, request).await?).await
}

/// Reads an answer to its end. A body that is cut is an error.
pub async fn whole(response: Response<Incoming>) -> Result<Reply, Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Reply { status: head.status, headers: head.headers, body })
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(not text)")
    }
}

/// Sends these bytes as they are, and reads until the server closes the connection.
pub async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut io = TcpStream::connect(address).await.expect("connect");
    io.write_all(bytes.as_ref()).await.expect("send");
    to_the_end(&mut io).await
}

/// Sends an HTTP/1.1 request, written by hand, on a connection that the answer ends.
pub async fn ask(server: &Server, method: &str, path: &str, headers: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    raw(server.http, head).await
}

/// What is read until the server closes the connection.
pub async fn to_the_end(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection")
        .expect("an orderly end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status in an answer's first line.
pub fn status(answer: &str) -> u16 {
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// A body whose chunks are sent while it is on its way. Dropping the sender ends it.
pub struct Piped(mpsc::UnboundedReceiver<Frame<Bytes>>);

/// A body, and what it is fed by.
pub fn piped() -> (mpsc::UnboundedSender<Frame<Bytes>>, Piped) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Piped(receiver))
}

impl Body for Piped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
