// UNSAFETY: writes elements into their block, and reads them in place.
#![expect(unsafe_code, reason = "a slice is read in place in shared memory")]

use std::marker::PhantomData;
use std::ops::Deref;
use std::{fmt, io, slice};

use super::hold::{Draft, Hold, layout_of};
use crate::{Block, Handle, Owner, ShmSafe};

/// A slice that processes of a family share, of any length up to the size of the arena.
///
/// Plain numbers are filled in before it is shared and are read-only from then on; atomics may change at any time.
///
/// ```
/// use offspring_shm::SharedSlice;
///
/// let squares = SharedSlice::from_fn(1000, |i| (i * i) as u64)?;
/// assert_eq!(squares[30], 900);
/// assert_eq!(squares.iter().max(), Some(&998_001));
///
/// let picture = SharedSlice::build(1 << 20, |pixels: &mut [u8]| pixels.fill(0x80))?;
/// assert_eq!(picture.len(), 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```compile_fail,E0596
/// let mut numbers = offspring_shm::SharedSlice::from_slice(&[1_u32, 2, 3])?;
/// numbers[0] = 5; // others may be reading it
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "Array")]
#[doc(alias = "SharedMemory")]
#[doc(alias = "RawArray")]
pub struct SharedSlice<T: ShmSafe> {
    hold: Hold,
    marker: PhantomData<T>,
}

const KIND: u8 = 2;

impl<T: ShmSafe> SharedSlice<T> {
    /// Copies a slice into the family's arena.
    ///
    /// # Errors
    /// When the arena has no room or the family already shares as many values as its arena can keep account of.
    pub fn from_slice(elements: &[T]) -> io::Result<Self>
    where
        T: Copy,
    {
        let draft = Draft::new::<T>(elements.len())?;
        // SAFETY: the draft has room for as many elements and nobody else has its block.
        unsafe {
            draft
                .elements::<T>()
                .as_ptr()
                .copy_from_nonoverlapping(elements.as_ptr(), elements.len());
        };
        Self::publish(draft)
    }

    /// Makes `len` elements, each from its index.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice).
    pub fn from_fn(len: usize, mut make: impl FnMut(usize) -> T) -> io::Result<Self> {
        let draft = Draft::new::<T>(len)?;
        for index in 0..len {
            // SAFETY: the draft has room for `len` elements and nobody else has its block.
            unsafe { draft.elements::<T>().add(index).write(make(index)) };
        }
        Self::publish(draft)
    }

    /// Makes `len` elements of which every bit is zero.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice).
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let draft = Draft::new::<T>(len)?;
        // SAFETY: the draft has room for `len` elements, and all zero is a value of any `ShmSafe` type.
        unsafe { draft.elements::<T>().write_bytes(0, len) };
        Self::publish(draft)
    }

    /// Makes `len` elements and lets `fill` write them where they will be read, without a copy.
    ///
    /// They have arbitrary values at first, not zeroes.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice).
    pub fn build(len: usize, fill: impl FnOnce(&mut [T])) -> io::Result<Self> {
        let draft = Draft::new::<T>(len)?;
        // SAFETY: the draft has room for `len` elements, nobody else has its block, and whatever bits are there are
        // values of a `ShmSafe` type.
        fill(unsafe { slice::from_raw_parts_mut(draft.elements::<T>().as_ptr(), len) });
        Self::publish(draft)
    }

    /// The slice's name, to be sent to another process; it does not keep the slice alive.
    #[must_use]
    pub fn to_handle(&self) -> Handle {
        self.hold.to_handle()
    }

    /// The slice that a handle names.
    ///
    /// # Errors
    /// When the slice is gone, is of another type, or the handle is garbage.
    pub fn from_handle(handle: Handle) -> io::Result<Self> {
        Ok(Self {
            hold: Hold::attach::<T>(&handle, layout_of::<T>(KIND))?,
            marker: PhantomData,
        })
    }

    /// Makes the slice the holder of a block that `from` held, so that the block outlives its process. False when `from`
    /// does not hold it.
    ///
    /// # Safety
    /// As [`Arena::transfer`](crate::Arena::transfer).
    pub unsafe fn take_in(&self, block: Block, from: Owner) -> bool {
        self.hold.take_in(block, from)
    }

    /// Hands a block over that the slice [took in](Self::take_in); `None` when it does not hold one there.
    pub fn hand_out(&self, offset: u64, to: Owner) -> Option<Block> {
        self.hold.hand_out(offset, to)
    }

    /// Says where in the slice the offsets of blocks stand that it [took in](Self::take_in), as they are freed with it:
    /// in `count` words of 64 bits, the first of them `first` bytes behind the start, `stride` bytes apart.
    ///
    /// An entry may be garbage, or name a block that somebody else holds by now.
    pub fn set_ledger(&self, first: u32, stride: u32, count: usize) {
        self.hold.set_ledger(first, stride, count);
    }

    /// Says that blocks which it took in may stand in no entry of the ledger: all blocks are looked at when it is freed.
    pub fn mark_astray(&self) {
        self.hold.mark_astray();
    }

    fn publish(draft: Draft) -> io::Result<Self> {
        Ok(Self {
            hold: draft.publish(layout_of::<T>(KIND))?,
            marker: PhantomData,
        })
    }
}

impl<T: ShmSafe> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the block holds that many `T`s, which this process's holding keeps, and which change only as `ShmSafe`
        // allows.
        unsafe { slice::from_raw_parts(self.hold.elements::<T>().as_ptr(), self.hold.len()) }
    }
}

impl<'a, T: ShmSafe> IntoIterator for &'a SharedSlice<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: ShmSafe> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self {
            hold: self.hold.clone(),
            marker: PhantomData,
        }
    }
}

impl<T: ShmSafe + fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedSlice").field(&&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shared;

    #[repr(align(1024))]
    struct Wide(u8);

    // SAFETY: a number and padding.
    unsafe impl ShmSafe for Wide {}

    #[test]
    fn elements_are_aligned() {
        let wide = Shared::new(Wide(5)).unwrap();
        assert!((&raw const *wide).is_aligned());
        assert_eq!(wide.0, 5);
        let many = SharedSlice::from_fn(3, |i| Wide(i as u8)).unwrap();
        assert!((&raw const many[0]).is_aligned() && many[2].0 == 2);
        assert!((&raw const *Shared::new(1_u128).unwrap()).is_aligned());
    }

    #[test]
    fn an_alignment_beyond_a_page_is_refused() {
        #[repr(align(131072))]
        struct Vast(u8);
        // SAFETY: a number and padding.
        unsafe impl ShmSafe for Vast {}
        let error = Shared::new(Vast(1)).map(|vast| vast.0).unwrap_err();
        assert!(error.to_string().contains("aligned"), "{error}");
    }
}
