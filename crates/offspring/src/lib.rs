//! A family of processes: pools, processes and shared memory with a thread's ease.
