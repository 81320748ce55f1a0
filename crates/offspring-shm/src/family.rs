//! The arena that a program and all processes it starts have in common.
//!
//! The first process makes it when it is first needed; it is the *root*. Every other process is told its tag by its
//! parent, which [reserves](reserve_child) it before the process starts, and [releases](release) it, with all that the
//! process still owned, when the process has ended. Nobody else judges who is dead.
//!
//! ```
//! use offspring_shm::family;
//!
//! let arena = family::arena()?;
//! let block = arena.allocate(family::me()?, 4096)?;
//! // SAFETY: the block was just allocated, and nobody knows of it.
//! unsafe { arena.free(block) };
//! # Ok::<(), std::io::Error>(())
//! ```

// UNSAFETY: declares and calls functions whose caller vouches for who this process is, and who is dead.
#![expect(
    unsafe_code,
    reason = "unsafe functions: their callers vouch for identities and deaths"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::sys::stat::fstat;
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::{Arena, Owner, fork_guard, limits, shared};

static ARENA: OnceLock<Arena> = OnceLock::new();
/// Held while the arena is made or adopted.
static MAKING: Mutex<()> = Mutex::new(());
static RELEASING: Mutex<()> = Mutex::new(());
static FORK_HOOKS: Mutex<Vec<fn(Owner)>> = Mutex::new(Vec::new());
static RELEASE_HOOKS: Mutex<Vec<fn(Owner)>> = Mutex::new(Vec::new());
/// What `set_capacity` asked for, or 0.
static CAPACITY: AtomicUsize = AtomicUsize::new(0);

/// The smallest arena that is made when the address space has no room for the one that was wanted.
const SMALLEST: usize = 64 << 20;

/// The family's arena; the first call in the root makes it.
///
/// Its size is half of what memory the machine and the control groups allow, if [`set_capacity`] did not say otherwise.
/// That is address space: memory is taken as it is used. Where the address space is limited (`RLIMIT_AS`) it is made
/// smaller, down to 64 MiB.
///
/// # Errors
/// When the system refuses the descriptor, the address space or the first pages.
pub fn arena() -> io::Result<&'static Arena> {
    match ARENA.get() {
        Some(arena) => Ok(arena),
        None => make(),
    }
}

/// The tag of this process.
///
/// # Errors
/// When there is no arena and none can be made; in a process that was forked by other means than this library's, which
/// has no tag of its own.
pub fn me() -> io::Result<Owner> {
    let arena = arena()?;
    fork_guard::check()?;
    arena
        .home()
        .ok_or_else(|| io::Error::other("this process has no tag in the family's arena"))
}

/// Sets the size of the arena in bytes, before its first use.
///
/// # Errors
/// When the arena exists already, or `bytes` is 0.
pub fn set_capacity(bytes: usize) -> io::Result<()> {
    let _making = MAKING.lock();
    if ARENA.get().is_some() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the family's arena has its size already: set it at the start of the program, before anything is shared",
        ));
    }
    if bytes == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the family's arena needs at least one byte",
        ));
    }
    CAPACITY.store(bytes, Relaxed);
    Ok(())
}

/// A tag for a process that this one is about to start afresh, by exec or through a zygote.
///
/// # Errors
/// As [`me`]; when 4095 processes are in the family.
pub fn reserve_child() -> io::Result<Owner> {
    arena()?.reserve_child(Some(me()?))
}

/// A tag for a child that this process is about to fork, which will have a copy of every shared value that this process
/// has: they are kept for it from now on.
///
/// # Errors
/// As [`reserve_child`].
pub fn reserve_fork() -> io::Result<Owner> {
    let child = reserve_spawn()?;
    for hook in FORK_HOOKS.lock().iter() {
        hook(child);
    }
    Ok(child)
}

/// A tag for a process that this one is about to start afresh with handles to shared values in its argument: all that this
/// process has are kept for it until it has ended.
///
/// # Errors
/// As [`reserve_child`].
pub fn reserve_spawn() -> io::Result<Owner> {
    let child = reserve_child()?;
    shared::keep_for(arena()?, child);
    Ok(child)
}

/// Has `hook` called with the tag of each child that is about to be forked: what a crate above counts by process it counts
/// for the child from then on.
pub fn before_fork(hook: fn(child: Owner)) {
    FORK_HOOKS.lock().push(hook);
}

/// Has `hook` called with the tag of each process that this one has released: for those who wait for what the dead process will
/// not do any more.
pub fn after_release(hook: fn(gone: Owner)) {
    RELEASE_HOOKS.lock().push(hook);
}

