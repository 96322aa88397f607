//! The tables against IANA's registries, and every way to write an IPv4 address as an IPv6 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use proptest::prelude::*;

use super::{is_own, special};

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// First, some middle, and last address of every row of both registries that is not ordinary.
const SPECIAL: [&str; 90] = [
    "0.0.0.0",
    "0.1.2.3",
    "0.255.255.255",
    "10.0.0.0",
    "10.0.0.5",
    "10.255.255.255",
    "100.64.0.0",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "224.0.0.251",
    "233.252.0.1",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.254",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.5",
    "::ffff:0:8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.5",
    "64:ff9b::169.254.169.254",
    "64:ff9b:0:0:0:1:808:808",
    "64:ff9b:1::",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "100::",
    "100::1",
    "100:0:0:1::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001::",
    "2001::1",
    "2001:0:ffff::1",
    "2001:1::1",
    "2001:2::",
    "2001:10::",
    "2001:20::",
    "2001:30::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "4000::",
    "5f00::1",
    "fc00::",
    "fd00::2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// The neighbours of those, and some that everyone knows.
const ORDINARY: [&str; 38] = [
    "1.0.0.0",
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "203.0.114.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2000::1",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2003::1",
    "2600:1f18::1",
    "2606:4700:4700::1111",
    "3ffe:ffff::1",
    "3fff:1000::",
];

#[test]
fn special_addresses_are_told_from_ordinary_ones() {
    for text in SPECIAL {
        assert!(special(address(text)).is_some(), "{text}");
    }
    for text in ORDINARY {
        assert_eq!(special(address(text)), None, "{text}");
    }
}

/// Every address that some gateway or kernel takes for `v4`, with `more` in the bits that it ignores.
fn spellings(v4: Ipv4Addr, more: u128) -> Vec<Ipv6Addr> {
    let bits = u128::from(v4.to_bits());
    let low = |count: u32| more & ((1 << count) - 1);
    [
        bits,                                                          // compatible
        0xffff << 32 | bits,                                           // mapped
        0xffff << 48 | bits,                                           // translated
        0x0064_ff9b << 96 | bits,                                      // NAT64
        0x0064_ff9b_0001 << 80 | low(48) << 32 | bits,                 // NAT64 of a network
        0x2002 << 112 | bits << 80 | low(80),                          // 6to4
        0x2001_0000 << 96 | bits << 64 | low(64),                      // Teredo's server
        0x2001_0000 << 96 | low(64) << 32 | u128::from(!v4.to_bits()), // Teredo's client
    ]
    .map(Ipv6Addr::from)
    .to_vec()
}

proptest! {
    #[test]
    fn a_special_address_is_special_in_every_spelling(
        which in 0..SPECIAL.len(),
        host in any::<u32>(),
        more in any::<u128>(),
    ) {
        if let IpAddr::V4(v4) = address(SPECIAL[which]) {
            // The address itself, and one that is near.
            for v4 in [v4, Ipv4Addr::from_bits(v4.to_bits() ^ host & 0xff)] {
                if special(v4.into()).is_some() {
                    for v6 in spellings(v4, more) {
                        prop_assert!(special(v6.into()).is_some(), "{v4} as {v6}");
                    }
                }
            }
        }
    }

    /// What IPv6 names have of the table, said once more by the standard library.
    #[test]
    fn nothing_outside_of_the_internet_s_own_block_is_ordinary(bits in any::<u128>()) {
        let v6 = Ipv6Addr::from(bits);
        let is_global = v6.segments()[0] >> 13 == 1;
        if !is_global && v6.to_ipv4_mapped().is_none() && bits >> 32 != 0x0064_ff9b << 64 {
            prop_assert!(special(v6.into()).is_some(), "{v6}");
        }
    }

    #[test]
    fn private_multicast_and_the_like_are_special(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified()
        {
            prop_assert!(special(v4.into()).is_some(), "{v4}");
        }
    }
}

#[test]
fn the_machine_knows_its_own_addresses() {
    // The address that it would use towards the internet; without a way there, there is none.
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("8.8.8.8:9")?;
        socket.local_addr()
    });
    let outward = outward.map(|outward| outward.ip());
    for own in [address("127.0.0.1")].into_iter().chain(outward) {
        assert!(is_own(own).expect("a route to itself"), "{own}");
    }
    if let Ok(own) = is_own(address("8.8.8.8")) {
        assert!(!own);
    }
}
