//! Ends as something to wait for without taking anything.

use std::sync::Arc;

use offspring_sync::Tag;
use offspring_sync::primitive::{Mode, Ordering};
use offspring_sync::raw::{EventCount, Lives};

use super::end::End;
use crate::core::{CLOSED, Core};
use crate::peers::Side;
use crate::raw::{Blocked, Look, Place, SpscRing, Watched};
use crate::wait::{Doorbell, Shared, WaitOn};

/// A side of a pair that is watched. It knows no place: that is found in the slots, at each look.
struct Watch {
    core: Arc<Core>,
    side: Side,
    /// This process cannot use the end, which the operation says in words and without waiting.
    refused: bool,
}

impl End {
    pub(super) fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::bell(Watch {
            core: Arc::clone(&self.core),
            side: self.side,
            refused: self.ready().is_err(),
        })
    }
}

impl Watched for Watch {
    fn bell(&self) -> &EventCount {
        match self.side {
            Side::Senders => self.core.departures(),
            Side::Receivers => self.core.arrivals(),
        }
    }

    fn mode(&self) -> Mode {
        self.core.sleep_mode()
    }

    fn look(&self, thoroughly: bool) -> Look<'_> {
        let (ring, across) = (SpscRing::new(&*self.core), self.side.other());
        let user = Tag::from_bits(self.core.user(across).load(Ordering::Relaxed) as u32);
        let life = user.and_then(|user| self.core.lives().life(user));
        if thoroughly || life.is_some_and(|life| life.dead) {
            self.core.look_for(across, true);
        }
        // The end first: what was sent before it is there already.
        let over = self.refused || self.core.over_bits() & (CLOSED | across.gone()) != 0;
        let found = match self.side {
            Side::Senders => ring.vacancy(ring.tail()),
            Side::Receivers => ring.front(ring.head()),
        };
        match (found, life) {
            (Err(Blocked::Waiting), _) if over => Look::Ready,
            (Err(Blocked::Waiting), Some(life)) if !life.dead => Look::Behind(life),
            (Err(Blocked::Waiting), _) => Look::Waiting,
            _ => Look::Ready,
        }
    }
}

impl Doorbell for Watch {
    fn share(&self) -> Shared {
        Arc::new(Self {
            core: Arc::clone(&self.core),
            side: self.side,
            refused: self.refused,
        })
    }
}
