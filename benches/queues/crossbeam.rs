//! crossbeam's bounded channel, between threads.

use crossbeam_channel::{Receiver, Sender, bounded};
use offspring_benches::{Kind, Setting};

use crate::content::{Content, Tally};
use crate::flow::{self, Inlet, Outlet};

struct End<E, const WORDS: usize>(E);

pub(crate) fn values<M: Content<WORDS> + Send, const WORDS: usize>(
    setting: &Setting,
    pairs: usize,
    capacity: usize,
) -> Result<f64, String> {
    let (sender, receiver) = bounded::<M>(capacity);
    flow::rate(
        setting,
        Kind::Threads,
        pairs,
        WORDS,
        |_| End::<_, WORDS>(sender.clone()),
        |_| End::<_, WORDS>(receiver.clone()),
    )
}

impl<M: Content<WORDS>, const WORDS: usize> Outlet for End<Sender<M>, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        self.0.send(M::of(number)).expect("there are receivers");
        1
    }
}

impl<M: Content<WORDS>, const WORDS: usize> Inlet for End<Receiver<M>, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(self.0.recv().expect("there are senders").words());
    }
}
