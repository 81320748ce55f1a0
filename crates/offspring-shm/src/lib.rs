//! Shared memory: segments, mappings and a crash-safe arena.
