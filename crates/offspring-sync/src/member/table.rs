//! The membership table: one record per registered thread, in shared memory.
//!
//! Invariants:
//! - A record's `generation` only moves while its token is held, and moves once more before the token is given back or reused.
//!   So a tag whose generation is the record's own belongs to the holder of the token, dead or alive.
//! - Records up to `ready` are initialised and stay so; those behind are raw memory that nobody looks at.
//! - Whoever dies here, in the middle of anything, leaves a token that the kernel marks: the next one starts over.

// UNSAFETY: lays a header and records over raw shared memory.
#![expect(unsafe_code, reason = "views raw shared memory as a header and records")]

use std::any::Any;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process::{self, Start};
use super::token::{self, Taken, Token};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, REAL, futex_wait, futex_wake};
use crate::raw::{Life, Lives};
use crate::tag::Tag;

/// "offspmb1", little-endian: what the first word of a table holds once it is made.
const MAGIC: u64 = 0x3162_6d70_7366_666f;

/// How many records are initialised at a time.
const BATCH: usize = 63;

/// The alignment of a table.
pub(crate) const ALIGN: usize = 128;

#[repr(C, align(128))]
struct Header {
    /// [`MAGIC`], stored last by the maker. `// PAIRS: table-made`
    magic: AtomicU64,
    /// 48 random bits, never 0: the name of this table in the head of every lock.
    id: AtomicU64,
    /// Where the futex word is in a token: two libcs that disagree must not share a table.
    layout: AtomicU32,
    /// How many members there can be.
    capacity: AtomicU32,
    /// How many records are initialised, not counting record 0. Grows under record 0's token. `// PAIRS: records-ready`
    ready: AtomicU32,
    /// Where the next search for a free record starts. A hint.
    rotor: AtomicU32,
}

#[repr(C, align(128))]
struct Record {
    token: Token,
    /// Which owner of this record, one after another; 18 bits in use. Written by the token's holder. `// PAIRS: generation`
    generation: AtomicU32,
    pid: AtomicU32,
    tid: AtomicU32,
    /// `generation << 1 | 1` once the member was found dead by /proc, when the kernel had said nothing.
    found_dead: AtomicU32,
    /// The thread's start time in ticks, 0 if unknown.
    started: AtomicU64,
    /// The inode of the PID namespace in which `pid` and `tid` mean something, 0 if unknown.
    namespace: AtomicU64,
    /// The thread's name, as the kernel keeps it.
    name: [AtomicU64; 2],
}

const _: () = assert!(!REAL || size_of::<Header>() == 128);
const _: () = assert!(!REAL || size_of::<Record>() == 128);

/// One attached table.
pub(crate) struct Table {
    header: NonNull<Header>,
    capacity: usize,
    id: u64,
    /// This process's PID namespace when the table was attached.
    namespace: u64,
    /// Keeps the memory mapped for as long as a thread of this process holds a token in it.
    _memory: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the shared memory is only accessed through atomics and tokens, and `_memory` is Send and Sync itself.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// What the table knows about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its process.
    pub pid: u32,
    /// Its thread.
    pub tid: u32,
    /// The thread's name.
    pub name: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} \"{}\" of process {}", self.tid, self.name, self.pid)
    }
}

/// The bytes that a table of `members` takes.
pub(crate) const fn bytes_for(members: usize) -> usize {
    size_of::<Header>() + (members + 1) * size_of::<Record>()
}

