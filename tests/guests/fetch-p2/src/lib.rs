//! One WASI 0.2 component that sends the request that its client describes, and
//! tells what came of it.
//!
//! Parameters of `/send`: `url`, `method`, `headers` (`name: value` lines),
//! `length` (a content-length), `body` (its bytes; none without it), `end`
//! (`finish`, `drop` or `trap`: what becomes of the body after them), `connect`,
//! `first` and `between` (timeouts in milliseconds), and `keep` (the response is
//! neither read nor dropped). `/sockets` tries `port` of 127.0.0.1 without HTTP.

use common::Target;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

wasip2::http::proxy::export!(Fetch);

struct Fetch;

const CHUNK: usize = 16 * 1024;

impl Guest for Fetch {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = Target::parse(&request.path_with_query().unwrap_or_default());
        let text = match target.path.as_str() {
            "/send" => send(&target).unwrap_or_else(|refused| format!("refused: {refused}")),
            "/sockets" => sockets(target.number("port", 80) as u16),
            _ => "no such route".to_owned(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        ResponseOutparam::set(out, Ok(response));
        stream.blocking_write_and_flush(&text.as_bytes()[..text.len().min(4096)]).unwrap();
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

fn send(target: &Target) -> Result<String, String> {
    let request = describe(target)?;
    let options = RequestOptions::new();
    let nanos = |name| target.text(name).and_then(|ms| ms.parse().ok()).map(|ms: u64| ms * 1_000_000);
    options.set_connect_timeout(nanos("connect")).unwrap();
    options.set_first_byte_timeout(nanos("first")).unwrap();
    options.set_between_bytes_timeout(nanos("between")).unwrap();

    let body = target.text("body").map(|_| request.body().map_err(|()| "body".to_owned()));
    let body = body.transpose()?;
    let response = outgoing_handler::handle(request, Some(options)).map_err(|e| format!("{e:?}"))?;
    let sent = body.map_or("nothing".to_owned(), |body| write(target, body));
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Ok(format!("sent {sent}, got {error:?}")),
        _ => return Err("no answer, though it was said to be ready".to_owned()),
    };
    let status = response.status();
    if target.text("keep").is_some() {
        std::mem::forget(response);
        return Ok(format!("sent {sent}, got {status}, kept"));
    }
    Ok(format!("sent {sent}, got {status}, {}", read(response)))
}

fn describe(target: &Target) -> Result<OutgoingRequest, String> {
    let url = target.text("url").unwrap_or_default();
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    let lines = target.text("headers").unwrap_or_default().lines();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name, value.as_bytes()).map_err(|e| format!("{name}: {e:?}"))?;
    }
    if let Some(length) = target.text("length") {
        headers.append("content-length", length.as_bytes()).map_err(|e| format!("length: {e:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
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
    Ok(request)
}

fn write(target: &Target, body: OutgoingBody) -> String {
    let stream = body.write().unwrap();
    let mut left = target.number("body", 0) as usize;
    while left > 0 {
        let room = match stream.check_write() {
            Ok(0) => {
                stream.subscribe().block();
                continue;
            }
            Ok(room) => room as usize,
            Err(_) => return "a part".to_owned(),
        };
        let count = left.min(room).min(CHUNK);
        if stream.write(&vec![b'x'; count]).is_err() {
            return "a part".to_owned();
        }
        left -= count;
    }
    drop(stream);
    match target.text("end").unwrap_or("finish") {
        "drop" => drop(body),
        "trap" => core::arch::wasm32::unreachable(),
        _ => {
            if let Err(error) = OutgoingBody::finish(body, None) {
                return format!("{error:?}");
            }
        }
    }
    "all".to_owned()
}

fn read(response: IncomingResponse) -> String {
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut bytes = Vec::new();
    let mut size = 0;
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(part) => {
                size += part.len();
                bytes.extend_from_slice(&part[..part.len().min(2048 - bytes.len().min(2048))]);
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                return format!("{size} bytes, cut: {code:?}");
            }
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(_))) => format!("{size} bytes, whole: {}", String::from_utf8_lossy(&bytes)),
        other => format!("{size} bytes, cut: {other:?}"),
    }
}

/// What a guest can do without HTTP.
fn sockets(port: u16) -> String {
    let said = |result: Result<(), ErrorCode>| match result {
        Ok(()) => "open".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let there = Ipv4SocketAddress { port, address: (127, 0, 0, 1) };
    let (connect, listen) = (said(connect(there)), said(listen()));
    let (udp, lookup) = (said(datagram(there)), said(lookup()));
    format!("connect {connect}, listen {listen}, udp {udp}, lookup {lookup}")
}

fn connect(there: Ipv4SocketAddress) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), IpSocketAddress::Ipv4(there))?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn listen() -> Result<(), ErrorCode> {
    let anywhere = Ipv4SocketAddress { port: 0, address: (0, 0, 0, 0) };
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), IpSocketAddress::Ipv4(anywhere))?;
    socket.subscribe().block();
    socket.finish_bind()
}

fn datagram(there: Ipv4SocketAddress) -> Result<(), ErrorCode> {
    let anywhere = Ipv4SocketAddress { port: 0, address: (0, 0, 0, 0) };
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), IpSocketAddress::Ipv4(anywhere))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.stream(Some(IpSocketAddress::Ipv4(there))).map(drop)
}

fn lookup() -> Result<(), ErrorCode> {
    let names = resolve_addresses(&instance_network(), "localhost")?;
    names.subscribe().block();
    names.resolve_next_address().map(drop)
}
