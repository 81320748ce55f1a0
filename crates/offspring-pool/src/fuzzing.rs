//! Ways into what a pool and its processes read of each other, for fuzz targets. Each panics when a property does not hold.

// UNSAFETY: fills blocks of the arena with any bytes, and reads a result that was found in them.
#![expect(unsafe_code, reason = "writes any bytes into blocks of its own")]

use std::io;

use offspring_process::ExitStatus;
use offspring_queue::Parcel;
use offspring_shm::{Arena, Block, family};
use offspring_sync::primitive::Ordering;

use crate::pool::{ActiveBoard, BOARD_MAGIC, Board, POOL_MAGIC, SharedPool};
use crate::process::{Delivered, Delivery};
use crate::protocol::{ChunkState, Ending};
use crate::start::Start;
use crate::task::{Progress, TaskTable};

/// What results are here: any bits are one.
type Item = (u64, u32);

/// More items than these would only take time.
const MOST_ITEMS: u64 = 1 << 12;

/// A block of this process that holds these words, and zeros behind them.
fn filled(arena: &'static Arena, words: &[u64]) -> io::Result<Block> {
    let block = arena.allocate(family::me()?, size_of_val(words).max(256))?;
    let at = arena.pointer(block.offset, block.capacity)?.cast::<u64>();
    // SAFETY: the block is ours alone, aligned, and large enough.
    unsafe {
        at.cast::<u8>().write_bytes(0, block.capacity);
        at.as_ptr().copy_from_nonoverlapping(words.as_ptr(), words.len());
    }
    Ok(block)
}

