//! Messages between processes: values as rkyv bytes in shared memory.
