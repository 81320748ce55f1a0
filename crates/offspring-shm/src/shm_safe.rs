// UNSAFETY: declares the trait that says what may live in shared memory, and vouches for the types of the language.
#![expect(unsafe_code, reason = "an unsafe trait and its implementations")]

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};

/// Types whose values may live in memory that several processes of one program share.
///
/// The numbers, their atomics, and arrays and tuples of such types are. `bool`, `char`, references and everything on the
/// heap are not. A type of one's own is vouched for:
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use offspring_shm::{SharedSlice, ShmSafe};
///
/// #[repr(C)]
/// struct Account {
///     number: u64,
///     cents: AtomicU64,
/// }
/// // SAFETY: two words of which every bit pattern is a value, one of them an atomic.
/// unsafe impl ShmSafe for Account {}
///
/// let accounts = SharedSlice::from_fn(10, |i| Account { number: i as u64, cents: AtomicU64::new(0) })?;
/// assert_eq!(accounts[3].number, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// What points into one process's memory means nothing to another:
///
/// ```compile_fail,E0277
/// offspring_shm::Shared::new(Box::new(1_u32))?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```compile_fail,E0277
/// static TEXT: &str = "in the program's image, at another address in each process";
/// offspring_shm::Shared::new(TEXT)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Values are changed through atomics only, since other processes may be reading:
///
/// ```compile_fail,E0277
/// offspring_shm::Shared::new(std::cell::Cell::new(1_u32))?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Safety
/// - Every bit pattern is a valid value: a process that is killed while it writes leaves any of them.
/// - It has no pointer, reference, descriptor or anything else that means something in one process only, and does not
///   depend on its own address.
/// - It has no destructor that matters: the last process to drop a shared value frees its memory and runs nothing.
/// - What changes in it while it is shared are atomics, or cells that a lock in the same memory guards for all processes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in memory that processes share",
    label = "not `ShmSafe`",
    note = "numbers, atomics, and arrays and tuples of them can; for a struct of such fields, `unsafe impl ShmSafe`"
)]
pub unsafe trait ShmSafe: Sync + Send + 'static {}

/// Vouches for types of which each is a number or an atomic number.
macro_rules! numbers {
    ($($number:ty)*) => { $(
        // SAFETY: a number: every bit pattern is a value, it points nowhere, and only an atomic changes when shared.
        unsafe impl ShmSafe for $number {}
    )* };
}

numbers! {
    u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64
    AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize
}

// SAFETY: nothing but its elements.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {}

// A tuple's layout is the compiler's choice, but the same in all processes of one program.

// SAFETY: nothing but its elements, and padding that nobody reads.
unsafe impl<A: ShmSafe> ShmSafe for (A,) {}
// SAFETY: as above.
unsafe impl<A: ShmSafe, B: ShmSafe> ShmSafe for (A, B) {}
// SAFETY: as above.
unsafe impl<A: ShmSafe, B: ShmSafe, C: ShmSafe> ShmSafe for (A, B, C) {}
// SAFETY: as above.
unsafe impl<A: ShmSafe, B: ShmSafe, C: ShmSafe, D: ShmSafe> ShmSafe for (A, B, C, D) {}
