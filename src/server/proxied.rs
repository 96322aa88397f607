//! The PROXY protocol header, v1 or v2, that begins a connection of a proxy: whose connection it is.
//!
//! `ppp` parses it. Here it is taken off the socket, and not a byte of what follows.

use std::io;
use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;

use super::socket::Socket;

/// Bytes of a header of v1, which is a line.
const LINE_MAX: usize = 107;

/// Bytes of a header of v2, with what a proxy may say beside the addresses.
const HEADER_MAX: usize = 4096;

/// Bytes of v2 that tell how many come after them.
const FIXED: usize = 16;

/// Why a connection has no header that is understood.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Lost(#[from] io::Error),
    #[error("no PROXY header")]
    None,
    #[error("a PROXY header of more than {HEADER_MAX} bytes")]
    TooLong,
    #[error("a PROXY header that is wrong: {0}")]
    Line(#[from] v1::BinaryParseError),
    #[error("a PROXY header that is wrong: {0}")]
    Binary(#[from] v2::ParseError),
    #[error("a PROXY header for datagrams")]
    Datagrams,
}

/// Takes the header off the socket. Returns the client's address.
///
/// There is none where the proxy speaks for itself (LOCAL), or does not tell (UNKNOWN, or a client
/// that has no address).
pub async fn read_header(socket: &mut Socket) -> Result<Option<IpAddr>, Fault> {
    let mut header = Vec::with_capacity(LINE_MAX);
    // What tells which version it is, and is shorter than the shortest of each.
    take(socket, &mut header, v2::PROTOCOL_PREFIX.len()).await?;
    if header == v2::PROTOCOL_PREFIX {
        take(socket, &mut header, FIXED).await?;
        let [.., high, low] = header[..] else { return Err(Fault::None) };
        let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
        if length > HEADER_MAX {
            return Err(Fault::TooLong);
        }
        take(socket, &mut header, length).await?;
        client_of(&v2::Header::try_from(&header[..])?)
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        take_line(socket, &mut header).await?;
        Ok(match v1::Header::try_from(&header[..])?.addresses {
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Unknown => None,
        })
    } else {
        Err(Fault::None)
    }
}

fn client_of(header: &v2::Header<'_>) -> Result<Option<IpAddr>, Fault> {
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(Fault::Datagrams);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    })
}

/// Takes what comes until `header` has `length` bytes.
async fn take(socket: &mut Socket, header: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let from = header.len();
    header.resize(length, 0);
    socket.read_exact(&mut header[from..]).await?;
    Ok(())
}

/// Takes what comes to the end of the line, or as much as a line may have.
async fn take_line(socket: &mut Socket, header: &mut Vec<u8>) -> io::Result<()> {
    let mut seen = [0; LINE_MAX];
    while !header.ends_with(b"\n") && header.len() < LINE_MAX {
        let room = LINE_MAX - header.len();
        // All that is there is the line's, up to its end.
        let count = socket.peek(&mut seen[..room]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = seen[..count].iter().position(|byte| *byte == b'\n');
        let length = header.len() + end.map_or(count, |end| end + 1);
        take(socket, header, length).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "proxied_tests.rs"]
mod tests;
