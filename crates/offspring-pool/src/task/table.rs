// UNSAFETY: the only place where a task's types are forgotten and found again: archived arguments are reached through
// raw pointers, results are placed into reserved shared memory.
#![expect(unsafe_code, reason = "type-erased task functions over archived arguments")]

use std::alloc::Layout;
use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::{fmt, io};

use offspring_process::{catch_panic, image};
use offspring_queue::{EncodeError, Encoder, Message, is_copied};
use offspring_sync::primitive::{AtomicU64, Ordering};
use rkyv::ser::WriterExt;
use rkyv::{Place, rancor};

use super::function::conjure;
use super::{Report, TaskFn};
use crate::protocol::Rounds;

const MAGIC: u64 = u64::from_le_bytes(*b"ofsptask");

/// A task function with its types forgotten, as a constant of the program's image.
///
/// Its offset from the start of the image names the function to every process that runs the same program.
#[repr(C)]
pub(crate) struct TaskTable {
    magic: u64,
    /// The layouts of the archived argument and result: a second sign that sender and receiver mean the same.
    layout: u64,
    /// What the archived argument is like in memory.
    argument: Layout,
    name: fn() -> &'static str,
    call: unsafe fn(NonNull<u8>, &mut Encoder<'_>) -> Result<usize, Report>,
    chunk: unsafe fn(&mut ChunkRun<'_, '_>) -> Result<ChunkEnd, EncodeError>,
}

/// How far a worker has come in the chunk it is running.
///
/// One per worker, in shared memory; written by that worker alone, read by the pool's owner when the worker is dead.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Index of the chunk, written before it is claimed: whatever is claimed under the worker's tag is this one.
    pub(crate) chunk: AtomicU64,
    /// Items of the chunk that are done; every result below it is complete. `Release` after each result.
    pub(crate) next: AtomicU64,
    /// Arena offset of the array of archived results; 0 before there is one.
    pub(crate) roots: AtomicU64,
    /// Arena offset of the newest [`Failure`] of the chunk; 0 for none.
    pub(crate) failures: AtomicU64,
}

/// A task that failed, in the arena; a chunk's failures are a chain.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// Arena offset of the failure before this one; 0 for none.
    pub(crate) next: u64,
    /// Index of the item in its chunk.
    pub(crate) item: u64,
    /// Arena offset of the archived [`Report`].
    pub(crate) report: u64,
    /// Arena offset of the chunk's array of results; set in the newest failure when the chunk ends.
    pub(crate) roots: u64,
}

/// One chunk to be run.
pub(crate) struct ChunkRun<'a, 'e> {
    /// The archived arguments of the whole board.
    pub(crate) inputs: NonNull<u8>,
    /// Index of the chunk's first item in the board.
    pub(crate) first: usize,
    /// Items of the chunk that somebody else has done.
    pub(crate) skip: usize,
    /// Items in the chunk.
    pub(crate) len: usize,
    /// True if the chunk ends with its first failure.
    pub(crate) stop: bool,
    /// Cancelled as soon as nobody waits for the chunk any more: no further task is begun then.
    pub(crate) rounds: &'a Rounds,
    pub(crate) progress: &'a Progress,
    pub(crate) encoder: &'a mut Encoder<'e>,
}

/// What is left of a chunk when it has been run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkEnd {
    /// Arena offset of the array of archived results, one per item of the chunk.
    pub(crate) roots: u64,
    /// Arena offset of the newest [`Failure`]; 0 for none.
    pub(crate) failures: u64,
    /// True if tasks were left out because the call was cancelled.
    pub(crate) abandoned: bool,
}

struct Task<F, A, R, K>(PhantomData<(F, A, R, K)>);

impl<F, A, R, K> Task<F, A, R, K>
where
    F: TaskFn<A, R, K>,
    A: Message,
    R: Message,
    K: 'static,
{
    const TABLE: &'static TaskTable = &TaskTable {
        magic: MAGIC,
        layout: layout_of::<A, R>(),
        argument: Layout::new::<A::Archived>(),
        name: type_name::<F>,
        call: call::<F, A, R, K>,
        chunk: chunk::<F, A, R, K>,
    };
}

/// The most padding that rkyv can write; the arena's blocks are aligned to more.
const MOST_ALIGNED: usize = 32;

/// Refuses, while the program is compiled, a type that may not lie at every place where messages are written.
pub(crate) const fn check_alignment<T: Message>() {
    assert!(
        align_of::<T::Archived>() <= MOST_ALIGNED,
        "this type's archived form is aligned to more than 32 bytes, which is all that can be written into a message"
    );
}

