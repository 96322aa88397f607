//! Whom a request is from, where a proxy that is trusted says so in a header.
//!
//! Each proxy adds at the end from whom it had the request. So the header is read from its end: what a
//! trusted proxy wrote is believed, up to the first address that is of no such proxy. Before that
//! stands what a client wrote, and whatever it wrote changes nothing of what comes after it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderName;
use http::header::{FORWARDED, HeaderMap, HeaderValue};

use super::bind::Scheme;
use crate::config::{ForwardedHeader, Peer, Proxies};

/// Proxies that one request is followed through. A client may write as many of their addresses as
/// a head holds, and each is looked for in the whole list.
const HOPS_MAX: usize = 32;

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whom a request is from and how they sent it, as guests, limits and the log are told.
#[derive(Clone, Debug)]
pub struct Sender {
    pub peer: Peer,
    /// Its address, as guests see it.
    pub address: HeaderValue,
    pub scheme: Scheme,
}

/// What one proxy says: from whom it had the request, and how. None is what cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hop {
    client: Option<IpAddr>,
    scheme: Option<Scheme>,
}

impl Sender {
    pub fn new(peer: Peer, scheme: Scheme) -> Sender {
        // What RFC 7239 calls one that has no address.
        let unknown = HeaderValue::from_static("unknown");
        let address = match peer {
            Peer::Ip(ip) => HeaderValue::try_from(ip.to_string()).unwrap_or(unknown),
            Peer::Unix => unknown,
        };
        Sender { peer, address, scheme }
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        match self.peer {
            Peer::Ip(_) => self.address.to_str().unwrap_or_default(),
            Peer::Unix => "unix",
        }
    }
}

/// Whom a request is from that came over a connection of `proxy`, which is trusted.
///
/// Where that is not told, or cannot be read, it is from the last proxy that can be told.
pub fn sender(headers: &HeaderMap, proxy: &Sender, proxies: &Proxies) -> Sender {
    match proxies.header {
        ForwardedHeader::XForwardedFor => {
            let mut schemes = elements(headers, &FORWARDED_PROTO).map(scheme).peekable();
            // Told as well by proxies that do not tell the address.
            let said = schemes.peek().copied().flatten();
            let hops = elements(headers, &FORWARDED_FOR).map(|text| Hop {
                client: address(text),
                // Few proxies make a list of it: there the one word holds for all hops.
                scheme: schemes.next().flatten(),
            });
            walk(hops, proxy.peer, said.unwrap_or(proxy.scheme), proxies)
        }
        ForwardedHeader::Forwarded => {
            walk(elements(headers, &FORWARDED).map(hop), proxy.peer, proxy.scheme, proxies)
        }
    }
}

/// Goes from the last hop towards the first, for as long as those who tell are trusted.
fn walk(
    hops: impl Iterator<Item = Hop>,
    mut peer: Peer,
    mut scheme: Scheme,
    proxies: &Proxies,
) -> Sender {
    for hop in hops.take(HOPS_MAX) {
        scheme = hop.scheme.unwrap_or(scheme);
        let Some(client) = hop.client else { break };
        peer = Peer::from(client);
        if !proxies.trusted.contains(peer) {
            break;
        }
    }
    Sender::new(peer, scheme)
}

/// The elements of a header that is a list, in one line or several, the last one first.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|line| FromEnd { rest: Some(line.as_bytes()), separator: b',' })
}

/// The parts of a text that are not empty, the last one first. What stands in quotes is whole.
struct FromEnd<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for FromEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest?;
            let part = match last_outside_quotes(rest, self.separator) {
                Some(at) => {
                    self.rest = Some(&rest[..at]);
                    &rest[at + 1..]
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            let part = part.trim_ascii();
            if !part.is_empty() {
                return Some(part);
            }
        }
    }
}

fn last_outside_quotes(text: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    (0..text.len()).rev().find(|&at| {
        if text[at] == b'"' && !is_escaped(&text[..at]) {
            quoted = !quoted;
        }
        text[at] == separator && !quoted
    })
}

/// Whether the byte after `before` is escaped: whether that ends with an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// One element of `Forwarded`. Where it does not keep to the grammar, or says a thing twice, it says nothing.
fn hop(element: &[u8]) -> Hop {
    let (mut client, mut proto) = (None, None);
    for pair in (FromEnd { rest: Some(element), separator: b';' }) {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else {
            return Hop::default();
        };
        let (name, value) = (&pair[..equals], unquoted(&pair[equals + 1..]));
        let said = if name.eq_ignore_ascii_case(b"for") {
            client.replace(value)
        } else if name.eq_ignore_ascii_case(b"proto") {
            proto.replace(value)
        } else {
            None
        };
        if said.is_some() {
            return Hop::default();
        }
    }
    Hop { client: client.flatten().and_then(address), scheme: proto.flatten().and_then(scheme) }
}

/// What a value says, in quotes or not. Neither addresses nor schemes have anything to escape.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    };
    (!inner.contains(&b'"') && !inner.contains(&b'\\')).then_some(inner)
}

/// An address, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    bare().or_else(with_port).or_else(in_brackets)
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

/// Reads `bytes` as what a client wrote, alone and before what its proxies add: that has to count.
#[cfg(any(fuzzing, test))]
pub fn try_out(bytes: &[u8]) {
    let proxy = Sender::new(IpAddr::from([10, 0, 0, 1]).into(), Scheme::Http);
    let client = IpAddr::from([192, 0, 2, 1]);
    for (header, name, added) in [
        (ForwardedHeader::XForwardedFor, FORWARDED_FOR, &b", 192.0.2.1, 10.0.0.2"[..]),
        (ForwardedHeader::Forwarded, FORWARDED, b",for=\"192.0.2.1:80\";proto=https,for=10.0.0.2"),
    ] {
        let proxies = Proxies { trusted: "10.0.0.0/8".into(), header, ..Proxies::default() };
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(&name, HeaderValue::from_bytes(value).ok()?);
            Some(sender(&headers, &proxy, &proxies))
        };
        if let Some(alone) = read(bytes) {
            assert_eq!(alone.address.to_str().ok(), Some(&*alone.peer.to_string()));
        }
        if let Some(told) = read(&[bytes, added].concat()) {
            assert_eq!(told.peer, Peer::Ip(client));
        }
    }
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