impl Table {
    /// Makes a table for up to `members` threads in `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// The memory is good for reading and writing for as long as `memory` lives, and nobody uses it before this returns.
    pub(crate) unsafe fn init(
        base: NonNull<u8>,
        len: usize,
        members: usize,
        memory: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Table> {
        if members == 0 || members > Tag::MAX_INDEX {
            return Err(invalid(format!(
                "a membership has 1 to {} members, not {members}",
                Tag::MAX_INDEX
            )));
        }
        if len < bytes_for(members) {
            return Err(invalid(format!(
                "{members} members take {} bytes, here are {len}",
                bytes_for(members)
            )));
        }
        let header = aligned(base)?;
        let layout = token::learn_layout()?;
        let table = Table {
            header,
            capacity: members,
            id: random_id()?,
            namespace: process::pid_namespace(),
            _memory: memory,
        };
        // SAFETY: the header lies inside the memory the caller vouches for, and nobody else uses it yet.
        unsafe {
            header.as_ptr().write(Header {
                magic: AtomicU64::new(0),
                id: AtomicU64::new(table.id),
                layout: AtomicU32::new(layout as u32),
                capacity: AtomicU32::new(members as u32),
                ready: AtomicU32::new(0),
                rotor: AtomicU32::new(0),
            });
            table.make_record(0)?;
        }
        table.grow(0)?;
        // PAIRS: table-made
        table.header().magic.store(MAGIC, Ordering::Release);
        Ok(table)
    }

    /// Uses a table that somebody else made in `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// The memory is good for reading and writing for as long as `memory` lives, and everybody who writes to it goes through
    /// this crate.
    pub(crate) unsafe fn attach(
        base: NonNull<u8>,
        len: usize,
        memory: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Table> {
        if len < size_of::<Header>() {
            return Err(invalid(format!("{len} bytes are too few for a membership")));
        }
        let header = aligned(base)?;
        // SAFETY: inside the caller's memory; every field is atomic.
        let found = unsafe { header.as_ref() };
        // PAIRS: table-made
        if found.magic.load(Ordering::Acquire) != MAGIC {
            return Err(invalid(
                "there is no membership in this memory: was it initialised?".to_owned(),
            ));
        }
        let layout = token::learn_layout()?;
        if found.layout.load(Ordering::Relaxed) as usize != layout {
            return Err(invalid(
                "the membership was made by a process with another C library".to_owned(),
            ));
        }
        let capacity = found.capacity.load(Ordering::Relaxed) as usize;
        if capacity == 0 || capacity > Tag::MAX_INDEX || len < bytes_for(capacity) {
            return Err(invalid(format!(
                "the membership says that it has {capacity} members, which cannot be"
            )));
        }
        let id = found.id.load(Ordering::Relaxed);
        if !is_id(id) {
            return Err(invalid(format!(
                "the membership says that it is number {id:#x}, which cannot be"
            )));
        }
        Ok(Table {
            header,
            capacity,
            id,
            namespace: process::pid_namespace(),
            _memory: memory,
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn header(&self) -> &Header {
        // SAFETY: `init` or `attach` checked that the header lies inside `_memory`; its fields are atomic.
        unsafe { self.header.as_ref() }
    }

    fn record_pointer(&self, index: usize) -> *mut Record {
        assert!(index <= self.capacity, "record {index} of {}", self.capacity);
        // SAFETY: the memory holds `capacity + 1` records behind the header, and `index` is one of them.
        unsafe { self.header.as_ptr().add(1).cast::<Record>().add(index) }
    }

    /// Record `index`, if it is initialised.
    #[inline]
    fn record(&self, index: usize) -> Option<&Record> {
        // PAIRS: records-ready
        if index > self.capacity || index > self.header().ready.load(Ordering::Acquire) as usize {
            return None;
        }
        // SAFETY: initialised, as `ready` says, inside the memory, and made of atomics and a token.
        Some(unsafe { &*self.record_pointer(index) })
    }

    /// Initialises record `index`.
    ///
    /// # Safety
    ///
    /// `index` is within the capacity, and nobody looks at the record yet.
    unsafe fn make_record(&self, index: usize) -> io::Result<()> {
        let record = self.record_pointer(index);
        // SAFETY: the record lies inside the memory, and the caller vouches that it is unused.
        unsafe {
            record.cast::<u8>().write_bytes(0, size_of::<Record>());
            Token::init(record.cast())
        }
    }

    /// Initialises another batch of records, unless there are more than `known` already.
    ///
    /// # Errors
    ///
    /// The table is full.
    fn grow(&self, known: usize) -> io::Result<()> {
        if known >= self.capacity {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("all {} places of the membership are taken", self.capacity),
            ));
        }
        // SAFETY: record 0 is made before the table is published; it is a token and atomics.
        let nobody = unsafe { &*self.record_pointer(0) };
        let ready = &self.header().ready;
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            // PAIRS: records-ready
            let before = ready.load(Ordering::Acquire) as usize;
            if before > known {
                return Ok(());
            }
            match nobody.token.take() {
                Taken::Free => {}
                Taken::FromTheDead => nobody.token.make_consistent(),
                Taken::No => {
                    if Instant::now() > limit {
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "another process is stuck while it grows the membership",
                        ));
                    }
                    futex_wait(ready, before as u32, Some(Instant::now() + Duration::from_millis(1)));
                    continue;
                }
            }
            let made = self.make_batch(ready.load(Ordering::Relaxed) as usize, known);
            nobody.token.release();
            return made;
        }
    }

