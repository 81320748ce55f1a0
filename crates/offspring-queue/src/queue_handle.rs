use std::io;

use offspring_shm::{Handle, Owner, family};

/// A queue's name, which means the same in every process of the family.
///
/// It keeps nothing alive: keep a handle of the queue until the receiver has made its own of the name. Queues, senders and
/// receivers are messages themselves, and look after this on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QueueHandle {
    /// The queue's memory.
    pub(crate) memory: Handle,
    /// Which process counts as a holder until this name has arrived, or 0.
    pub(crate) from: u32,
}

impl QueueHandle {
    pub(crate) fn new(memory: Handle) -> Self {
        Self { memory, from: 0 }
    }

    /// The name as it stands in a message that this process sends.
    pub(crate) fn on_its_way(memory: Handle) -> Self {
        Self {
            memory,
            from: family::me().map_or(0, Owner::raw),
        }
    }

    /// Who sent it.
    pub(crate) fn sender(self) -> io::Result<Option<Owner>> {
        match (self.from, Owner::from_raw(self.from)) {
            (0, _) => Ok(None),
            (_, Some(owner)) => Ok(Some(owner)),
            (from, None) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the name of a queue says that it came from {from:#x}, which is no process"),
            )),
        }
    }
}
