//! A queue as one process has it.

// UNSAFETY: lays a header and slots over shared memory that a handle keeps, and copies payloads word by word.
#![expect(unsafe_code, reason = "views shared memory as a header and slots")]

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak};
use std::{fmt, io, ptr};

use offspring_shm::{Arena, Block, Handle, Owner, SharedSlice, ShmSafe, family};
use offspring_sync::primitive::{AtomicU64, Mode, Ordering, register_asymmetric};
use offspring_sync::raw::{EventCount, Lives, Spin};
use offspring_sync::{Membership, Tag};

use crate::peers::Side;
use crate::raw::{Place, Ring, SpscWait, Waiting};
use crate::shape::{Header, MAGIC, SLOT_HEAD, Shape};
use crate::spsc::seat;
use crate::transit;

/// Somebody closed the queue.
pub(crate) const CLOSED: u32 = 1;

/// What the memory of a queue is made of.
#[repr(C, align(128))]
pub(crate) struct Memory([MaybeUninit<AtomicU64>; 16]);

// SAFETY: bytes that may be anything, point nowhere, and change through atomics or by the protocol of the ring.
unsafe impl ShmSafe for Memory {}

/// One queue in this process: all its handles here share it.
pub(crate) struct Core {
    memory: SharedSlice<Memory>,
    base: NonNull<u8>,
    shape: Shape,
    arena: &'static Arena,
    membership: Membership,
    /// How this process orders what it publishes before it looks who sleeps.
    publish_mode: Mode,
    /// What the sleepers have to do in return.
    sleep_mode: Mode,
    id: u64,
    /// How many handles of each side this process has.
    pub(crate) handles: Mutex<[usize; 2]>,
}

// SAFETY: `base` points into `memory`, which is the same for all threads and accessed by the protocol of the ring.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// The queues that this process has, by identity.
static CORES: Mutex<BTreeMap<u64, Weak<Core>>> = Mutex::new(BTreeMap::new());

impl Core {
    /// Makes a queue.
    ///
    /// # Errors
    /// When the arena has no room for it.
    pub(crate) fn create(shape: Shape) -> io::Result<Arc<Self>> {
        transit::let_go();
        let lines = shape.bytes().div_ceil(size_of::<Memory>());
        let memory = SharedSlice::<Memory>::zeroed(lines)?;
        let core = Self::over(memory, shape, fence_mode())?;
        if shape.blocks {
            let first = (Shape::SLOTS_AT + SLOT_HEAD) as u32;
            core.memory
                .set_ledger(first, shape.stride as u32, shape.capacity as usize);
        }
        let header = core.header();
        header.layout.store(shape.layout, Ordering::Relaxed);
        header.capacity.store(u64::from(shape.capacity), Ordering::Relaxed);
        let asymmetric = core.sleep_mode == Mode::Asymmetric;
        header.asymmetric.store(u32::from(asymmetric), Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release); // PAIRS: queue-made
        let core = Arc::new(core);
        cores().insert(core.id, Arc::downgrade(&core));
        Ok(core)
    }

