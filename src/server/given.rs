//! Sockets that the process before this one hands over, by where the manifest wants them.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

use tracing::warn;

use super::bind::{Listening, Scheme, adopt};
use super::quic;
use crate::config::ListenAddress;
use crate::handover::{Estate, Keys, Label, Passed};
use crate::unix::SocketFile;

/// Those that nothing has taken yet. They are still the other process' as well.
#[derive(Debug, Default)]
pub struct Given(Estate);

impl Given {
    pub fn new(estate: Estate) -> Given {
        Given(estate)
    }

    /// The secrets of the other process.
    pub fn keys(&self) -> Option<&Keys> {
        self.0.keys.as_ref()
    }

    /// The socket that listens where the manifest wants one for `scheme`.
    pub fn listener(
        &mut self,
        scheme: Scheme,
        wanted: &ListenAddress,
    ) -> Option<(ListenAddress, Listening)> {
        // A port that was the system's choice is that of one scheme only.
        let is_fixed = wanted.tcp().is_none_or(|address| address.port() != 0);
        let schemes = [Scheme::Http, Scheme::Https];
        let others = schemes.into_iter().filter(|other| *other != scheme && is_fixed);
        [scheme].into_iter().chain(others).find_map(|scheme| self.other(scheme.as_str(), wanted))
    }

    /// The socket of that name that listens where the manifest wants one.
    pub fn other(
        &mut self,
        name: &str,
        wanted: &ListenAddress,
    ) -> Option<(ListenAddress, Listening)> {
        let label = Label { name: name.to_owned(), configured: Some(wanted.to_string()) };
        let at = self.0.sockets.iter().position(|passed| passed.label == label)?;
        let (bound, mut listening) = adopt(self.0.sockets.swap_remove(at).socket)
            .inspect_err(|error| warn!(%wanted, %error, "a socket that was passed is of no use"))
            .ok()?;
        if let (Listening::Unix(_, file), ListenAddress::Unix(path)) = (&mut listening, wanted) {
            // Without its file nobody finds it: another one is made then.
            *file = Some(SocketFile::of_another(path).ok()?);
        }
        Some((bound, listening))
    }

    /// The UDP socket at that address.
    pub fn datagrams(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        let is_there = |passed: &Passed| {
            let socket = socket2::SockRef::from(&passed.socket);
            passed.label.name == quic::NAME
                && socket.local_addr().is_ok_and(|local| local.as_socket() == Some(address))
        };
        let at = self.0.sockets.iter().position(is_there)?;
        let (_, socket) = quic::adopt(self.0.sockets.swap_remove(at).socket).ok()?;
        Some(socket)
    }

    /// Where packets on the UDP socket at that address go whose connections are the other process'.
    pub fn way(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        let label = Label { name: quic::WAY.to_owned(), configured: Some(address.to_string()) };
        let at = self.0.sockets.iter().position(|passed| passed.label == label)?;
        Some(self.0.sockets.swap_remove(at).socket)
    }

    /// Closes those that are left, and removes their files: they are this process' alone now. It blocks.
    pub fn close(self) {
        for passed in self.0.sockets {
            let path = passed.label.configured.as_deref();
            if let Some(path) = path.and_then(|configured| configured.strip_prefix("unix:"))
                && let Ok(file) = SocketFile::of_another(Path::new(path))
            {
                file.owned().set(true);
            }
        }
    }
}
