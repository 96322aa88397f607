//! A client's connection that stays open for many requests, as those of browsers and proxies do.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::client::{Error, Reply, Version, connect, trusting, whole};
use super::server::Server;

/// How to reach the server.
#[derive(Clone)]
pub enum Transport {
    Plain(SocketAddr),
    Tls(SocketAddr, Version, Arc<ClientConfig>),
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
    pub async fn open(transport: &Transport, host: &str) -> Result<Connection, Error> {
        let host = host.to_owned();
        match transport {
            Transport::Plain(address) => {
                let io = TcpStream::connect(address).await?;
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
