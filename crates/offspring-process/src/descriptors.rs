//! The descriptors of one message.

use std::os::fd::OwnedFd;

use crate::socket::MAX_DESCRIPTORS;

/// The descriptors of one message, in their order. Those that nobody takes are closed.
///
/// They lie on the stack: between a clone and the next, whatever the zygote writes to is a page that has to be copied,
/// and as it does without the heap, so does a clone that is given no more than its streams.
#[derive(Debug)]
pub(crate) struct Descriptors {
    places: [Option<OwnedFd>; MAX_DESCRIPTORS],
    start: usize,
    end: usize,
}

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self {
            places: [const { None }; MAX_DESCRIPTORS],
            start: 0,
            end: 0,
        }
    }

    /// Adds one at the end. The kernel never passes more than fit; one that does not is closed.
    pub(crate) fn push(&mut self, fd: OwnedFd) {
        if let Some(place) = self.places.get_mut(self.end) {
            *place = Some(fd);
            self.end += 1;
        }
    }

    /// Takes the last one.
    pub(crate) fn pop(&mut self) -> Option<OwnedFd> {
        if self.start == self.end {
            return None;
        }
        self.end -= 1;
        self.places[self.end].take()
    }
}

impl Iterator for Descriptors {
    type Item = OwnedFd;

    fn next(&mut self) -> Option<OwnedFd> {
        if self.start == self.end {
            return None;
        }
        self.start += 1;
        self.places[self.start - 1].take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Descriptors {
    fn len(&self) -> usize {
        self.end - self.start
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, RawFd};

    use super::*;

    fn some(count: usize) -> (Descriptors, Vec<RawFd>) {
        let mut descriptors = Descriptors::new();
        let mut numbers = Vec::new();
        for _ in 0..count {
            let (reader, _writer) = std::io::pipe().unwrap();
            numbers.push(reader.as_raw_fd());
            descriptors.push(reader.into());
        }
        (descriptors, numbers)
    }

    #[test]
    fn they_are_taken_from_both_ends() {
        let (mut descriptors, numbers) = some(4);
        assert_eq!(descriptors.pop().map(|fd| fd.as_raw_fd()), Some(numbers[3]));
        assert_eq!(descriptors.next().map(|fd| fd.as_raw_fd()), Some(numbers[0]));
        assert_eq!(descriptors.len(), 2);
        let rest: Vec<_> = descriptors.map(|fd| fd.as_raw_fd()).collect();
        assert_eq!(rest, numbers[1..3]);
        let (mut none, _) = some(0);
        assert!(none.pop().is_none() && none.next().is_none());
    }
}
