//! One HTTP/1.1 request to a server that the operator or a certificate names, over a connection of its own.
//!
//! What is rarely asked is not worth connections that rest, nor what it takes to notice that one of them
//! has died; TLS sessions are resumed. What an answer takes of memory is bounded here, of time by the caller.

use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use crate::config::Host;

/// Bytes of the head of an answer.
const HEAD_MAX: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("not the URL of a server")]
    Url,
    #[error("it cannot be reached: {0}")]
    Connect(io::Error),
    #[error("no TLS with it: {0}")]
    Tls(io::Error),
    #[error("it did not answer as HTTP: {0}")]
    Http(String),
    #[error("its answer is larger than {} KiB", .0 >> 10)]
    Large(usize),
}

/// TLS with servers whose certificates lead to one of `roots`.
///
/// # Errors
/// When TLS cannot be set up at all.
pub fn tls(roots: RootCertStore) -> Result<TlsConnector, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The roots that this machine trusts.
pub fn platform_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Sends `request`, whose URI is absolute, and reads an answer of up to `answer_max` bytes.
/// Redirects are not followed. Without `tls` no https URL is asked.
///
/// # Errors
/// When there is no answer within the bounds.
pub async fn exchange<B>(
    request: Request<B>,
    tls: Option<&TlsConnector>,
    answer_max: usize,
) -> Result<Response<Bytes>, Fault>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().ok_or(Fault::Url)?.as_str().to_owned();
    let host = Host::from_authority(&authority).ok_or(Fault::Url)?;
    let is_https = head.uri.scheme() == Some(&Scheme::HTTPS);
    let port = head.uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    head.headers.insert(HOST, HeaderValue::try_from(&authority).map_err(|_| Fault::Url)?);
    let path = head.uri.path_and_query().cloned();
    head.uri = path.unwrap_or(PathAndQuery::from_static("/")).into();

    let address = host.address().map_or_else(|| host.to_string(), |address| address.to_string());
    let tcp = TcpStream::connect((address, port)).await.map_err(Fault::Connect)?;
    let stream = match is_https {
        true => {
            let name = match host.address() {
                Some(address) => ServerName::from(address),
                None => ServerName::try_from(host.to_string()).map_err(|_| Fault::Url)?,
            };
            let tls = tls.ok_or(Fault::Url)?;
            Either::Right(tls.connect(name, tcp).await.map_err(Fault::Tls)?)
        }
        false => Either::Left(tcp),
    };
    let failed = |error: hyper::Error| Fault::Http(error.to_string());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let answer = async {
        let answer = sender.send_request(Request::from_parts(head, body)).await;
        let (head, body) = answer.map_err(failed)?.into_parts();
        let body = Limited::new(body, answer_max).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => failed(*error),
            Err(_) => Fault::Large(answer_max),
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end with an answer that has not been looked at yet.
        _ = connection => answer.await,
    }
}
