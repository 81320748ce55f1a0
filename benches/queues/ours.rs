//! Our queues, between forked members of the family.

use offspring::{Message, Queue, Receiver, Sender};
use offspring_benches::{Kind, Setting};

use crate::content::{Content, Tally};
use crate::flow::{self, Inlet, Outlet};

fn queue<T: Message>(capacity: usize) -> Result<Queue<T>, String> {
    Queue::new(capacity).map_err(|error| error.to_string())
}

/// One end of a queue that carries so many words in a message.
struct End<E, const WORDS: usize>(E);

/// One message in a call.
pub(crate) fn values<M: Message + Content<WORDS>, const WORDS: usize>(
    setting: &Setting,
    pairs: usize,
    capacity: usize,
) -> Result<f64, String> {
    let queue = queue::<M>(capacity)?;
    flow::rate(
        setting,
        Kind::Family,
        pairs,
        WORDS,
        |_| End::<_, WORDS>(queue.sender()),
        |_| End::<_, WORDS>(queue.receiver()),
    )
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Outlet for End<Sender<M>, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        self.0.send(M::of(number)).expect("there are receivers");
        1
    }
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Inlet for End<Receiver<M>, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(self.0.recv().expect("there are senders").words());
    }
}
