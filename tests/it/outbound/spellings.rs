//! Every way to write an address that is nobody's business: a real guest tries them all.

use std::net::{Ipv4Addr, UdpSocket};

use crate::support::client::GUESTS;
use crate::support::holds::Shown;
use crate::support::origin::Origin;

use super::{fetched, site};

/// Authorities that mean this machine, its networks or a cloud's metadata to somebody, without a
/// port. `{}` is where a port goes.
const SPELLINGS: [&str; 62] = [
    // IPv4 as inet_aton takes it: fewer parts, hexadecimal, octal, decimal.
    "127.0.0.1:{}",
    "127.1:{}",
    "127.0.1:{}",
    "127.000.000.001:{}",
    "0177.0.0.1:{}",
    "0177.0.0.01:{}",
    "017700000001:{}",
    "2130706433:{}",
    "0x7f000001:{}",
    "0x7F000001:{}",
    "0x7f.1:{}",
    "0x7f.0.0.0x1:{}",
    "0x7f.0x0.0x0.0x1:{}",
    "127.0.0.0x1:{}",
    "127.0x1:{}",
    "0x7f.0x1:{}",
    "00x7f.1:{}",
    "127.0.0.1.:{}",
    "127.0.0.1..:{}",
    "127.255.255.254:{}",
    "0:{}",
    "0.0.0.0:{}",
    "0x0:{}",
    "4294967297:{}",
    "383.0.0.1:{}",
    "127.0.0.1:0{}",
    // Metadata and private networks.
    "169.254.169.254:{}",
    "0xa9fea9fe:{}",
    "2852039166:{}",
    "0xa9.0xfe.0xa9.0xfe:{}",
    "169.254.43518:{}",
    "0x0a000001:{}",
    "0xc0a80101:{}",
    "0xac100001:{}",
    "0x64646464:{}",
    "0xe0000001:{}",
    "0xffffffff:{}",
    // IPv6, and IPv4 within it.
    "[::1]:{}",
    "[0:0:0:0:0:0:0:1]:{}",
    "[::0001]:{}",
    "[::]:{}",
    "[::ffff:127.0.0.1]:{}",
    "[::FFFF:7f00:1]:{}",
    "[::127.0.0.1]:{}",
    "[64:ff9b::7f00:1]:{}",
    "[2002:7f00:1::]:{}",
    "[2001:0:7f00:1::]:{}",
    "[::1%25lo]:{}",
    "[::1%lo]:{}",
    "[fe80::1%25eth0]:{}",
    "[fd00:ec2::254]:{}",
    "[::ffff:a9fe:a9fe]:{}",
    // Names, and what hides in an authority.
    "localhost:{}",
    "LOCALHOST:{}",
    "localhost.:{}",
    "localhost%2e:{}",
    "%6cocalhost:{}",
    "api.example@127.0.0.1:{}",
    "127.0.0.1:{}@api.example",
    "xn--127-0-0-1:{}",
    "127%2e0%2e0%2e1:{}",
    "localhost%00.example:{}",
];

/// Those that can be written in a manifest, as names that the system's resolver takes for addresses.
const NAMES: [&str; 16] = [
    "localhost",
    "LocalHost",
    "localhost.",
    "0x7f000001",
    "0x7F000001",
    "0x7f.0.0.0x1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.0x1",
    "127.0x1",
    "0x7f.0x1",
    "0x0",
    "0xa9fea9fe",
    "0x0a000001",
    "0xc0a80101",
    "0xac100001",
    "0x64646464",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_forbidden_address_makes_a_connection() {
    let (v4, v6, own) = listeners().await;
    let port = v4.address.port();
    // The app may reach one other port of the same address, and names that lead to where it may not.
    let own_name = own.as_ref().map(|own| match own.address.ip() {
        std::net::IpAddr::V4(ip) => format!("0x{:08x}", Ipv4Addr::to_bits(ip)),
        std::net::IpAddr::V6(_) => unreachable!("bound as IPv4"),
    });
    let names: Vec<_> = NAMES.into_iter().map(str::to_owned).chain(own_name).collect();
    let mut origins: Vec<_> = names.iter().map(|name| format!("http://{name}:{port}")).collect();
    origins.extend(["http://api.example".into(), "http://127.0.0.1:9".into()]);
    let origins: Vec<_> = origins.iter().map(String::as_str).collect();
    let server = site(&origins, r#"outbound_timeout = "5s""#).start();

    let (mut tried, mut checked) = (0, 0);
    for host in GUESTS {
        for spelling in SPELLINGS {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{}/", spelling.replace("{}", &port.to_string()));
                let refused = fetched(&server, host, &url).await;
                assert!(refused.starts_with("502 "), "{host}, {url}: {refused}");
                tried += 1;
            }
        }
        for name in &names {
            let refused = fetched(&server, host, &format!("http://{name}:{port}/")).await;
            let prohibited = refused.contains("DestinationIpProhibited");
            assert!(prohibited || refused.contains("DnsError"), "{host}, {name}: {refused}");
            tried += 1;
            checked += usize::from(prohibited);
        }
    }
    // Glibc's resolver takes all of the names for addresses, and others at least the first.
    assert!(checked >= GUESTS.len() * 3, "{checked} of {} names were checked", names.len());

    let listeners = [Some(&v4), v6.as_ref(), own.as_ref()];
    let connections: usize = listeners.into_iter().flatten().map(Origin::connections).sum();
    Shown {
        part: "Tenants: outbound",
        tried: "spellings of forbidden addresses, by p2 and p3 guests",
        times: tried,
        bound: "no connection",
    }
    .holds(format!("{connections} connections"), connections == 0);
}

/// Listeners on one port of both loopback addresses and of the machine's own, as far as it has them.
async fn listeners() -> (Origin, Option<Origin>, Option<Origin>) {
    let v4 = Origin::plain().await;
    let port = v4.address.port();
    let v6 = Origin::try_at(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).await;
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("8.8.8.8:9")?;
        socket.local_addr()
    });
    let own = match outward {
        Ok(outward) => Origin::try_at((outward.ip(), port).into()).await,
        Err(_) => None,
    };
    (v4, v6, own)
}
