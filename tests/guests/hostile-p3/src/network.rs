//! What a component without a network tries all the same.

use std::mem::forget;

use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};

const SERVER: IpSocketAddress = IpSocketAddress::Ipv4(Ipv4SocketAddress {
    port: 80,
    address: (127, 0, 0, 1),
});

/// Sockets made, and whether one of them could be bound or connected.
pub async fn tcp(count: u64) -> String {
    let (mut made, mut used) = (0, 0);
    for _ in 0..count {
        let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else {
            continue;
        };
        made += 1;
        used += usize::from(socket.bind(SERVER).is_ok());
        used += usize::from(socket.connect(SERVER).await.is_ok());
        forget(socket);
    }
    format!("{made} made, {used} used")
}

pub fn udp(count: u64) -> String {
    let (mut made, mut used) = (0, 0);
    for _ in 0..count {
        let Ok(socket) = UdpSocket::create(IpAddressFamily::Ipv4) else {
            continue;
        };
        made += 1;
        used += usize::from(socket.bind(SERVER).is_ok());
        used += usize::from(socket.connect(SERVER).is_ok());
        forget(socket);
    }
    format!("{made} made, {used} used")
}

pub async fn dns() -> String {
    match resolve_addresses("localhost".to_owned()).await {
        Ok(addresses) if !addresses.is_empty() => "resolved".to_owned(),
        Ok(_) | Err(_) => "refused".to_owned(),
    }
}