const fn layout_of<A: Message, R: Message>() -> u64 {
    check_alignment::<A>();
    check_alignment::<R>();
    let argument = (size_of::<A::Archived>() as u64) << 8 | align_of::<A::Archived>() as u64;
    let result = (size_of::<R::Archived>() as u64) << 8 | align_of::<R::Archived>() as u64;
    argument.rotate_left(32) ^ result
}

impl TaskTable {
    /// The table of a function.
    pub(crate) fn of<F, A, R, K>() -> &'static Self
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
    {
        Task::<F, A, R, K>::TABLE
    }

    /// The name of this table for other processes of the same program.
    ///
    /// # Errors
    /// When the function is not part of the program itself but of a library loaded at run time.
    pub(crate) fn identity(&'static self) -> io::Result<u64> {
        image::offset_of(self).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("`{}` cannot be named to another process: {error}", self.name()),
            )
        })
    }

    /// Finds the table that another process of the same program named.
    ///
    /// # Errors
    /// When there is none at that place.
    pub(crate) fn find(identity: u64) -> io::Result<&'static Self> {
        let table = image::at::<Self>(identity)?;
        // SAFETY: `at` checked that the whole table lies, aligned, inside this program's image, which is mapped for
        // the life of the process; any bytes are a valid u64.
        let magic = unsafe { table.cast::<u64>().read() };
        if magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no task function at offset {identity:#x} of the program: is it another build?"),
            ));
        }
        // SAFETY: the magic says that a table was compiled to this place; tables are constants.
        Ok(unsafe { table.as_ref() })
    }

    pub(crate) fn name(&self) -> &'static str {
        (self.name)()
    }

    pub(crate) fn layout(&self) -> u64 {
        self.layout
    }

    pub(crate) fn argument(&self) -> Layout {
        self.argument
    }

    /// Runs the function once and encodes what it returns; gives the position of the encoded result.
    ///
    /// A panic of the function passes through.
    ///
    /// # Safety
    /// `argument` points to an archived argument of this very function, which does not change during the call.
    pub(crate) unsafe fn call(&self, argument: NonNull<u8>, encoder: &mut Encoder<'_>) -> Result<usize, Report> {
        // SAFETY: the caller's promise is the one that `call` asks for.
        unsafe { (self.call)(argument, encoder) }
    }

    /// Runs a chunk of tasks; panics of the function become failures of their items.
    ///
    /// # Safety
    /// `inputs` points to an archived slice of arguments of this very function, which has `first + len` items and
    /// does not change during the call.
    pub(crate) unsafe fn chunk(&self, run: &mut ChunkRun<'_, '_>) -> Result<ChunkEnd, EncodeError> {
        // SAFETY: the caller's promise is the one that `chunk` asks for.
        unsafe { (self.chunk)(run) }
    }
}

