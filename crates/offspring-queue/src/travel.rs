//! Queues and their ends as parts of messages: what travels is the name, and a note that it is on its way.

use std::sync::Arc;

use rkyv::rancor::{Fallible, ResultExt, Source};
use rkyv::{Archive, Deserialize, Place, Serialize};

use crate::core::Core;
use crate::peers::Side;
use crate::queue_handle::{ArchivedQueueHandle, QueueHandle, QueueHandleResolver};
use crate::{JoinableQueue, Message, Queue, Receiver, Sender, TaskReceiver, transit};

macro_rules! travels_by_name {
    ($end:ident, $core:expr, $($side:ident)+) => {
        impl<T: Message> Archive for $end<T> {
            type Archived = ArchivedQueueHandle;
            type Resolver = QueueHandleResolver;

            fn resolve(&self, resolver: QueueHandleResolver, out: Place<ArchivedQueueHandle>) {
                let core: fn(&Self) -> &Arc<Core> = $core;
                QueueHandle::on_its_way(core(self).handle()).resolve(resolver, out);
            }
        }

        impl<T: Message, S: Fallible<Error: Source> + ?Sized> Serialize<S> for $end<T> {
            /// Fails when too many processes hold this end.
            fn serialize(&self, serializer: &mut S) -> Result<QueueHandleResolver, S::Error> {
                let core: fn(&Self) -> &Arc<Core> = $core;
                let core = core(self);
                $(
                    let from = core.pass(Side::$side).into_error()?;
                    transit::note(core, Side::$side, from);
                )+
                QueueHandle::on_its_way(core.handle()).serialize(serializer)
            }
        }

        impl<T: Message, D: Fallible<Error: Source> + ?Sized> Deserialize<$end<T>, D> for ArchivedQueueHandle {
            /// Fails when the queue is gone, or too many processes hold this end.
            fn deserialize(&self, deserializer: &mut D) -> Result<$end<T>, D::Error> {
                let handle: QueueHandle = self.deserialize(deserializer)?;
                $end::from_handle(handle).into_error()
            }
        }
    };
}

travels_by_name!(Queue, |queue| &queue.sender.port.core, Senders Receivers);
travels_by_name!(Sender, |sender| &sender.port.core, Senders);
travels_by_name!(Receiver, |receiver| &receiver.port.core, Receivers);
travels_by_name!(JoinableQueue, |queue| &queue.port.core, Senders);
travels_by_name!(TaskReceiver, |receiver| &receiver.port.core, Receivers);
