// UNSAFETY: maps a write-sealed file as memory, and takes ownership of descriptors that the system just made.
#![expect(unsafe_code, reason = "mapping a sealed file")]

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use memmap2::MmapOptions;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::ftruncate;

use crate::out_of_memory::Bytes;
use crate::{Mapping, limits, segment_name};

/// Memory that several processes can map, known by a descriptor or by a name.
///
/// An anonymous segment is a memfd whose size is sealed: it lives as long as a descriptor or a mapping of it, leaves
/// nothing behind on any file system, and nobody can shrink it under a reader. A named segment is a file in `/dev/shm`
/// that unrelated processes of the same user find by name; its creator removes the name when it is dropped.
///
/// ```
/// use offspring_shm::Segment;
///
/// let segment = Segment::anonymous("scratch", 1 << 20)?;
/// segment.reserve(0..1 << 20)?;
/// let mapping = segment.map()?;
/// // SAFETY: this process alone has the segment.
/// unsafe { mapping.as_ptr().write(7) };
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Segment {
    fd: OwnedFd,
    len: usize,
    name: Option<Name>,
}

/// The name that this segment's drop removes.
#[derive(Debug)]
struct Name {
    system: CString,
    /// A forked child has a copy of the segment and must not take the name away from its parent.
    creator: u32,
}

impl Segment {
    /// A new anonymous segment of `len` bytes, all zero, whose size and seals are final; `name` shows in
    /// `/proc/PID/maps`.
    ///
    /// No memory is taken before it is touched or [reserved](Self::reserve).
    ///
    /// # Errors
    /// When `len` is 0, the name is too long or has a NUL byte, or the system refuses (`EMFILE`, `RLIMIT_FSIZE`).
    pub fn anonymous(name: &str, len: usize) -> io::Result<Self> {
        let segment = Self::anonymous_sealable(name, len)?;
        segment.add_seals(SealFlag::F_SEAL_SEAL)?;
        Ok(segment)
    }

    /// Like [`anonymous`](Self::anonymous), but [`seal_writes`](Self::seal_writes) remains possible.
    ///
    /// # Errors
    /// As [`anonymous`](Self::anonymous).
    pub fn anonymous_sealable(name: &str, len: usize) -> io::Result<Self> {
        check_len(len)?;
        let fd = memfd(&segment_name::label(name)?)?;
        ftruncate(&fd, offset(len)?)?;
        let segment = Self { fd, len, name: None };
        segment.add_seals(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
        Ok(segment)
    }

    /// A new segment in `/dev/shm` that only this user can open; dropping it removes the name, not the memory of those
    /// who have it mapped.
    ///
    /// All its memory is reserved at once, since `/dev/shm` is often small (64 MiB in a container) and touching memory
    /// that it has no room for is a SIGBUS.
    ///
    /// # Errors
    /// When the name is empty, too long, or has a slash or a NUL byte; when it exists already; when `len` is 0; when
    /// `/dev/shm` has no room.
    pub fn create_named(name: &str, len: usize) -> io::Result<Self> {
        check_len(len)?;
        let system = segment_name::system_name(name)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let fd = shm_open(system.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| match error {
            Errno::EEXIST => io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("a shared memory segment named {name:?} exists"),
            ),
            error => about_name("create", name, error),
        })?;
        // From here on the drop of `segment` removes the name on every way out.
        let segment = Self {
            fd,
            len,
            name: Some(Name {
                system,
                creator: std::process::id(),
            }),
        };
        ftruncate(&segment.fd, offset(len)?)?;
        segment.reserve(0..len)?;
        Ok(segment)
    }

