//! A socket pair between two processes that carries messages, and descriptors with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::Message;

/// Bytes of a message at the most: some two hundred labels.
const MESSAGE_MAX: usize = 64 * 1024;

/// Descriptors that the kernel passes at a time at the most, SCM_MAX_FD of `net/scm.h`.
const DESCRIPTORS_MAX: usize = 253;

/// One end. It never waits but when it receives.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Channel(ours), theirs))
    }

    /// The end that was passed by somebody else.
    pub(super) fn from(end: OwnedFd) -> Channel {
        Channel(end)
    }

    /// Sends a message with these descriptors.
    pub(super) fn send(&self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
        if with.len() > DESCRIPTORS_MAX || bytes.len() > MESSAGE_MAX {
            return Err(io::Error::other(format!(
                "there are {} sockets, and no more than {DESCRIPTORS_MAX} can be passed",
                with.len()
            )));
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(with));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// A message that is there, with its descriptors. None where the other end is closed.
    pub(super) fn take(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.0, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(received) => received,
            // It ended without having read what was sent to it.
            Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was cut: too few descriptors may be open"));
        }
        let message = serde_json::from_slice(&bytes[..received.bytes])?;
        Ok(Some((message, descriptors)))
    }

    /// The next message. None once the other end is closed, as it is when its process has ended.
    pub(super) async fn receive(&self) -> io::Result<Option<Message>> {
        // Tokio has no type for a socket of this kind; what it does here is to wait.
        let socket = UnixDatagram::from_std(self.0.try_clone()?.into())?;
        socket
            .async_io(Interest::READABLE, || self.take())
            .await
            .map(|received| received.map(|(message, _)| message))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::super::Label;
    use super::*;

    #[tokio::test]
    async fn messages_keep_their_bounds_and_bring_descriptors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from(theirs);
        let label = Label { name: "https".into(), configured: None };
        let (mut reader, writer) = io::pipe().unwrap();
        ours.send(
            &Message::Take { sockets: vec![label.clone()], keys: None, drained: Vec::new() },
            &[writer.as_fd()],
        )
        .unwrap();
        ours.send(&Message::Yours, &[]).unwrap();
        drop(writer);

        let (message, mut passed) = theirs.take().unwrap().unwrap();
        assert_eq!(
            message,
            Message::Take { sockets: vec![label], keys: None, drained: Vec::new() }
        );
        File::from(passed.pop().unwrap()).write_all(b"through it").unwrap();
        assert!(passed.is_empty());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through it");
        assert_eq!(theirs.receive().await.unwrap(), Some(Message::Yours));
        theirs.send(&Message::Ready, &[]).unwrap();
        drop(theirs);
        assert_eq!(ours.receive().await.unwrap(), Some(Message::Ready));
        assert_eq!(ours.receive().await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_who_ends_without_reading_has_ended() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&Message::Yours, &[]).unwrap();
        drop(theirs);
        assert_eq!(ours.receive().await.unwrap(), None);
    }
}
