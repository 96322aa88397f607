//! One call from its request to the head of its response.

use std::error::Error as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::connect::connect;
use super::pool::{Connection, MAX_HEAD};
use super::reply::{ReplyBody, Resources};
use super::request::Head;
use super::upload::{Upload, UploadBody};
use super::{Call, Outbound};
use crate::limit::Limit;
use crate::traces::{self, Trace};

/// How long a connection may take from the end of one response to the next request.
const SETTLES: Duration = Duration::from_secs(1);

/// A response, and how the sending of the request ends.
pub type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// How long each phase of a call may take: what the guest asks for, and no more than the app may.
struct Waits {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

/// A head that came, over which connection, and how far the request's body is.
struct Answered {
    response: Response<Incoming>,
    connection: Connection,
    upload: watch::Receiver<Upload>,
}

impl Outbound {
    /// Sends a guest's request. Dropped, or with `calls` cancelled, it closes its connection.
    ///
    /// # Errors
    /// What the guest is told: that it may not, that the origin cannot be reached, or that it
    /// does not answer as it should.
    pub async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        calls: CancellationToken,
        trace: Option<Arc<Trace>>,
    ) -> Result<Sent, Error> {
        let (mut head, body) = request.into_parts();
        let span = trace.and_then(|it| it.call(&head.method, &head.uri, &mut head.headers));
        let request = Request::from_parts(head, body);
        let sent = self.send_within(request, options, calls, span.clone()).await;
        if let (Some(span), Err(error)) = (span, &sent) {
            span.failed(name_of(error));
        }
        sent
    }

    async fn send_within(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        calls: CancellationToken,
        span: Option<Arc<traces::Call>>,
    ) -> Result<Sent, Error> {
        let origin = self.allowed.origin(request.uri()).map_err(|refused| {
            self.reached(Limit::Outbound, refused);
            Error::HttpRequestDenied
        })?;
        let place = self.calls.clone().try_acquire_owned().map_err(|_| {
            self.reached(Limit::MaxOutbound, &origin);
            Error::ConnectionLimitReached
        })?;
        let waits = Waits::new(options.unwrap_or_default(), self.timeout);
        let call = Arc::new(Call { app: self, origin, span, calls: calls.clone() });
        let exchange = call.exchange(request, waits, place);
        calls.run_until_cancelled(exchange).await.unwrap_or(Err(Error::ConnectionTerminated))
    }
}

impl Call {
    async fn exchange(
        self: &Arc<Self>,
        request: Request<WasiBody>,
        waits: Waits,
        place: OwnedSemaphorePermit,
    ) -> Result<Sent, Error> {
        let (parts, body) = request.into_parts();
        let mut head = Head::new(Request::from_parts(parts, ()), &self.origin)?;
        if let Some(length) = head.length.filter(|length| *length > self.max_body()) {
            self.reached(Limit::MaxOutboundBody);
            return Err(Error::HttpRequestBodySize(Some(length)));
        }
        let (body, upload) = self.body(&mut head, body, &waits).await?;
        let answered = self.answer(head, body, upload, &waits).await?;
        self.deliver(answered, place, &waits)
    }

    /// The request's body. One that may not exist is waited for, so that the head can say it.
    async fn body(
        self: &Arc<Self>,
        head: &mut Head,
        body: WasiBody,
        waits: &Waits,
    ) -> Result<(UploadBody, watch::Receiver<Upload>), Error> {
        let (mut body, upload) = UploadBody::new(self, body, head.length);
        if head.length.is_some() || head.expects_body() {
            return Ok((body, upload));
        }
        match timeout(waits.first_byte, body.begins()).await {
            Ok(Ok(true)) => {
                head.set_chunked();
                Ok((body, upload))
            }
            Ok(Ok(false)) => Ok(UploadBody::empty(self)),
            Ok(Err(fault)) => Err(fault.error()),
            Err(_) => {
                self.waited(waits.first_byte);
                Err(Error::ConnectionWriteTimeout)
            }
        }
    }

    /// Sends the request over an idle connection, or a new one, until a head comes back.
    ///
    /// A server may close an idle connection at any time. A request that meets this is sent once
    /// more, over a new one, if nothing of it was sent or sending it twice means the same.
    async fn answer(
        self: &Arc<Self>,
        head: Head,
        body: UploadBody,
        upload: watch::Receiver<Upload>,
        waits: &Waits,
    ) -> Result<Answered, Error> {
        let repeatable = head.is_idempotent() && body.is_end_stream();
        let mut idle = self.idle().await;
        let again = (repeatable && idle.is_some()).then(|| head.http.clone());
        let mut next = (head.http.map(|()| body), upload);
        loop {
            let (request, upload) = next;
            let (mut connection, reused) = match idle.take() {
                Some(connection) => (connection, true),
                None => (self.connect(waits).await?, false),
            };
            let failure = match self.attempt(&mut connection, request, &upload, waits).await {
                Ok(response) => return Ok(Answered { response, connection, upload }),
                Err(failure) => failure,
            };
            next = match (failure.unsent, &again) {
                (Some(request), _) if reused => (*request, upload),
                (None, Some(head)) if reused && failure.lost => {
                    let (body, upload) = UploadBody::empty(self);
                    (head.clone().map(|()| body), upload)
                }
                _ => return Err(failure.error),
            };
        }
    }