    /// Opens a segment that another process of this user created by name.
    ///
    /// Whoever may open it may also truncate it, which turns an access into a SIGBUS: names are for processes that
    /// trust each other.
    ///
    /// # Errors
    /// When no segment has this name, it belongs to another user, or its creator has not yet given it a size.
    pub fn open_named(name: &str) -> io::Result<Self> {
        let system = segment_name::system_name(name)?;
        let fd =
            shm_open(system.as_c_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(
                |error| match error {
                    Errno::ENOENT => io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("no shared memory segment is named {name:?}"),
                    ),
                    error => about_name("open", name, error),
                },
            )?;
        let status = fstat(&fd)?;
        if status.st_uid != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the shared memory segment {name:?} belongs to user {}, not to this one",
                    status.st_uid
                ),
            ));
        }
        let len = usize::try_from(status.st_size).unwrap_or(0);
        if len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("the shared memory segment {name:?} has no size yet: its creator is still at it, or has died"),
            ));
        }
        Ok(Self { fd, len, name: None })
    }

    /// Removes the name of a segment whose creator could not: it was killed, or leaked the segment.
    ///
    /// # Errors
    /// When the name is not allowed, or no segment of this user has it.
    pub fn unlink(name: &str) -> io::Result<()> {
        shm_unlink(segment_name::system_name(name)?.as_c_str()).map_err(|error| match error {
            Errno::ENOENT => io::Error::new(
                io::ErrorKind::NotFound,
                format!("no shared memory segment is named {name:?}"),
            ),
            error => about_name("remove", name, error),
        })
    }

    /// Takes a segment over from a descriptor, as one that was inherited or received over a socket.
    ///
    /// # Errors
    /// When it is not a memfd, is empty, or lacks the seal against shrinking: its other holders could truncate it and
    /// so kill this process by SIGBUS.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let refuse = |why: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("this descriptor is no shared memory segment: {why}"),
            )
        };
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| refuse("it is not a memfd"))?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(refuse(
                "it is not sealed against shrinking, so its other holders could truncate it",
            ));
        }
        let len = usize::try_from(fstat(&fd)?.st_size).unwrap_or(0);
        if len == 0 {
            return Err(refuse("it is empty"));
        }
        Ok(Self { fd, len, name: None })
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes; a segment never has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes memory for `range` now, so that touching it later can neither fail nor be a SIGBUS.
    ///
    /// A memory control group is the exception: the kernel kills inside a group beyond its limit, it does not refuse.
    ///
    /// # Errors
    /// When the range is not inside the segment, or the system or the file system has no room for it.
    pub fn reserve(&self, range: Range<usize>) -> io::Result<()> {
        self.check_range(&range)?;
        // All at once, so that a file system with a limit refuses at once. A signal makes the kernel undo the whole call:
        // then in pieces, or a process with a profiling timer would never get through a large one.
        const PIECE: usize = 16 << 20;
        let mut piece = range.len();
        let mut at = range.start;
        while at < range.end {
            let len = piece.min(range.end - at);
            match fallocate(&self.fd, FallocateFlags::empty(), offset(at)?, offset(len)?) {
                Ok(()) => at += len,
                Err(Errno::EINTR) => piece = PIECE,
                Err(error @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::OutOfMemory,
                        format!("no room for {} of shared memory: {}", Bytes(range.len()), error.desc()),
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the memory of `range` back to the system; it reads as zero afterwards.
    pub(crate) fn release(&self, range: Range<usize>) -> io::Result<()> {
        self.check_range(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            match fallocate(&self.fd, flags, offset(range.start)?, offset(range.len())?) {
                Err(Errno::EINTR) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Makes the segment addressable in this process: writable, unless its writes were sealed.
    ///
    /// # Errors
    /// When the address space has no room (`RLIMIT_AS`) or there are too many mappings.
    pub fn map(&self) -> io::Result<Mapping> {
        let mut options = MmapOptions::new();
        options.len(self.len).no_reserve_swap();
        if self.seals().contains(SealFlag::F_SEAL_WRITE) {
            // SAFETY: the kernel lets nobody write or shrink this file any more.
            return Mapping::read_only(unsafe { options.map_copy_read_only(self.fd.as_raw_fd())? });
        }
        Mapping::writable(options.map_raw(self.fd.as_raw_fd())?)
    }

    /// Makes the contents final, for everybody and for ever: what is checked once can be relied upon.
    ///
    /// # Errors
    /// When the segment was not made by [`anonymous_sealable`](Self::anonymous_sealable), or somebody still has it
    /// mapped for writing.
    pub fn seal_writes(&self) -> io::Result<()> {
        self.add_seals(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EBUSY) => io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "the segment cannot be sealed while a writable mapping of it exists: drop all of them first",
                ),
                Some(libc::EPERM | libc::EINVAL) => io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the seals of this segment are final: make it with Segment::anonymous_sealable",
                ),
                _ => error,
            })
    }

    fn add_seals(&self, seals: SealFlag) -> io::Result<()> {
        fcntl(&self.fd, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(())
    }

    fn seals(&self) -> SealFlag {
        // A file that has no seals answers with an error.
        fcntl(&self.fd, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain)
    }

    fn check_range(&self, range: &Range<usize>) -> io::Result<()> {
        if range.start <= range.end && range.end <= self.len {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the range {range:?} does not lie in a segment of {}", Bytes(self.len)),
        ))
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(name) = self.name.take().filter(|name| name.creator == std::process::id()) {
            // The name may have been removed by `unlink`; there is nobody to tell.
            let _ = shm_unlink(name.system.as_c_str());
        }
    }
}

fn check_len(len: usize) -> io::Result<()> {
    if len == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a shared memory segment needs at least one byte",
        ));
    }
    // Growing a file beyond RLIMIT_FSIZE is not just an error: it raises SIGXFSZ, which ends the process.
    match limits::file_size() {
        Some(limit) if len > limit => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "a shared memory segment of {} is above RLIMIT_FSIZE, which is {}",
                Bytes(len),
                Bytes(limit)
            ),
        )),
        _ => Ok(()),
    }
}

fn memfd(label: &CString) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Without the flag `vm.memfd_noexec=2` refuses the call; before Linux 6.3 the kernel does not know it.
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(label.as_c_str(), flags | no_exec) {
        Err(Errno::EINVAL) => Ok(memfd_create(label.as_c_str(), flags)?),
        made => Ok(made?),
    }
}

fn offset(bytes: usize) -> io::Result<i64> {
    i64::try_from(bytes).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a shared memory segment cannot be that large",
        )
    })
}

fn about_name(verb: &str, name: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(
        error.kind(),
        format!("cannot {verb} the shared memory segment {name:?}: {error}"),
    )
}
