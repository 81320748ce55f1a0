//! The behaviours of Python's `multiprocessing` locks, written anew: the rows L, C, E and B of the list of conformance.
//!
//! Where Python's test has processes and threads side by side, so has this: a child process, and a child of a child that waits in
//! a second thread.

mod barrier;
mod condition;
mod event;
mod locks;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use offspring_testing::run_single_threaded;
use support::Child;

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// How exact a timeout must be: Python's own tests allow this much.
pub(crate) const EXACT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run_single_threaded(&[
        ("l1_lock", locks::l1_lock),
        ("l2_reentrant_lock", locks::l2_reentrant_lock),
        ("l3_scopes", locks::l3_scopes),
        (
            "l4_locked_seen_from_another_process",
            locks::l4_locked_seen_from_another_process,
        ),
        ("l5_semaphores", locks::l5_semaphores),
        ("l6_timeouts", locks::l6_timeouts),
        ("c1_notify_wakes_one", condition::c1_notify_wakes_one),
        ("c2_notify_all", condition::c2_notify_all),
        ("c3_notify_n", condition::c3_notify_n),
        ("c4_wait_times_out", condition::c4_wait_times_out),
        ("c5_wait_for_a_predicate", condition::c5_wait_for_a_predicate),
        ("c6_predicate_times_out", condition::c6_predicate_times_out),
        ("c7_signals_are_invisible", condition::c7_signals_are_invisible),
        (
            "c8_reentrant_lock_is_fully_released",
            condition::c8_reentrant_lock_is_fully_released,
        ),
        ("e1_event", event::e1_event),
        ("b1_lockstep", barrier::b1_lockstep),
        ("b2_return_values", barrier::b2_return_values),
        ("b3_action", barrier::b3_action),
        ("b4_abort", barrier::b4_abort),
        ("b5_reset", barrier::b5_reset),
        ("b6_abort_and_reset", barrier::b6_abort_and_reset),
        ("b7_timeout_breaks_for_all", barrier::b7_timeout_breaks_for_all),
        ("b8_default_timeout", barrier::b8_default_timeout),
        ("b9_one_party", barrier::b9_one_party),
        ("b10_a_thousand_passes", barrier::b10_a_thousand_passes),
        ("b11_no_parties", barrier::b11_no_parties),
        ("barrier_parties_may_change", barrier::barrier_parties_may_change),
    ])
}

pub(crate) fn join(children: Vec<Child>) {
    children.into_iter().for_each(|child| child.join());
}

#[track_caller]
pub(crate) fn about(elapsed: Duration, expected: Duration) {
    assert!(elapsed >= expected, "{elapsed:?} is less than {expected:?}");
    assert!(elapsed < expected + EXACT, "{elapsed:?} is much more than {expected:?}");
}
