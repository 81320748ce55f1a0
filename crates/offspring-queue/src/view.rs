// UNSAFETY: reads an archived value where it lies, in a slot or block that is leased to this thread.
#![expect(unsafe_code, reason = "archived values are read in place under a lease")]

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::{fmt, thread};

use offspring_sync::Tag;
use offspring_sync::primitive::Ordering;

use crate::core::Core;
use crate::letter::inline_root;
use crate::port::{Limit, Port};
use crate::raw::{Place, Position, Ring};
use crate::recv_error::Unreceived;
use crate::shape::is_plain;
use crate::{DecodeError, Message, decode};

/// A message that is read where it lies in shared memory, and stays in the queue until the view is dropped.
///
/// It is *leased*: if this thread dies before it drops the view, killed or by a panic, the next receiver gets the message,
/// and [`delivery_count`](View::delivery_count) tells it so. It holds a slot of the queue, so hold it for as long as the
/// work on the message takes and no longer: the queue goes round until it meets that slot again.
///
/// A view belongs to the thread that received it, whose life the lease depends on.
pub struct View<'a, T: Message> {
    port: &'a Port,
    at: Position,
    me: Tag,
    archived: NonNull<T::Archived>,
    /// Whether the thread was unwinding already when the view was made.
    panicking: bool,
    marker: PhantomData<*const T>,
}

impl<'a, T: Message> View<'a, T> {
    pub(crate) fn lease(port: &'a Port, limit: Limit) -> Result<Self, Unreceived> {
        let (at, me) = port.lease(limit)?;
        Self::of(port, at, me)
    }

    /// The message that the caller has leased.
    pub(crate) fn of(port: &'a Port, at: Position, me: Tag) -> Result<Self, Unreceived> {
        match locate::<T>(&port.core, at.index()) {
            Ok(archived) => Ok(Self {
                port,
                at,
                me,
                archived,
                panicking: thread::panicking(),
                marker: PhantomData,
            }),
            Err(error) => {
                // It would be as unreadable for the next one.
                finish(&port.core, at, me);
                Err(Unreceived::Decode(error))
            }
        }
    }

    /// How often the message was delivered, this time included: more than once after a holder died, or gave it back.
    pub fn delivery_count(&self) -> u32 {
        self.port.core.ring().returns(self.at).saturating_add(1)
    }

    /// Rebuilds the value; the view stays.
    ///
    /// # Errors
    /// When the type's own deserialisation fails.
    pub fn decode(&self) -> Result<T, DecodeError> {
        decode::<T>(self)
    }

    /// Gives the lease away: whoever has it now finishes it or gives it back.
    pub(crate) fn into_lease(self) -> (Position, Tag) {
        let lease = (self.at, self.me);
        std::mem::forget(self);
        lease
    }

    /// Puts the message back: the next receiver gets it, before those that came later.
    pub fn give_back(self) {
        self.port.core.ring().give_back(self.at, self.me);
        std::mem::forget(self);
    }
}

/// Where the archived value of a leased slot lies.
fn locate<T: Message>(core: &Core, index: u32) -> Result<NonNull<T::Archived>, DecodeError> {
    if const { is_plain::<T>() } {
        return Ok(core.payload(index).cast());
    }
    let kind = core.kind(index).load(Ordering::Relaxed);
    if !Ring::<Core, offspring_sync::Membership>::is_block(kind) {
        let root = inline_root::<T>(kind)?;
        // SAFETY: the root lies in the payload of the slot.
        return Ok(unsafe { core.payload(index).add(root) }.cast());
    }
    let root = core.payload_word(index, 1).load(Ordering::Relaxed);
    let len = size_of::<T::Archived>();
    let at = core
        .arena()
        .pointer(root, len)
        .map_err(DecodeError::OutOfBounds)?
        .cast::<T::Archived>();
    if !at.is_aligned() {
        return Err(DecodeError::damaged("its root is not aligned"));
    }
    Ok(at)
}

pub(crate) fn finish(core: &Core, at: Position, me: Tag) {
    if let Some(block) = core.ring().finish(at, me) {
        core.free(block);
    }
}

impl<T: Message> Deref for View<'_, T> {
    type Target = T::Archived;

    fn deref(&self) -> &T::Archived {
        // SAFETY: `locate` checked where it lies; it was written by this program's image, and neither the slot nor the block
        // changes while the slot is leased to this thread, which it is until the view is dropped.
        unsafe { self.archived.as_ref() }
    }
}

impl<T: Message> Drop for View<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            self.port.core.ring().give_back(self.at, self.me);
        } else {
            finish(&self.port.core, self.at, self.me);
        }
    }
}

impl<T: Message<Archived: fmt::Debug>> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("message", &**self)
            .field("delivery_count", &self.delivery_count())
            .finish_non_exhaustive()
    }
}
