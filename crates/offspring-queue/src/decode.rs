// UNSAFETY: copies the bits of values whose archived form is the value itself.
#![expect(unsafe_code, reason = "archived values that are the value itself are copied as bits")]

use std::mem::needs_drop;

use rkyv::rancor;

use crate::{DecodeError, Message};

/// True if the archived form of a `T` is its own bytes, so that values can be copied and need no rebuilding.
///
/// So it is for numbers and arrays of them where the machine's byte order is the archive's.
#[inline]
pub const fn is_copied<T: Message>() -> bool {
    T::COPY_OPTIMIZATION.is_enabled() && !needs_drop::<T>() && size_of::<T>() == size_of::<T::Archived>()
}

/// Rebuilds a value from its archived form, which this program's own image has written.
///
/// # Errors
/// When the type's own deserialisation fails.
#[inline]
pub fn decode<T: Message>(archived: &T::Archived) -> Result<T, DecodeError> {
    if const { is_copied::<T>() } {
        // SAFETY: these bytes were copied from a `T`, which owns nothing, and have not changed since.
        return Ok(unsafe { std::ptr::from_ref(archived).cast::<T>().read_unaligned() });
    }
    rkyv::deserialize::<T, rancor::BoxedError>(archived).map_err(DecodeError::Deserialize)
}

/// Rebuilds values one after the other at the end of a vector.
///
/// # Errors
/// When the type's own deserialisation fails for one of them; those before it are in the vector.
pub fn decode_slice<T: Message>(archived: &[T::Archived], into: &mut Vec<T>) -> Result<(), DecodeError> {
    if const { is_copied::<T>() } {
        into.reserve(archived.len());
        // SAFETY: there is room for as many values behind those that are there, and each is copied from bytes of a
        // `T`, which owns nothing; the vector's memory is its own.
        unsafe {
            let end = into.as_mut_ptr().add(into.len());
            end.cast::<u8>()
                .copy_from_nonoverlapping(archived.as_ptr().cast(), size_of_val(archived));
            into.set_len(into.len() + archived.len());
        }
        return Ok(());
    }
    into.reserve(archived.len());
    for archived in archived {
        into.push(decode(archived)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_copied() {
        assert!(is_copied::<u64>() && is_copied::<[f32; 3]>() && is_copied::<u8>());
        assert!(!is_copied::<String>() && !is_copied::<Vec<u64>>() && !is_copied::<Option<u32>>());
    }

    #[test]
    fn slices_follow_what_is_there() {
        let bytes = rkyv::to_bytes::<rancor::BoxedError>(&vec![7_u32, 8]).unwrap();
        let archived = rkyv::access::<rkyv::Archived<Vec<u32>>, rancor::BoxedError>(&bytes).unwrap();
        let mut values = vec![6_u32];
        decode_slice(archived.as_slice(), &mut values).unwrap();
        assert_eq!(values, [6, 7, 8]);

        let bytes = rkyv::to_bytes::<rancor::BoxedError>(&vec!["a".to_string(), "b".to_string()]).unwrap();
        let archived = rkyv::access::<rkyv::Archived<Vec<String>>, rancor::BoxedError>(&bytes).unwrap();
        let mut values = Vec::<String>::new();
        decode_slice(archived.as_slice(), &mut values).unwrap();
        assert_eq!(values, ["a", "b"]);
    }
}
