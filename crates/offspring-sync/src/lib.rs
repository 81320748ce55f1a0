//! Locks, barriers and the words beneath them, for processes that share memory.

pub mod primitive;
