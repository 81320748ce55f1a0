//! The head of a frame, and how it stands on the wire.
//!
//! ```text
//! byte   0..4   "ofs1"
//!        4      the kind
//!        5..8   zero
//!        8..16  the length of the body, little-endian
//!       16..24  the tag, little-endian
//! ```
//!
//! | kind | body | tag |
//! |---|---|---|
//! | bytes | as they are | 0 |
//! | value | its rkyv bytes, the root last | the fingerprint of its type |
//! | descriptors | none; up to [`BATCH`] of them are attached to the head | how many are still to come, these included |
//! | challenge | a nonce | 0 |
//! | answer | a code | 0 |
//! | refusal | none | 0 |

use super::ConnectionError;

/// The bytes of a head.
pub const HEAD: usize = 24;

/// The most descriptors of one frame: what the kernel passes at once (`SCM_MAX_FD`).
pub const BATCH: usize = 253;

/// The bytes of a nonce, and of a code.
pub const PROOF: usize = 32;

const MAGIC: [u8; 4] = *b"ofs1";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of raw bytes.
    Bytes = 1,
    /// A message that is a value.
    Value = 2,
    /// Some or all descriptors of a message.
    Descriptors = 3,
    /// Asks the other side to prove that it has the key.
    Challenge = 4,
    /// Proves it.
    Answer = 5,
    /// The proof was wrong.
    Refusal = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Answer, Bytes, Challenge, Descriptors, Refusal, Value};
        [Bytes, Value, Descriptors, Challenge, Answer, Refusal]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
    }

    /// What a message of this kind is called in an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Value => "a value",
            Self::Descriptors => "descriptors",
            Self::Challenge => "a question for a key",
            Self::Answer => "a proof of a key",
            Self::Refusal => "a refusal",
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What follows.
    pub kind: Kind,
    /// How many bytes follow.
    pub len: u64,
    /// What it means depends on the kind.
    pub tag: u64,
}

impl Head {
    /// The head as it is sent.
    pub fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..].copy_from_slice(&self.tag.to_le_bytes());
        bytes
    }
}

/// Reads a head that came from a stranger. What it gives obeys the table above.
///
/// # Errors
/// When the bytes are no head.
pub fn decode(bytes: &[u8]) -> Result<Head, ConnectionError> {
    let malformed = |why| Err(ConnectionError::Malformed(why));
    let Ok(bytes) = <&[u8; HEAD]>::try_from(bytes) else {
        return malformed("a head has 24 bytes");
    };
    let [m0, m1, m2, m3, kind, z0, z1, z2, ..] = *bytes;
    if [m0, m1, m2, m3] != MAGIC {
        return malformed("the other side does not speak this protocol");
    }
    let (Some(kind), [0, 0, 0]) = (Kind::of(kind), [z0, z1, z2]) else {
        return malformed("the kind of a message is unknown: does the other side run a later version?");
    };
    let word = |at: usize| {
        bytes[at..at + 8]
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    let head = Head {
        kind,
        len: word(8),
        tag: word(16),
    };
    let right = match kind {
        Kind::Bytes => head.tag == 0,
        Kind::Value => true,
        Kind::Descriptors => head.len == 0,
        Kind::Challenge | Kind::Answer => head.len == PROOF as u64 && head.tag == 0,
        Kind::Refusal => head.len == 0 && head.tag == 0,
    };
    if right {
        Ok(head)
    } else {
        malformed("the length or the tag of a message does not fit its kind")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for head in [
            Head {
                kind: Kind::Bytes,
                len: u64::MAX,
                tag: 0,
            },
            Head {
                kind: Kind::Value,
                len: 7,
                tag: 0x0102_0304_0506_0708,
            },
            Head {
                kind: Kind::Descriptors,
                len: 0,
                tag: 1000,
            },
            Head {
                kind: Kind::Challenge,
                len: 32,
                tag: 0,
            },
            Head {
                kind: Kind::Answer,
                len: 32,
                tag: 0,
            },
            Head {
                kind: Kind::Refusal,
                len: 0,
                tag: 0,
            },
        ] {
            assert_eq!(decode(&head.encode()).unwrap(), head);
        }
    }

    #[test]
    fn what_is_no_head_is_refused_in_words() {
        let refused = |bytes: &[u8], why: &str| {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let head = Head {
            kind: Kind::Bytes,
            len: 3,
            tag: 0,
        }
        .encode();
        refused(&[], "24 bytes");
        refused(&head[..23], "24 bytes");
        refused(b"GET / HTTP/1.1\r\nHost: loc", "24 bytes");
        refused(b"GET / HTTP/1.1\r\nHost: lo", "does not speak this protocol");
        let with = |at: usize, byte: u8| {
            let mut head = head;
            head[at] = byte;
            head
        };
        refused(&with(4, 0), "kind");
        refused(&with(4, 7), "kind");
        refused(&with(6, 1), "kind");
        refused(&with(23, 1), "does not fit");
        for kind in [3, 4, 5, 6] {
            refused(&with(4, kind), "does not fit");
        }
    }
}
