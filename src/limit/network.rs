//! Whom a client's address stands for.

use std::net::IpAddr;

/// Whose a client's address is: one for IPv4, and a /64 for IPv6, as one client has all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Network {
    /// The network of an address. An IPv4 address in its IPv6 form is the IPv4 one.
    pub fn of(client: IpAddr) -> Network {
        match client.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Network::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}
