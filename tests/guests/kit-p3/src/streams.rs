//! The routes that are about bodies.

use common::{Pattern, Target};
use wasip3::http::types::Request;

use crate::body::{Answer, Reader, Reply};
use crate::sleep_for;

const CHUNK: u64 = 64 * 1024;

/// Sends the request's body back as it comes, and its trailers after it.
pub fn echo(request: Request, reply: Reply) -> Answer {
    let asked = request.get_headers();
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
    let reader = Reader::of_request(request);
    reply.stream(200, &headers, async move |writer| {
        reader.copy_to(writer).await
    })
}

/// Reads the body to its end and answers its size.
pub async fn discard(request: Request, reply: Reply) -> Answer {
    let mut reader = Reader::of_request(request);
    let mut size = 0;
    while let Some(bytes) = reader.next().await {
        size += bytes.len();
    }
    reader.trailers().await?;
    reply.text(&size.to_string())
}

pub fn stream(target: &Target, reply: Reply) -> Answer {
    let length = target.number("bytes", CHUNK);
    let pattern = Pattern::in_chunks_of(target.number("chunk", CHUNK));
    let mut headers = Vec::new();
    if target.number("length", 0) == 1 {
        headers.push(("content-length".to_owned(), length.to_string().into_bytes()));
    }

    reply.stream(200, &headers, async move |mut writer| {
        for chunk in pattern.first(length) {
            if writer.send(chunk).await.is_err() {
                return;
            }
        }
        writer.finish(None).await;
    })
}

/// The same bytes as `stream`, with as little work as can be.
pub fn blob(target: &Target, reply: Reply) -> Answer {
    reply.full(200, &[], common::blob(target.number("bytes", CHUNK)))
}

pub fn drip(target: &Target, reply: Reply) -> Answer {
    let pause = target.number("ms", 100);
    let count = target.number("count", 5);
    let headers = [("content-type".to_owned(), b"text/event-stream".to_vec())];
    reply.stream(200, &headers, async move |mut writer| {
        for _ in 0..count {
            sleep_for(pause).await;
            if writer.send(b"tick\n").await.is_err() {
                return;
            }
        }
        writer.finish(None).await;
    })
}

/// Streams until the client has left.
pub fn endless(reply: Reply) -> Answer {
    let pattern = Pattern::in_chunks_of(CHUNK);
    reply.stream(200, &[], async move |mut writer| {
        for chunk in pattern.first(u64::MAX) {
            if writer.send(chunk).await.is_err() {
                return;
            }
        }
    })
}
