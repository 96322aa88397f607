use std::net::IpAddr;

use http::Request;

use super::*;

/// The head of an HTTP/1 request for `target` with these Host headers.
fn head(target: &str, hosts: &[&str]) -> Parts {
    let mut request = Request::builder().uri(target);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    request.body(()).unwrap().into_parts().0
}

fn named_h1(target: &str, hosts: &[&str]) -> Option<String> {
    named(&head(target, hosts), Scheme::Http, false).ok().map(|named| named.host.to_string())
}

fn named_h2(target: &str, hosts: &[&str]) -> Option<String> {
    named(&head(target, hosts), Scheme::Https, true).ok().map(|named| named.host.to_string())
}

fn prepared(headers: &[(&str, &str)]) -> Parts {
    prepared_for(Scheme::Https, "192.0.2.7", headers)
}

fn prepared_for(scheme: Scheme, client: &'static str, headers: &[(&str, &str)]) -> Parts {
    prepared_over(Version::HTTP_11, scheme, client, headers)
}

fn prepared_over(
    version: Version,
    scheme: Scheme,
    client: &'static str,
    headers: &[(&str, &str)],
) -> Parts {
    let request = Request::builder().version(version).uri("/a?b");
    let mut request = request.header(HOST, "Example.com:8443");
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    let Named { authority, .. } = named(&parts, scheme, false).unwrap();
    let client: IpAddr = client.parse().unwrap();
    let sender = Sender::new(client.into(), scheme);
    prepare(&mut parts, authority, &sender, RequestId::next(), Told::AsItCame).unwrap();
    parts
}

/// The cookies that a guest is handed, field by field.
fn cookies_over(version: Version, fields: &[&str]) -> Vec<String> {
    let fields: Vec<_> = fields.iter().map(|field| ("cookie", *field)).collect();
    let parts = prepared_over(version, Scheme::Https, "192.0.2.7", &fields);
    let fields = parts.headers.get_all(COOKIE).iter();
    fields.map(|field| String::from_utf8(field.as_bytes().to_vec()).unwrap()).collect()
}

#[test]
fn one_host_header_names_the_host() {
    assert_eq!(named_h1("/", &["Example.com:80"]).as_deref(), Some("example.com"));
    assert_eq!(named_h1("/", &["example.com."]).as_deref(), Some("example.com"));
    assert_eq!(named_h1("/", &["[::1]:80"]).as_deref(), Some("[::1]"));
}

#[test]
fn a_request_that_names_no_host_or_several_is_malformed() {
    for hosts in [&[][..], &["a.test", "a.test"], &["a.test", "b.test"]] {
        assert_eq!(named_h1("/", hosts), None, "{hosts:?}");
    }
    for host in ["", "a b", "a.test/", "user@a.test", "a.test:99999", "a.test:x", "a,b", "[::1"] {
        assert_eq!(named_h1("/", &[host]), None, "{host:?}");
    }
}

#[test]
fn the_target_and_the_host_header_must_agree() {
    assert_eq!(named_h1("http://a.test/", &["a.test"]).as_deref(), Some("a.test"));
    assert_eq!(named_h1("http://a.test/", &["A.test:80"]).as_deref(), Some("a.test"));
    assert_eq!(named_h1("http://a.test/", &["b.test"]), None);
    assert_eq!(named_h1("http://a.test:81/", &["a.test"]), None);
    assert_eq!(named_h1("http://a.test/", &[]), None, "HTTP/1.1 has a Host header");
    assert_eq!(named_h2("https://a.test/", &[]).as_deref(), Some("a.test"));
    assert_eq!(named_h2("https://a.test/", &["a.test:443"]).as_deref(), Some("a.test"));
    assert_eq!(named_h2("https://a.test/", &["b.test"]), None);
    assert_eq!(named_h2("/", &["a.test"]).as_deref(), Some("a.test"));
}

#[test]
fn tunnels_and_echoes_are_not_served() {
    for method in [Method::CONNECT, Method::TRACE] {
        let mut parts = head("/", &["a.test"]);
        parts.method = method;
        assert!(matches!(judge(&parts), Err(Refusal::Method)));
    }
    assert!(matches!(judge(&head("*", &["a.test"])), Err(Refusal::Malformed(_))));
    for (method, good) in [("PROPFIND", true), ("M-SEARCH", true), ("get", false), ("GE1", false)] {
        let mut parts = head("/", &["a.test"]);
        parts.method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(judge(&parts).is_ok(), good, "{method}");
    }
    assert!(judge(&head("/", &["a.test"])).is_ok());
}

#[test]
fn chunked_is_the_only_transfer_encoding() {
    let judged = |codings: &[&str]| {
        let mut parts = head("/", &["a.test"]);
        for coding in codings {
            parts.headers.append(TRANSFER_ENCODING, coding.parse().unwrap());
        }
        judge(&parts).is_ok()
    };
    assert!(judged(&[]) && judged(&["chunked"]) && judged(&["Chunked"]));
    for codings in [
        &["gzip, chunked"][..],
        &["chunked, chunked"],
        &["chunked", "chunked"],
        &["gzip", "chunked"],
    ] {
        assert!(!judged(codings), "{codings:?}");
    }
}

