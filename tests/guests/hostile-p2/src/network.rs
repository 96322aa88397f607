//! What a component without a network tries all the same.

use std::mem::forget;

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

const SERVER: IpSocketAddress = IpSocketAddress::Ipv4(Ipv4SocketAddress {
    port: 80,
    address: (127, 0, 0, 1),
});

/// Sockets made, and whether one of them could be bound or connected.
pub fn tcp(count: u64) -> String {
    let (mut made, mut used) = (0, 0);
    for _ in 0..count {
        let Ok(socket) = create_tcp_socket(IpAddressFamily::Ipv4) else {
            continue;
        };
        made += 1;
        used += usize::from(socket.start_bind(&instance_network(), SERVER).is_ok());
        used += usize::from(socket.start_connect(&instance_network(), SERVER).is_ok());
        forget(socket);
    }
    format!("{made} made, {used} used")
}

pub fn udp(count: u64) -> String {
    let (mut made, mut used) = (0, 0);
    for _ in 0..count {
        let Ok(socket) = create_udp_socket(IpAddressFamily::Ipv4) else {
            continue;
        };
        made += 1;
        used += usize::from(socket.start_bind(&instance_network(), SERVER).is_ok());
        used += usize::from(socket.stream(Some(SERVER)).is_ok());
        forget(socket);
    }
    format!("{made} made, {used} used")
}

pub fn dns() -> String {
    match resolve_addresses(&instance_network(), "localhost") {
        Ok(stream) => {
            stream.subscribe().block();
            match stream.resolve_next_address() {
                Ok(Some(_)) => "resolved".to_owned(),
                Ok(None) | Err(_) => "refused".to_owned(),
            }
        }
        Err(_) => "refused".to_owned(),
    }
}
