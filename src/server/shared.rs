//! A UDP socket that two processes have for a while, and which of them reads what comes to it.
//!
//! After an upgrade the new process alone reads. Ids of connections are made with a key of each
//! process ([`Keys::ids`]), so it sees which packets are the old one's, and sends those on to it, over
//! a socket pair, the [way](Shared::open_way). Both send by the socket itself.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwapOption;
use futures_util::task::AtomicWaker;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::handover::Keys;

/// Bytes that the kernel is asked to keep of packets on their way to another process. Those that it
/// has no room for are lost, as on any network.
const WAY_BUFFER: usize = 2 * 1024 * 1024;

/// Bytes of a connection id, as [`HashedConnectionIdGenerator`] makes them.
const ID: usize = 8;

/// Bytes of what goes before each packet on the way, with two addresses of IPv6.
const HEAD: usize = 192;

/// What a socket's two processes have to do with each other.
#[derive(Default)]
pub struct Shared {
    before: Option<Before>,
    /// This process' end of a way that no other process has taken yet.
    opened: Mutex<Option<OwnedFd>>,
    /// What another process, which reads the socket, sends on.
    after: ArcSwapOption<UnixDatagram>,
    /// Of the task that reads.
    reader: AtomicWaker,
}

/// The process before this one.
struct Before {
    ids: HashedConnectionIdGenerator,
    way: OwnedFd,
    ended: AtomicBool,
}

/// The socket as quinn has it.
#[derive(Debug)]
pub struct Datagrams {
    socket: Arc<dyn AsyncUdpSocket>,
    shared: Arc<Shared>,
}

impl Shared {
    /// Of a socket that came with the keys of the process before this one, and the way to it.
    pub fn new(before: Option<(Keys, OwnedFd)>) -> Shared {
        let before = before.map(|(keys, way)| Before {
            ids: HashedConnectionIdGenerator::from_key(keys.ids),
            way,
            ended: AtomicBool::new(false),
        });
        Shared { before, ..Shared::default() }
    }

    /// Opens a way from another process to this one, and returns the other's end.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn open_way(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // As much as the system allows; less is no error.
        socket2::SockRef::from(&theirs).set_send_buffer_size(WAY_BUFFER)?;
        *self.opened() = Some(ours);
        Ok(theirs)
    }

    /// Reads what another process sends on, instead of the socket, for as long as that has its end
    /// of the way that was opened last.
    ///
    /// # Errors
    /// When it cannot be followed.
    pub fn leave(&self) -> io::Result<()> {
        let Some(way) = self.opened().take() else { return Ok(()) };
        // Tokio has no type for a socket of this kind; what it does here is to wait.
        self.after.store(Some(Arc::new(UnixDatagram::from_std(way.into())?)));
        self.reader.wake();
        Ok(())
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what another process has sent on. None where there is none, any more or yet.
    fn poll_way(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Option<Poll<io::Result<usize>>> {
        let after = self.after.load_full()?;
        loop {
            match after.poll_recv_ready(cx) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Ready(Ok(())) => {}
            }
            match after.try_io(Interest::READABLE, || take_all(&after, buffers, metas)) {
                Ok(0) => {
                    // It has ended, or does not serve HTTP/3.
                    self.after.store(None);
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return Some(Poll::Ready(taken)),
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Before {
    /// Sends the packets on that are the other process', and leaves the rest in the buffer.
    fn sort_out(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        if self.ended.load(Relaxed) {
            return;
        }
        let (mut at, mut kept) = (0, 0);
        while at < meta.len {
            // The kernel may have put several of one sender into one buffer.
            let end = meta.len.min(at + meta.stride.max(1));
            if is_of(&self.ids, &buffer[at..end]) {
                self.send(&buffer[at..end], meta);
            } else {
                buffer.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        meta.len = kept;
    }

    fn send(&self, packet: &[u8], meta: &RecvMeta) {
        let head = Head {
            from: meta.addr,
            to: meta.dst_ip,
            ecn: meta.ecn.map(|codepoint| codepoint as u8),
        };
        let Ok(head) = head.to_bytes() else { return };
        let parts = [IoSlice::new(&head), IoSlice::new(packet)];
        let mut control = SendAncillaryBuffer::default();
        match sendmsg(&self.way, &parts, &mut control, SendFlags::NOSIGNAL) {
            // Lost where there is no room: its sender will send it again.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(_) => self.ended.store(true, Relaxed),
        }
    }
}

impl Datagrams {
    pub fn new(socket: Arc<dyn AsyncUdpSocket>, shared: Arc<Shared>) -> Datagrams {
        Datagrams { socket, shared }
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.shared.reader.register(cx.waker());
        if let Some(taken) = self.shared.poll_way(cx, buffers, metas) {
            return taken;
        }
        let count = ready!(self.socket.poll_recv(cx, buffers, metas))?;
        if let Some(before) = &self.shared.before {
            for (buffer, meta) in buffers.iter_mut().zip(&mut *metas).take(count) {
                before.sort_out(buffer, meta);
            }
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// Whether the connection that a packet is for has an id that was made with this key.
///
/// The id that a client's first packet is for is the client's choice, and is not.
fn is_of(ids: &HashedConnectionIdGenerator, packet: &[u8]) -> bool {
    // RFC 9000, 17.2 and 17.3: a long header tells the id's length, after four bytes of version.
    let id = match packet {
        [first, rest @ ..] if first & 0x80 == 0 => rest.get(..ID),
        [_, _, _, _, _, length, rest @ ..] if usize::from(*length) == ID => rest.get(..ID),
        _ => None,
    };
    id.is_some_and(|id| ids.validate(&ConnectionId::new(id)).is_ok())
}

/// What is known of a packet besides its bytes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<u8>,
}

impl Head {
    /// As JSON, with blanks behind it, so that the packet begins at a known place.
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(HEAD, b' ');
        Ok(bytes)
    }
}

/// Takes the packets that are there, one to a buffer. 0 where the other end is closed.
fn take_all(
    way: &UnixDatagram,
    buffers: &mut [IoSliceMut<'_>],
    metas: &mut [RecvMeta],
) -> io::Result<usize> {
    let mut taken = 0;
    for (buffer, meta) in buffers.iter_mut().zip(metas) {
        let mut head = [0; HEAD];
        let parts = &mut [IoSliceMut::new(&mut head), IoSliceMut::new(buffer)];
        let mut control = RecvAncillaryBuffer::default();
        match recvmsg(way, parts, &mut control, RecvFlags::empty()) {
            Ok(received) if received.bytes == 0 => break,
            Ok(received) => {
                let len = received.bytes.saturating_sub(HEAD);
                let head: Head = serde_json::from_slice(&head)?;
                let ecn = head.ecn.and_then(EcnCodepoint::from_bits);
                *meta = RecvMeta { addr: head.from, len, stride: len, ecn, dst_ip: head.to };
                taken += 1;
            }
            Err(Errno::AGAIN) if taken > 0 => break,
            Err(Errno::CONNRESET) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
