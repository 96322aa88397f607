//! Which addresses are no place for a guest: this machine, its networks, and what is no place at all.
//!
//! The tables are IANA's registries of special-purpose addresses. What they call
//! reachable from everywhere is left out, unless it leads back to our own network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Prefix and length, and what is there.
const SPECIAL_V4: [([u8; 4], u32, &str); 18] = [
    ([0, 0, 0, 0], 8, "of this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by a carrier's customers"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([168, 63, 129, 16], 32, "a cloud's metadata"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "for protocols"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([233, 252, 0, 0], 24, "for documentation"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// What is not the internet's within `2000::/3`, which is all that has been given out.
const SPECIAL_V6: [([u16; 4], u32, &str); 4] = [
    // Teredo, benchmarks and ORCHIDs among them.
    ([0x2001, 0, 0, 0], 23, "for protocols"),
    ([0x2001, 0x0db8, 0, 0], 32, "for documentation"),
    ([0x2002, 0, 0, 0], 16, "6to4"),
    ([0x3fff, 0, 0, 0], 20, "for documentation"),
];

const GLOBAL_V6: u128 = 0x2000 << 112;
const GLOBAL_V6_LENGTH: u32 = 3;

/// Where a gateway takes the last four bytes for an IPv4 address.
const NAT64: u128 = 0x0064_ff9b << 96;
const NAT64_LENGTH: u32 = 96;

/// What `address` is, where it is not an ordinary address of the internet.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let is_in = |prefix: [u8; 4], length: u32| {
        let different = u32::from(address) ^ u32::from_be_bytes(prefix);
        different.leading_zeros() >= length
    };
    SPECIAL_V4.iter().find(|(prefix, length, _)| is_in(*prefix, *length)).map(|(.., what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(address);
    let is_in = |prefix: u128, length: u32| (bits ^ prefix).leading_zeros() >= length;
    if is_in(NAT64, NAT64_LENGTH) {
        return special_v4(Ipv4Addr::from_bits(bits as u32));
    }
    if !is_in(GLOBAL_V6, GLOBAL_V6_LENGTH) {
        return Some(not_global(address));
    }
    let prefix = |[a, b, c, d]: [u16; 4]| u128::from(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0));
    SPECIAL_V6
        .iter()
        .find(|(start, length, _)| is_in(prefix(*start), *length))
        .map(|(.., what)| *what)
}

/// The name of what lies outside of `2000::/3`.
fn not_global(address: Ipv6Addr) -> &'static str {
    match address {
        Ipv6Addr::LOCALHOST => "loopback",
        _ if address.is_unique_local() => "private",
        _ if address.is_unicast_link_local() => "link-local",
        _ if address.is_multicast() => "multicast",
        _ => "reserved",
    }
}

/// Whether `address` is one of this machine's own: our listeners are there, and others that
/// take who comes from the machine itself for a friend.
///
/// # Errors
/// The system's, where no route leads to `address`.
pub fn is_own(address: IpAddr) -> io::Result<bool> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Sends nothing, but has the kernel choose the address to speak from: speaking to itself,
    // a machine uses the address that it speaks to. No list of interfaces knows more.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((address, ANY_PORT))?;
    Ok(socket.local_addr()?.ip() == address)
}

/// Whether `address` leads to this machine, as far as can be told.
pub fn may_be_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // Who connects to no address in particular reaches the machine itself.
    address.is_unspecified() || address.is_loopback() || is_own(address).unwrap_or(true)
}

/// Any but 0 will do, as nothing is sent.
const ANY_PORT: u16 = 9;

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
