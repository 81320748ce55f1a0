//! Ends of a pair as parts of messages: what travels is the name, and the seat from which it is taken.

use offspring_shm::Handle;
use rkyv::rancor::{Fallible, ResultExt, Source};
use rkyv::{Archive, Deserialize, Place, Serialize};

use super::end::End;
use super::{Consumer, Producer};
use crate::Message;
use crate::peers::Side;
use crate::shape::Shape;

/// An end as it stands in a message.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EndHandle {
    /// The pair's memory.
    pub(super) memory: Handle,
    /// What the end's seat holds as long as the message has it.
    pub(super) seat: u64,
}

macro_rules! travels_by_turn {
    ($end:ident, $side:ident) => {
        impl<T: Message> $end<T> {
            pub(crate) fn to_handle(&self) -> EndHandle {
                self.end.handle()
            }
        }

        impl<T: Message> Archive for $end<T> {
            type Archived = ArchivedEndHandle;
            type Resolver = EndHandleResolver;

            fn resolve(&self, resolver: EndHandleResolver, out: Place<ArchivedEndHandle>) {
                self.end.handle().resolve(resolver, out);
            }
        }

        impl<T: Message, S: Fallible<Error: Source> + ?Sized> Serialize<S> for $end<T> {
            /// Fails when this process does not have the end, or has sent it already.
            fn serialize(&self, serializer: &mut S) -> Result<EndHandleResolver, S::Error> {
                self.end.give().into_error()?;
                self.end.handle().serialize(serializer)
            }
        }

        impl<T: Message, D: Fallible<Error: Source> + ?Sized> Deserialize<$end<T>, D> for ArchivedEndHandle {
            /// Fails when the pair is gone, or somebody received the end from this message before.
            fn deserialize(&self, deserializer: &mut D) -> Result<$end<T>, D::Error> {
                let handle: EndHandle = self.deserialize(deserializer)?;
                let end = End::receive(handle, Side::$side, Shape::of_pair::<T>).into_error()?;
                Ok($end::over(end))
            }
        }
    };
}

travels_by_turn!(Producer, Senders);
travels_by_turn!(Consumer, Receivers);

impl<T: Message> Producer<T> {
    /// After it was put into a message that will not be sent.
    pub(crate) fn take_back(&self) {
        self.end.take_back();
    }
}