    /// The queue that a handle names. `shape` gives the sizes for a capacity.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the handle is garbage.
    pub(crate) fn attach(handle: Handle, shape: impl FnOnce(usize) -> io::Result<Shape>) -> io::Result<Arc<Self>> {
        let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let memory = SharedSlice::<Memory>::from_handle(handle)?;
        if memory.len() * size_of::<Memory>() < size_of::<Header>() {
            return invalid("the handle names something that is no queue");
        }
        // SAFETY: the slice is large enough, aligned, and lives in `memory`; every field is atomic.
        let header = unsafe { &*memory.as_ptr().cast::<Header>() };
        // PAIRS: queue-made
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return invalid("the handle names something that is no queue");
        }
        let capacity = header.capacity.load(Ordering::Relaxed);
        let shape = shape(usize::try_from(capacity).unwrap_or(0))?;
        if header.layout.load(Ordering::Relaxed) != shape.layout {
            return invalid("the handle belongs to a queue of another type");
        }
        if memory.len() != shape.bytes().div_ceil(size_of::<Memory>()) {
            return invalid("the queue's capacity is not that of its memory");
        }
        let mode = match header.asymmetric.load(Ordering::Relaxed) {
            0 => Mode::Full,
            _ => Mode::Asymmetric,
        };
        let mut cores = cores();
        if let Some(core) = cores.get(&handle.id).and_then(Weak::upgrade) {
            return Ok(core);
        }
        let core = Arc::new(Self::over(memory, shape, mode)?);
        cores.insert(core.id, Arc::downgrade(&core));
        Ok(core)
    }

    fn over(memory: SharedSlice<Memory>, shape: Shape, sleep_mode: Mode) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            family::before_fork(keep_for);
            family::after_release(tell_who_waits);
        });
        let base = NonNull::from(&*memory).cast();
        Ok(Self {
            base,
            shape,
            arena: family::arena()?,
            membership: Membership::family()?,
            // A process that cannot be interrupted pays for its own fences, whatever the others do.
            publish_mode: if sleep_mode == Mode::Asymmetric {
                fence_mode()
            } else {
                Mode::Full
            },
            sleep_mode,
            id: memory.to_handle().id,
            memory,
            handles: Mutex::new([0; 2]),
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.memory.to_handle()
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The calling thread as a member of the family.
    ///
    /// # Errors
    /// When it cannot be one.
    #[inline]
    pub(crate) fn me(&self) -> io::Result<Tag> {
        self.membership.me()
    }

    /// Whether a thread has ended, under this tag.
    #[inline]
    pub(crate) fn has_ended(&self, thread: Tag) -> bool {
        self.membership.life(thread).is_none_or(|life| life.dead)
    }

    pub(crate) fn lives(&self) -> &Membership {
        &self.membership
    }

    /// The calling thread, if it is a member already.
    #[inline]
    pub(crate) fn known_me(&self) -> Option<Tag> {
        self.membership.current()
    }

    #[inline]
    pub(crate) fn ring(&self) -> Ring<'_, Self, Membership> {
        Ring::new(self, &self.membership)
    }

    pub(crate) fn waiting<'a>(
        &'a self,
        bell: &'a EventCount,
        mode: Mode,
        deadline: Option<std::time::Instant>,
        patient: bool,
        spin: Spin,
    ) -> Waiting<'a, Membership> {
        Waiting {
            lives: &self.membership,
            bell,
            mode,
            deadline,
            spin,
            patient,
        }
    }

    /// As [`waiting`](Self::waiting), at an end that one thread uses.
    pub(crate) fn lonely_wait<'a>(
        &'a self,
        bell: &'a EventCount,
        deadline: Option<std::time::Instant>,
    ) -> SpscWait<'a, Membership> {
        SpscWait {
            lives: &self.membership,
            bell,
            mode: self.sleep_mode,
            deadline,
            spin: Spin::new(),
        }
    }

    /// What one who waits for a message does before it sleeps.
    pub(crate) fn sleep_mode(&self) -> Mode {
        self.sleep_mode
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the memory starts with a header, whose fields are atomic.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Which of the sides are over, or all: bits.
    #[inline]
    pub(crate) fn over_bits(&self) -> u32 {
        self.header().over.load(Ordering::Acquire)
    }

    /// Ends the queue for everybody: nothing more is sent; what is in it can be received.
    pub(crate) fn close(&self) {
        self.header().over.fetch_or(CLOSED, Ordering::SeqCst);
        self.wake_all();
    }

    pub(crate) fn wake_all(&self) {
        self.arrivals().notify_all();
        self.departures().notify_all();
        self.header().rest.0.notify_all();
    }

    /// The address of a slot's payload.
    #[inline]
    pub(crate) fn payload(&self, index: u32) -> NonNull<u8> {
        assert!(index < self.shape.capacity, "slot {index} of {}", self.shape.capacity);
        // SAFETY: the memory holds that many slots of `stride` bytes behind the header.
        unsafe {
            self.base
                .add(Shape::SLOTS_AT + index as usize * self.shape.stride + SLOT_HEAD)
        }
    }

    #[inline]
    fn slot_word(&self, index: u32, word: usize) -> &AtomicU64 {
        debug_assert!(index < self.shape.capacity && word * 8 < self.shape.stride);
        // SAFETY: cursors are checked against the capacity when they come out of shared memory, and keep below it; the
        // words of a slot are aligned, zero at first, and only accessed as atomics while they are shared.
        unsafe {
            self.base
                .add(Shape::SLOTS_AT + index as usize * self.shape.stride + word * 8)
                .cast()
                .as_ref()
        }
    }

    /// All of the memory.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is where `memory` lies, which is made of words.
        unsafe { std::slice::from_raw_parts(self.base.cast().as_ptr(), size_of_val(&*self.memory) / 8) }
    }

    /// One word of a slot's payload.
    #[inline]
    pub(crate) fn payload_word(&self, index: u32, word: usize) -> &AtomicU64 {
        self.slot_word(index, SLOT_HEAD / 8 + word)
    }

    /// Copies `len` bytes into a slot's payload.
    ///
    /// # Safety
    /// `from` is good for reading `len` initialised bytes.
    #[inline]
    pub(crate) unsafe fn store(&self, index: u32, from: *const u8, len: usize) {
        debug_assert!(len <= self.shape.inline);
        for word in 0..len / 8 {
            // SAFETY: within the caller's `len` bytes.
            let value = unsafe { from.add(word * 8).cast::<u64>().read_unaligned() };
            self.payload_word(index, word).store(value, Ordering::Relaxed);
        }
        if !len.is_multiple_of(8) {
            let mut last = [0_u8; 8];
            // SAFETY: the last `len % 8` of the caller's bytes, into eight of ours.
            unsafe { ptr::copy_nonoverlapping(from.add(len / 8 * 8), last.as_mut_ptr(), len % 8) };
            self.payload_word(index, len / 8)
                .store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
    }

    /// Copies `len` bytes out of a slot's payload, which may be changing: then they are to be thrown away.
    ///
    /// # Safety
    /// `to` is good for writing `len` bytes.
    #[inline]
    pub(crate) unsafe fn load(&self, index: u32, to: *mut u8, len: usize) {
        debug_assert!(len <= self.shape.inline);
        for word in 0..len / 8 {
            let value = self.payload_word(index, word).load(Ordering::Relaxed);
            // SAFETY: within the caller's `len` bytes.
            unsafe { to.add(word * 8).cast::<u64>().write_unaligned(value) };
        }
        if !len.is_multiple_of(8) {
            let last = self.payload_word(index, len / 8).load(Ordering::Relaxed).to_ne_bytes();
            // SAFETY: the last `len % 8` of the caller's bytes, from eight of ours.
            unsafe { ptr::copy_nonoverlapping(last.as_ptr(), to.add(len / 8 * 8), len % 8) };
        }
    }

    /// Puts a block that `me` holds into transit in the queue.
    ///
    /// # Safety
    /// Nobody uses the block from now on until it is received.
    pub(crate) unsafe fn put_in_transit(&self, block: Block, me: Owner) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { self.memory.take_in(block, me) }
    }
}

