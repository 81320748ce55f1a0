//! Ports as something to wait for without taking anything.

use std::borrow::Borrow;
use std::sync::Arc;

use offspring_sync::primitive::Mode;
use offspring_sync::raw::{EventCount, Lives};

use super::Port;
use crate::core::CLOSED;
use crate::peers::Side;
use crate::raw::{Blocked, Look, Place, Watched};
use crate::wait::{Doorbell, Shared, WaitOn};

/// What is waited for at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A message, or that none can come any more.
    Message,
    /// Room for a message, or that nobody will receive it.
    Room,
    /// That no message is left, or nobody who could receive it.
    Rest,
}

/// A port, borrowed or owned, and what is waited for there.
struct Post<P> {
    port: P,
    goal: Goal,
}

impl Port {
    pub(crate) fn wait_on(&self, goal: Goal) -> WaitOn<'_> {
        WaitOn::bell(Post { port: self, goal })
    }

    fn look(&self, goal: Goal, thoroughly: bool) -> Look<'_> {
        // The operation itself would not wait for an error, and says which it is.
        let Ok(me) = self.core.me() else { return Look::Ready };
        let (across, end) = match goal {
            Goal::Message => (Side::Senders, CLOSED | Side::Senders.gone()),
            Goal::Room => (Side::Receivers, CLOSED | Side::Receivers.gone()),
            Goal::Rest => (Side::Receivers, Side::Receivers.gone()),
        };
        let thoroughly = thoroughly && self.time_to_ask();
        if thoroughly {
            self.refresh();
            self.core.look_for(across, true);
        }
        let or_over = |found: bool| {
            if found || self.core.over_bits() & end != 0 {
                Look::Ready
            } else {
                Look::Waiting
            }
        };
        loop {
            let blocked = match goal {
                Goal::Room => return or_over(self.core.ring().has_room(&self.tail)),
                Goal::Message | Goal::Rest => self.core.ring().is_at_rest(&self.head, me),
            };
            return match blocked {
                Ok(()) => or_over(goal == Goal::Rest),
                Err(Blocked::Waiting) => or_over(goal == Goal::Message),
                Err(Blocked::Corrupted { .. }) => Look::Ready,
                // What a member holds may come back, also when nothing else can come.
                Err(Blocked::Behind(holder)) => match self.core.lives().life(holder) {
                    Some(life) if life.dead => continue,
                    Some(_) if thoroughly && self.core.lives().inquire(holder) => continue,
                    Some(life) => Look::Behind(life),
                    None => Look::Ready,
                },
            };
        }
    }
}

impl<P: Borrow<Port>> Watched for Post<P> {
    fn bell(&self) -> &EventCount {
        let core = &self.port.borrow().core;
        match self.goal {
            Goal::Message => core.arrivals(),
            Goal::Room => core.departures(),
            Goal::Rest => &core.header().rest.0,
        }
    }

    fn mode(&self) -> Mode {
        match self.goal {
            Goal::Message => self.port.borrow().core.sleep_mode(),
            Goal::Room | Goal::Rest => Mode::Full,
        }
    }

    fn look(&self, thoroughly: bool) -> Look<'_> {
        self.port.borrow().look(self.goal, thoroughly)
    }
}

impl<P: Borrow<Port>> Doorbell for Post<P> {
    fn share(&self) -> Shared {
        Arc::new(Post {
            port: self.port.borrow().duplicate(),
            goal: self.goal,
        })
    }
}
