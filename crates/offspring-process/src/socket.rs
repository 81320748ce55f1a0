//! Sequenced-packet socket pairs and messages with descriptors, see unix(7).
//!
// UNSAFETY: sendmsg and recvmsg with control messages that are laid out by hand.
#![expect(unsafe_code, reason = "sendmsg and recvmsg")]

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;

use crate::descriptors::Descriptors;

/// The most descriptors the kernel passes with one message (`SCM_MAX_FD`).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Room for one control message with [`MAX_DESCRIPTORS`] descriptors, in words that align it.
const CONTROL_WORDS: usize = (size_of::<libc::cmsghdr>() + MAX_DESCRIPTORS * size_of::<RawFd>()).div_ceil(8);

/// A connected pair, CLOEXEC, neither of which is a standard stream: a process that closed one of those would
/// otherwise hand the socket out as its children's output.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, two) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((above_streams(one)?, above_streams(two)?))
}

/// `fd`, or a duplicate of it that is none of the standard streams.
pub(crate) fn above_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    // SAFETY: fcntl with a valid descriptor; a successful result is a new descriptor that nobody else owns.
    unsafe {
        let moved = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1);
        if moved < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(moved))
        }
    }
}

/// Lets a blocking receive end after `timeout`.
pub(crate) fn set_receive_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let timeout = TimeVal::new(
        timeout.as_secs().try_into().unwrap_or(i64::MAX),
        timeout.subsec_micros().into(),
    );
    Ok(setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?)
}

/// Sends one message. A peer that is gone is an error (`EPIPE`, `ECONNRESET`), not a signal.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut control = [0_u64; CONTROL_WORDS];
    // SAFETY: msghdr is plain data for which zero means absent.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    if !descriptors.is_empty() {
        let size = size_of_val(descriptors);
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "too many descriptors for one message",
            ));
        }
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: `control` has room for the header and MAX_DESCRIPTORS descriptors and is aligned for the header;
        // BorrowedFd is transparent over RawFd, so that the slice can be copied as it is.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), size);
        }
    }
    loop {
        // SAFETY: the message refers to buffers that live until the call returns.
        if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What a call of [`receive`] found.
#[derive(Debug)]
pub(crate) struct Received {
    /// The length of the message. A message has at least one byte: 0 is the end of the connection.
    pub(crate) length: usize,
    /// Descriptors came that this process has no room for; all of the message's were closed.
    pub(crate) descriptors_lost: bool,
}

/// Receives one message into `buffer`, and its descriptors, CLOEXEC, into `descriptors`.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Descriptors,
    wait: bool,
) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain data for which zero means absent.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let length = loop {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the message refers to buffers that live until the call returns.
        let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if let Ok(length) = usize::try_from(result) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    // SAFETY: the kernel filled in the control messages; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside of them, and each
    // descriptor in an SCM_RIGHTS message is new and nobody else's.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header);
                let count = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                for index in 0..count {
                    let fd = std::ptr::read_unaligned(data.add(index * size_of::<RawFd>()).cast::<RawFd>());
                    descriptors.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let descriptors_lost = message.msg_flags & libc::MSG_CTRUNC != 0;
    if descriptors_lost {
        *descriptors = Descriptors::new();
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        *descriptors = Descriptors::new();
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "malformed message: it is longer than allowed",
        ));
    }
    Ok(Received {
        length,
        descriptors_lost,
    })
}

/// Whether `fd` is a sequenced-packet socket of the local domain.
pub(crate) fn is_packet_socket(fd: BorrowedFd<'_>) -> bool {
    fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> Option<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `size` bytes to `value`.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw mut value).cast(),
                &raw mut size,
            )
        };
        (result == 0).then_some(value)
    }
    option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX) && option(fd, libc::SO_TYPE) == Some(libc::SOCK_SEQPACKET)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_travel_with_the_message() {
        let (one, two) = pair().unwrap();
        let (three, four) = pair().unwrap();
        send(
            one.as_fd(),
            &[IoSlice::new(b"he"), IoSlice::new(b"llo")],
            &[three.as_fd()],
        )
        .unwrap();
        drop(three);
        let mut descriptors = Descriptors::new();
        let mut buffer = [0; 16];
        let received = receive(two.as_fd(), &mut buffer, &mut descriptors, true).unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        let passed = descriptors.next().unwrap();
        assert!(is_packet_socket(passed.as_fd()));
        send(passed.as_fd(), &[IoSlice::new(b"x")], &[]).unwrap();
        assert_eq!(
            receive(four.as_fd(), &mut buffer, &mut descriptors, true)
                .unwrap()
                .length,
            1
        );
        drop(one);
        assert_eq!(
            receive(two.as_fd(), &mut buffer, &mut descriptors, true)
                .unwrap()
                .length,
            0
        );
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_allows_and_no_more() {
        let (one, two) = pair().unwrap();
        let many = vec![one.as_fd(); MAX_DESCRIPTORS];
        send(one.as_fd(), &[IoSlice::new(b"x")], &many).unwrap();
        let mut descriptors = Descriptors::new();
        receive(two.as_fd(), &mut [0; 4], &mut descriptors, true).unwrap();
        assert_eq!(descriptors.len(), MAX_DESCRIPTORS);
        let many = vec![one.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(send(one.as_fd(), &[IoSlice::new(b"x")], &many).is_err());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        let (one, two) = pair().unwrap();
        send(one.as_fd(), &[IoSlice::new(b"hello")], &[]).unwrap();
        assert!(receive(two.as_fd(), &mut [0; 4], &mut Descriptors::new(), true).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_packet_socket(file.as_fd()));
    }
}