    /// The body of [`grow`](Self::grow), under record 0's token.
    fn make_batch(&self, before: usize, known: usize) -> io::Result<()> {
        if before > known {
            return Ok(());
        }
        let after = (before + BATCH).min(self.capacity);
        for index in before + 1..=after {
            // SAFETY: within the capacity; behind `ready`, so that nobody looks, and the token keeps other growers out.
            unsafe { self.make_record(index)? };
        }
        let ready = &self.header().ready;
        // PAIRS: records-ready
        ready.store(after as u32, Ordering::Release);
        futex_wake(ready, u32::MAX);
        Ok(())
    }

    /// Registers the calling thread.
    pub(crate) fn register(&self) -> io::Result<Tag> {
        loop {
            let ready = (self.header().ready.load(Ordering::Acquire) as usize).min(self.capacity);
            if ready > 0 {
                // Round and round, so that a record rests as long as possible and its generations last.
                let start = self.header().rotor.load(Ordering::Relaxed) as usize;
                for step in 0..ready {
                    let index = 1 + (start + step) % ready;
                    if let Some(tag) = self.occupy(index) {
                        self.header().rotor.store(index as u32, Ordering::Relaxed);
                        return Ok(tag);
                    }
                }
            }
            self.grow(ready)?;
        }
    }

    fn occupy(&self, index: usize) -> Option<Tag> {
        let record = self.record(index)?;
        match record.token.take() {
            Taken::No => return None,
            Taken::Free => {}
            Taken::FromTheDead => {
                // First the generation: its tags must read as dead although the token is held again.
                self.advance(record);
                record.token.make_consistent();
            }
        }
        let generation = next_generation(record);
        let pid = std::process::id();
        let tid = thread_id();
        record.pid.store(pid, Ordering::Relaxed);
        record.tid.store(tid, Ordering::Relaxed);
        record.namespace.store(self.namespace, Ordering::Relaxed);
        record.found_dead.store(0, Ordering::Relaxed);
        let started = match process::start_time(pid, tid) {
            Start::At(ticks) => ticks,
            Start::Gone | Start::Unknown => 0,
        };
        record.started.store(started, Ordering::Relaxed);
        let name = thread_name();
        for (word, bytes) in record.name.iter().zip(name.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        // PAIRS: generation
        record.generation.store(generation, Ordering::Release);
        record.token.announce();
        Tag::new(index, generation)
    }

    fn advance(&self, record: &Record) {
        let generation = next_generation(record);
        // PAIRS: generation
        record.generation.store(generation, Ordering::Release);
    }

    /// Ends the membership of the calling thread.
    pub(crate) fn deregister(&self, tag: Tag) {
        let Some(record) = self.record(tag.index()) else { return };
        if record.generation.load(Ordering::Relaxed) != tag.generation() {
            return;
        }
        // First the generation: whatever the thread still holds is held by a dead tag from here on.
        self.advance(record);
        record.token.release();
    }

    /// Who `tag` is; `None` if it is nobody any more.
    pub(crate) fn member(&self, tag: Tag) -> Option<Member> {
        let record = self.record(tag.index())?;
        // PAIRS: generation
        if record.generation.load(Ordering::Acquire) != tag.generation() {
            return None;
        }
        let mut name = [0; 16];
        for (bytes, word) in name.as_chunks_mut::<8>().0.iter_mut().zip(&record.name) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let member = Member {
            pid: record.pid.load(Ordering::Relaxed),
            tid: record.tid.load(Ordering::Relaxed),
            name: String::from_utf8_lossy(&name[..len]).into_owned(),
        };
        // The fields change only after the generation has moved on.
        crate::primitive::fence(Ordering::Acquire);
        (record.generation.load(Ordering::Relaxed) == tag.generation()).then_some(member)
    }

    /// The tags that are alive at this moment, one after another.
    pub(crate) fn living(&self) -> impl Iterator<Item = Tag> + '_ {
        let ready = (self.header().ready.load(Ordering::Acquire) as usize).min(self.capacity);
        (1..=ready).filter_map(|index| {
            let tag = Tag::new(index, self.record(index)?.generation.load(Ordering::Acquire))?;
            self.life(tag).is_some_and(|life| !life.dead).then_some(tag)
        })
    }
}

