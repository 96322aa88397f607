//! Bytes that may mean different requests to different readers: never more of them to us than to nginx.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::holds::{Shown, times};
use crate::support::nginx::Nginx;
use crate::support::server::Site;

/// How long a server says nothing more before it is taken to have said all.
const QUIET: Duration = Duration::from_millis(300);

/// The same, where one was thought to have seen too little.
const VERY_QUIET: Duration = Duration::from_secs(1);

/// Connections to each server at a time.
const AT_ONCE: usize = 64;

/// Where the generated ones begin.
const SEED: u64 = 0x7469_6465_6761_7465;

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: hello.test\r\n\r\n";

const LENGTHS: &[&str] = &[
    "",
    "Content-Length: 0\r\n",
    "Content-Length: 15\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length:  5  \r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Content-Length:\r\n",
    "Content-Length : 5\r\n",
    " Content-Length: 5\r\n",
    "Content-Length\r\n : 5\r\n",
    "Content-Length:\x0b5\r\n",
    "Content_Length: 5\r\n",
];

const CODINGS: &[&str] = &[
    "",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: Chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\x0b\r\n",
    " Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
];

const CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0;c\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    "5\r\nhello\r\n0\r\n: x\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    "5;\"\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "0\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "5\r\nhello\r\n",
];

const LINES: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.1\nHost: hello.test\n\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\n\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "\nGET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.10\r\nHost: hello.test\r\n\r\n",
    "GET / http/1.1\r\nHost: hello.test\r\n\r\n",
    "get / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "G=T / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET /\r\n\r\n",
    "GET /\r\n",
    "GET / HTTP/0.9\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: hello.test\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: hello.test\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nHost: p2.test\r\n\r\n",
    "GET http://hello.test/ HTTP/1.1\r\nHost: p2.test\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET /\0 HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET /\x7f HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET /#a HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET hello.test HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "CONNECT hello.test:80 HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA: b\rc\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA: b\nc\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA: b\0c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\n: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA: b\r\n c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nA: b\r\n\tc\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: hello.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : hello.test\r\n\r\n",
    "GET / HTTP/1.1\rHost: hello.test\r\r",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 5\r\n\r\nhelloX",
    "HEAD / HTTP/1.1\r\nHost: hello.test\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "PRI * HTTP/2.0\r\n\r\n",
    "\u{feff}GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: hello.test\r\nCont\u{e9}nt-Length: 5\r\n\r\n",
];

/// The list, by hand: each head with each of the ambiguous ones, and a request behind it.
fn written() -> Vec<Vec<u8>> {
    let post = |headers: String, body: &str| {
        format!("POST /first HTTP/1.1\r\nHost: hello.test\r\n{headers}\r\n{body}{SECOND}")
            .into_bytes()
    };
    let chunked = |body: &&str| post("Transfer-Encoding: chunked\r\n".to_owned(), body);
    let mut all: Vec<_> = LINES.iter().map(|line| format!("{line}{SECOND}").into_bytes()).collect();
    all.extend(CHUNKS.iter().map(chunked));
    for length in LENGTHS {
        for coding in CODINGS {
            all.push(post(format!("{length}{coding}"), "5\r\nhello\r\n0\r\n\r\n"));
            all.push(post(format!("{coding}{length}"), "0\r\n\r\n"));
        }
    }
    let extension = "e".repeat(100_000);
    all.push(chunked(&format!("5;{extension}\r\nhello\r\n0\r\n\r\n").as_str()));
    all.push(format!("GET /{extension} HTTP/1.1\r\nHost: hello.test\r\n\r\n{SECOND}").into_bytes());
    all
}

/// What comes of `count` small changes to the list.
fn generated(written: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b",",
        b";",
        b"0",
        b"5",
        b"\x0b",
        b"chunked",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"\xff",
    ];
    let mut state = SEED;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let one = |_| {
        let mut bytes = written[random(written.len())].clone();
        for _ in 0..=random(3) {
            // The second request stays as it is, or there would be nothing to smuggle.
            let at = random(bytes.len().saturating_sub(SECOND.len()).clamp(1, 300));
            let end = (at + random(4)).min(bytes.len());
            let piece = PIECES[random(PIECES.len())];
            match random(3) {
                0 => drop(bytes.splice(at..at, piece.iter().copied())),
                1 => drop(bytes.drain(at..end)),
                _ => drop(bytes.splice(at..end, piece.iter().copied())),
            }
        }
        bytes
    };
    (0..count).map(one).collect()
}

/// The same with what nginx refuses, though it has one meaning: tabs where spaces may be, and a
/// Content-Length that is repeated. hyper takes both, and does not say that they were there.
fn plainer(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut last: &[u8] = b"";
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is_length = line.to_ascii_lowercase().starts_with(b"content-length:");
        if !(is_length && line == last) {
            plain.extend(line.iter().map(|byte| if *byte == b'\t' { b' ' } else { *byte }));
        }
        if is_length {
            last = line;
        }
    }
    plain
}

/// How many requests the server saw in these bytes, by its answers.
async fn seen(address: SocketAddr, bytes: &[u8], quiet: Duration) -> (usize, String) {
    let mut io = TcpStream::connect(address).await.expect("connect");
    // It may close before all is sent.
    let _ = io.write_all(bytes).await;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while let Ok(Ok(count @ 1..)) = timeout(quiet, io.read(&mut buffer)).await {
        answers.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8_lossy(&answers).into_owned();
    let heads = |version: &str| text.matches(version).count();
    let interim = heads("HTTP/1.1 100 ");
    let whole = heads("HTTP/1.1 ") + heads("HTTP/1.0 ") - interim;
    // HTTP/0.9 has no head.
    (whole.max(usize::from(!text.is_empty())), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_requests_than_nginx_sees_in_the_same_bytes() {
    let Some(nginx) = Nginx::start() else { return };
    let site = Site::usual();
    let server = site.start();
    let (ours, theirs) = (server.http, nginx.address);
    let mut all = written();
    let by_hand = all.len();
    all.extend(generated(&all, times(300, 20_000)));

    let compare = async |bytes: Vec<u8>, quiet: Duration| {
        let (ours, theirs) = tokio::join!(seen(ours, &bytes, quiet), seen(theirs, &bytes, quiet));
        (ours.0 > theirs.0).then_some((bytes, ours, theirs))
    };
    let count = all.len();

    let doubtful: Vec<_> = stream::iter(all)
        .map(|bytes| compare(bytes, QUIET))
        .buffer_unordered(AT_ONCE)
        .filter_map(|found| async { found })
        .collect()
        .await;
    let mut more = vec![];
    for (bytes, ..) in doubtful {
        // A slow machine is no smuggler.
        let Some((bytes, ours, _)) = compare(bytes, VERY_QUIET).await else { continue };
        let theirs = seen(theirs, &plainer(&bytes), VERY_QUIET).await;
        if ours.0 > theirs.0 {
            more.push((bytes, ours, theirs));
        }
    }

    for (bytes, (_, ours), (_, theirs)) in &more {
        eprintln!("{:?}\n  ours: {ours:?}\n  nginx: {theirs:?}", String::from_utf8_lossy(bytes));
    }
    Shown {
        part: "Clients: HTTP/1 parsing",
        tried: &format!("{by_hand} ambiguous requests and changes to them, beside nginx"),
        times: count,
        bound: "never more requests than nginx sees (but for tabs and a repeated equal length, which it refuses)",
    }
    .holds(format!("{} with more", more.len()), more.is_empty());
}
