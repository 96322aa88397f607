//! Where a listener is: an address of the machine, or a Unix socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::read::{Value, quoted};

/// What the path of a Unix socket begins with in the manifest.
const UNIX: &str = "unix:";

/// Bytes of a path that the system takes for a socket.
const MAX_UNIX_PATH: usize = 107;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// Absolute.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Every IPv4 address of the machine.
    pub(super) fn everywhere(port: u16) -> ListenAddress {
        ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
    }

    /// The address, where it is one of the machine's.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// Whether two listeners there would be in each other's way. Port 0 is another port each time.
    pub(super) fn is_taken_by(&self, other: &ListenAddress) -> bool {
        self == other && self.tcp().is_none_or(|address| address.port() != 0)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Reads an address to listen on.
pub(super) fn listen_address(value: &Value<'_>) -> Option<ListenAddress> {
    let text = value.text();
    if let Some(path) = text.and_then(|text| text.strip_prefix(UNIX)) {
        return unix(value, path);
    }
    if let Some(address) = text.and_then(|text| text.parse().ok()) {
        return Some(ListenAddress::Tcp(address));
    }

    // A name is no address: what it resolves to may change, and a listener does not.
    let port = match (text, value.integer()) {
        (Some(text), _) => text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()),
        (None, number) => number.and_then(|port| u16::try_from(port).ok()),
    };
    let help = match text {
        Some(text) if text.starts_with(['/', '.']) => {
            format!("write {}", quoted(&format!("{UNIX}{text}")))
        }
        Some(text) if text.starts_with("localhost") => {
            format!("write \"127.0.0.1:{}\"", port.unwrap_or(8080))
        }
        _ => format!("write \"0.0.0.0:{}\"", port.unwrap_or(8080)),
    };
    value.expected("an IP address and a port such as \"0.0.0.0:8080\"", help)
}

fn unix(value: &Value<'_>, path: &str) -> Option<ListenAddress> {
    let what = "the path of a Unix socket such as \"unix:run/http.sock\"";
    if path.is_empty() || path.contains('\0') || path.ends_with('/') {
        return value.expected(what, "write \"unix:run/http.sock\"");
    }
    // The start of a URL, or of a path that is absolute: it may have been meant as either.
    if let Some(path) = path.strip_prefix("//") {
        let path = path.trim_start_matches('/');
        return value.expected(what, format!("write {}", quoted(&format!("{UNIX}/{path}"))));
    }
    let path = match value.source.absolute(path) {
        Ok(path) => path,
        Err(error) => {
            let message = format!("cannot make {} absolute: {error}", quoted(path));
            return value.reject(message, "write an absolute path");
        }
    };
    if path.as_os_str().as_bytes().len() > MAX_UNIX_PATH {
        return value.reject(
            format!(
                "{} is longer than the {MAX_UNIX_PATH} bytes that a socket's path may have",
                path.display()
            ),
            "write a shorter one, such as \"unix:/run/tidegate/http.sock\"",
        );
    }
    Some(ListenAddress::Unix(path))
}
