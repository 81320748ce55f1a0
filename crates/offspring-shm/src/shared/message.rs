//! Shared values as parts of rkyv messages: what travels is the handle.

use rkyv::rancor::{Fallible, ResultExt, Source};
use rkyv::{Archive, Deserialize, Place, Serialize};

use super::handle::{ArchivedHandle, Handle, HandleResolver};
use super::{Shared, SharedSlice};
use crate::ShmSafe;

macro_rules! travels_as_handle {
    ($shared:ident) => {
        impl<T: ShmSafe> Archive for $shared<T> {
            type Archived = ArchivedHandle;
            type Resolver = HandleResolver;

            fn resolve(&self, resolver: HandleResolver, out: Place<ArchivedHandle>) {
                self.to_handle().resolve(resolver, out);
            }
        }

        impl<T: ShmSafe, S: Fallible + ?Sized> Serialize<S> for $shared<T> {
            fn serialize(&self, serializer: &mut S) -> Result<HandleResolver, S::Error> {
                self.to_handle().serialize(serializer)
            }
        }

        impl<T, D> Deserialize<$shared<T>, D> for ArchivedHandle
        where
            T: ShmSafe,
            D: Fallible<Error: Source> + ?Sized,
        {
            /// Fails when the value is gone: the sender keeps its own until every receiver has one.
            fn deserialize(&self, deserializer: &mut D) -> Result<$shared<T>, D::Error> {
                let handle: Handle = self.deserialize(deserializer)?;
                $shared::from_handle(handle).into_error()
            }
        }
    };
}

travels_as_handle!(Shared);
travels_as_handle!(SharedSlice);