#[test]
fn a_guest_gets_an_absolute_uri_with_the_connections_scheme() {
    assert_eq!(prepared(&[]).uri, "https://Example.com:8443/a?b");
    assert_eq!(prepared_for(Scheme::Http, "::1", &[]).uri, "http://Example.com:8443/a?b");
}

#[test]
fn what_is_said_about_the_client_is_ours() {
    let headers = prepared(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-request-id", "mine"),
    ])
    .headers;

    let all = |name: &str| -> Vec<_> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(all("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all("x-forwarded-proto"), ["https"]);
    assert_eq!(all("x-forwarded-host"), ["Example.com:8443"]);
    assert_eq!(all("forwarded"), ["for=192.0.2.7;host=\"Example.com:8443\";proto=https"]);
    assert!(all("x-forwarded-port").is_empty() && all("x-real-ip").is_empty());
    assert_eq!(all("x-request-id").len(), 1);
    assert_eq!(all("x-request-id")[0].len(), 16);
}

#[test]
fn what_is_said_about_the_client_is_ours_with_underscores_as_well() {
    let headers = prepared(&[
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_for", "6.6.6.6"),
        ("X_Forwarded-User", "root"),
        ("x_real_ip", "6.6.6.6"),
        ("x_request_id", "mine"),
        ("client_cert", ":MIIB:"),
        ("client-cert_chain", ":MIIB:"),
        ("x_mine", "1"),
    ])
    .headers;

    let odd: Vec<_> = headers.keys().filter(|name| name.as_str().contains('_')).collect();
    assert_eq!(odd, ["x_mine"]);
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
}

#[test]
fn cookies_that_came_one_by_one_are_one_field_where_requests_are_streams() {
    let split = ["a=1", "b=\"2; 3\"", "c=caf\u{e9}"];
    for version in [Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(cookies_over(version, &split), ["a=1; b=\"2; 3\"; c=caf\u{e9}"]);
        assert_eq!(cookies_over(version, &["a=1;b=2 ;"]), ["a=1;b=2 ;"], "as it came");
        assert!(cookies_over(version, &[]).is_empty());
    }
    assert_eq!(cookies_over(Version::HTTP_11, &split), split);
}

#[test]
fn a_guest_is_not_shown_the_cookie_of_admin() {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        for (field, shown) in [
            ("tidegate_admin=1.ab", &[][..]),
            ("tidegate_admin=1.ab; a=1", &["a=1"]),
            ("a=1; tidegate_admin=1.ab; b=2", &["a=1; b=2"]),
            ("a=1;tidegate_admin = 1.ab", &["a=1"]),
            ("a=\"; tidegate_admin=1.ab; b=\"", &["a=\"; b=\""]),
            ("tidegate_admin=1.ab; tidegate_admin=2.cd", &[]),
            ("tidegate_admins=1; a=tidegate_admin=1", &["tidegate_admins=1; a=tidegate_admin=1"]),
        ] {
            assert_eq!(cookies_over(version, &[field]), shown, "{version:?} {field}");
        }
    }
    let split = ["a=1", "tidegate_admin=1.ab", "b=2"];
    assert_eq!(cookies_over(Version::HTTP_2, &split), ["a=1; b=2"]);
    assert_eq!(cookies_over(Version::HTTP_11, &split), ["a=1", "b=2"]);
    assert!(cookies_over(Version::HTTP_2, &["tidegate_admin=1", "tidegate_admin=2"]).is_empty());
}

#[test]
fn an_ipv6_client_is_quoted_where_that_is_the_form() {
    let headers = prepared_for(Scheme::Http, "2001:db8::1", &[]).headers;
    assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";host=\"Example.com:8443\";proto=http");
}

#[test]
fn headers_of_the_connection_stay_on_it() {
    let headers = prepared(&[
        ("connection", "close, X-Mine"),
        ("connection", "x-also"),
        ("x-mine", "1"),
        ("x-also", "1"),
        ("keep-alive", "1"),
        ("proxy-connection", "1"),
        ("proxy-authorization", "1"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "x"),
        ("expect", "100-continue"),
        ("x-kept", "1"),
        ("cookie", "a=b"),
    ])
    .headers;

    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-kept",
            "x-request-id"
        ]
    );
}

#[test]
fn trailers_may_be_asked_for() {
    assert_eq!(prepared(&[("te", "trailers")]).headers["te"], "trailers");
}

#[test]
fn an_answers_connection_headers_are_ours() {
    let mut headers = HeaderMap::new();
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "content-type"] {
        headers.insert(name, HeaderValue::from_static("x"));
    }
    strip_answer(&mut headers);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["content-type"]);
}
