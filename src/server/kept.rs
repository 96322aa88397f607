//! The sockets that are served, for a process that takes them over.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use super::bind::Scheme;
use super::quic;
use super::shared::Shared;
use crate::config::ListenAddress;
use crate::handover::{Estate, Keys, Label, Passed};
use crate::unix::{Owned, SocketFile};

/// Where the manifest wanted a socket. None where it is the service manager's.
pub type Origin = Option<ListenAddress>;

/// Who serves a socket closes it: this only knows it for as long as it is open.
pub struct Kept {
    keys: Keys,
    sockets: Vec<(Label, Weak<dyn AsFd + Send + Sync>)>,
    files: Vec<Owned>,
    shared: Vec<(SocketAddr, Arc<Shared>)>,
}

impl Kept {
    pub(super) fn new(keys: Keys) -> Kept {
        Kept { keys, sockets: Vec::new(), files: Vec::new(), shared: Vec::new() }
    }

    pub(super) fn listener(
        &mut self,
        scheme: Scheme,
        origin: Origin,
        listener: &Arc<impl AsFd + Send + Sync + 'static>,
        file: Option<&SocketFile>,
    ) {
        self.other((scheme.as_str(), origin), Arc::downgrade(listener) as _, file);
    }

    /// Takes in a socket that is served elsewhere, by a name of its own.
    pub fn other(
        &mut self,
        (name, origin): (&str, Origin),
        socket: Weak<dyn AsFd + Send + Sync>,
        file: Option<&SocketFile>,
    ) {
        self.add(name, origin, socket);
        self.files.extend(file.map(SocketFile::owned));
    }

    pub(super) fn datagrams(
        &mut self,
        (address, socket): (SocketAddr, &Arc<UdpSocket>),
        origin: Origin,
        shared: &Arc<Shared>,
    ) {
        self.add(quic::NAME, origin, Arc::downgrade(socket) as _);
        self.shared.push((address, Arc::clone(shared)));
    }

    fn add(&mut self, name: &str, origin: Origin, socket: Weak<dyn AsFd + Send + Sync>) {
        let configured = origin.map(|address| address.to_string());
        self.sockets.push((Label { name: name.to_owned(), configured }, socket));
    }

    /// What another process needs to take over, with another descriptor of each socket.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn estate(&self) -> io::Result<Estate> {
        let open = self.sockets.iter().filter_map(|(label, it)| Some((label, it.upgrade()?)));
        let passed = open.map(|(label, socket)| {
            let socket = socket.as_fd().try_clone_to_owned()?;
            Ok(Passed { socket, label: label.clone() })
        });
        let ways = self.shared.iter().map(|(address, shared)| {
            let label = Label { name: quic::WAY.to_owned(), configured: Some(address.to_string()) };
            Ok(Passed { socket: shared.open_way()?, label })
        });
        let sockets = passed.chain(ways).collect::<io::Result<_>>()?;
        Ok(Estate { sockets, keys: Some(self.keys.clone()), drained: Vec::new() })
    }

    /// Leaves all to the process that has the estate: it removes the files of Unix sockets, and
    /// reads UDP sockets.
    ///
    /// # Errors
    /// When this process cannot be told of what is sent to it.
    pub fn leave(&self) -> io::Result<()> {
        self.shared.iter().try_for_each(|(_, shared)| shared.leave())?;
        self.own_files(false);
        Ok(())
    }

    /// Says whether the files of Unix sockets are this process' to remove.
    pub fn own_files(&self, owned: bool) {
        for file in &self.files {
            file.set(owned);
        }
    }
}
