//! Files are served as browsers and caches want them.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::{fetch, folder, manifest, put, settled, site, values};
use crate::support::client::{
    Reply, VERSIONS, answer, ask, get, get_tls, request_tls, status, until_answer,
};

const PUBLIC: &str = "files = \"public\"";

fn text<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_with_what_clients_have_to_know() {
    let site = folder(
        "files = { dir = \"public\", cache_control = \"max-age=60\" }",
        &[("index.html", "<h1>hi</h1>"), ("a/b.js", "let it = 1;"), ("empty.txt", "")],
    );
    let server = site.start();

    for version in VERSIONS {
        let get = |path| get_tls(&site, &server, "files.test", path, version);
        let reply = get("/a/b.js?v=1").await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "let it = 1;"), "{version:?}");
        assert_eq!(text(&reply, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(text(&reply, "content-length"), "11");
        assert_eq!(text(&reply, "x-content-type-options"), "nosniff");
        assert_eq!(text(&reply, "accept-ranges"), "bytes");
        assert_eq!(text(&reply, "cache-control"), "max-age=60");
        assert!(text(&reply, "last-modified").ends_with(" GMT"));
        assert!(text(&reply, "etag").ends_with('"'));
        assert!(!reply.headers.contains_key("vary"));

        let reply = get("/").await.expect("an answer");
        assert_eq!(reply.text(), "<h1>hi</h1>");
        assert_eq!(text(&reply, "content-type"), "text/html; charset=utf-8");
        let reply = get("/empty.txt").await.expect("an answer");
        assert_eq!((reply.status.as_u16(), text(&reply, "content-length")), (200, "0"));

        let head = Request::head("/a/b.js").body(Full::<Bytes>::default()).expect("a request");
        let reply = request_tls(&site, &server, "files.test", version, head).await;
        let reply = reply.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
        assert_eq!(text(&reply, "content-length"), "11");
        assert!(!text(&reply, "etag").is_empty());
    }
    let answer = ask(&server, "HEAD", "/", "host: files.test\r\n").await;
    assert!(answer.ends_with("\r\n\r\n") && values(&answer, "content-length") == ["11"]);
    let line = server.wait_for_log("path=/a/b.js status=200");
    assert!(line.contains("route=files") && line.contains("bytes=11"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_only_read() {
    let site = folder(PUBLIC, &[("a.txt", "a")]);
    let server = site.start();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = ask(&server, method, "/a.txt", "host: files.test\r\n").await;
        assert_eq!(status(&answer), 405, "{answer}");
        assert_eq!(values(&answer, "allow"), ["GET, HEAD"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_its_index_and_is_never_listed() {
    let site = site(
        "\"files.test\" = { \"/\" = \"hello\", \"/docs\" = { files = { dir = \"public\", index = \"start.html\" } } }",
    );
    put(&site, "public/start.html", b"top");
    put(&site, "public/sub/start.html", b"below");
    put(&site, "public/bare/a.txt", b"a");
    let server = site.start();

    let server = &server;
    let reply = |path: &'static str| answer(server, "files.test", path);
    assert_eq!(reply("/docs/").await, "200 top");
    assert_eq!(reply("/docs/sub/").await, "200 below");
    assert!(reply("/docs/bare/").await.starts_with("404"));
    assert!(reply("/docs/start.html/").await.starts_with("404"));
    assert!(reply("/docs/none").await.starts_with("404"));
    assert_eq!(reply("/docsx").await, "200 hello world", "an app beside it");
    assert_eq!(reply("/").await, "200 hello world");

    for (path, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=b", "/docs/?a=b"),
        ("/docs/sub", "/docs/sub/"),
        ("/docs/bare?x", "/docs/bare/?x"),
    ] {
        let reply = get(server, "files.test", path).await.expect("an answer");
        assert_eq!((reply.status.as_u16(), text(&reply, "location")), (308, location), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_has_a_page_of_its_own_or_is_left_to_the_browser() {
    let site = site(
        r#""own.test" = { "/" = { files = { dir = "public", not_found = "404.html" } } }
"app.test" = { "/" = { files = { dir = "public", fallback = "index.html" } } }
"none.test" = { "/" = { files = { dir = "public", not_found = "gone.html" } } }"#,
    );
    put(&site, "public/404.html", b"nothing here");
    put(&site, "public/index.html", b"the app");
    let server = site.start();

    let reply = get(&server, "own.test", "/none").await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (404, "nothing here"));
    assert_eq!(text(&reply, "content-type"), "text/html; charset=utf-8");
    assert!(!reply.headers.contains_key("etag"));
    // What a client has of it does not make it another answer.
    let headers = [("range", "bytes=0-1"), ("if-none-match", "*")];
    let reply = fetch(&server, "GET", "own.test", "/none", &headers).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (404, "nothing here"));
    let head = ask(&server, "HEAD", "/none", "host: own.test\r\n").await;
    assert!(status(&head) == 404 && head.ends_with("\r\n\r\n"), "{head}");

    let reply = get(&server, "app.test", "/users/7?x").await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "the app"));
    assert!(reply.headers.contains_key("etag"));
    let reply = get(&server, "app.test", "/.git/config").await.expect("an answer");
    assert_eq!(reply.status, 404, "what is hidden is not the application's");

    let reply = get(&server, "none.test", "/none").await.expect("an answer");
    assert!(reply.status == 404 && reply.text().contains("no such path here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() {
    let site = folder(
        "files = { dir = \"public\", cache_control = \"max-age=60\" }",
        &[("a.txt", "0123456789")],
    );
    let server = site.start();
    let first = settled(&server, "/a.txt", &[]).await;
    let (etag, date) = (text(&first, "etag"), text(&first, "last-modified"));
    let before = "Mon, 01 Jan 2001 00:00:00 GMT";

    let get = |headers: Vec<(&'static str, String)>| {
        let server = &server;
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            fetch(server, "GET", "files.test", "/a.txt", &headers).await.expect("an answer")
        }
    };
    for (name, value, expected) in [
        ("if-none-match", etag.to_owned(), 304),
        ("if-none-match", format!("W/{etag}"), 304),
        ("if-none-match", "*".to_owned(), 304),
        ("if-none-match", "\"other\"".to_owned(), 200),
        ("if-modified-since", date.to_owned(), 304),
        ("if-modified-since", before.to_owned(), 200),
        ("if-match", etag.to_owned(), 200),
        ("if-match", "\"other\"".to_owned(), 412),
        ("if-unmodified-since", before.to_owned(), 412),
        ("if-unmodified-since", date.to_owned(), 200),
    ] {
        let reply = get(vec![(name, value.clone())]).await;
        assert_eq!(reply.status.as_u16(), expected, "{name}: {value}");
        if expected == 304 {
            assert!(reply.body.is_empty());
            assert_eq!(text(&reply, "etag"), etag);
            assert_eq!(text(&reply, "cache-control"), "max-age=60");
            assert!(!reply.headers.contains_key("content-length"));
        }
    }

    for (range, expected, body, content_range) in [
        ("bytes=0-3", 206, "0123", "bytes 0-3/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=2-99", 206, "23456789", "bytes 2-9/10"),
        ("bytes=0-1,4-5", 200, "0123456789", ""),
        ("bytes=5-4", 200, "0123456789", ""),
        ("bytes=10-", 416, "", "bytes */10"),
    ] {
        let reply = get(vec![("range", range.to_owned())]).await;
        assert_eq!(reply.status.as_u16(), expected, "{range}");
        assert_eq!(text(&reply, "content-range"), content_range, "{range}");
        if expected != 416 {
            assert_eq!(reply.text(), body, "{range}");
            assert_eq!(text(&reply, "content-length"), body.len().to_string());
            assert_eq!(text(&reply, "etag"), etag);
        }
    }
    for (condition, expected) in [
        (etag.to_owned(), 206),
        (date.to_owned(), 206),
        (format!("W/{etag}"), 200),
        ("\"other\"".to_owned(), 200),
        (before.to_owned(), 200),
    ] {
        let reply = get(vec![("range", "bytes=0-1".to_owned()), ("if-range", condition.clone())]);
        assert_eq!(reply.await.status.as_u16(), expected, "{condition}");
    }
    let both = [("range", "bytes=0-1"), ("if-none-match", etag)];
    let reply = fetch(&server, "GET", "files.test", "/a.txt", &both).await.expect("an answer");
    assert_eq!(reply.status, 304);
    let head = fetch(&server, "HEAD", "files.test", "/a.txt", &[("range", "bytes=0-1")]).await;
    assert_eq!(head.expect("an answer").status, 200, "only GET has ranges");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_on_with_what_it_has() {
    let content: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    let site = folder(PUBLIC, &[("big.txt", &content)]);
    let server = site.start();
    settled(&server, "/big.txt", &[]).await;
    let half = site.path("half.txt");
    fs::write(&half, &content.as_bytes()[..300_000]).expect("write half of it");

    let url = format!("http://{}/big.txt", server.http);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "-H", "Host: files.test"])
            .args(arguments)
            .arg(&url)
            .output()
            .expect("run curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    curl(&["-C", "-", "-o", half.to_str().expect("a path")]);
    assert!(fs::read_to_string(&half).expect("read it") == content);
    assert_eq!(curl(&["-r", "-5"]), b"9999\n");
    assert!(curl(&["-r", "100-70099"]) == content.as_bytes()[100..70_100], "more than a chunk");
    assert_eq!(
        curl(&["-r", "0-1,5-6"]).len(),
        content.len(),
        "several are answered with the whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_compressed_already_stand_for_others() {
    let site = folder(
        "files = { dir = \"public\", precompressed = true }",
        &[("a.js", "plain"), ("b.js", "plain b"), ("c.js.gz", "alone")],
    );
    // They are not looked into, so it need not be compressed what they hold.
    for (name, content) in
        [("a.js.zst", "in zstd"), ("a.js.br", "in brotli"), ("a.js.gz", "in gzip")]
    {
        put(&site, &format!("public/{name}"), content.as_bytes());
    }
    put(&site, "public/b.js.gz", b"of an older one");
    let old = fs::File::options().write(true).open(site.path("public/b.js.gz")).expect("open it");
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(60))
        .expect("make it older");
    let server = site.start();

    let mut tags = Vec::new();
    for (accept, body, coding) in [
        ("gzip, deflate, br, zstd", "in zstd", "zstd"),
        ("gzip, br", "in brotli", "br"),
        ("gzip", "in gzip", "gzip"),
        ("zstd;q=0.1, gzip", "in gzip", "gzip"),
        ("gzip;q=0, identity", "plain", ""),
        ("", "plain", ""),
    ] {
        let reply = settled(&server, "/a.js", &[("accept-encoding", accept)]).await;
        assert_eq!((reply.text(), text(&reply, "content-encoding")), (body, coding), "{accept}");
        assert_eq!(text(&reply, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(text(&reply, "content-length"), body.len().to_string());
        assert_eq!(text(&reply, "vary"), "accept-encoding");
        tags.push(text(&reply, "etag").to_owned());
    }
    tags.dedup();
    assert_eq!(tags.len(), 4, "each has its own: {tags:?}");

    let gzip = ("accept-encoding", "gzip");
    let reply = fetch(&server, "GET", "files.test", "/b.js", &[gzip]).await.expect("an answer");
    assert_eq!((reply.text(), text(&reply, "vary")), ("plain b", "accept-encoding"));
    let reply = fetch(&server, "GET", "files.test", "/c.js", &[gzip]).await.expect("an answer");
    assert_eq!(reply.status, 404);
    let reply = fetch(&server, "GET", "files.test", "/a.js.gz", &[gzip]).await.expect("an answer");
    assert_eq!(
        (text(&reply, "content-type"), text(&reply, "content-encoding")),
        ("application/gzip", "")
    );
    let headers = [gzip, ("range", "bytes=3-")];
    let reply = fetch(&server, "GET", "files.test", "/a.js", &headers).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (206, "gzip"));
    let headers = [gzip, ("if-none-match", tags[2].as_str())];
    let reply = fetch(&server, "GET", "files.test", "/a.js", &headers).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), text(&reply, "vary")), (304, "accept-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_right_at_once() {
    let site = folder(PUBLIC, &[("a.txt", "first")]);
    let server = site.start();
    let first = get(&server, "files.test", "/a.txt").await.expect("an answer");

    let mut tags = vec![text(&first, "etag").to_owned()];
    for number in 0..50 {
        let content = format!("again {number:02}");
        put(&site, "public/a.txt", content.as_bytes());
        let reply = get(&server, "files.test", "/a.txt").await.expect("an answer");
        assert_eq!(reply.text(), content);
        assert!(!tags.contains(&text(&reply, "etag").to_owned()), "{number}");
        tags.push(text(&reply, "etag").to_owned());
    }
    // In place it may keep its times, and so its tag, which then is a weak one.
    let mut file = fs::File::options().write(true).open(site.path("public/a.txt")).expect("open");
    file.write_all(b"in place").expect("write");
    let reply = get(&server, "files.test", "/a.txt").await.expect("an answer");
    assert_eq!(reply.text(), "in place");
    assert!(text(&reply, "etag").starts_with("W/"));

    fs::remove_file(site.path("public/a.txt")).expect("remove it");
    assert!(answer(&server, "files.test", "/a.txt").await.starts_with("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_may_come_later_and_be_a_link() {
    let site = folder(PUBLIC, &[]);
    let server = site.start();
    server.wait_for_log("public: no such folder yet, so its files are not found");
    assert!(answer(&server, "files.test", "/a.txt").await.starts_with("404"));

    put(&site, "releases/1/a.txt", b"one");
    put(&site, "releases/2/a.txt", b"two");
    let point = |release: &str| {
        let link = site.path("link");
        std::os::unix::fs::symlink(format!("releases/{release}"), &link).expect("make a link");
        fs::rename(&link, site.path("public")).expect("put it in place");
    };
    point("1");
    assert_eq!(answer(&server, "files.test", "/a.txt").await, "200 one");
    point("2");
    assert_eq!(answer(&server, "files.test", "/a.txt").await, "200 two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_folder() {
    let site = folder(PUBLIC, &[("a.txt", "here")]);
    put(&site, "other/a.txt", b"there");
    let server = site.start();
    assert_eq!(answer(&server, "files.test", "/a.txt").await, "200 here");
    site.write_manifest(&manifest("\"files.test\" = { \"/\" = { files = \"other\" } }"));
    until_answer(&server, "files.test", "/a.txt", "200 there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_secrets_in_it_is_refused() {
    let site = folder(PUBLIC, &[("a.txt", "here")]);
    let server = site.start();
    // What is as wrong as before is not said again, so no two of these are alike in a row.
    for (dir, what) in [(".", "the manifest"), ("state/ca", "private keys"), ("/", "the manifest")]
    {
        let skipped = server.log().len();
        site.write_manifest(&manifest(&format!(
            "\"files.test\" = {{ \"/\" = {{ files = \"{dir}\" }} }}"
        )));
        let line = server.wait_for_log_after(skipped, "would give away");
        assert!(line.contains(what), "{line}");
    }
    assert_eq!(answer(&server, "files.test", "/a.txt").await, "200 here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_does_besides_is_done_for_files() {
    let page = "<p>hello</p>".repeat(500);
    let site = folder(
        concat!(
            "files = \"public\", compress = true, rate_limit = { requests = 2, per = \"1h\" }, ",
            "cors = { origins = [\"https://app.test\"] }, ",
            "response_headers = { set = { X-Frame-Options = \"DENY\" } }",
        ),
        &[("index.html", &page)],
    );
    let server = site.start();
    let headers = [("accept-encoding", "gzip"), ("origin", "https://app.test")];
    let get = async || fetch(&server, "GET", "files.test", "/", &headers).await.expect("an answer");

    let reply = get().await;
    assert_eq!((reply.status.as_u16(), text(&reply, "content-encoding")), (200, "gzip"));
    assert_eq!(text(&reply, "x-frame-options"), "DENY");
    assert_eq!(text(&reply, "access-control-allow-origin"), "https://app.test");
    let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
    let vary = format!("{vary:?}").to_ascii_lowercase();
    assert!(vary.contains("origin") && vary.contains("accept-encoding"), "{vary}");
    get().await;
    assert_eq!(get().await.status, 429);
}