impl fmt::Debug for TaskTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskTable")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// # Safety
/// As for [`TaskTable::call`].
unsafe fn call<F, A, R, K>(argument: NonNull<u8>, encoder: &mut Encoder<'_>) -> Result<usize, Report>
where
    F: TaskFn<A, R, K>,
    A: Message,
    R: Message,
{
    // SAFETY: the table that led here was made for a function that was passed to `admit`.
    let function = unsafe { conjure::<F>() };
    // SAFETY: the caller vouches for an archived `A` at `argument`.
    let argument = unsafe { argument.cast::<A::Archived>().as_ref() };
    let result = function.call(argument)?;
    let root = encode_root(encoder, &result);
    Ok(root.map_err(|error| encode_error(encoder, error))?)
}

/// # Safety
/// As for [`TaskTable::chunk`].
unsafe fn chunk<F, A, R, K>(run: &mut ChunkRun<'_, '_>) -> Result<ChunkEnd, EncodeError>
where
    F: TaskFn<A, R, K>,
    A: Message,
    R: Message,
{
    // SAFETY: the table that led here was made for a function that was passed to `admit`.
    let function = unsafe { conjure::<F>() };
    let inputs = run.inputs.cast::<A::Archived>();
    let encoder = &mut *run.encoder;
    let size = size_of::<R::Archived>();

    encoder.writer.begin_region(align_of::<R::Archived>().max(8));
    // One byte at least, so that results of no size have an address too.
    let reserved = encoder
        .writer
        .reserve((run.len * size).max(1), align_of::<R::Archived>());
    let roots = reserved.map_err(|error| encode_error(encoder, error))?;
    let mut home = encoder.writer.offset(roots);
    run.progress.roots.store(home, Ordering::Release);

    let abandoned = Cell::new(false);
    let mut newest: Option<(u64, NonNull<Failure>)> = None;
    let mut next = run.skip;
    while next < run.len {
        let running = Cell::new(next);
        let copied = encoder.writer.address(roots).cast::<R::Archived>();
        let outcome = catch_panic(|| -> Result<(), Report> {
            for item in next..run.len {
                // A hint: whoever cancels waits for nothing that happens here.
                if run.rounds.is_cancelled() {
                    abandoned.set(true);
                    break;
                }
                running.set(item);
                // SAFETY: `first + item` is below `first + len`, for which the caller vouches.
                let argument = unsafe { inputs.add(run.first + item).as_ref() };
                let result = function.call(argument)?;
                if const { is_copied::<R>() } {
                    // SAFETY: the place is one of the `len` that were reserved, and nothing was written since that
                    // could have moved them; the result's bytes are its archived form.
                    unsafe {
                        copied
                            .add(item)
                            .copy_from_nonoverlapping(NonNull::from(&result).cast(), 1);
                    };
                } else {
                    let placed = place_root(encoder, &result, roots + item * size);
                    placed.map_err(|error| encode_error(encoder, error))?;
                    let moved = encoder.writer.offset(roots);
                    if moved != home {
                        home = moved;
                        run.progress.roots.store(home, Ordering::Release);
                    }
                }
                // PAIRS: progress
                run.progress.next.store(item as u64 + 1, Ordering::Release);
            }
            Ok(())
        });
        let report = match outcome {
            Ok(Ok(())) => break,
            Ok(Err(report)) => report,
            Err(panic) => Report::from(panic),
        };
        let chain = newest.map_or(0, |(offset, _)| offset);
        let failure = record(encoder, chain, running.get(), &report);
        let failure = failure.map_err(|error| encode_error(encoder, error))?;
        newest = Some(failure);
        next = running.get() + 1;
        // The record may have moved the region, and what comes next is written where it is now.
        let moved = encoder.writer.offset(roots);
        if moved != home {
            home = moved;
            run.progress.roots.store(home, Ordering::Release);
        }
        run.progress.failures.store(failure.0, Ordering::Release);
        // PAIRS: progress
        run.progress.next.store(next as u64, Ordering::Release);
        if run.stop {
            break;
        }
    }
    let roots = encoder.writer.offset(roots);
    if let Some((_, newest)) = newest {
        // SAFETY: the record lies in a block of this board's results, which stays as long as the board does, and only
        // this worker writes it before the chunk is published.
        unsafe { (*newest.as_ptr()).roots = roots };
    }
    Ok(ChunkEnd {
        roots,
        failures: newest.map_or(0, |(offset, _)| offset),
        abandoned: abandoned.get(),
    })
}

/// Encodes a value at the end of the region and gives its position.
fn encode_root<T: Message>(encoder: &mut Encoder<'_>, value: &T) -> Result<usize, rancor::BoxedError> {
    encoder.sharing.clear();
    rkyv::api::serialize_using(value, encoder)
}

/// Encodes a value whose root goes to a place reserved for it.
#[inline]
fn place_root<T: Message>(encoder: &mut Encoder<'_>, value: &T, pos: usize) -> Result<(), rancor::BoxedError> {
    encoder.sharing.clear();
    let resolver = value.serialize(encoder)?;
    let root = encoder.writer.address(pos).cast::<T::Archived>();
    // SAFETY: the root was reserved with the size and alignment of `T::Archived`, its bytes are initialised as all of
    // shared memory is, and this worker alone writes there; `pos` is its position in the region.
    let place = unsafe { Place::new_unchecked(pos, root.as_ptr()) };
    value.resolve(resolver, place);
    Ok(())
}

/// Adds a failure to a chunk's chain; gives the offset of the chain's new head, and its address here.
fn record(
    encoder: &mut Encoder<'_>,
    chain: u64,
    item: usize,
    report: &Report,
) -> Result<(u64, NonNull<Failure>), rancor::BoxedError> {
    let report = encode_root(encoder, report)?;
    encoder.align_for::<Failure>()?;
    let at = encoder.writer.reserve(size_of::<Failure>(), align_of::<Failure>())?;
    let failure = Failure {
        next: chain,
        item: item as u64,
        report: encoder.writer.offset(report),
        roots: 0,
    };
    let address = encoder.writer.address(at).cast::<Failure>();
    // SAFETY: the place was just reserved with the size and alignment of a `Failure`, and is ours alone.
    unsafe { address.write(failure) };
    Ok((encoder.writer.offset(at), address))
}

fn encode_error(encoder: &mut Encoder<'_>, error: rancor::BoxedError) -> EncodeError {
    encoder
        .writer
        .take_exhausted()
        .map_or(EncodeError::Serialize(error), EncodeError::OutOfMemory)
}
