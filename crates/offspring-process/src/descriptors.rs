//! The descriptors of one message.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// As many as a start without any of the user's own passes, and a few more.
const FEW: usize = 8;

/// The descriptors of one message, in their order. Those that nobody takes are closed.
///
/// A few of them need no heap and little of the stack: between a clone and the next, whatever the zygote and the clone
/// write to is a page that has to be copied.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    /// Those from `start` to `end` are here.
    few: [Option<OwnedFd>; FEW],
    start: usize,
    end: usize,
    /// Those that follow.
    many: VecDeque<OwnedFd>,
}

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, fd: OwnedFd) {
        match self.few.get_mut(self.end) {
            Some(place) if self.many.is_empty() => {
                *place = Some(fd);
                self.end += 1;
            }
            _ => self.many.push_back(fd),
        }
    }

    /// Takes the last one.
    pub(crate) fn pop(&mut self) -> Option<OwnedFd> {
        if !self.many.is_empty() {
            return self.many.pop_back();
        }
        if self.start == self.end {
            return None;
        }
        self.end -= 1;
        self.few[self.end].take()
    }
}

impl Iterator for Descriptors {
    type Item = OwnedFd;

    fn next(&mut self) -> Option<OwnedFd> {
        if self.start == self.end {
            return self.many.pop_front();
        }
        self.start += 1;
        self.few[self.start - 1].take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Descriptors {
    fn len(&self) -> usize {
        self.end - self.start + self.many.len()
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
        for count in 0..3 * FEW {
            for from_the_end in 0..=count {
                let (mut descriptors, mut numbers) = some(count);
                for _ in 0..from_the_end {
                    assert_eq!(descriptors.pop().map(|fd| fd.as_raw_fd()), numbers.pop());
                }
                assert_eq!(descriptors.len(), numbers.len());
                let rest: Vec<_> = descriptors.by_ref().map(|fd| fd.as_raw_fd()).collect();
                assert_eq!(rest, numbers);
                assert!(descriptors.pop().is_none() && descriptors.next().is_none());
            }
        }
    }
}
