//! A client's connection that stays open for many requests, as those of browsers and proxies do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::client::{Error, Reply, Version, connect, trusting, whole};
use super::server::Server;

/// How to reach the server.
#[derive(Clone)]
pub enum Transport {
    Plain(SocketAddr),
    Tls(SocketAddr, Version, Arc<ClientConfig>),
    /// Without TLS, at a Unix socket.
    Unix(PathBuf),
}

/// An open connection for one host.
pub struct Connection {
    sender: Sender,
    host: String,
    /// The certificate that the server showed, as DER.
    pub certificate: Option<Vec<u8>>,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Transport {
    pub fn plain(server: &Server) -> Transport {
        Transport::Plain(server.http)
    }

    /// TLS that trusts `roots`, as PEM.
    pub fn tls(server: &Server, version: Version, roots: &str) -> Transport {
        let mut config = ClientConfig::clone(&trusting(roots, version));
        // A resumed session shows the certificate of the one it resumes.
        config.resumption = Resumption::disabled();
        Transport::Tls(server.https, version, Arc::new(config))
    }
}

impl Connection {
    /// Speaks over a connection that is there already, for this host.
    pub async fn over(
        io: TlsStream<TcpStream>,
        version: Version,
        host: &str,
    ) -> Result<Connection, Error> {
        Ok(Connection {
            sender: speak(io, version).await?,
            host: host.to_owned(),
            certificate: None,
        })
    }

    pub async fn open(transport: &Transport, host: &str) -> Result<Connection, Error> {
        let host = host.to_owned();
        match transport {
            Transport::Plain(address) => {
                let io = TcpStream::connect(address).await?;
                Ok(Connection { sender: speak(io, Version::H1).await?, host, certificate: None })
            }
            Transport::Unix(path) => {
                let io = UnixStream::connect(path).await?;
                Ok(Connection { sender: speak(io, Version::H1).await?, host, certificate: None })
            }
            Transport::Tls(address, version, config) => {
                let io = connect(*address, &host, Arc::clone(config)).await?;
                let chain = io.get_ref().1.peer_certificates().unwrap_or_default();
                let certificate = chain.first().map(|certificate| certificate.to_vec());
                Ok(Connection { sender: speak(io, *version).await?, host, certificate })
            }
        }
    }

    /// GET of `path`.
    pub async fn get(&mut self, path: &str) -> Result<Reply, Error> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// POST of `body` to `path`.
    pub async fn post(&mut self, path: &str, body: &'static str) -> Result<Reply, Error> {
        self.send(Method::POST, path, body.into()).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Reply, Error> {
        let request = Request::builder().method(method);
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                let request = request.uri(path).header("host", &self.host);
                sender.send_request(request.body(Full::new(body))?).await?
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                let request = request.uri(format!("https://{}{path}", self.host));
                sender.send_request(request.body(Full::new(body))?).await?
            }
        };
        whole(response).await
    }

    /// Whether the server has said that it takes no more requests here.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }
}

/// Whether a request that failed was not begun, because the server had said before that the
/// connection was to end: clients send it again by themselves (RFC 9113, 8.7).
pub fn is_unsent(error: &Error) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return false };
    let h2 = std::error::Error::source(error).and_then(|it| it.downcast_ref::<h2::Error>());
    let said = |it: &h2::Error| {
        it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR)
    };
    error.is_canceled() || error.is_closed() || h2.is_some_and(said)
}

async fn speak<I>(io: I, version: Version) -> Result<Sender, Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(io);
    Ok(match version {
        Version::H1 => {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Sender::H1(sender)
        }
        Version::H2 => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::H2(sender)
        }
    })
}
