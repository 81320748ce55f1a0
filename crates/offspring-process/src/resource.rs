//! The resources that a process can be limited in.

use nix::sys::resource::Resource as NixResource;

/// A resource that a process can be limited in, see setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space (`RLIMIT_AS`).
    AddressSpace,
    /// Bytes of a core dump (`RLIMIT_CORE`).
    CoreSize,
    /// Seconds of processor time (`RLIMIT_CPU`).
    CpuSeconds,
    /// Bytes of private writable memory (`RLIMIT_DATA`).
    Data,
    /// Bytes of a file that is written (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes that may be locked in memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// One more than the highest descriptor (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Processes and threads of the user (`RLIMIT_NPROC`).
    Processes,
    /// Bytes of the main thread's stack (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    /// No limit.
    pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

    pub(crate) const ALL: [Self; 9] = [
        Self::AddressSpace,
        Self::CoreSize,
        Self::CpuSeconds,
        Self::Data,
        Self::FileSize,
        Self::LockedMemory,
        Self::OpenFiles,
        Self::Processes,
        Self::Stack,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&resource| resource as u8 == byte)
    }

    pub(crate) fn to_nix(self) -> NixResource {
        match self {
            Self::AddressSpace => NixResource::RLIMIT_AS,
            Self::CoreSize => NixResource::RLIMIT_CORE,
            Self::CpuSeconds => NixResource::RLIMIT_CPU,
            Self::Data => NixResource::RLIMIT_DATA,
            Self::FileSize => NixResource::RLIMIT_FSIZE,
            Self::LockedMemory => NixResource::RLIMIT_MEMLOCK,
            Self::OpenFiles => NixResource::RLIMIT_NOFILE,
            Self::Processes => NixResource::RLIMIT_NPROC,
            Self::Stack => NixResource::RLIMIT_STACK,
        }
    }
}
