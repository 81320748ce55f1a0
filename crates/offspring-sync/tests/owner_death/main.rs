//! One test for each line of the crate's table of deaths: who is killed, and what the others see.

mod locks;
mod meetings;
mod signals;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use offspring_testing::run_single_threaded;

/// Longer than any wake by the kernel, shorter than a nap: who is this fast was not polling.
pub(crate) const PROMPT: Duration = Duration::from_millis(45);
/// Longer than the longest nap.
pub(crate) const NAP: Duration = Duration::from_millis(2500);
pub(crate) const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    run_single_threaded(&[
        (
            "mutex_owner_that_the_kernel_missed",
            locks::mutex_owner_that_the_kernel_missed,
        ),
        ("mutex_owner", locks::mutex_owner),
        ("mutex_owner_with_many_sleepers", locks::mutex_owner_with_many_sleepers),
        ("mutex_unrepaired", locks::mutex_unrepaired),
        ("mutex_owner_panics", locks::mutex_owner_panics),
        ("mutex_owner_thread_ends", locks::mutex_owner_thread_ends),
        ("mutex_owner_execs", locks::mutex_owner_execs),
        ("mutex_waiter", locks::mutex_waiter),
        ("mutex_woken_waiter", locks::mutex_woken_waiter),
        ("reentrant_owner", locks::reentrant_owner),
        ("rwlock_reader", locks::rwlock_reader),
        ("rwlock_writer", locks::rwlock_writer),
        ("rwlock_waiting_writer", locks::rwlock_waiting_writer),
        ("semaphore_holder", signals::semaphore_holder),
        ("semaphore_waiter", signals::semaphore_waiter),
        ("counting_semaphore_taker", signals::counting_semaphore_taker),
        ("condvar_waiter", signals::condvar_waiter),
        ("condvar_told_waiter", signals::condvar_told_waiter),
        ("condvar_owner_of_the_mutex", signals::condvar_owner_of_the_mutex),
        ("event_setter_and_waiter", signals::event_setter_and_waiter),
        ("barrier_waiting_member", meetings::barrier_waiting_member),
        ("barrier_member_on_its_way", meetings::barrier_member_on_its_way),
        (
            "barrier_member_with_many_parties",
            meetings::barrier_member_with_many_parties,
        ),
        ("barrier_actor", meetings::barrier_actor),
        ("once_initialiser", meetings::once_initialiser),
    ])
}
