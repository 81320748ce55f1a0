//! Typed child processes and a pool of workers over shared memory.
