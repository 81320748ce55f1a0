// UNSAFETY: sendmsg and recvmsg with control messages that are laid out by hand: nix loses the descriptors of a message
// whose control part was cut off.
#![expect(unsafe_code, reason = "sendmsg and recvmsg")]
//! One `sendmsg` or `recvmsg` that never waits, with descriptors, see unix(7).

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::frame::BATCH;

/// Room for one control message with [`BATCH`] descriptors, in words that align it.
const CONTROL_WORDS: usize = (size_of::<libc::cmsghdr>() + BATCH * size_of::<RawFd>()).div_ceil(8);

/// Sends as much as there is room for; the descriptors go with the first byte. A peer that is gone is an error, not a
/// signal.
pub(super) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    assert!(descriptors.len() <= BATCH, "the kernel passes no more at once");
    let mut control = [0_u64; CONTROL_WORDS];
    // SAFETY: msghdr is plain data for which zero means absent.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    if !descriptors.is_empty() {
        let size = size_of_val(descriptors);
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: `control` has room for the header and BATCH descriptors and is aligned for the header; BorrowedFd is
        // transparent over RawFd, so that the slice can be copied as it is.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), size);
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the message refers to buffers that live until the call returns.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// What a call of [`receive`] brought.
#[derive(Debug)]
pub(super) struct Received {
    /// How many bytes; 0 is the end of the connection, unless the buffer was empty.
    pub(super) len: usize,
    /// Descriptors came that were not wanted or that this process has no room for; all of the call's are closed.
    pub(super) lost: bool,
}

/// Receives what is there, and if `descriptors` are wanted, puts them, CLOEXEC, at the end of the list.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: Option<&mut Vec<OwnedFd>>,
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
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let len = retry(|| {
        if descriptors.is_some() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
        }
        // SAFETY: the message refers to buffers that live until the call returns.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) }
    })?;
    let lost = message.msg_flags & libc::MSG_CTRUNC != 0;
    if let Some(descriptors) = descriptors {
        let before = descriptors.len();
        // SAFETY: the kernel filled in the control messages; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside of them, and
        // each descriptor in an SCM_RIGHTS message is new and nobody else's.
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
        if lost {
            descriptors.truncate(before);
        }
    }
    Ok(Received { len, lost })
}

/// Calls again what a signal interrupted.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