/// Makes this process the one that its parent reserved `owner` for, in the arena behind `fd`.
///
/// In a process that was forked from one which has the arena already, as a zygote's child, the mapping is used on.
///
/// # Errors
/// When the descriptor holds no arena, or another one than this process has already; when the tag was not reserved.
///
/// # Safety
/// The parent reserved `owner` for this process and for no other, and no other thread uses the family yet.
pub unsafe fn adopt(fd: OwnedFd, owner: Owner) -> io::Result<()> {
    let making = MAKING.lock();
    if let Some(arena) = ARENA.get() {
        let (mine, other) = (fstat(arena)?, fstat(&fd)?);
        if (mine.st_dev, mine.st_ino) != (other.st_dev, other.st_ino) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "this process uses an arena of its own already and cannot join another one",
            ));
        }
    } else {
        let arena = Arena::attach(fd)?;
        let _ = ARENA.set(arena);
    }
    drop(making);
    // SAFETY: passed on to the caller.
    unsafe { become_child(owner) }
}

/// Makes this process, which has just been forked, the one that its parent reserved `owner` for with [`reserve_fork`].
///
/// # Errors
/// When the tag was not reserved; when a shared value that this process has a copy of is gone.
///
/// # Safety
/// The parent reserved `owner` for this process and for no other, and no other thread uses the family yet.
pub unsafe fn become_child(owner: Owner) -> io::Result<()> {
    let arena = arena()?;
    if !arena.is_reserved(owner) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the tag {owner} was not reserved for this process, or was released already"),
        ));
    }
    fork_guard::mark()?;
    // SAFETY: the caller says that `owner` is this process's tag and that no other thread uses the arena.
    unsafe { arena.settle(owner) };
    sign(arena, owner);
    shared::keep_inherited(arena, owner)
}

/// Frees all that the process of `owner` still held, then gives its tag up; it never comes back.
///
/// A shared value that it held lives on if another process holds it. Done again it does nothing. Its children are not
/// released with it: see [`children_of`].
///
/// # Errors
/// As [`me`]; when `owner` is this process.
///
/// # Safety
/// The process of `owner` has ended, or was never started, nothing is transferred to it any more, and no other process
/// is releasing it.
pub unsafe fn release(owner: Owner) -> io::Result<()> {
    // One at a time: a place whose tag another thread has just given up may be a new process's already.
    let releasing = RELEASING.lock();
    let (arena, me) = (arena()?, me()?);
    if owner == me {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a process cannot release its own tag",
        ));
    }
    if !arena.is_reserved(owner) {
        return Ok(());
    }
    // Shared values first: what is left of one that the dead process was making or dropping is not for the sweep.
    shared::release(arena, owner, me);
    // SAFETY: the caller says that the process has ended; `me` is this process.
    unsafe { arena.sweep(owner, me) };
    arena.strike(owner);
    drop(releasing);
    let hooks = RELEASE_HOOKS.lock().clone();
    for hook in hooks {
        hook(owner);
    }
    Ok(())
}

/// The processes that the process of `owner` started, or was about to start, and that were not released.
///
/// Whoever releases a process that died takes care of these first: they end with their parent, and nobody else will.
#[must_use]
pub fn children_of(owner: Owner) -> Vec<Owner> {
    ARENA.get().map(|arena| arena.children_of(owner)).unwrap_or_default()
}

#[cold]
fn make() -> io::Result<&'static Arena> {
    let _making = MAKING.lock();
    if let Some(arena) = ARENA.get() {
        return Ok(arena);
    }
    fork_guard::mark()?;
    let arena = create()?;
    let root = arena.reserve_child(None)?;
    // SAFETY: the tag was reserved just now, and nobody else has the arena yet.
    unsafe { arena.settle(root) };
    sign(&arena, root);
    Ok(ARENA.get_or_init(|| arena))
}

fn create() -> io::Result<Arena> {
    let asked = CAPACITY.load(Relaxed);
    if asked != 0 {
        return Arena::create(asked);
    }
    let mut capacity = (limits::memory() / 2).max(SMALLEST);
    if let Some(limit) = limits::file_size() {
        // The control area takes up to a ninth of the file.
        capacity = capacity.min(limit / 6 * 5).max(SMALLEST);
    }
    loop {
        match Arena::create(capacity) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && capacity > SMALLEST => {
                capacity = (capacity / 2).max(SMALLEST);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                return Err(io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    "no address space for a shared arena of 64 MiB: raise RLIMIT_AS, or set a smaller size with \
                     family::set_capacity",
                ));
            }
            made => return made,
        }
    }
}

fn sign(arena: &Arena, owner: Owner) {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    arena.sign(owner, std::process::id(), since);
}
