//! Clients that ask over HTTP/2 and HTTP/3: one request at a time on a connection, as over HTTP/1.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::guests::Errand;
use super::load::{Count, Whom};

/// Asks over HTTP/2, again and again, until told to stop.
pub async fn http2(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    whom: &Whom,
    errand: Errand,
    count: &Count,
) -> io::Result<()> {
    let (mut requests, connection) =
        h2::client::handshake(stream).await.map_err(io::Error::other)?;
    // It ends with `requests`.
    tokio::spawn(connection);
    let (head, body) = request(whom, errand);
    loop {
        let begun = Instant::now();
        let size = async {
            let (answer, mut upload) = requests.send_request(head.clone(), body.is_empty())?;
            if !body.is_empty() {
                upload.send_data(body.clone(), true)?;
            }
            let mut answer = answer.await?.into_body();
            let mut size = 0;
            while let Some(data) = answer.data().await.transpose()? {
                answer.flow_control().release_capacity(data.len())?;
                size += data.len();
            }
            Ok::<_, h2::Error>(size)
        };
        let size = size.await.map_err(io::Error::other)?;
        if count.answered(errand, size, begun) {
            return Ok(());
        }
    }
}

/// Asks over HTTP/3, again and again, until told to stop.
pub async fn http3(
    config: &quinn::ClientConfig,
    whom: &Whom,
    errand: Errand,
    count: &Count,
) -> io::Result<()> {
    // With a port of its own, as every client of a server has.
    let endpoint = quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let connecting = endpoint.connect_with(config.clone(), whom.address, &whom.host);
    let connection = connecting.map_err(io::Error::other)?.await?;
    let connection = h3_quinn::Connection::new(connection);
    let (mut driver, mut requests) = h3::client::new(connection).await.map_err(io::Error::other)?;
    // It ends with `requests`.
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    let (head, body) = request(whom, errand);
    loop {
        let begun = Instant::now();
        let size = async {
            let mut stream = requests.send_request(head.clone()).await?;
            if !body.is_empty() {
                stream.send_data(body.clone()).await?;
            }
            stream.finish().await?;
            stream.recv_response().await?;
            let mut size = 0;
            while let Some(data) = stream.recv_data().await? {
                size += data.remaining();
            }
            Ok::<_, h3::error::StreamError>(size)
        };
        let size = size.await.map_err(io::Error::other)?;
        if count.answered(errand, size, begun) {
            return Ok(());
        }
    }
}

fn request(whom: &Whom, errand: Errand) -> (Request<()>, Bytes) {
    let method = if errand.upload == 0 { Method::GET } else { Method::POST };
    let request = Request::builder()
        .method(method)
        .uri(format!("https://{}:{}{}", whom.host, whom.address.port(), errand.path))
        .body(());
    (request.expect("a request"), vec![7; errand.upload].into())
}
