use super::*;

/// `lines` of headers as one proxy at 10.0.0.1 sends them, over HTTP.
fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn told(header: ForwardedHeader, lines: &[(&'static str, &'static str)]) -> (String, Scheme) {
    let proxies =
        Proxies { trusted: "10.0.0.0/8 2001:db8::/32".into(), header, ..Proxies::default() };
    let proxy = Sender::new(Peer::from(IpAddr::from([10, 0, 0, 1])), Scheme::Http);
    let sender = sender(&headers(lines), &proxy, &proxies);
    assert_eq!(sender.address.to_str().unwrap(), sender.peer.to_string());
    (sender.peer.to_string(), sender.scheme)
}

fn x_forwarded(value: &'static str) -> String {
    told(ForwardedHeader::XForwardedFor, &[("x-forwarded-for", value)]).0
}

fn forwarded(value: &'static str) -> (String, Scheme) {
    told(ForwardedHeader::Forwarded, &[("forwarded", value)])
}

#[test]
fn the_last_address_that_is_not_a_proxys_is_the_clients() {
    for (value, client) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("6.6.6.6,192.0.2.1,10.0.0.3,\t10.0.0.2 ", "192.0.2.1"),
        ("6.6.6.6, 10.0.0.9, 192.0.2.1", "192.0.2.1"),
        ("2001:DB9::1", "2001:db9::1"),
        ("[2001:db9::1]", "2001:db9::1"),
        ("[2001:db9::1]:443, 2001:db8::7", "2001:db9::1"),
        ("::ffff:192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("192.0.2.1, , ,", "192.0.2.1"),
        // Through proxies alone: the first of them.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ] {
        assert_eq!(x_forwarded(value), client, "{value}");
    }
}

#[test]
fn where_it_cannot_be_read_the_last_proxy_that_can_is_meant() {
    for (value, client) in [
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("unix:", "10.0.0.1"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("192.0.2.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1 10.0.0.2", "10.0.0.1"),
        ("192.0.2.256", "10.0.0.1"),
        ("192.0.2.1:99999", "10.0.0.1"),
        ("\"192.0.2.1", "10.0.0.1"),
        ("fe80::1%eth0", "10.0.0.1"),
        ("0x7f.1", "10.0.0.1"),
        ("010.0.0.1", "10.0.0.1"),
    ] {
        assert_eq!(x_forwarded(value), client, "{value}");
    }
}

#[test]
fn more_proxies_than_anyone_has_are_not_followed() {
    let through = |proxies: usize| {
        let value = format!("192.0.2.1{}", ", 10.0.0.2".repeat(proxies));
        x_forwarded(value.leak())
    };
    assert_eq!(through(HOPS_MAX - 1), "192.0.2.1");
    assert_eq!(through(HOPS_MAX), "10.0.0.2");
}

#[test]
fn several_lines_are_one_list() {
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1, 10.0.0.2")];
    assert_eq!(told(ForwardedHeader::XForwardedFor, &lines).0, "192.0.2.1");
}

#[test]
fn forwarded_is_read_as_the_rfc_writes_it() {
    for (value, client, scheme) in [
        ("for=192.0.2.1", "192.0.2.1", Scheme::Http),
        ("For=\"192.0.2.1:4711\";Proto=HTTPS;by=10.0.0.1", "192.0.2.1", Scheme::Https),
        ("for=6.6.6.6;proto=http, for=192.0.2.1;proto=https", "192.0.2.1", Scheme::Https),
        ("for=\"[2001:db9::1]:_port\"", "10.0.0.1", Scheme::Http),
        ("for=\"[2001:db9::1]\" ; proto=\"https\" ;; host=x", "2001:db9::1", Scheme::Https),
        ("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", "192.0.2.1", Scheme::Https),
        // Who is not named: the proxy that says so.
        ("for=6.6.6.6, for=unknown;proto=https", "10.0.0.1", Scheme::Https),
        ("for=6.6.6.6, for=_hidden, for=10.0.0.2", "10.0.0.2", Scheme::Http),
        ("for=6.6.6.6, by=10.0.0.1;proto=https", "10.0.0.1", Scheme::Https),
        // A separator in quotes separates nothing.
        ("for=192.0.2.1;host=\"a,b;for=6.6.6.6\"", "192.0.2.1", Scheme::Http),
        ("for=192.0.2.1;host=\"a\\\",for=6.6.6.6\"", "192.0.2.1", Scheme::Http),
        // Not by the grammar: it says nothing.
        ("for=192.0.2.1;proto", "10.0.0.1", Scheme::Http),
        ("for=192.0.2.1;for=192.0.2.2", "10.0.0.1", Scheme::Http),
        ("for=192.0.2.1;proto=https;proto=http", "10.0.0.1", Scheme::Http),
        ("for=\"192.0.2\\.1\"", "10.0.0.1", Scheme::Http),
        ("for=192.0.2.1;proto=gopher", "192.0.2.1", Scheme::Http),
    ] {
        assert_eq!(forwarded(value), (client.to_owned(), scheme), "{value}");
    }
}

#[test]
fn what_a_client_wrote_changes_nothing_of_what_its_proxy_wrote_after_it() {
    // Each begins what it does not end.
    for client in
        ["for=\"", "for=\"6.6.6.6", "\"\"\"", "\\", "for=\"\\", ";;;=", "=,;\"=", "\u{7f}"]
    {
        let value = format!("{client}, for=192.0.2.1;proto=https").leak();
        let expected = ("192.0.2.1".to_owned(), Scheme::Https);
        let Ok(value) = HeaderValue::from_bytes(value.as_bytes()).map(|_| &*value) else {
            continue;
        };
        assert_eq!(forwarded(value), expected, "{value}");
    }
    assert_eq!(x_forwarded("\", 192.0.2.1"), "192.0.2.1");
}

#[test]
fn the_other_header_is_a_clients_to_write_and_is_not_read() {
    let both = [("forwarded", "for=6.6.6.6;proto=https"), ("x-forwarded-for", "192.0.2.1")];
    let x = told(ForwardedHeader::XForwardedFor, &both);
    assert_eq!(x, ("192.0.2.1".to_owned(), Scheme::Http));
    let both = [("forwarded", "for=192.0.2.1"), ("x-forwarded-proto", "https")];
    let rfc = told(ForwardedHeader::Forwarded, &both);
    assert_eq!(rfc, ("192.0.2.1".to_owned(), Scheme::Http));
}

#[test]
fn the_scheme_is_that_of_the_hop_that_tells_the_client() {
    let scheme = |address, proto| {
        let lines = [("x-forwarded-for", address), ("x-forwarded-proto", proto)];
        told(ForwardedHeader::XForwardedFor, &lines).1
    };
    assert_eq!(scheme("192.0.2.1", "https"), Scheme::Https);
    assert_eq!(scheme("192.0.2.1", "HTTPS"), Scheme::Https);
    assert_eq!(scheme("192.0.2.1, 10.0.0.2", "https"), Scheme::Https);
    assert_eq!(scheme("192.0.2.1, 10.0.0.2", "https, http"), Scheme::Https);
    // The first word is the client's own.
    assert_eq!(scheme("192.0.2.1", "https, http"), Scheme::Http);
    assert_eq!(scheme("192.0.2.1", "gopher"), Scheme::Http);
    assert_eq!(scheme("", "https"), Scheme::Https);
}

#[test]
fn one_at_a_unix_socket_has_no_address() {
    let sender = Sender::new(Peer::Unix, Scheme::Http);
    assert_eq!((sender.address.to_str().unwrap(), sender.name()), ("unknown", "unix"));
}
