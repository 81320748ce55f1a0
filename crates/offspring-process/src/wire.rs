//! The encoding of what processes of a family say to each other: little-endian integers and byte strings with a
//! length before them. Whatever is read is checked against the end of the message first.

use std::io;

/// Builds a message.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    #[cfg(test)]
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn length(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.0.extend_from_slice(value);
    }

    /// A value that may be missing.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Takes a message apart.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed message: {what}"))
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| malformed("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> io::Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn length(&mut self) -> io::Result<usize> {
        usize::try_from(self.u64()?).map_err(|_| malformed("a length does not fit"))
    }

    /// A number of things that each take at least `size` bytes: one that cannot be true is refused before anything is
    /// allocated for it.
    pub(crate) fn count(&mut self, size: usize) -> io::Result<usize> {
        let count = self.length()?;
        if count > self.rest.len() / size {
            return Err(malformed("a count is larger than the message"));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> io::Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| malformed("a text is not UTF-8"))
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// What has not been read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[cfg(test)]
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(malformed("it is longer than its contents"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::new();
        writer.u8(7);
        writer.flag(true);
        writer.u32(1 << 31);
        writer.i32(-5);
        writer.u64(u64::MAX);
        writer.bytes("grüße".as_bytes());
        writer.option(None::<u32>, Writer::u32);
        writer.option(Some(9), Writer::u32);
        let mut reader = Reader::new(writer.as_slice());
        assert_eq!(reader.u8().unwrap(), 7);
        assert!(reader.flag().unwrap());
        assert_eq!(reader.u32().unwrap(), 1 << 31);
        assert_eq!(reader.i32().unwrap(), -5);
        assert_eq!(reader.u64().unwrap(), u64::MAX);
        assert_eq!(reader.text().unwrap(), "grüße");
        assert_eq!(reader.option(Reader::u32).unwrap(), None);
        assert_eq!(reader.option(Reader::u32).unwrap(), Some(9));
        reader.finish().unwrap();
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut writer = Writer::new();
        writer.bytes(b"abc");
        writer.u32(1);
        for end in 0..writer.as_slice().len() {
            let mut reader = Reader::new(&writer.as_slice()[..end]);
            assert!(reader.bytes().and_then(|_| reader.u32()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let huge = u64::MAX.to_le_bytes();
        assert!(Reader::new(&huge).bytes().is_err());
        assert!(Reader::new(&huge).count(1).is_err());
        assert!(Reader::new(&[2]).flag().is_err());
        let mut writer = Writer::new();
        writer.bytes(&[0xff, 0xfe]);
        assert!(Reader::new(writer.as_slice()).text().is_err());
        assert!(Reader::new(&[0]).finish().is_err());
    }
}