/// Calls `read` with a block that holds `words`.
fn with<R>(words: &[u64], read: impl FnOnce(&'static Arena, Block) -> io::Result<R>) -> io::Result<R> {
    let arena = family::arena()?;
    let block = filled(arena, words)?;
    let outcome = read(arena, block);
    // SAFETY: ours, and nobody uses it any more.
    unsafe { arena.free(block) };
    outcome
}

/// The words that a board of `items` begins with, and the place among them of the offset of its arguments.
///
/// # Errors
/// When its function cannot be named.
pub fn board_words(items: u64, chunk: u64) -> io::Result<(Vec<u64>, usize)> {
    fn same(item: Item) -> Item {
        item
    }
    fn table<F: crate::TaskFn<Item, Item, K>, K: 'static>(_: F) -> &'static TaskTable {
        TaskTable::of::<F, Item, Item, K>()
    }
    let table = table(same);
    let len = items * size_of::<rkyv::Archived<Item>>() as u64;
    let me = u64::from(family::me()?.raw());
    let words = vec![
        BOARD_MAGIC,
        table.identity()?,
        table.layout(),
        0,
        len,
        items,
        chunk,
        me,
        0,
        1 << 32,
        0,
    ];
    Ok((words, 3))
}

/// Reads `words` as a board, as workers and their caller do. To each word at a place among `relative` the offset of the board is
/// added, so many bits to the left. Gives how many results and how many errors it shows.
///
/// # Errors
/// When it is no board.
pub fn board(words: &[u64], relative: &[(usize, u32)], workers: usize, died: [u16; 3]) -> io::Result<(usize, usize)> {
    let (arena, me) = (family::arena()?, family::me()?);
    let block = filled(arena, words)?;
    for &(place, shift) in relative {
        let word = words[place].wrapping_add(block.offset << shift);
        let at = arena.pointer(block.offset + 8 * place as u64, 8)?.cast::<u64>();
        // SAFETY: one of the words of our block.
        unsafe { at.write(word) };
    }
    let inputs = Parcel::encode(arena, me, &7_u64)?.erase();
    let board = match Board::open(arena, block.offset, workers) {
        Ok(board) => board,
        Err(error) => {
            // SAFETY: ours, and nobody uses it.
            unsafe { arena.free(block) };
            return Err(error);
        }
    };
    if let Ok((table, inputs)) = board.task(arena) {
        let plan = board.plan();
        assert!(!table.name().is_empty() && table.layout() == plan.layout);
        let end = plan.items as usize * size_of::<rkyv::Archived<Item>>();
        assert!(inputs.cast::<rkyv::Archived<Item>>().is_aligned() && plan.inputs_len as usize >= end);
    }
    let _ = (board.rounds().is_spent(), board.rounds().current());
    let mut harmless = board.plan().items < MOST_ITEMS;
    for (index, word) in board.words().iter().enumerate() {
        let (first, len) = board.chunk(index);
        assert!(len > 0 && first as u64 + len as u64 <= board.plan().items);
        // Reports are read without validation, as all messages are.
        let how = word.state();
        harmless &= !matches!(
            how,
            ChunkState::Ended {
                how: Ending::Failures(_)
            }
        );
    }
    for worker in 0..workers {
        // What these name is freed with the board.
        board.output(worker).0.store(0, Ordering::Relaxed);
    }
    let active = ActiveBoard::new(arena, board, block, inputs);
    let progress = Progress::default();
    let [chunk, next, roots] = died.map(u64::from);
    progress.chunk.store(chunk % 8, Ordering::Relaxed);
    progress.next.store(next, Ordering::Relaxed);
    progress.roots.store(block.offset + roots, Ordering::Relaxed);
    active.settle(me, &progress, (1, &ExitStatus::Code(1)), (chunk >> 8) as u32 % 2);
    let (mut results, mut errors) = (0, 0);
    if harmless {
        active.outcomes::<Item>(&mut |_, outcome| match outcome {
            Ok(archived) => results += archived.iter().filter(|item| item.1 != 7).count(),
            Err(error) => {
                assert!(error.to_string().len() > 8);
                errors += 1;
            }
        });
    }
    Ok((results, errors))
}

/// Reads `words` as what a pool's workers share; gives how many they are.
///
/// # Errors
/// When it is no pool.
pub fn pool(words: &[u64]) -> io::Result<usize> {
    with(words, |arena, block| {
        let pool = SharedPool::open(arena, block.offset)?;
        // The last one is memory, too.
        let last = pool.cells().last().map(|cell| cell.tasks.load(Ordering::Relaxed));
        let _ = (last, pool.is_touched(block.offset), pool.header().bell.heard());
        Ok(pool.cells().len())
    })
}

/// What the words of a pool begin with.
#[must_use]
pub fn pool_magic() -> u64 {
    POOL_MAGIC
}

/// Reads what a child has left for its parent: a state, and a root counted from the start of the block it names.
///
/// # Errors
/// When there is no room to try it.
pub fn delivery(state: u32, capacity: u64, root: u64, contents: &[u64]) -> io::Result<bool> {
    let (arena, me) = (family::arena()?, family::me()?);
    let result = filled(arena, contents)?;
    let words = [
        u64::from(state),
        result.offset,
        capacity,
        result.offset.wrapping_add(root),
    ];
    let mut read = false;
    let delivered = with(&words, |arena, block| {
        Delivery::at(arena, block.offset).map(|place| place.take(me))
    });
    match delivered? {
        // SAFETY: any bits are an `Item`.
        Delivered::Result(parcel) => read = unsafe { parcel.view_as::<Item>() }.is_ok(),
        // Not read: it would be without validation. It is freed, as the result is.
        Delivered::Report(parcel) => drop(parcel),
        // Freed, as nobody said what it is.
        Delivered::Nothing | Delivered::NoRoom => {}
    }
    Ok(read)
}

/// Reads what a new process of the family is told; gives its name and its parent's.
///
/// # Errors
/// When it is no such message.
pub fn start(payload: &[u8]) -> io::Result<(String, String)> {
    let (owner, start) = Start::decode(payload)?;
    assert_eq!(start.encode(owner), payload);
    let names = start.into_names();
    Ok((names.own, names.parent))
}

/// Any word of a chunk is a state, and is that state's.
pub fn chunk(word: u64) {
    assert_eq!(ChunkState::of(word).word(), word);
}
