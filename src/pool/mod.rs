//! skeleton, being written by the pool's author
use std::time::Duration;

use bytes::Bytes;
use wasmtime_wasi_http::WasiBody;

use crate::request_id::RequestId;

/// One request for a guest.
pub struct Request {
    pub id: RequestId,
    /// Its URI is absolute (`https://authority/path`), its headers are fit for a guest.
    pub http: http::Request<WasiBody>,
}

/// A guest's response.
pub struct Answer {
    pub http: http::Response<Body>,
    /// Which of the app's instances made it.
    pub instance: u64,
}

/// A response body. It fails, instead of ending, when the guest did not finish it.
pub struct Body(());

#[derive(Debug, thiserror::Error)]
#[error("cut")]
pub struct BodyError;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        todo!("pool")
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Every instance is taken and the queue is full, or its wait was too long.
    #[error("busy")]
    Busy { retry_after: Duration },
    /// The guest sent no response head within the request timeout.
    #[error("the guest did not answer in time")]
    TimedOut,
    /// The guest trapped, failed, or ended without a response.
    #[error("{0}")]
    Guest(String),
    /// The request's body is larger than allowed.
    #[error("body too large")]
    TooLarge,
}

/// One app's instances. Clones share them.
#[derive(Clone)]
pub struct Pool(());

impl Pool {
    pub async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        let _ = request;
        todo!("pool")
    }
}
