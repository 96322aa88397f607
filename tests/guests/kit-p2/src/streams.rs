//! The routes that are about bodies.

use common::{Pattern, Target};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::body::{BrokenBody, Reader, Writer, answer};
use crate::sleep_for;

const CHUNK: u64 = 64 * 1024;

/// Sends the request's body back as it comes, and its trailers after it.
pub fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let asked = request.headers();
    // Over HTTP/1 only trailers that the head announced are sent.
    let headers: Vec<_> = ["content-type", "trailer"]
        .into_iter()
        .flat_map(|name| {
            asked
                .get(name)
                .into_iter()
                .map(|value| (name.to_owned(), value))
        })
        .collect();
    let mut reader = Reader::of_request(&request);
    let mut writer = Writer::answer(out, 200, &headers);
    // On an error the writer is dropped unfinished, so that half of a request
    // does not come back as a whole response.
    if let Ok(()) = copy(&mut reader, &mut writer)
        && let Ok(trailers) = reader.trailers()
    {
        // They came as a resource of the request's; the answer needs its own.
        writer.finish(trailers.map(|trailers| trailers.clone()));
    }
}

/// Forwards a body to its end. A client that has left breaks it as well.
pub fn copy(reader: &mut Reader, writer: &mut Writer) -> Result<(), BrokenBody> {
    while let Some(bytes) = reader.next()? {
        writer.send(&bytes).map_err(|_| BrokenBody)?;
    }
    Ok(())
}

/// Reads the body to its end and answers its size.
pub fn discard(request: IncomingRequest, out: ResponseOutparam) {
    let mut reader = Reader::of_request(&request);
    let mut size = 0;
    while let Some(bytes) = reader.next().expect("the request body broke off") {
        size += bytes.len();
    }
    answer(out, &size.to_string());
}

pub fn stream(target: &Target, out: ResponseOutparam) {
    let length = target.number("bytes", CHUNK);
    let pattern = Pattern::in_chunks_of(target.number("chunk", CHUNK));
    let mut headers = Vec::new();
    if target.number("length", 0) == 1 {
        headers.push(("content-length".to_owned(), length.to_string().into_bytes()));
    }

    let mut writer = Writer::answer(out, 200, &headers);
    for chunk in pattern.first(length) {
        if writer.send(chunk).is_err() {
            return;
        }
    }
    writer.finish(None);
}

/// The same bytes as `stream`, with as little work as can be.
pub fn blob(target: &Target, out: ResponseOutparam) {
    let bytes = common::blob(target.number("bytes", CHUNK));
    let mut writer = Writer::answer(out, 200, &[]);
    if writer.send(bytes).is_ok() {
        writer.finish(None);
    }
}

pub fn drip(target: &Target, out: ResponseOutparam) {
    let pause = target.number("ms", 100);
    let headers = [("content-type".to_owned(), b"text/event-stream".to_vec())];
    let mut writer = Writer::answer(out, 200, &headers);
    for _ in 0..target.number("count", 5) {
        sleep_for(pause);
        if writer
            .send(b"tick\n")
            .and_then(|()| writer.flush())
            .is_err()
        {
            return;
        }
    }
    writer.finish(None);
}

/// Streams until the client has left.
pub fn endless(out: ResponseOutparam) {
    let pattern = Pattern::in_chunks_of(CHUNK);
    let mut writer = Writer::answer(out, 200, &[]);
    for chunk in pattern.first(u64::MAX) {
        if writer.send(chunk).is_err() {
            return;
        }
    }
}
