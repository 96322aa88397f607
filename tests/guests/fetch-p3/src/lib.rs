//! One WASI 0.3 component that sends the request that its client describes, and
//! tells what came of it.
//!
//! Parameters of `/send`: `url`, `method`, `headers` (`name: value` lines),
//! `length` (a content-length), `body` (its bytes; none without it), `end`
//! (`finish`, `drop` or `trap`: what becomes of the body after them), `connect`,
//! `first` and `between` (timeouts in milliseconds), and `keep` (the response is
//! neither read nor dropped).

use common::Target;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme, Trailers,
};
use wasip3::wit_bindgen::{FutureWriter, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Fetch);

struct Fetch;

const CHUNK: usize = 16 * 1024;

impl Guest for Fetch {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        let text = match target.path.as_str() {
            "/send" => send(&target).await.unwrap_or_else(|refused| format!("refused: {refused}")),
            _ => "no such route".to_owned(),
        };
        let (mut stream, contents) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(contents), trailers);
        spawn_local(async move {
            stream.write_all(text.into_bytes()).await;
        });
        Ok(response)
    }
}

async fn send(target: &Target) -> Result<String, String> {
    let (trailers, trailers_to_be) = wit_future::new(|| {
        Err(ErrorCode::InternalError(Some("the body was not finished".to_owned())))
    });
    let (contents, body) = match target.text("body") {
        Some(_) => {
            let (stream, contents) = wit_stream::new();
            (Some(contents), Some(stream))
        }
        None => (None, None),
    };
    let (request, transmitted) =
        Request::new(headers(target)?, contents, trailers_to_be, Some(options(target)));
    describe(target, &request)?;

    let size = target.number("body", 0) as usize;
    let end = target.text("end").unwrap_or("finish").to_owned();
    spawn_local(write(body, trailers, size, end));
    let response = match client::send(request).await {
        Ok(response) => response,
        Err(error) => return Ok(format!("got {error:?}")),
    };
    let status = response.get_status_code();
    if target.text("keep").is_some() {
        std::mem::forget(response);
        return Ok(format!("got {status}, kept"));
    }
    let read = read(response).await;
    let sent = transmitted.await.map_or_else(|error| format!("{error:?}"), |()| "all".to_owned());
    Ok(format!("sent {sent}, got {status}, {read}"))
}

fn headers(target: &Target) -> Result<Fields, String> {
    let headers = Fields::new();
    let lines = target.text("headers").unwrap_or_default().lines();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name, value.as_bytes()).map_err(|e| format!("{name}: {e:?}"))?;
    }
    if let Some(length) = target.text("length") {
        headers.append("content-length", length.as_bytes()).map_err(|e| format!("length: {e:?}"))?;
    }
    Ok(headers)
}

fn options(target: &Target) -> RequestOptions {
    let nanos = |name| target.text(name).and_then(|ms| ms.parse().ok()).map(|ms: u64| ms * 1_000_000);
    let options = RequestOptions::new();
    options.set_connect_timeout(nanos("connect")).unwrap();
    options.set_first_byte_timeout(nanos("first")).unwrap();
    options.set_between_bytes_timeout(nanos("between")).unwrap();
    options
}

fn describe(target: &Target, request: &Request) -> Result<(), String> {
    let url = target.text("url").unwrap_or_default();
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let method = match target.text("method").unwrap_or("GET") {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "path")?;
    Ok(())
}

async fn write(
    body: Option<StreamWriter<u8>>,
    trailers: FutureWriter<Result<Option<Trailers>, ErrorCode>>,
    size: usize,
    end: String,
) {
    if let Some(mut stream) = body {
        let mut left = size;
        while left > 0 {
            let count = left.min(CHUNK);
            if !stream.write_all(vec![b'x'; count]).await.is_empty() {
                return;
            }
            left -= count;
        }
        match end.as_str() {
            // What follows the stream's end says that it is not a good one.
            "drop" => return,
            "trap" => core::arch::wasm32::unreachable(),
            _ => {}
        }
    }
    let _ = trailers.write(Ok(None)).await;
}

async fn read(response: Response) -> String {
    let (_, all_well) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Response::consume_body(response, all_well);
    let mut bytes = Vec::new();
    let mut size = 0;
    loop {
        match stream.read(Vec::with_capacity(CHUNK)).await {
            (StreamResult::Complete(_), part) => {
                size += part.len();
                bytes.extend_from_slice(&part[..part.len().min(2048 - bytes.len().min(2048))]);
            }
            (StreamResult::Dropped | StreamResult::Cancelled, _) => break,
        }
    }
    drop(stream);
    match trailers.await {
        Ok(_) => format!("{size} bytes, whole: {}", String::from_utf8_lossy(&bytes)),
        Err(error) => format!("{size} bytes, cut: {error:?}"),
    }
}
