//! What the rules are told: layers, external crates, and where `unsafe` may stand.

/// Each crate and the crates of this workspace it may depend on. Nothing calls up a floor.
pub(super) const LAYERS: &[(&str, &[&str])] = &[
    (
        "offspring",
        &[
            "offspring-pool",
            "offspring-queue",
            "offspring-process",
            "offspring-sync",
            "offspring-shm",
        ],
    ),
    (
        "offspring-pool",
        &[
            "offspring-queue",
            "offspring-process",
            "offspring-sync",
            "offspring-shm",
        ],
    ),
    ("offspring-queue", &["offspring-sync", "offspring-shm"]),
    ("offspring-sync", &["offspring-shm"]),
    ("offspring-shm", &[]),
    ("offspring-process", &[]),
    ("offspring-testing", &[]),
    // Beside the house, as the tests are: nothing depends on it.
    (
        "offspring-fuzz",
        &[
            "offspring-pool",
            "offspring-queue",
            "offspring-process",
            "offspring-sync",
            "offspring-shm",
        ],
    ),
];

/// What any crate's tests may use besides the floors below it. Neither depends on a crate whose tests use it.
pub(super) const FOR_TESTS: &[&str] = &["offspring-testing", "offspring-process"];

/// The external crates a library may depend on; tests, examples and benches are free.
pub(super) const EXTERNAL: &[&str] = &["hmac", "libc", "loom", "memmap2", "nix", "parking_lot", "rkyv", "sha2"];

/// What a single crate may use besides.
pub(super) const EXTERNAL_OF_ONE: &[(&str, &str)] = &[("offspring-fuzz", "libfuzzer-sys")];

/// Libraries that do what this one does: only the package `offspring-benches` may name them.
pub(super) const PEERS: &[&str] = &[
    "crossbeam",
    "crossbeam-channel",
    "criterion",
    "iceoryx2",
    "ipc-channel",
    "procspawn",
    "rayon",
];

/// The folder behind which atomics, cells and futexes are either real or loom's.
pub(super) const PRIMITIVE_DOOR: &str = "crates/offspring-sync/src/primitive";

/// The crates that go through the door; floor 0 has nothing that loom could model and uses the standard library.
pub(super) const BEHIND_THE_DOOR: &[&str] = &[
    "crates/offspring-sync/src",
    "crates/offspring-queue/src",
    "crates/offspring-pool/src",
];

/// The longest file, in lines.
pub(super) const LONGEST: usize = 600;

