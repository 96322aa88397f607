//! Reading and writing bodies, waiting wherever the host asks for it.

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, InputStream, OutgoingBody, OutgoingResponse,
    OutputStream, ResponseOutparam, Trailers,
};
use wasip2::io::streams::StreamError;

const READ_SIZE: u64 = 64 * 1024;

/// Answers 200 with a text.
pub fn answer(out: ResponseOutparam, text: &str) {
    let headers = [("content-type".to_owned(), b"text/plain".to_vec())];
    answer_in_full(out, 200, &headers, text.as_bytes());
}

/// Answers with a body that is at hand.
pub fn answer_in_full(
    out: ResponseOutparam,
    status: u16,
    headers: &[(String, Vec<u8>)],
    body: &[u8],
) {
    let mut writer = Writer::answer(out, status, headers);
    if writer.send(body).is_ok() {
        writer.finish(None);
    }
}

/// The body of a response whose head is on its way.
///
/// Dropping it unfinished tells the host that the body is not whole.
pub struct Writer {
    // Before the body: a stream is its body's child, and goes first.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Writer {
    /// Hands the head to the host.
    pub fn answer(out: ResponseOutparam, status: u16, headers: &[(String, Vec<u8>)]) -> Writer {
        let response = OutgoingResponse::new(Fields::from_list(headers).unwrap());
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        ResponseOutparam::set(out, Ok(response));
        Writer { stream, body }
    }

    /// Waits for room and writes, until all of it is written.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let room = self.stream.check_write()? as usize;
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.stream.write(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Waits until the host has taken what was sent.
    pub fn flush(&mut self) -> Result<(), StreamError> {
        self.stream.blocking_flush()
    }

    pub fn finish(self, trailers: Option<Trailers>) {
        drop(self.stream);
        // It fails when the client has left, or when the body is not as long
        // as its content-length said. The host knows about either.
        let _ = OutgoingBody::finish(self.body, trailers);
    }
}

/// A body that did not arrive whole.
#[derive(Debug)]
pub struct BrokenBody;

/// The body of a request or a response to us.
pub struct Reader {
    // Before the body: a stream is its body's child, and goes first.
    stream: InputStream,
    body: IncomingBody,
}

impl Reader {
    pub fn of_request(request: &IncomingRequest) -> Reader {
        Reader::new(request.consume().unwrap())
    }

    pub fn new(body: IncomingBody) -> Reader {
        Reader {
            stream: body.stream().unwrap(),
            body,
        }
    }

    /// What comes next, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, BrokenBody> {
        match self.stream.blocking_read(READ_SIZE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(_)) => Err(BrokenBody),
        }
    }

    /// What follows the end.
    pub fn trailers(self) -> Result<Option<Trailers>, BrokenBody> {
        drop(self.stream);
        let trailers = IncomingBody::finish(self.body);
        trailers.subscribe().block();
        match trailers.get() {
            Some(Ok(Ok(trailers))) => Ok(trailers),
            _ => Err(BrokenBody),
        }
    }
}
