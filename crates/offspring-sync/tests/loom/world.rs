//! What the models have in common: members that die, and ways to explore.

// UNSAFETY: reads and writes the cells that the modelled locks guard; the model checker reports an access that they do not.
#![expect(unsafe_code, reason = "cells that the modelled locks guard")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};

use loom::sync::Arc;
use offspring_sync::Tag;
use offspring_sync::primitive::model::{self, Mutant, Stopped};
use offspring_sync::primitive::{AtomicU32, Ordering, UnsafeCell};
use offspring_sync::raw::{Life, Lives};

/// What the lock guards, as one who may read it sees it.
pub(crate) fn read<T: Copy>(cell: &UnsafeCell<T>) -> T {
    // SAFETY: the model checker fails the test if somebody writes meanwhile.
    cell.with(|value| unsafe { *value })
}

/// Changes what the lock guards, as one who may.
pub(crate) fn change<T>(cell: &UnsafeCell<T>, change: impl FnOnce(&mut T)) {
    // SAFETY: the model checker fails the test if anybody else looks meanwhile.
    cell.with_mut(|value| change(unsafe { &mut *value }));
}

pub(crate) const ALIVE: u32 = 1;
pub(crate) const DEAD: u32 = 2;

/// A membership table of three.
#[derive(Debug)]
pub(crate) struct Members([AtomicU32; 3]);

impl Members {
    pub(crate) fn new() -> Self {
        Members([const { AtomicU32::new(ALIVE) }; 3])
    }

    /// What the kernel does after the last instruction of member `index`.
    pub(crate) fn die(&self, index: usize) {
        self.0[index].swap(DEAD, Ordering::AcqRel);
        model::kernel_wake(&self.0[index]);
        model::expire_naps();
    }
}

impl Lives for Members {
    fn life(&self, tag: Tag) -> Option<Life<'_>> {
        let word = self.0.get(tag.index() - 1)?;
        let seen = word.load(Ordering::Acquire);
        Some(Life {
            word,
            seen,
            dead: seen == DEAD,
        })
    }

    fn inquire(&self, _tag: Tag) -> bool {
        false
    }
}

pub(crate) fn tag(index: usize) -> Tag {
    Tag::new(index + 1, 5).unwrap()
}

/// Shares `world` among the threads of a model. Its words are looked at first: the model wants them made before the threads part.
pub(crate) fn share<T: std::fmt::Debug>(world: T) -> Arc<T> {
    let _ = format!("{world:?}");
    Arc::new(world)
}

/// Runs `body` as member `index`, which stops for ever at step `stop`. Says whether it came to its end.
pub(crate) fn live(members: &Members, index: usize, stop: Option<usize>, body: impl FnOnce()) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let Some(step) = stop {
            model::stop_at_step(step);
        }
        body();
        model::defuse();
    }));
    match outcome {
        Ok(()) => true,
        Err(payload) if payload.is::<Stopped>() => {
            STOPPED.store(true, StdOrdering::Relaxed);
            members.die(index);
            false
        }
        Err(payload) => resume_unwind(payload),
    }
}

/// Whether a fuse burnt down in any execution of the current model.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// One model at a time: they share `STOPPED`.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

pub(crate) fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    sabotage();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// Runs `body` without a death, then with a death at each step that the victim takes.
pub(crate) fn at_every_step(preemptions: usize, body: impl Fn(Option<usize>) + Clone + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let undisturbed = body.clone();
    explore(preemptions, move || undisturbed(None));
    for step in 0.. {
        STOPPED.store(false, StdOrdering::Relaxed);
        let body = body.clone();
        explore(preemptions, move || body(Some(step)));
        if !STOPPED.load(StdOrdering::Relaxed) {
            assert!(step > 1, "the victim took no steps");
            return;
        }
    }
}

pub(crate) fn undisturbed(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    explore(preemptions, body);
}

/// The model `test` must fail with this fault in the door. It runs in a process of its own, as a model that fails may abort.
pub(crate) fn must_fail(mutant: Mutant, test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MUTANT, format!("{mutant:?}"))
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no model {test}");
    assert!(!output.status.success(), "{test} did not notice {mutant:?}");
}

/// Which fault this process has in its door.
pub(crate) const MUTANT: &str = "OFFSPRING_MODEL_MUTANT";

pub(crate) fn sabotage() {
    let wanted = std::env::var(MUTANT).unwrap_or_default();
    for mutant in [
        Mutant::NoWake,
        Mutant::WakeOne,
        Mutant::SleepBlindly,
        Mutant::NoFence,
        Mutant::NoRelease,
        Mutant::NoNaps,
    ] {
        if wanted == format!("{mutant:?}") {
            model::sabotage(mutant);
        }
    }
}
