//! One message between processes: a kind, a body, and descriptors. A long body travels in a sealed memfd.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::descriptors::Descriptors;
use crate::failure::While;
use crate::socket::{self, MAX_DESCRIPTORS};
use crate::wire::{Reader, Writer};

/// A body of up to this many bytes travels inside of the message. The zygote's clones all get a copy of its buffer.
const INLINE: usize = 16 * 1024;
const HEADER: usize = 10;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To a re-executed copy: what it is to be.
    Configure = 1,
    /// To the zygote or a copy: start the process that is described here.
    Start = 2,
    /// To the zygote: take over this environment or current directory.
    Adopt = 3,
    /// From the zygote or a copy: done.
    Done = 4,
    /// From any of them: an error.
    Failed = 5,
    /// From the zygote: this way of starting does not work on this system.
    Unsupported = 6,
    /// From a process that is about to exit: it panicked.
    Panicked = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> io::Result<Self> {
        use Kind::{Adopt, Configure, Done, Failed, Panicked, Start, Unsupported};
        [Configure, Start, Adopt, Done, Failed, Unsupported, Panicked]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed message: its kind is unknown"))
    }
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) descriptors: Descriptors,
    /// Where the body is when it is not in the buffer.
    memfd: Option<OwnedFd>,
    length: usize,
}

/// A buffer that any message fits into.
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; HEADER + INLINE]
}

/// How a receive ended that brought no message.
#[derive(Debug)]
pub(crate) enum Absent {
    /// The peer closed its end.
    End,
    /// Nothing came in time, or nothing is there now.
    NotYet,
    /// Descriptors came with the message that this process has no room for. The message is lost.
    NoRoom,
    Error(io::Error),
}

impl From<Absent> for io::Error {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::End => Self::new(io::ErrorKind::UnexpectedEof, "the other process is gone"),
            Absent::NotYet => Self::new(io::ErrorKind::TimedOut, "the other process does not answer"),
            Absent::NoRoom => Self::from_raw_os_error(libc::EMFILE),
            Absent::Error(error) => error,
        }
    }
}

impl Packet {
    /// Receives a message into `buffer`, which came from [`buffer`].
    pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> Result<Self, Absent> {
        let mut descriptors = Descriptors::new();
        let received = socket::receive(socket, buffer, &mut descriptors, wait).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Absent::NotYet,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Absent::End,
            _ => Absent::Error(error),
        })?;
        if received.length == 0 {
            return Err(Absent::End);
        }
        if received.descriptors_lost {
            return Err(Absent::NoRoom);
        }
        Self::parse(&buffer[..received.length], descriptors).map_err(Absent::Error)
    }

    fn parse(message: &[u8], mut descriptors: Descriptors) -> io::Result<Self> {
        let mut reader = Reader::new(message);
        let kind = Kind::from_byte(reader.u8()?)?;
        let in_memfd = reader.flag()?;
        let length = reader.length()?;
        let memfd = if in_memfd { descriptors.pop() } else { None };
        if in_memfd && memfd.is_none() || !in_memfd && length != reader.rest().len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "malformed message: its body is missing",
            ));
        }
        Ok(Self {
            kind,
            descriptors,
            memfd,
            length,
        })
    }

    /// The body of this message, which was received into `buffer`; read from its memfd, into `long`, if it is long.
    #[inline(always)]
    pub(crate) fn body<'a>(&mut self, buffer: &'a [u8], long: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match self.memfd.take() {
            None => Ok(&buffer[HEADER..HEADER + self.length]),
            Some(memfd) => read_body(memfd, self.length, long),
        }
    }
}

#[cold]
fn read_body(memfd: OwnedFd, length: usize, long: &mut Vec<u8>) -> io::Result<&[u8]> {
    let file = File::from(memfd);
    let too_short = || io::Error::new(io::ErrorKind::InvalidData, "malformed message: its body is too short");
    // Before memory is taken for it, and before a read: what is no file has no length, and would keep the reader waiting.
    if file.metadata()?.len() < length as u64 {
        return Err(too_short());
    }
    long.try_reserve_exact(length)
        .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, "not enough memory for a message"))?;
    file.take(length as u64).read_to_end(long)?;
    if long.len() != length {
        return Err(too_short());
    }
    Ok(long)
}

