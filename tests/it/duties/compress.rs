//! Answers are compressed as the client likes it, and say so; what arrives is what the app sent.

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::net::TcpStream;

use super::{fetch, folder, put, settled, site};
use crate::support::client::{Error, Reply, Version, connect, piped, send, trusting, whole};
use crate::support::cores::resident;
use crate::support::pool::guest;
use crate::support::server::{Server, Site, wait_until};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];
const CHROMIUM: &str = "gzip, deflate, br, zstd";

/// As many as are compressed at a time for one client, while no other has any: half of them all.
const STREAMS: usize = 64;

/// Both kits behind compression at `p2.test` and `p3.test`, and as they are at `kit.test`.
fn kits() -> Site {
    let site = site(concat!(
        "\"p2.test\" = { \"/\" = { app = \"kit\", compress = true } }\n",
        "\"p3.test\" = { \"/\" = { app = \"p3\", compress = true } }\n",
        "\"gzip.test\" = { \"/\" = { app = \"p3\", compress = [\"gzip\"] } }\n",
        "\"short.test\" = { \"/\" = { app = \"short\", compress = true } }\n",
        "[apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n",
        "[apps.short]\ncomponent = \"apps/kit-p3.wasm\"\nmax_response_body = \"64KiB\"\n",
    ));
    site.put("apps/kit-p3.wasm", &guest("kit-p3"));
    site
}

