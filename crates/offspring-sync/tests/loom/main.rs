//! Models of every protocol: all interleavings of a few threads, with one of them stopped for ever at each of its steps.
//!
//! A stopped thread is what `kill -9` leaves: nothing of it runs any more, the kernel marks its life word and wakes one sleeper on
//! it. Naps end only after a death; where a model runs with `Mutant::NoNaps` they do not end even then, which shows that the
//! protocol does not need them there.
//!
//! Each protocol also runs with a fault in the door (a wake that is dropped, a fence that is missing, ...), which the model must
//! notice.
#![cfg(loom)]

mod barrier;
mod condvar;
mod event;
mod lock;
mod refusals;
mod rwlock;
mod semaphores;
mod world;
