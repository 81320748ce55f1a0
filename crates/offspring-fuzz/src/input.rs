/// The bytes of one run, taken from the front. Behind the end everything is zero, so that every input is a whole one.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number = u16::from_le_bytes([self.byte(), self.byte()]);
        usize::from(number) % limit.max(1)
    }

    pub(crate) fn word(&mut self) -> u64 {
        let mut word = [0; 8];
        let taken = self.bytes(8);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// A number that is more often than not at the edge of something.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.byte();
        let small = i64::from(self.byte() as i8);
        match kind % 4 {
            0 => small as u64,
            1 => (1_u64 << (kind >> 2)).wrapping_add_signed(small),
            2 => self.word(),
            _ => u64::from(kind >> 2) << 32 | u64::from(small as u32),
        }
    }
}
