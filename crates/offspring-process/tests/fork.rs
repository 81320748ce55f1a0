//! Forks, from a `main` with one thread.

fn main() {}
