//! Reading and writing bodies, each as a task of its own behind the response.

use common::Visit;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

const READ_SIZE: usize = 64 * 1024;

pub type Answer = Result<Response, ErrorCode>;

/// The duty to answer one request.
pub struct Reply(pub Visit);

impl Reply {
    /// Answers 200 with a text.
    pub fn text(self, text: &str) -> Answer {
        let headers = [("content-type".to_owned(), b"text/plain".to_vec())];
        self.full(200, &headers, text.as_bytes())
    }

    /// Answers with a body that is at hand.
    pub fn full(self, status: u16, headers: &[(String, Vec<u8>)], body: &[u8]) -> Answer {
        let body = body.to_vec();
        self.stream(status, headers, async move |mut writer| {
            if writer.send_all(body).await.is_ok() {
                writer.finish(None).await;
            }
        })
    }

    /// Answers with what `write` writes after the response is returned. The
    /// request counts as inside until `write` is done.
    pub fn stream(
        self,
        status: u16,
        headers: &[(String, Vec<u8>)],
        write: impl AsyncFnOnce(Writer) + 'static,
    ) -> Answer {
        let (stream, contents) = wit_stream::new();
        let (trailers, trailers_to_be) = wit_future::new(|| Err(abandoned()));
        let (response, _) = Response::new(
            Fields::from_list(headers).unwrap(),
            Some(contents),
            trailers_to_be,
        );
        response.set_status_code(status).unwrap();
        spawn_local(async move {
            write(Writer { stream, trailers }).await;
            drop(self);
        });
        Ok(response)
    }
}

/// Whether the host will not have this status, found out without answering.
pub fn refuses_status(code: u16) -> bool {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), None, trailers);
    response.set_status_code(code).is_err()
}

fn abandoned() -> ErrorCode {
    ErrorCode::InternalError(Some("the body was not finished".to_owned()))
}

/// The client has left.
pub struct Gone;

/// The body of a response whose head is on its way.
///
/// Dropping it unfinished tells the host that the body is not whole.
pub struct Writer {
    stream: StreamWriter<u8>,
    trailers: FutureWriter<Result<Option<Trailers>, ErrorCode>>,
}

impl Writer {
    /// Writes, and waits until the host has taken all of it.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.send_all(bytes.to_vec()).await
    }

    pub async fn send_all(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let left = self.stream.write_all(bytes).await;
        if left.is_empty() { Ok(()) } else { Err(Gone) }
    }

    pub async fn finish(self, trailers: Option<Trailers>) {
        self.end(Ok(trailers)).await;
    }

    pub async fn fail(self, error: ErrorCode) {
        self.end(Err(error)).await;
    }

    async fn end(self, result: Result<Option<Trailers>, ErrorCode>) {
        drop(self.stream);
        // Nobody reads it if the client has left.
        let _ = self.trailers.write(result).await;
    }
}

/// The body of a request or a response to us.
pub struct Reader {
    stream: StreamReader<u8>,
    trailers: FutureReader<Result<Option<Trailers>, ErrorCode>>,
}

impl Reader {
    pub fn of_request(request: Request) -> Reader {
        let (_, all_well) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(request, all_well);
        Reader { stream, trailers }
    }

    pub fn of_response(response: Response) -> Reader {
        let (_, all_well) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Response::consume_body(response, all_well);
        Reader { stream, trailers }
    }

    /// What comes next, or `None` at the end, be it a good or a bad one:
    /// `trailers` tells which.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.stream.read(Vec::with_capacity(READ_SIZE)).await {
                (StreamResult::Complete(0), _) => continue,
                (StreamResult::Complete(_), bytes) => return Some(bytes),
                (StreamResult::Dropped | StreamResult::Cancelled, _) => return None,
            }
        }
    }

    /// What follows the end.
    pub async fn trailers(self) -> Result<Option<Trailers>, ErrorCode> {
        drop(self.stream);
        self.trailers.await
    }

    /// Forwards the body to its end, its trailers and its failure too.
    pub async fn copy_to(mut self, mut writer: Writer) {
        while let Some(bytes) = self.next().await {
            if writer.send_all(bytes).await.is_err() {
                return;
            }
        }
        match self.trailers().await {
            Ok(trailers) => writer.finish(trailers).await,
            Err(error) => writer.fail(error).await,
        }
    }
}
