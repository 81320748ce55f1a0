use std::fmt;

/// A place in the endless sequence of messages: `lap:32 | index:32`, in a ring of any number of slots.
///
/// Positions are compared by wrapping subtraction, so that the laps may wrap around.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Position(u64);

impl Position {
    /// The position whose word this is.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The position as one word.
    pub const fn word(self) -> u64 {
        self.0
    }

    pub(super) const fn new(lap: u32, index: u32) -> Self {
        Self((lap as u64) << 32 | index as u64)
    }

    /// How many times the ring was gone round before.
    pub const fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which slot.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// The position after this one, in a ring of `slots`.
    #[inline]
    #[must_use]
    pub const fn next(self, slots: u32) -> Self {
        if self.index() + 1 >= slots {
            Self::new(self.lap().wrapping_add(1), 0)
        } else {
            Self(self.0 + 1)
        }
    }

    /// The later of the two.
    pub(super) const fn max(self, other: Self) -> Self {
        if (other.0.wrapping_sub(self.0) as i64) > 0 {
            other
        } else {
            self
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lap(), self.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_wrap_and_stay_in_order() {
        let last = Position::new(u32::MAX, 4);
        let first = last.next(5);
        assert_eq!((first.lap(), first.index()), (0, 0));
        assert_eq!(last.max(first), first);
        assert_eq!(first.max(last), first);
        assert_eq!(Position::new(7, 0).next(1), Position::new(8, 0));
    }
}