impl Place for Core {
    type Block = Block;

    #[inline]
    fn slots(&self) -> u32 {
        self.shape.capacity
    }

    #[inline]
    fn state(&self, index: u32) -> &AtomicU64 {
        self.slot_word(index, 0)
    }

    #[inline]
    fn kind(&self, index: u32) -> &AtomicU64 {
        self.slot_word(index, 1)
    }

    fn returns(&self, index: u32) -> &AtomicU64 {
        debug_assert!(index < self.shape.capacity);
        // SAFETY: one word for each slot behind the slots; as in `slot_word`.
        unsafe {
            self.base
                .add(self.shape.returns_at() + index as usize * 8)
                .cast()
                .as_ref()
        }
    }

    fn tail_hint(&self) -> &AtomicU64 {
        &self.header().tail.0
    }

    fn head_hint(&self) -> &AtomicU64 {
        &self.header().head.0
    }

    #[inline]
    fn arrivals(&self) -> &EventCount {
        &self.header().arrivals.0
    }

    #[inline]
    fn fences(&self) -> Mode {
        self.publish_mode
    }

    #[inline]
    fn departures(&self) -> &EventCount {
        &self.header().departures.0
    }

    #[inline]
    fn rest(&self) -> Option<&EventCount> {
        self.shape.joinable.then(|| &self.header().rest.0)
    }

    #[inline]
    fn has_blocks(&self) -> bool {
        self.shape.blocks
    }

    fn withdraw(&self, index: u32) -> Option<Block> {
        let offset = self.payload_word(index, 0).load(Ordering::Relaxed);
        self.memory.hand_out(offset, family::me().ok()?)
    }

    fn free(&self, block: Block) {
        // SAFETY: `withdraw` gave it to this process, and nobody else knows of it.
        unsafe { self.arena.free(block) };
    }

    fn mark_astray(&self) {
        self.memory.mark_astray();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let mut cores = cores();
        if cores.get(&self.id).is_some_and(|core| core.strong_count() == 0) {
            cores.remove(&self.id);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("id", &self.id)
            .field("capacity", &self.shape.capacity)
            .field("over", &self.over_bits())
            .finish_non_exhaustive()
    }
}

/// The best way to order publishing and looking that this process can take part in. Children of a fork inherit the registration.
fn fence_mode() -> Mode {
    static MODE: OnceLock<Mode> = OnceLock::new();
    *MODE.get_or_init(|| register_asymmetric().map_or(Mode::Full, |()| Mode::Asymmetric))
}

fn cores() -> MutexGuard<'static, BTreeMap<u64, Weak<Core>>> {
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells those who wait for a process that has been released, if they wait for nobody else.
fn tell_who_waits(_gone: Owner) {
    let known: Vec<_> = cores().values().filter_map(Weak::upgrade).collect();
    for core in known {
        core.look_for(Side::Senders, false);
        core.look_for(Side::Receivers, false);
    }
}

/// Counts a child that is about to be forked as a holder of what this process holds: it will have copies of the handles.
fn keep_for(child: Owner) {
    let known: Vec<_> = cores().values().filter_map(Weak::upgrade).collect();
    let alone = LazyCell::new(seat::is_single_threaded);
    for core in known {
        let handles = *core.handles.lock().unwrap_or_else(PoisonError::into_inner);
        for side in [Side::Senders, Side::Receivers] {
            if handles[side as usize] > 0 {
                // A queue with too many holders: the child's handles work, but nobody waits for them to go.
                let _ = core.appear(side, child);
                if core.shape.exclusive && *alone {
                    core.offer(side);
                }
            }
        }
    }
}
