//! What the messages carry: words that the producer writes, each of them, and the consumer reads, each of them.

/// The first word of the message that tells a consumer to stop.
pub(crate) const END: u64 = u64::MAX;

/// The words of a message of 1 MiB.
pub(crate) const MIB: usize = (1 << 20) / 8;

/// The word at `place` of the message with this number.
#[inline]
pub(crate) const fn word(number: u64, place: usize) -> u64 {
    number.wrapping_add(place as u64)
}

/// Writes a message.
#[inline]
pub(crate) fn fill(number: u64, words: &mut [u64]) {
    for (place, value) in words.iter_mut().enumerate() {
        *value = word(number, place);
    }
}

/// As [`fill`], for those that carry bytes.
#[inline]
pub(crate) fn fill_bytes(number: u64, bytes: &mut [u8]) {
    for (place, value) in bytes.chunks_exact_mut(8).enumerate() {
        value.copy_from_slice(&word(number, place).to_ne_bytes());
    }
}

/// A message of so many words.
pub(crate) trait Content<const WORDS: usize> {
    /// Makes the message with this number.
    fn of(number: u64) -> Self;
    /// What it carries.
    fn words(&self) -> &[u64];
}

impl Content<1> for u64 {
    #[inline]
    fn of(number: u64) -> Self {
        number
    }

    #[inline]
    fn words(&self) -> &[u64] {
        std::slice::from_ref(self)
    }
}

impl<const WORDS: usize> Content<WORDS> for [u64; WORDS] {
    #[inline]
    fn of(number: u64) -> Self {
        let mut words = [0; WORDS];
        fill(number, &mut words);
        words
    }

    #[inline]
    fn words(&self) -> &[u64] {
        self
    }
}

impl<const WORDS: usize> Content<WORDS> for Vec<u64> {
    #[inline]
    fn of(number: u64) -> Self {
        (0..WORDS).map(|place| word(number, place)).collect()
    }

    #[inline]
    fn words(&self) -> &[u64] {
        self
    }
}

/// What a consumer has seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The messages, without the one that ends.
    pub(crate) count: u64,
    /// The sum of all words of them.
    pub(crate) sum: u64,
    /// How many ends have come.
    pub(crate) ends: usize,
}

impl Tally {
    /// Reads a message, all of it.
    #[inline]
    pub(crate) fn read(&mut self, words: &[u64]) {
        let sum = words.iter().fold(0_u64, |sum, &word| sum.wrapping_add(word));
        self.add(words[0], sum);
    }

    /// As [`read`](Self::read), for those that carry bytes.
    #[inline]
    pub(crate) fn read_bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        let first = words.next().unwrap_or(END);
        let sum = words.fold(first, u64::wrapping_add);
        self.add(first, sum);
    }

    /// Counts a message, with the sum of all its words.
    #[inline]
    pub(crate) fn add(&mut self, first: u64, sum: u64) {
        if first == END {
            self.ends += 1;
        } else {
            self.count += 1;
            self.sum = self.sum.wrapping_add(sum);
        }
    }
}

/// The sum of all words of the messages below `number`.
pub(crate) fn sum_below(number: u64, words: usize) -> u64 {
    let (number, words) = (u128::from(number), words as u128);
    let numbers = number * number.saturating_sub(1) / 2 * words;
    let places = words * words.saturating_sub(1) / 2 * number;
    (numbers + places) as u64
}