impl Lives for Table {
    #[inline]
    fn life(&self, tag: Tag) -> Option<Life<'_>> {
        let record = self.record(tag.index())?;
        let word = record.token.word();
        // Generation before word: it is published under the token, so the same generation and then a dead word mean that this
        // very incarnation died. Acquire on the word: all that the dead wrote is visible.
        // PAIRS: generation
        let current = record.generation.load(Ordering::Acquire) == tag.generation();
        // PAIRS: life-ended
        let seen = word.load(Ordering::Acquire);
        let found_dead = record.found_dead.load(Ordering::Acquire) == (tag.generation() << 1 | 1);
        Some(Life {
            word,
            seen,
            dead: !current || !token::is_alive(seen) || found_dead,
        })
    }

    fn inquire(&self, tag: Tag) -> bool {
        let Some(life) = self.life(tag) else { return false };
        if life.dead {
            return true;
        }
        let Some(record) = self.record(tag.index()) else {
            return false;
        };
        let (pid, tid) = (record.pid.load(Ordering::Relaxed), record.tid.load(Ordering::Relaxed));
        let started = record.started.load(Ordering::Relaxed);
        // Numbers of another PID namespace mean nothing here: there the token alone decides.
        let namespace = record.namespace.load(Ordering::Relaxed);
        if started == 0 || namespace == 0 || namespace != self.namespace {
            return false;
        }
        let gone = match process::start_time(pid, tid) {
            Start::At(ticks) => ticks != started,
            Start::Gone => true,
            Start::Unknown => false,
        };
        // The record may have changed hands while /proc was read; then what was read is not about `tag`.
        crate::primitive::fence(Ordering::Acquire);
        if !gone || record.generation.load(Ordering::Acquire) != tag.generation() {
            return self.life(tag).is_some_and(|life| life.dead);
        }
        record.found_dead.store(tag.generation() << 1 | 1, Ordering::Release);
        futex_wake(life.word, u32::MAX);
        true
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("id", &format_args!("{:#x}", self.id))
            .field("capacity", &self.capacity)
            .field("members", &self.living().count())
            .finish()
    }
}

/// The generation after the record's own, whatever stands there.
fn next_generation(record: &Record) -> u32 {
    record.generation.load(Ordering::Relaxed).wrapping_add(1) & Tag::GENERATION_MASK
}

/// Whether `id` can be a table's.
pub(crate) const fn is_id(id: u64) -> bool {
    id != 0 && id < (1 << 48) - 1
}

fn random_id() -> io::Result<u64> {
    loop {
        let mut bytes = [0_u8; 8];
        // SAFETY: eight bytes that are good for writing.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        let id = u64::from_ne_bytes(bytes) >> 16;
        if got == 8 && is_id(id) {
            return Ok(id);
        }
    }
}

fn thread_id() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() as u32 }
}

fn thread_name() -> [u8; 16] {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes up to 16 bytes to a place of 16.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

fn aligned(base: NonNull<u8>) -> io::Result<NonNull<Header>> {
    if !base.addr().get().is_multiple_of(ALIGN) {
        return Err(invalid(format!(
            "a membership must be aligned to {ALIGN} bytes, {base:p} is not"
        )));
    }
    Ok(base.cast())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
