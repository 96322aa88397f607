//! Slow clients, byte by byte, and whether the server still holds their connection.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::client::Version;

/// How an HTTP/2 client begins.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame.
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a slow client does.
pub struct Shape {
    pub name: &'static str,
    pub version: Version,
    /// What it sends at once.
    pub bytes: Vec<u8>,
    /// What it then sends again and again, and how seldom.
    pub trickle: Option<(Vec<u8>, Duration)>,
    /// Whether it takes what the server sends.
    pub reads: bool,
}

/// The nine, some of them in more than one way. Those that trickle do so once per `pause`.
pub fn shapes(pause: Duration) -> Vec<Shape> {
    let h1 = |name, bytes: &str, trickle: Option<&str>| Shape {
        name,
        version: Version::H1,
        bytes: bytes.into(),
        trickle: trickle.map(|bytes| (bytes.into(), pause)),
        reads: true,
    };
    let h2 = |name, frames: &[Vec<u8>], trickle: Option<Vec<u8>>| Shape {
        name,
        version: Version::H2,
        bytes: [PREFACE, SETTINGS, &frames.concat()].concat(),
        trickle: trickle.map(|bytes| (bytes, pause)),
        reads: true,
    };
    let get = "GET / HTTP/1.1\r\nhost: p2.test\r\n";
    let post = "POST /discard HTTP/1.1\r\nhost: p2.test\r\n";
    let upload = head("POST", "/discard", END_HEADERS);
    let endless = head("GET", "/endless", END_HEADERS | END_STREAM);
    // Every window as wide as can be, so that the socket is what is full.
    let wide = [
        frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(8, 0, 0, &[0x7f, 0, 0, 0]),
        endless.clone(),
    ];
    let half_preface =
        Shape { bytes: PREFACE[..16].into(), ..h2("half an HTTP/2 preface", &[], None) };
    vec![
        h1("nothing sent", "", None),
        half_preface,
        Shape { bytes: PREFACE.into(), ..h2("an HTTP/2 preface and no more", &[], None) },
        h2("HTTP/2 that opens no stream", &[frame(4, 1, 0, &[])], None),
        h2("HTTP/2 that opens no stream, and pings", &[], Some(frame(6, 0, 0, &[0; 8]))),
        h2("HEADERS without END_HEADERS", &[head("GET", "/", END_STREAM)], None),
        h2(
            "HEADERS without END_HEADERS, and CONTINUATION now and then",
            &[head("GET", "/", END_STREAM)],
            Some(frame(9, 0, 1, b"\x00\x01x\x01y")),
        ),
        h2(
            "HEADERS without END_HEADERS beside a request that runs",
            &[upload.clone(), frame(1, END_STREAM, 3, &block("GET", "/"))],
            None,
        ),
        h1("HTTP/1 headers, endlessly", get, Some("x: y\r\n")),
        h1(
            "an HTTP/1 body of known length, endlessly",
            &format!("{post}content-length: 100000\r\n\r\n"),
            Some("x"),
        ),
        h1(
            "an HTTP/1 body in chunks, endlessly",
            &format!("{post}transfer-encoding: chunked\r\n\r\n"),
            Some("1\r\nx\r\n"),
        ),
        h1("an HTTP/1 body that stops", &format!("{post}content-length: 100000\r\n\r\nx"), None),
        h2("an HTTP/2 body, endlessly", std::slice::from_ref(&upload), Some(frame(0, 0, 1, b"x"))),
        h2("an HTTP/2 body that stops", &[upload.clone(), frame(0, 0, 1, b"x")], None),
        h2(
            "one frame of an HTTP/2 body, endlessly",
            &[upload, vec![0, 0x40, 0, 0, 0, 0, 0, 0, 1]],
            Some(b"x".into()),
        ),
        Shape {
            reads: false,
            ..h1(
                "an HTTP/1 answer that is not read",
                "GET /endless HTTP/1.1\r\nhost: p2.test\r\n\r\n",
                None,
            )
        },
        Shape { reads: false, ..h2("an HTTP/2 answer that is not read", &wide, None) },
        h2("an HTTP/2 stream whose window stays closed", &[endless], None),
    ]
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
}

/// HEADERS of the first stream, for `p2.test`.
fn head(method: &str, path: &str, flags: u8) -> Vec<u8> {
    frame(1, flags, 1, &block(method, path))
}

fn block(method: &str, path: &str) -> Vec<u8> {
    let method = if method == "GET" { 0x82 } else { 0x83 };
    // HPACK: two whole fields of the static table, then two literals by its names.
    let literal = |name: u8, value: &str| {
        [&[name, u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
    };
    [vec![method, 0x86], literal(4, path), literal(1, "p2.test")].concat()
}

/// Whether the server's process has its end of the connection still open.
///
/// A client that reads nothing is not told of the end, so the system is asked: it keeps a socket
/// that its process has closed for a while, and such a one has no inode.
pub fn is_held((server, client): (SocketAddr, SocketAddr)) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let (local, remote) = (hex(server), hex(client));
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, l, r, _, _, _, _, _, _, inode, ..] if l == local && r == remote && inode != "0")
    })
}

fn hex(address: SocketAddr) -> String {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}