    /// A connection to the call's origin that rests.
    async fn idle(&self) -> Option<Connection> {
        while let Some(mut connection) = self.app.pool.take(&self.origin) {
            // It has just answered another call, or was closed.
            if let Ok(Ok(())) = timeout(SETTLES, connection.sender.ready()).await {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self, waits: &Waits) -> Result<Connection, Error> {
        let place = self.app.network.connections.clone().try_acquire_owned().map_err(|_| {
            self.reached(Limit::OutboundConnections);
            Error::ConnectionLimitReached
        })?;
        let connecting = async {
            let stream = connect(&self.app, &self.origin).await?;
            Connection::open(stream, place).await.map_err(|_| Error::ConnectionTerminated)
        };
        timeout(waits.connect, connecting).await.unwrap_or_else(|_| {
            self.waited(waits.connect);
            Err(Error::ConnectionTimeout)
        })
    }

    /// Sends the request and waits for the head: each part of its body that is taken begins the
    /// wait anew.
    async fn attempt(
        &self,
        connection: &mut Connection,
        request: Request<UploadBody>,
        upload: &watch::Receiver<Upload>,
        waits: &Waits,
    ) -> Result<Response<Incoming>, Failure> {
        let mut upload = upload.clone();
        let mut response = pin!(connection.sender.try_send_request(request));
        let mut sending = true;
        loop {
            tokio::select! {
                biased;
                result = &mut response => {
                    return result.map_err(|error| Failure::of(error, *upload.borrow()));
                }
                changed = upload.changed(), if sending => sending = changed.is_ok(),
                () = sleep(waits.first_byte) => {
                    self.waited(waits.first_byte);
                    let error = Error::ConnectionReadTimeout;
                    return Err(Failure { error, lost: false, unsent: None });
                }
            }
        }
    }

    /// Hands the response to the guest.
    fn deliver(
        self: &Arc<Self>,
        answered: Answered,
        place: OwnedSemaphorePermit,
        waits: &Waits,
    ) -> Result<Sent, Error> {
        let Answered { response, connection, mut upload } = answered;
        let (parts, incoming) = response.into_parts();
        if let Some(span) = &self.span {
            span.answered(parts.status);
        }
        // No guest can ask for another protocol.
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::HttpProtocolError);
        }
        let size = incoming.size_hint().lower();
        if size > self.max_body() {
            self.reached(Limit::MaxOutboundBody);
            return Err(Error::HttpResponseBodySize(Some(size)));
        }
        let resources = Resources { connection, upload: upload.clone(), place };
        let body = ReplyBody::new(self.clone(), resources, incoming, waits.between_bytes);
        let sending = async move {
            let ended = upload.wait_for(|upload| *upload != Upload::Sending).await;
            match ended.map(|upload| *upload) {
                Ok(Upload::Failed(fault)) => Err(fault.error()),
                Ok(_) => Ok(()),
                // The connection is gone, and took the body with it.
                Err(_) => Err(Error::ConnectionTerminated),
            }
        };
        Ok((Response::from_parts(parts, body.boxed_unsync()), Box::new(sending)))
    }
}

impl Waits {
    fn new(asked: RequestOptions, longest: Duration) -> Self {
        let wait = |asked: Option<Duration>| asked.map_or(longest, |asked| asked.min(longest));
        Self {
            connect: wait(asked.connect_timeout),
            first_byte: wait(asked.first_byte_timeout),
            between_bytes: wait(asked.between_bytes_timeout),
        }
    }
}

/// Why no head came.
struct Failure {
    error: Error,
    /// The connection was gone, as one that was idle may be.
    lost: bool,
    /// The request, where nothing of it was sent.
    unsent: Option<Box<Request<UploadBody>>>,
}

impl Failure {
    fn of(mut failed: TrySendError<Request<UploadBody>>, upload: Upload) -> Self {
        let unsent = failed.take_message().map(Box::new);
        let error = failed.into_error();
        let lost = error.is_incomplete_message() || error.is_canceled() || is_io(&error);
        let error = match upload {
            Upload::Failed(fault) => fault.error(),
            _ if error.is_parse_too_large() => {
                Error::HttpResponseHeaderSectionSize(u32::try_from(MAX_HEAD).ok())
            }
            _ if error.is_parse() => Error::HttpProtocolError,
            _ => Error::ConnectionTerminated,
        };
        Self { error, lost, unsent }
    }
}

/// The name of an error, without what it says besides.
fn name_of(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn is_io(error: &hyper::Error) -> bool {
    error.source().is_some_and(|source| source.is::<io::Error>())
}
