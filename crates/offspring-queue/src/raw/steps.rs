/// How often one call may go on to another slot.
///
/// In a ring that is in order it is once round, after a jump, and again for each lap that others make meanwhile: they are
/// slower than one who only looks. Laps that were overwritten can each be ahead of the one before, all the way round, as they
/// are compared by wrapping subtraction; then there is no end.
#[derive(Debug)]
pub(super) struct Steps(u64);

impl Steps {
    #[inline]
    pub(super) const fn new(slots: u32) -> Self {
        Self((1 << 16) + 4 * slots as u64)
    }

    /// Counts one more.
    #[inline]
    pub(super) const fn are_too_many(&mut self) -> bool {
        self.0 -= 1;
        self.0 == 0
    }
}
