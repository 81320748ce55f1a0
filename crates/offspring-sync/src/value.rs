//! A number that processes share without a lock.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::fmt;
use std::marker::PhantomData;

use offspring_shm::ShmSafe;

use crate::primitive::{AtomicU64, Ordering};

/// A number, truth value or letter in shared memory that is read and written as a whole.
///
/// Lock-free, so that no death can leave it half-written or locked. For what is larger than a word, or for steps that must be
/// seen together, use a [`Mutex`](crate::Mutex).
///
/// All operations are sequentially consistent: what a thread wrote before it stored a value is visible to whoever loads it.
///
/// ```
/// use offspring_shm::Shared;
/// use offspring_sync::Value;
///
/// let celsius = Shared::new(Value::new(21.5_f64))?;
/// celsius.update(|degrees| degrees + 1.0);
/// assert_eq!(celsius.load(), 22.5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(transparent)]
#[doc(alias = "AtomicCell")]
pub struct Value<T> {
    bits: AtomicU64,
    of: PhantomData<T>,
}

/// What fits into a [`Value`]: the numbers up to 64 bits, `bool` and `char`.
pub trait Word: Copy + Send + Sync + 'static + sealed::Sealed {
    #[doc(hidden)]
    fn to_bits(self) -> u64;
    /// Any bits make some value: memory may hold whatever a damaged process left there.
    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($t:ty)*) => { $(
        impl sealed::Sealed for $t {}
        impl Word for $t {
            #[inline]
            fn to_bits(self) -> u64 {
                self as u64
            }
            #[inline]
            fn from_bits(bits: u64) -> Self {
                bits as $t
            }
        }
    )* };
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

impl sealed::Sealed for bool {}
impl Word for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> Self {
        bits & 1 != 0
    }
}

impl sealed::Sealed for char {}
impl Word for char {
    fn to_bits(self) -> u64 {
        u64::from(u32::from(self))
    }
    fn from_bits(bits: u64) -> Self {
        char::from_u32(bits as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

impl sealed::Sealed for f32 {}
impl Word for f32 {
    fn to_bits(self) -> u64 {
        u64::from(f32::to_bits(self))
    }
    fn from_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
}

impl sealed::Sealed for f64 {}
impl Word for f64 {
    fn to_bits(self) -> u64 {
        f64::to_bits(self)
    }
    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
}

// SAFETY: one atomic word of which every bit pattern is turned into some value.
unsafe impl<T: Word> ShmSafe for Value<T> {}

impl<T: Word> Value<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Value {
            bits: AtomicU64::new(value.to_bits()),
            of: PhantomData,
        }
    }

    /// The value at this moment.
    #[inline]
    #[doc(alias = "get")]
    pub fn load(&self) -> T {
        // SeqCst: users reason about several values at once, and a word of theirs is no place to save a fence.
        T::from_bits(self.bits.load(Ordering::SeqCst))
    }

    /// Replaces the value.
    #[inline]
    #[doc(alias = "set")]
    pub fn store(&self, value: T) {
        self.bits.store(value.to_bits(), Ordering::SeqCst);
    }

    /// Replaces the value and returns the one before.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::from_bits(self.bits.swap(value.to_bits(), Ordering::SeqCst))
    }

    /// Stores `new` if the value is `current`, bit for bit.
    ///
    /// # Errors
    ///
    /// The value that was found instead.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        self.bits
            .compare_exchange(current.to_bits(), new.to_bits(), Ordering::SeqCst, Ordering::SeqCst)
            .map(T::from_bits)
            .map_err(T::from_bits)
    }

    /// Replaces the value by what `change` makes of it, and returns the one before. `change` is called again when another
    /// thread was faster.
    pub fn update(&self, mut change: impl FnMut(T) -> T) -> T {
        let mut seen = self.bits.load(Ordering::SeqCst);
        loop {
            let next = change(T::from_bits(seen)).to_bits();
            match self
                .bits
                .compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(before) => return T::from_bits(before),
                Err(found) => seen = found,
            }
        }
    }
}

impl<T: Word + Default> Default for Value<T> {
    fn default() -> Self {
        Value::new(T::default())
    }
}

impl<T: Word + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.load()).finish()
    }
}
