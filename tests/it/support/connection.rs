//! A client's connection that stays open for many requests, as those of browsers and proxies do.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
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
        Transport::Tls(server.https, version, trusting(roots, version))
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
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                let request = Request::get(path).header("host", &self.host);
                sender.send_request(request.body(Full::default())?).await?
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                let request = Request::get(format!("https://{}{path}", self.host));
                sender.send_request(request.body(Full::default())?).await?
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
