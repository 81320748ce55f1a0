use std::time::Instant;
use std::{fmt, io};

use rkyv::util::AlignedVec;

use super::ConnectionError;
use super::socket::Socket;

/// What a message's memory begins with; more is taken only when as much has come.
const FIRST: usize = 64 * 1024;

/// The part of a message that has come.
///
/// Its memory grows with what was received, so that a length that is a lie costs the liar its bytes.
#[derive(Default)]
pub(super) struct Buffer<M> {
    memory: M,
    filled: usize,
}

impl<M> fmt::Debug for Buffer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.filled)
    }
}

/// Memory of some alignment.
pub(super) trait Memory: Default {
    fn grow(&mut self, len: usize) -> io::Result<()>;
    fn bytes(&mut self) -> &mut [u8];
}

impl Memory for Vec<u8> {
    fn grow(&mut self, len: usize) -> io::Result<()> {
        self.try_reserve_exact(len - self.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("no memory for a message of {len} bytes"),
            )
        })?;
        self.resize(len, 0);
        Ok(())
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

impl<const ALIGN: usize> Memory for AlignedVec<ALIGN> {
    fn grow(&mut self, len: usize) -> io::Result<()> {
        self.reserve_exact(len - self.len());
        self.resize(len, 0);
        Ok(())
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

impl<M: Memory> Buffer<M> {
    /// Receives until `len` bytes are there, the same number until they are taken. After a timeout what has come is kept.
    pub(super) fn fill(
        &mut self,
        socket: &Socket,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<(), ConnectionError> {
        while self.filled < len {
            let room = self.memory.bytes().len();
            if self.filled == room {
                self.memory.grow(len.min(FIRST.max(room.saturating_mul(2))))?;
            }
            let got = socket.receive(&mut self.memory.bytes()[self.filled..], None, deadline)?;
            if got == 0 {
                return Err(ConnectionError::Disconnected);
            }
            self.filled += got;
        }
        Ok(())
    }

    /// The whole message.
    pub(super) fn take(&mut self) -> M {
        self.filled = 0;
        std::mem::take(&mut self.memory)
    }
}

impl Buffer<Vec<u8>> {
    /// Receives a message as long as `slice`, straight into it unless a part has come before.
    pub(super) fn fill_slice(
        &mut self,
        socket: &Socket,
        slice: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<(), ConnectionError> {
        if self.filled > 0 {
            self.fill(socket, slice.len(), deadline)?;
            slice.copy_from_slice(&self.take());
            return Ok(());
        }
        // Memory may have been taken for this message, and must not be met by the next, which may be shorter.
        self.take();
        let mut filled = 0;
        while filled < slice.len() {
            match socket.receive(&mut slice[filled..], None, deadline) {
                Ok(0) => return Err(ConnectionError::Disconnected),
                Ok(got) => filled += got,
                Err(error) => {
                    self.memory = slice[..filled].to_vec();
                    self.filled = filled;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