/// Sends a message whose body is `head` followed by `tail`.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    kind: Kind,
    head: &Writer,
    tail: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let head = head.as_slice();
    let length = head.len() + tail.len();
    if length <= INLINE {
        let header = header(kind, false, length);
        let parts = [IoSlice::new(&header), IoSlice::new(head), IoSlice::new(tail)];
        match socket::send(socket, &parts, descriptors) {
            // The socket's send buffer was configured to be smaller than that.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
            result => return result,
        }
    }
    let memfd = sealed(head, tail).during("cannot put a long message into a memfd")?;
    let mut all = Vec::with_capacity(descriptors.len() + 1);
    all.extend_from_slice(descriptors);
    all.push(memfd.as_fd());
    if all.len() > MAX_DESCRIPTORS {
        return Err(too_many_descriptors());
    }
    socket::send(socket, &[IoSlice::new(&header(kind, true, length))], &all)
}

fn header(kind: Kind, in_memfd: bool, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = kind as u8;
    header[1] = u8::from(in_memfd);
    header[2..].copy_from_slice(&(length as u64).to_le_bytes());
    header
}

/// The error for a start that is to pass more descriptors than a message can carry.
pub(crate) fn too_many_descriptors() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "too many descriptors: the kernel passes at most {MAX_DESCRIPTORS} at once, of which up to 5 are taken by \
             the standard streams, the lifeline and a long payload"
        ),
    )
}

pub(crate) fn sealed(head: &[u8], tail: &[u8]) -> io::Result<OwnedFd> {
    let memfd = memfd_create(
        c"offspring-message",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    let mut file = File::from(socket::above_streams(memfd)?);
    file.write_all(head)?;
    file.write_all(tail)?;
    io::Seek::rewind(&mut file)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tail: &[u8]) {
        let (one, two) = socket::pair().unwrap();
        let mut head = Writer::new();
        head.u32(5);
        send(one.as_fd(), Kind::Start, &head, tail, &[one.as_fd()]).unwrap();
        let mut buffer = buffer();
        let mut packet = Packet::receive(two.as_fd(), &mut buffer, true).unwrap();
        assert_eq!(packet.kind, Kind::Start);
        assert_eq!(packet.descriptors.len(), 1);
        let mut long = Vec::new();
        let mut reader = Reader::new(packet.body(&buffer, &mut long).unwrap());
        assert_eq!(reader.u32().unwrap(), 5);
        assert_eq!(reader.rest(), tail);
    }

    #[test]
    fn bodies_of_every_size_arrive() {
        for length in [0, 1, INLINE - 4, INLINE - 3, 3_000_000] {
            round_trip(&vec![0xa5; length]);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let memfd = |length: u64| {
            let mut message = vec![Kind::Done as u8, 1];
            message.extend_from_slice(&length.to_le_bytes());
            message
        };
        assert!(Packet::parse(&[], Descriptors::new()).is_err());
        assert!(Packet::parse(&[99, 0, 0, 0, 0, 0, 0, 0, 0, 0], Descriptors::new()).is_err());
        assert!(
            Packet::parse(&memfd(1), Descriptors::new()).is_err(),
            "a body in a memfd that did not come"
        );
        assert!(
            Packet::parse(&[1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1], Descriptors::new()).is_err(),
            "a wrong length"
        );
        let mut short = Descriptors::new();
        short.push(sealed(b"abc", b"").unwrap());
        let mut packet = Packet::parse(&memfd(10), short).unwrap();
        assert!(packet.body(&[], &mut Vec::new()).is_err());
        // A length that is a lie takes no memory; a descriptor that never ends keeps nobody waiting.
        for (length, not_a_body) in [(1 << 40, sealed(b"abc", b"").unwrap()), (1, socket::pair().unwrap().0)] {
            let mut came = Descriptors::new();
            came.push(not_a_body);
            let mut packet = Packet::parse(&memfd(length), came).unwrap();
            let mut long = Vec::new();
            assert!(packet.body(&[], &mut long).is_err());
            assert_eq!(long.capacity(), 0);
        }
    }
}
