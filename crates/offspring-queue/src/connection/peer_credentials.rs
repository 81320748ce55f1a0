/// Who is on the other side of a connection on this machine, as the kernel says, see `SO_PEERCRED` in unix(7).
///
/// The numbers were taken when the connection was made. A process number may since have been given to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process number, or 0 for a process that cannot be seen from here.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}
