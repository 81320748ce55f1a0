//! Locks, barriers and events: between processes where the peer can, between threads where it cannot.

mod barrier;
mod contended;
mod death;
mod event;
mod ours;
mod uncontended;

use std::process::ExitCode;
use std::sync::{Mutex, RwLock};

use offspring_benches::{
    Better, Case, Implementation, Kind, PthreadBarrier, PthreadEvent, PthreadMutex, PthreadRwLock, run,
};

use crate::barrier::FutexBarrier;
use crate::event::{FutexEvent, ThreadEvent};

fn main() -> ExitCode {
    let cases = [uncontended(), contended(), death(), barriers(), events()];
    run("locks", &cases.into_iter().flatten().collect::<Vec<_>>())
}

fn uncontended() -> Vec<Case> {
    vec![
        Case {
            name: "lock/mutex_uncontended",
            unit: "ns",
            better: Better::Lower,
            what: "lock, add one, unlock; nobody else wants it; one pinned thread",
            implementations: vec![
                Implementation::new("offspring", |setting| uncontended::mutex(setting, &ours::mutex())),
                Implementation::new("parking_lot", |setting| {
                    uncontended::mutex(setting, &parking_lot::Mutex::new(()))
                }),
                Implementation::new("std", |setting| uncontended::mutex(setting, &Mutex::new(()))),
                Implementation::new("pthread", |setting| {
                    uncontended::mutex(setting, &PthreadMutex::new(false))
                }),
                Implementation::new("pthread_robust", |setting| {
                    uncontended::mutex(setting, &PthreadMutex::new(true))
                }),
            ],
        },
        Case {
            name: "lock/rwlock_read",
            unit: "ns",
            better: Better::Lower,
            what: "lock for reading, read, unlock; nobody else wants it; one pinned thread",
            implementations: vec![
                Implementation::new("offspring", |setting| uncontended::read(setting, &ours::rwlock())),
                Implementation::new("parking_lot", |setting| {
                    uncontended::read(setting, &parking_lot::RwLock::new(()))
                }),
                Implementation::new("std", |setting| uncontended::read(setting, &RwLock::new(()))),
                Implementation::new("pthread", |setting| uncontended::read(setting, &PthreadRwLock::new())),
                Implementation::missing("pthread_robust", "glibc has no robust rwlock"),
            ],
        },
    ]
}

fn contended() -> Vec<Case> {
    const WHAT: &str = "lock, 50 ns of work, unlock, 200 ns of work; parties pinned to the processors in turn";
    vec![
        contended_by::<2>("lock/mutex_contended_2", WHAT),
        contended_by::<4>("lock/mutex_contended_4", "the same with 4 parties"),
        contended_by::<8>("lock/mutex_contended_8", "the same with 8 parties"),
    ]
}

fn contended_by<const PARTIES: usize>(name: &'static str, what: &'static str) -> Case {
    Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: vec![
            Implementation::new("offspring", |setting| {
                contended::pairs(setting, PARTIES, Kind::Family, &ours::mutex())
            }),
            Implementation::new("parking_lot", |setting| {
                contended::pairs(setting, PARTIES, Kind::Threads, &parking_lot::Mutex::new(()))
            }),
            Implementation::new("std", |setting| {
                contended::pairs(setting, PARTIES, Kind::Threads, &Mutex::new(()))
            }),
            Implementation::new("pthread", |setting| {
                contended::pairs(setting, PARTIES, Kind::Processes, &PthreadMutex::new(false))
            }),
            Implementation::new("pthread_robust", |setting| {
                contended::pairs(setting, PARTIES, Kind::Processes, &PthreadMutex::new(true))
            }),
        ],
    }
}

fn death() -> Vec<Case> {
    vec![Case {
        name: "lock/owner_death",
        unit: "us",
        better: Better::Lower,
        what: "from SIGKILL of the holder (processor 0) to the sleeping waiter's return (processor 1)",
        implementations: vec![
            Implementation::new("offspring", |setting| {
                death::latency(setting, Kind::Family, &ours::mutex())
            }),
            Implementation::new("pthread_robust", |setting| {
                death::latency(setting, Kind::Processes, &PthreadMutex::new(true))
            }),
        ],
    }]
}

fn barriers() -> Vec<Case> {
    vec![
        barrier_of::<2>("barrier/2", "rounds of 2 parties, one on each of two processors"),
        barrier_of::<8>("barrier/8", "rounds of 8 parties, pinned to the processors in turn"),
    ]
}

fn barrier_of<const PARTIES: usize>(name: &'static str, what: &'static str) -> Case {
    Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: vec![
            Implementation::new("offspring", |setting| {
                barrier::rounds(setting, PARTIES, Kind::Family, &ours::barrier(PARTIES))
            }),
            Implementation::new("pthread", |setting| {
                barrier::rounds(setting, PARTIES, Kind::Processes, &PthreadBarrier::new(PARTIES))
            }),
            Implementation::new("std", |setting| {
                barrier::rounds(setting, PARTIES, Kind::Threads, &std::sync::Barrier::new(PARTIES))
            }),
            Implementation::new("limit", |setting| {
                barrier::rounds(setting, PARTIES, Kind::Processes, &FutexBarrier::new(PARTIES))
            }),
        ],
    }
}

fn events() -> Vec<Case> {
    vec![Case {
        name: "event/wake",
        unit: "us",
        better: Better::Lower,
        what: "from set (processor 0) to the return of the sleeping waiter (processor 1); limit: bare futex, no spinning",
        implementations: vec![
            Implementation::new("offspring", |setting| {
                event::wake(setting, Kind::Family, &ours::event())
            }),
            Implementation::new("pthread", |setting| {
                event::wake(setting, Kind::Processes, &PthreadEvent::new())
            }),
            Implementation::new("std", |setting| {
                event::wake(setting, Kind::Threads, &ThreadEvent::default())
            }),
            Implementation::new("limit", |setting| {
                event::wake(setting, Kind::Processes, &FutexEvent::default())
            }),
        ],
    }]
}
