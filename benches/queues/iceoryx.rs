//! iceoryx2: publish-subscribe between processes, written and read in place.
//!
//! A publisher retries until a full subscriber has room, so nothing is lost, and a subscriber polls: both are faster than its events, and
//! there is no blocking receive. What is sent before the two ends have found each other is lost although `send` succeeds, so
//! they greet each other first.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use offspring_benches::{Kind, Setting, SharedPage};

use crate::content::{Tally, word};
use crate::flow::{self, Inlet, Outlet, Plan};
use crate::home::Home;
use crate::place::Place;
use crate::trip::{self, Exchange};

/// The first word of a message that is no message yet.
const HELLO: u64 = u64::MAX - 2;

/// Where the files are, and which pairs have met.
struct Site {
    home: Home,
    met: SharedPage<[AtomicU64; 64]>,
}

impl Site {
    fn new() -> Result<Self, String> {
        set_log_level(LogLevel::Fatal);
        Ok(Self {
            home: Home::new()?,
            met: SharedPage::new(),
        })
    }

    fn node(&self) -> Node<ipc::Service> {
        let mut config = Config::default();
        let root = self.home.path().to_string_lossy();
        config
            .global
            .set_root_path(&Path::new(root.as_bytes()).expect("a path"));
        config.global.prefix = FileName::new(self.home.prefix().as_bytes()).expect("a name");
        NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .expect("a node can be made")
    }
}

fn name(what: &str, number: usize) -> ServiceName {
    format!("{what}/{number}").as_str().try_into().expect("a service name")
}

/// The sending end of a service of its own.
struct Outbound {
    publisher: Publisher<ipc::Service, [u64], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    words: usize,
    _node: Node<ipc::Service>,
}

/// Its receiving end.
struct Inbound {
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    listener: Option<Listener<ipc::Service>>,
    _node: Node<ipc::Service>,
}

type Received = Sample<ipc::Service, [u64], ()>;

impl Outbound {
    fn new(site: &Site, number: usize, words: usize, capacity: usize, events: bool) -> Self {
        let node = site.node();
        let publisher = service(&node, number, capacity)
            .publisher_builder()
            .initial_max_slice_len(words)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher can be made");
        let notifier = events.then(|| {
            let service = patiently(|| node.service_builder(&name("event", number)).event().open_or_create());
            let notifier = service.notifier_builder().create();
            notifier.expect("a notifier can be made")
        });
        Self {
            publisher,
            notifier,
            words,
            _node: node,
        }
    }

    #[inline]
    fn send(&self, number: u64) {
        let sample = self.publisher.loan_slice_uninit(self.words).expect("a sample is free");
        let sample = sample.write_from_fn(|place| word(number, place));
        sample.send().expect("a message can be sent");
        if let Some(notifier) = &self.notifier {
            notifier.notify().expect("the other side can be told");
        }
    }

    /// Sends until the other side has got something.
    fn greet(&self, site: &Site, number: usize) {
        while site.met[number].load(Ordering::SeqCst) == 0 {
            self.send(HELLO);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Inbound {
    fn new(site: &Site, number: usize, capacity: usize, events: bool) -> Self {
        let node = site.node();
        let subscriber = service(&node, number, capacity).subscriber_builder().create();
        let listener = events.then(|| {
            let service = patiently(|| node.service_builder(&name("event", number)).event().open_or_create());
            let listener = service.listener_builder().create();
            listener.expect("a listener can be made")
        });
        Self {
            subscriber: subscriber.expect("a subscriber can be made"),
            listener,
            _node: node,
        }
    }

    /// The next message, greetings included.
    #[inline]
    fn recv_any(&self) -> Received {
        loop {
            if let Some(sample) = self.subscriber.receive().expect("messages can be received") {
                return sample;
            }
            match &self.listener {
                Some(listener) => listener.blocking_wait(|_| ()).map(drop).expect("one can wait"),
                None => thread::yield_now(),
            }
        }
    }

    #[inline]
    fn recv(&self) -> Received {
        loop {
            let sample = self.recv_any();
            if sample.payload()[0] != HELLO {
                return sample;
            }
        }
    }

    fn be_greeted(&self, site: &Site, number: usize) {
        assert_eq!(self.recv_any().payload()[0], HELLO);
        site.met[number].store(1, Ordering::SeqCst);
    }
}

fn service(
    node: &Node<ipc::Service>,
    number: usize,
    capacity: usize,
) -> iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u64], ()> {
    patiently(|| {
        node.service_builder(&name("messages", number))
            .publish_subscribe::<[u64]>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(capacity)
            .subscriber_max_borrowed_samples(1)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
    })
}

/// When both sides open or create a service at the same time one may be told that it does not exist, or is broken.
fn patiently<S, E: Debug>(open: impl Fn() -> Result<S, E>) -> S {
    for _ in 0..200 {
        if let Ok(service) = open() {
            return service;
        }
        thread::sleep(Duration::from_millis(5));
    }
    open().expect("a service can be made")
}

/// Each producer has a service of its own for its consumer: there are no consumers that compete.
pub(crate) fn rate<const WORDS: usize>(setting: &Setting, plan: Plan, capacity: usize) -> Result<f64, String> {
    let site = Site::new()?;
    if plan.pairs > 1 {
        println!("note each pair has a service of its own");
    }
    flow::rate(
        setting,
        Kind::Processes,
        plan,
        WORDS,
        |number| {
            let outbound = Outbound::new(&site, number, WORDS, capacity, false);
            outbound.greet(&site, number);
            outbound
        },
        |number| {
            let inbound = Inbound::new(&site, number, capacity, false);
            inbound.be_greeted(&site, number);
            inbound
        },
    )
}

impl Outlet for Outbound {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        Self::send(self, number);
        1
    }
}

impl Inlet for Inbound {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(Self::recv(self).payload());
    }
}

/// Two services, one in each direction.
struct Both {
    there: Outbound,
    back: Inbound,
}

impl Exchange for Both {
    fn send(&mut self, number: u64) {
        self.there.send(number);
    }

    fn recv(&mut self) -> u64 {
        self.back.recv().payload()[0]
    }
}

/// Polling, or with an event for each message.
pub(crate) fn round_trip(setting: &Setting, place: Place, events: bool) -> Result<f64, String> {
    let site = Site::new()?;
    trip::measure(setting, Kind::Processes, place, |side| {
        let both = Both {
            there: Outbound::new(&site, side, 1, 16, events),
            back: Inbound::new(&site, 1 - side, 16, events),
        };
        if side == 0 {
            both.there.greet(&site, 0);
            both.back.be_greeted(&site, 1);
        } else {
            both.back.be_greeted(&site, 0);
            both.there.greet(&site, 1);
        }
        both
    })
}
