//! Ends of a pipe as parts of messages: both halves go together.

use rkyv::rancor::{Fallible, Source};
use rkyv::tuple::ArchivedTuple2;
use rkyv::{Archive, Deserialize, Place, Resolver, Serialize};

use super::PipeEnd;
use crate::Message;
use crate::spsc::{ArchivedEndHandle, EndHandle};

type Handles = (EndHandle, EndHandle);
type ArchivedHandles = ArchivedTuple2<ArchivedEndHandle, ArchivedEndHandle>;

impl<S: Message, R: Message> Archive for PipeEnd<S, R> {
    type Archived = ArchivedHandles;
    type Resolver = Resolver<Handles>;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        (self.producer.to_handle(), self.consumer.to_handle()).resolve(resolver, out);
    }
}

impl<S: Message, R: Message, W: Fallible<Error: Source> + ?Sized> Serialize<W> for PipeEnd<S, R> {
    /// Fails when this process does not have the end, or has sent it already.
    fn serialize(&self, serializer: &mut W) -> Result<Self::Resolver, W::Error> {
        let sending = self.producer.serialize(serializer)?;
        match self.consumer.serialize(serializer) {
            Ok(receiving) => Ok((sending, receiving)),
            Err(error) => {
                self.producer.take_back();
                Err(error)
            }
        }
    }
}

impl<S: Message, R: Message, D: Fallible<Error: Source> + ?Sized> Deserialize<PipeEnd<S, R>, D> for ArchivedHandles {
    /// Fails when the pipe is gone, or somebody received the end from this message before.
    fn deserialize(&self, deserializer: &mut D) -> Result<PipeEnd<S, R>, D::Error> {
        let producer = self.0.deserialize(deserializer)?;
        let consumer = self.1.deserialize(deserializer)?;
        Ok(PipeEnd { producer, consumer })
    }
}