fn decode(coding: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    if bytes.is_empty() {
        // To the decoder of zstd that is no frame, and no error.
        return (plain, false);
    }
    let read = match coding {
        "zstd" => {
            zstd::stream::read::Decoder::new(bytes).expect("a decoder").read_to_end(&mut plain)
        }
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        other => panic!("{other}"),
    };
    (plain, read.is_ok())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

/// Has `/echo` send these chunks back, and the trailers after them if there are any.
async fn echo(
    site: &Site,
    server: &Server,
    host: &str,
    version: Version,
    accept: &str,
    chunks: &[Vec<u8>],
    trailers: Option<HeaderMap>,
) -> Response<Incoming> {
    try_echo(site, server, host, version, accept, chunks, trailers).await.expect("an answer")
}

async fn try_echo(
    site: &Site,
    server: &Server,
    host: &str,
    version: Version,
    accept: &str,
    chunks: &[Vec<u8>],
    trailers: Option<HeaderMap>,
) -> Result<Response<Incoming>, Error> {
    let io = connect(server.https, host, trusting(&site.root(), version)).await;
    let uri = match version {
        Version::H1 => "/echo".to_owned(),
        Version::H2 => format!("https://{host}/echo"),
    };
    let mut request = Request::post(uri)
        .header("content-type", "text/plain")
        .header("accept-encoding", accept)
        .header("te", "trailers")
        .header("trailer", "x-sum");
    if version == Version::H1 {
        request = request.header("host", host);
    }
    let (sender, body) = piped();
    for chunk in chunks {
        sender.send(Frame::data(Bytes::copy_from_slice(chunk))).expect("send");
    }
    if let Some(trailers) = trailers {
        sender.send(Frame::trailers(trailers)).expect("send");
    }
    drop(sender);
    let request = request.body(body).expect("a request");
    send(io.expect("a connection"), version, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_s_best_coding_is_used_and_named() {
    let site = kits();
    let server = site.start();
    let chunks = vec![b"hello, compressed world\n".repeat(1000)];

    for host in ["p2.test", "p3.test"] {
        for (accept, coding) in [
            (CHROMIUM, "zstd"),
            ("gzip, br", "br"),
            ("gzip", "gzip"),
            ("br;q=0.5, gzip;q=0.8", "gzip"),
            ("*", "zstd"),
            ("identity;q=0, gzip", "gzip"),
            ("gzip;q=0", ""),
            ("identity", ""),
            ("deflate", ""),
        ] {
            let response = echo(&site, &server, host, Version::H1, accept, &chunks, None).await;
            let headers = response.headers().clone();
            assert_eq!(text(&headers, "content-encoding"), coding, "{accept}");
            assert_eq!(text(&headers, "vary"), "accept-encoding", "{accept}");
            let reply = whole(response).await.expect("an answer");
            if coding.is_empty() {
                assert!(reply.body == chunks[0]);
            } else {
                assert!(!headers.contains_key("content-length"));
                assert!(reply.body.len() * 10 < chunks[0].len(), "{}", reply.body.len());
                assert!(decode(coding, &reply.body) == (chunks[0].clone(), true), "{accept}");
            }
        }
    }
    let response = echo(&site, &server, "gzip.test", Version::H2, CHROMIUM, &chunks, None).await;
    assert_eq!(text(response.headers(), "content-encoding"), "gzip", "what the route offers");
    let reply = fetch(&server, "GET", "p2.test", "/hello", &[("accept-encoding", CHROMIUM)]).await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.text(), "hello world\n", "short ones are left as they are");
    let response = echo(&site, &server, "kit.test", Version::H1, CHROMIUM, &chunks, None).await;
    assert!(!response.headers().contains_key("content-encoding"), "only where it is asked for");
    assert!(!response.headers().contains_key("vary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_body_in_any_chunks_arrives_as_it_was_sent() {
    let site = kits();
    let server = site.start();
    let chunk = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..5_000),
        (any::<u8>(), 1..100_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        ("[a-f ]{1,40}", 1..2000_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    let bodies = proptest::collection::vec(chunk, 0..8);
    let mut runner = TestRunner::deterministic();
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("7"))]);

    for round in 0..12 {
        let chunks = bodies.new_tree(&mut runner).expect("a body").current();
        for (number, coding) in CODINGS.iter().enumerate() {
            let host = ["p2.test", "p3.test"][(round + number) % 2];
            let version = [Version::H1, Version::H2][round % 2];
            let with = (round % 3 == 0).then(|| trailers.clone());
            let response = echo(&site, &server, host, version, coding, &chunks, with.clone()).await;
            let encoded = response.headers().contains_key("content-encoding");
            let body = response.into_body().collect().await.expect("not cut");
            assert_eq!(body.trailers(), with.as_ref(), "{host} {version:?} {coding}");
            let body = body.to_bytes();
            let plain = match encoded {
                true => decode(coding, &body),
                // A short answer that was there at once.
                false => (body.to_vec(), body.len() < 1024),
            };
            assert!(plain == (chunks.concat(), true), "{host} {version:?} {coding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_each_coding() {
    let lines: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let site = folder("files = \"public\", compress = true", &[("a.txt", &lines)]);
    let server = site.start();
    let url = format!("http://{}/a.txt", server.http);
    for coding in CODINGS {
        let output = Command::new("curl")
            .args(["-sS", "--compressed", "-D", "-", "-H", "Host: files.test"])
            .args(["-H", &format!("Accept-Encoding: {coding}"), &url])
            .output()
            .expect("run curl");
        let answer = String::from_utf8_lossy(&output.stdout);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.to_ascii_lowercase().contains(&format!("content-encoding: {coding}")),
            "{head}"
        );
        assert!(body == lines, "{coding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one() {
    let site = kits();
    let server = site.start();
    for host in ["p2.test", "p3.test"] {
        for coding in CODINGS {
            let io = TcpStream::connect(server.http).await.expect("connect");
            let request = Request::get("/drip?ms=150&count=6")
                .header("host", host)
                .header("accept-encoding", coding)
                .body(Empty::<Bytes>::new())
                .expect("a request");
            let response = send(io, Version::H1, request).await.expect("an answer");
            assert_eq!(text(response.headers(), "content-encoding"), coding);
            let mut body = response.into_body();
            let (mut bytes, mut seen, mut steps) = (Vec::new(), 0, 0);
            while let Some(frame) = body.frame().await {
                bytes.extend_from_slice(&frame.expect("not cut").into_data().unwrap_or_default());
                let ticks = decode(coding, &bytes).0.len() / "tick\n".len();
                assert!(ticks <= seen + 1, "{host} {coding}: several at once");
                steps += usize::from(ticks > seen);
                seen = ticks;
            }
            assert_eq!((seen, steps), (6, 6), "{host} {coding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_never_looks_whole() {
    let site = kits();
    let server = site.start();
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(20_000)
    .collect();
    let chunks = vec![noise; 10];
    for version in [Version::H1, Version::H2] {
        for coding in CODINGS {
            let answer =
                try_echo(&site, &server, "short.test", version, coding, &chunks, None).await;
            let response = match answer {
                Ok(response) => response,
                // It was reset before its head was written.
                Err(_) if version == Version::H2 => continue,
                Err(error) => panic!("{coding}: {error}"),
            };
            assert_eq!(text(response.headers(), "content-encoding"), coding);
            let mut body = response.into_body();
            let mut bytes = Vec::new();
            let cut = loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                    }
                    Some(Err(_)) => break true,
                    None => break false,
                }
            };
            assert!(cut, "{version:?} {coding}: the protocol says that it is whole");
            let (plain, whole) = decode(coding, &bytes);
            assert!(!whole, "{version:?} {coding}: the coding says that it is whole");
            assert!(chunks.concat().starts_with(&plain));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caches_are_told_fits_what_is_sent() {
    let page = "<p>hello</p>".repeat(500);
    let site = folder(
        "files = { dir = \"public\", precompressed = true }, compress = true",
        &[("index.html", &page), ("a.png", &page), ("small.html", "<p>"), ("b.js", &page)],
    );
    put(&site, "public/b.js.gz", &[7; 3000]);
    let server = site.start();
    let get = |path: &'static str, headers: Vec<(&'static str, String)>| {
        let server = &server;
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, it)| (*name, it.as_str())).collect();
            fetch(server, "GET", "files.test", path, &headers).await.expect("an answer")
        }
    };
    let gzip = || ("accept-encoding", "gzip".to_owned());
    let header = |reply: &Reply, name| text(&reply.headers, name).to_owned();

    let strong = header(&settled(&server, "/", &[]).await, "etag");

    let reply = get("/", vec![gzip()]).await;
    assert_eq!(header(&reply, "content-encoding"), "gzip");
    assert_eq!(decode("gzip", &reply.body).0, page.as_bytes());
    let tag = header(&reply, "etag");
    assert_eq!(tag, format!("W/{strong}"), "these are not the same bytes each time");
    assert_eq!(
        (header(&reply, "accept-ranges"), header(&reply, "vary")),
        (String::new(), "accept-encoding".to_owned())
    );

    let again = get("/", vec![gzip(), ("if-none-match", tag.clone())]).await;
    assert_eq!((again.status.as_u16(), header(&again, "etag")), (304, tag.clone()));
    assert_eq!(header(&again, "vary"), "accept-encoding");

    let part = ("range", "bytes=0-2999".to_owned());
    let resumed = get("/", vec![gzip(), part.clone(), ("if-range", tag)]).await;
    assert_eq!(resumed.status, 200, "a part of what is compressed is not resumed");
    let part = get("/", vec![gzip(), part]).await;
    assert_eq!((part.status.as_u16(), header(&part, "content-encoding")), (206, String::new()));
    assert_eq!(part.body, page.as_bytes()[..3000]);
    assert_eq!(header(&part, "vary"), "accept-encoding", "as the whole says");

    let done = get("/b.js", vec![gzip()]).await;
    assert_eq!(header(&done, "content-encoding"), "gzip");
    assert_eq!(done.body, [7; 3000].as_slice(), "it is not compressed twice");
    for path in ["/a.png", "/small.html"] {
        assert!(!get(path, vec![gzip()]).await.headers.contains_key("content-encoding"), "{path}");
    }
    let plain = get("/", vec![]).await;
    assert_eq!((plain.text(), header(&plain, "vary").as_str()), (page.as_str(), "accept-encoding"));

    // A HEAD is told what a GET would be, and has no body on either protocol.
    let head = fetch(&server, "HEAD", "files.test", "/", &[("accept-encoding", "gzip")]).await;
    let head = head.expect("an answer");
    assert_eq!(
        (header(&head, "content-encoding"), header(&head, "content-length")),
        ("gzip".to_owned(), String::new())
    );
    let io = connect(server.https, "files.test", trusting(&site.root(), Version::H2)).await;
    let request = Request::head("https://files.test/").header("accept-encoding", "gzip");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let head =
        whole(send(io.expect("a connection"), Version::H2, request).await.expect("an answer"))
            .await;
    let head = head.expect("an answer");
    assert_eq!(
        (head.body.len(), header(&head, "content-encoding"), header(&head, "content-length")),
        (0, "gzip".to_owned(), String::new())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forbids_it_is_heard() {
    let page = "<p>hello</p>".repeat(500);
    let site = folder(
        "files = { dir = \"public\", cache_control = \"max-age=60, no-transform\" }, compress = true",
        &[("index.html", &page)],
    );
    let server = site.start();
    let reply = fetch(&server, "GET", "files.test", "/", &[("accept-encoding", CHROMIUM)]).await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.text(), page);
    assert!(!reply.headers.contains_key("content-encoding"));
    assert!(!text(&reply.headers, "etag").is_empty() && !reply.headers.contains_key("vary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_answers_are_compressed_at_a_time() {
    let site = kits();
    let server = site.start();
    let open = async |coding: &str| {
        let io = TcpStream::connect(server.http).await.expect("connect");
        let request = Request::get("/drip?ms=1000&count=30")
            .header("host", "p3.test")
            .header("accept-encoding", coding)
            .body(Empty::<Bytes>::new())
            .expect("a request");
        send(io, Version::H1, request).await.expect("an answer")
    };
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(open("identity").await);
    }
    let plain = resident(&server);
    streams.clear();
    wait_until("they are gone", || server.logged("path=/drip").len() == STREAMS);

    for coding in ["br", "zstd", "gzip"] {
        let skipped = server.logged("path=/drip").len();
        for _ in 0..STREAMS {
            let stream = open(coding).await;
            assert_eq!(text(stream.headers(), "content-encoding"), coding);
            streams.push(stream);
        }
        // Their first events, so that there are encoders.
        for stream in &mut streams {
            stream.body_mut().frame().await.expect("a frame").expect("not cut");
        }
        let each = resident(&server).saturating_sub(plain) / STREAMS as u64;
        eprintln!("{coding}: some {} KiB for each stream", each >> 10);
        assert!(each < 2 << 20, "{coding}: {each} bytes for each stream");

        let more = open(coding).await;
        assert_eq!(text(more.headers(), "content-encoding"), "", "it is sent as it is");
        assert_eq!(text(more.headers(), "vary"), "accept-encoding");
        server.wait_for_log("limit=compress.streams");
        drop(more);
        streams.clear();
        wait_until("they are gone", || server.logged("path=/drip").len() == skipped + STREAMS + 1);
    }
    let response = tokio::time::timeout(Duration::from_secs(30), open("gzip")).await;
    assert_eq!(text(response.expect("an answer").headers(), "content-encoding"), "gzip");
}
