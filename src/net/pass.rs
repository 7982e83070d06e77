//! Messages and open descriptors between two processes on one machine, over a unix socket. Says nothing of what they mean;
//! what comes is bounded, and what cannot be read is an error.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One end of it.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Over `stream`.
    pub fn over(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// The same end, once more.
    pub fn clone_of(other: &Self) -> io::Result<Self> {
        other.0.try_clone().map(Self)
    }

    /// Ends it, for both ends and whoever waits.
    pub fn close(&self) {
        // One that is closed already is as good.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// From now on reading and writing wait no longer than this; for ever without one.
    pub fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        // No time at all would mean no limit.
        let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
        self.0.set_read_timeout(limit)?;
        self.0.set_write_timeout(limit)
    }

    /// From now on writing waits no longer than this, and reading for ever. For both ends of a conversation that has no turns.
    pub fn set_patience_to_write(&self, limit: Duration) -> io::Result<()> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(Some(limit))
    }

    /// Sends a message. It is the last one where it did not go through as a whole: what came after would be read as the rest of
    /// it.
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MOST_BYTES {
            return Err(too_long(text.len()));
        }
        let length = u32::try_from(text.len()).map_err(|_| too_long(text.len()))?;
        let sent = (&self.0)
            .write_all(&length.to_be_bytes())
            .and_then(|()| (&self.0).write_all(&text));
        if sent.is_err() {
            // What the other end has said may still be read. One that is closed already is as good.
            let _ = self.0.shutdown(Shutdown::Write);
        }
        sent
    }

    /// Waits for a message; `None` where the other end has closed instead.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match (&self.0).read(&mut length)? {
            0 => return Ok(None),
            read => (&self.0).read_exact(&mut length[read..])?,
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST_BYTES {
            return Err(too_long(length));
        }
        // Grows as it comes: a length that was made up costs nothing.
        let mut text = Vec::new();
        (&self.0).take(length as u64).read_to_end(&mut text)?;
        if text.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Sends copies of `descriptors`. The other end has to ask for as many.
    pub fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        for batch in descriptors.chunks(BATCH) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(batch)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            sendmsg(
                &self.0,
                &[IoSlice::new(&[MARK])],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?;
        }
        Ok(())
    }

    /// Waits for `count` descriptors.
    pub fn receive_descriptors(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = Vec::new();
        while descriptors.len() < count {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut mark = [0];
            let received = recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut mark)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let before = descriptors.len();
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            if received.bytes != 1 || mark != [MARK] || descriptors.len() == before {
                // Where the limit of open files is reached they are lost on the way.
                let why = "descriptors did not arrive; is the limit of open files reached?";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
        }
        if descriptors.len() > count {
            let why = "more descriptors than were announced";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(descriptors)
    }
}

fn too_long(length: usize) -> io::Error {
    let why = format!("a message of {length} bytes is too long");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Longest message: sixteen configurations, and thousands of endpoints with all that is counted of them.
const MOST_BYTES: usize = 128 << 20;
/// Descriptors that go together; the kernel takes 253.
const BATCH: usize = 64;
/// What they ride on: without a byte none are passed.
const MARK: u8 = b'+';

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel(one), Channel(other))
    }

    #[test]
    fn messages_arrive_whole_and_in_order_and_the_end_is_seen() {
        let (one, other) = pair();
        one.send(&"first").unwrap();
        one.send(&vec![1, 2, 3]).unwrap();
        drop(one);
        assert_eq!(other.receive::<String>().unwrap().as_deref(), Some("first"));
        assert_eq!(other.receive::<Vec<u8>>().unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(other.receive::<String>().unwrap(), None);
    }

    #[test]
    fn what_breaks_off_or_is_too_long_or_no_message_is_an_error() {
        for bytes in [
            &b"\0\0"[..],
            b"\0\0\0\x05\"a",
            b"\xff\xff\xff\xff",
            b"\0\0\0\x01!",
        ] {
            let (one, other) = pair();
            (&one.0).write_all(bytes).unwrap();
            drop(one);
            assert!(other.receive::<String>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn silence_ends_with_patience() {
        let (_one, other) = pair();
        other.set_patience(Some(Duration::from_millis(10))).unwrap();
        assert!(other.receive::<String>().is_err());
    }

    #[test]
    fn regression_message_that_breaks_off_is_the_last_one() {
        let (one, other) = pair();
        one.set_patience(Some(Duration::from_millis(10))).unwrap();
        let long = "x".repeat(1 << 20);
        assert!(one.send(&long).is_err(), "nobody reads it");
        other.send(&"heard").unwrap();
        assert_eq!(one.receive::<String>().unwrap().as_deref(), Some("heard"));
        // There is room again for what would be taken for the rest.
        let mut part = vec![0; 64 << 10];
        (&other.0).read_exact(&mut part).unwrap();
        assert!(one.send(&"next").is_err());
        assert!(other.receive::<String>().is_err());
    }

    #[test]
    fn more_descriptors_than_go_at_once_arrive_in_order_and_closed_on_exec() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<File> = (0..BATCH + 3)
            .map(|number| {
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, number.to_string()).unwrap();
                File::open(path).unwrap()
            })
            .collect();
        let (one, other) = pair();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        one.send_descriptors(&borrowed).unwrap();
        one.send(&"after").unwrap();
        let received = other.receive_descriptors(files.len()).unwrap();
        for (number, descriptor) in received.into_iter().enumerate() {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let text = io::read_to_string(File::from(descriptor)).unwrap();
            assert_eq!(text, number.to_string());
        }
        assert_eq!(other.receive::<String>().unwrap().as_deref(), Some("after"));
    }

    #[test]
    fn missing_descriptors_are_an_error() {
        let (one, other) = pair();
        (&one.0).write_all(&[MARK]).unwrap();
        assert!(other.receive_descriptors(1).is_err());
        drop(one);
        assert!(other.receive_descriptors(1).is_err());
    }
}