/// The only files in which `unsafe` may stand.
pub(super) const UNSAFE_FILES: &[&str] = &[
    "benches/locks/parties.rs",
    "benches/process/peers.rs",
    "benches/src/forked.rs",
    "benches/src/futex.rs",
    "benches/src/machine.rs",
    "benches/src/pthread.rs",
    "benches/src/shared.rs",
    "crates/offspring-fuzz/src/memory.rs",
    "crates/offspring-fuzz/src/targets/arena.rs",
    "crates/offspring-fuzz/src/targets/image.rs",
    "crates/offspring-fuzz/src/targets/locks.rs",
    "crates/offspring-fuzz/src/targets/membership.rs",
    "crates/offspring-fuzz/src/targets/parcel.rs",
    "crates/offspring-pool/src/fuzzing.rs",
    "crates/offspring-pool/src/kin.rs",
    "crates/offspring-pool/src/ours.rs",
    "crates/offspring-pool/src/pool/active.rs",
    "crates/offspring-pool/src/pool/board.rs",
    "crates/offspring-pool/src/pool/calls.rs",
    "crates/offspring-pool/src/pool/crew.rs",
    "crates/offspring-pool/src/pool/header.rs",
    "crates/offspring-pool/src/pool/outputs.rs",
    "crates/offspring-pool/src/pool/views.rs",
    "crates/offspring-pool/src/pool/worker.rs",
    "crates/offspring-pool/src/process/builder.rs",
    "crates/offspring-pool/src/process/delivery.rs",
    "crates/offspring-pool/src/process/typed.rs",
    "crates/offspring-pool/src/start.rs",
    "crates/offspring-pool/src/task/function.rs",
    "crates/offspring-pool/src/task/run.rs",
    "crates/offspring-pool/src/task/table.rs",
    "crates/offspring-pool/tests/deaths/mod.rs",
    "crates/offspring-pool/tests/pool_lifetime.rs",
    "crates/offspring-pool/tests/pool_limits.rs",
    "crates/offspring-pool/tests/pool_workers.rs",
    "crates/offspring-pool/tests/process.rs",
    "crates/offspring-pool/tests/process_end.rs",
    "crates/offspring-pool/tests/process_fork.rs",
    "crates/offspring-pool/tests/shared.rs",
    "crates/offspring-pool/tests/torture.rs",
    "crates/offspring-process/src/clone.rs",
    "crates/offspring-process/src/entry_point.rs",
    "crates/offspring-process/src/environment.rs",
    "crates/offspring-process/src/executable.rs",
    "crates/offspring-process/src/fork.rs",
    "crates/offspring-process/src/hook.rs",
    "crates/offspring-process/src/image.rs",
    "crates/offspring-process/src/kernel.rs",
    "crates/offspring-process/src/launcher.rs",
    "crates/offspring-process/src/lifeline.rs",
    "crates/offspring-process/src/pidfd.rs",
    "crates/offspring-process/src/private.rs",
    "crates/offspring-process/src/request.rs",
    "crates/offspring-process/src/settings.rs",
    "crates/offspring-process/src/socket.rs",
    "crates/offspring-process/src/zygote/server.rs",
    "crates/offspring-process/src/zygote/slot.rs",
    "crates/offspring-process/tests/child.rs",
    "crates/offspring-process/tests/executable.rs",
    "crates/offspring-process/tests/exit_status.rs",
    "crates/offspring-process/tests/fork.rs",
    "crates/offspring-process/tests/image.rs",
    "crates/offspring-process/tests/sandbox.rs",
    "crates/offspring-process/tests/settings.rs",
    "crates/offspring-process/tests/zygote.rs",
    "crates/offspring-queue/src/connection/message.rs",
    "crates/offspring-queue/src/connection/nonce.rs",
    "crates/offspring-queue/src/core.rs",
    "crates/offspring-queue/src/decode.rs",
    "crates/offspring-queue/src/fuzzing.rs",
    "crates/offspring-queue/src/letter.rs",
    "crates/offspring-queue/src/parcel.rs",
    "crates/offspring-queue/src/port.rs",
    "crates/offspring-queue/src/sink.rs",
    "crates/offspring-queue/src/view.rs",
    "crates/offspring-queue/tests/connection_signals.rs",
    "crates/offspring-queue/tests/connection_strangers.rs",
    "crates/offspring-queue/tests/parcel.rs",
    "crates/offspring-queue/tests/support/mod.rs",
    "crates/offspring-shm/src/arena/cache.rs",
    "crates/offspring-shm/src/arena/mod.rs",
    "crates/offspring-shm/src/arena/sweep.rs",
    "crates/offspring-shm/src/family.rs",
    "crates/offspring-shm/src/fork_guard.rs",
    "crates/offspring-shm/src/limits.rs",
    "crates/offspring-shm/src/mapping.rs",
    "crates/offspring-shm/src/segment.rs",
    "crates/offspring-shm/src/shared/hold.rs",
    "crates/offspring-shm/src/shared/slice.rs",
    "crates/offspring-shm/src/shared/value.rs",
    "crates/offspring-shm/src/shm_safe.rs",
    "crates/offspring-shm/tests/arena.rs",
    "crates/offspring-shm/tests/family.rs",
    "crates/offspring-shm/tests/kill.rs",
    "crates/offspring-shm/tests/segment.rs",
    "crates/offspring-sync/src/barrier.rs",
    "crates/offspring-sync/src/bounded_semaphore.rs",
    "crates/offspring-sync/src/condvar.rs",
    "crates/offspring-sync/src/counting_semaphore.rs",
    "crates/offspring-sync/src/event.rs",
    "crates/offspring-sync/src/member/current.rs",
    "crates/offspring-sync/src/member/membership.rs",
    "crates/offspring-sync/src/member/table.rs",
    "crates/offspring-sync/src/member/token.rs",
    "crates/offspring-sync/src/mutex.rs",
    "crates/offspring-sync/src/once.rs",
    "crates/offspring-sync/src/primitive/real.rs",
    "crates/offspring-sync/src/reentrant_mutex.rs",
    "crates/offspring-sync/src/rwlock.rs",
    "crates/offspring-sync/src/semaphore.rs",
    "crates/offspring-sync/src/value.rs",
    "crates/offspring-sync/tests/bad_input.rs",
    "crates/offspring-sync/tests/loom/world.rs",
    "crates/offspring-sync/tests/membership.rs",
    "crates/offspring-sync/tests/support/mod.rs",
    "crates/offspring-testing/src/watchdog.rs",
    "crates/offspring-testing/tests/leak_check.rs",
];
