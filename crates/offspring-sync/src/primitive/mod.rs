//! The one door to atomics, cells and futexes.
//!
//! Every algorithm of this workspace that runs between processes takes its atomics, its futex calls and its fences from here and
//! from nowhere else. An ordinary build gets the machine's own ([`core::sync::atomic`] and futex(2)); a build with `--cfg loom`
//! gets a model of the same calls, in which a futex is a list of sleepers under a lock, a bounded nap only ends early after
//! somebody died, and a thread can be told to stop for ever at its n-th step. No other file asks which of the two it is.
//!
//! A word in shared memory is reached as `&AtomicU32`, made from a pointer that was checked against its mapping: nothing in
//! here dereferences an address that came out of shared memory.

#[cfg(loom)]
pub mod model;
#[cfg(not(loom))]
mod real;

#[cfg(loom)]
pub use model::{
    AtomicU32, AtomicU64, FUTEX_WAIT_MANY_MAX, Mode, UnsafeCell, fence, full_fence_after_rmw, futex_wait,
    futex_wait_many, futex_wake, heavy_fence, light_fence, monotonic_nanoseconds, register_asymmetric, spin_loop,
    yield_now,
};
#[cfg(not(loom))]
pub use real::{
    AtomicU32, AtomicU64, FUTEX_WAIT_MANY_MAX, Mode, UnsafeCell, fence, full_fence_after_rmw, futex_wait,
    futex_wait_many, futex_wake, heavy_fence, light_fence, monotonic_nanoseconds, register_asymmetric, spin_loop,
    yield_now,
};

#[cfg(loom)]
pub(crate) use model::online_processors;
#[cfg(not(loom))]
pub(crate) use real::online_processors;

/// The memory orderings; the same type in both builds.
pub type Ordering = core::sync::atomic::Ordering;

/// Whether this build runs the algorithms on real memory (`false`: under the model checker).
pub const REAL: bool = cfg!(not(loom));

/// Why a futex wait came back.
///
/// A caller looks at its words again in either case: `Woken` also stands for a word that had changed before the sleep, and for a
/// wake that nobody meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Woken, or the word no longer had the expected value.
    Woken,
    /// The deadline passed.
    TimedOut,
}
