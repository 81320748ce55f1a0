use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::BoxedError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::Sink;

/// The rkyv serializer that writes into shared memory.
pub type Encoder<'a> = HighSerializer<Sink<'a>, ArenaHandle<'a>, BoxedError>;

/// The rkyv deserializer that rebuilds a value from shared memory.
pub type Decoder = HighDeserializer<BoxedError>;

/// The rkyv validator that checks bytes of unknown origin.
pub type Validator<'a> = HighValidator<'a, BoxedError>;

/// A type whose values can travel between processes.
///
/// Implemented for every type that derives rkyv's three traits, and for what rkyv covers itself: numbers, strings,
/// vectors, options, results, tuples, arrays, boxes and the standard collections.
///
/// ```
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize)]
/// struct Job {
///     path: String,
///     lines: Vec<u32>,
/// }
///
/// fn travels<T: offspring_queue::Message>() {}
/// travels::<Job>();
/// ```
///
/// A type without them is refused by the compiler:
///
/// ```compile_fail,E0277
/// struct Job {
///     path: String,
/// }
///
/// fn travels<T: offspring_queue::Message>() {}
/// travels::<Job>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`Message` is not implemented for `{Self}`: its values cannot travel between processes",
    label = "not a message",
    note = "derive `rkyv::Archive`, `rkyv::Serialize` and `rkyv::Deserialize` for `{Self}` and everything in it",
    note = "references, file handles, locks and channels of one process mean nothing in another: send the data itself"
)]
pub trait Message:
    Sized
    + Archive<Archived: Portable + for<'a> CheckBytes<Validator<'a>> + Deserialize<Self, Decoder>>
    + for<'a> Serialize<Encoder<'a>>
    + 'static
{
}

#[diagnostic::do_not_recommend]
impl<T> Message for T
where
    T: Archive + for<'a> Serialize<Encoder<'a>> + 'static,
    T::Archived: Portable + for<'a> CheckBytes<Validator<'a>> + Deserialize<T, Decoder>,
{
}
