//! Child processes on Linux: fork, exec, a zygote, pidfds and typed exit statuses.
