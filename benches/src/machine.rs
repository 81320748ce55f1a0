// UNSAFETY: placement, clocks and process groups are C interfaces.
#![expect(
    unsafe_code,
    reason = "sched_setaffinity, clock_gettime, madvise, getrusage, waitpid, prctl and kill"
)]
//! The machine under the measurements: processors, clocks, memory.

use std::fs;
use std::hint::black_box;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How many processors this process may use.
pub fn cpus() -> usize {
    allowed().len().max(1)
}

/// The processors this process may use.
fn allowed() -> Vec<usize> {
    // SAFETY: all zeros are a valid set: the empty one.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: the set is valid and as large as stated.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return vec![0];
    }
    // SAFETY: the numbers are below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// Keeps the calling thread on one processor, the `which`th of those that `cpus` counts, going round.
///
/// Call it in threads and children, not in the process that makes them: they would inherit it.
///
/// # Panics
///
/// When the kernel refuses.
pub fn pin(which: usize) {
    let allowed = allowed_at_first();
    stay_on(&[allowed[which % allowed.len()]]);
}

/// Lets the calling thread run on any of the processors that `cpus` counts.
///
/// # Panics
///
/// When the kernel refuses.
pub fn unpin() {
    stay_on(allowed_at_first());
}

/// The processors of this process before anything was pinned, if `pin` or `unpin` is what asks first.
fn allowed_at_first() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(allowed)
}

fn stay_on(processors: &[usize]) {
    // SAFETY: all zeros are a valid set: the empty one.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    for processor in processors {
        // SAFETY: the kernel gave this number, so it is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(*processor, &mut set) };
    }
    // SAFETY: the set is valid and as large as stated; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    assert_eq!(result, 0, "cannot pin: {}", std::io::Error::last_os_error());
}

/// Nanoseconds of the monotonic clock, which is one for all processes.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// So many bytes of private memory, each page written once, in pages of 4 KiB.
///
/// # Panics
///
/// When the kernel refuses the advice.
pub fn touch(bytes: usize) -> Vec<u8> {
    let mut memory: Vec<u8> = Vec::with_capacity(bytes + 4096);
    let start = memory.as_ptr().align_offset(4096);
    // Huge pages would make the page tables, which fork copies, 512 times smaller.
    // SAFETY: the range lies inside the vector's own memory and begins at a page.
    let result = unsafe {
        libc::madvise(
            memory.as_mut_ptr().wrapping_add(start).cast(),
            bytes,
            libc::MADV_NOHUGEPAGE,
        )
    };
    assert_eq!(result, 0, "madvise: {}", std::io::Error::last_os_error());
    memory.resize(bytes + 4096, 1);
    black_box(memory)
}

/// The kernel's number of the calling thread.
pub fn thread_number() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Waits until a thread, of this process or another, sleeps; says whether it does.
pub fn wait_until_asleep(thread: u32) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
        if stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" S")) {
            return true;
        }
        sleep(Duration::from_micros(50));
    }
    false
}

/// The proportional set size of a process in MiB: private pages whole, shared pages by their share.
///
/// # Errors
///
/// When the process cannot be looked at.
pub fn pss_of(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .ok_or_else(|| format!("{path} has no Pss"))?;
    let kilobytes: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .map_err(|_| format!("{path}: {line}"))?;
    Ok(kilobytes / 1024.0)
}

/// Kills a process group.
pub(crate) fn kill_group(leader: u32) {
    let group = i32::try_from(leader).expect("process numbers are small");
    // SAFETY: the group was made for the child, which was not reaped yet or left the group behind.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// Makes the orphans of our children ours: what they cost is then counted as ours, and nobody else has to reap them.
pub(crate) fn adopt_orphans() {
    // SAFETY: this option takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) };
}

/// Waits for the children that a measurement left behind, as a zygote that ends with its parent; what still runs after a second is killed.
pub(crate) fn reap_orphans() {
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        // SAFETY: a null status is allowed. Only this thread has children, and none is waited for elsewhere now.
        match unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG) } {
            -1 => return,
            0 if Instant::now() < end => sleep(Duration::from_millis(1)),
            0 => children_of_ours().for_each(kill),
            _ => {}
        }
    }
}

fn children_of_ours() -> impl Iterator<Item = u32> {
    let me = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        parent == Some(me)
    })
}

fn kill(pid: u32) {
    // SAFETY: the process is a child of ours that was not reaped, so the number is still its own.
    unsafe { libc::kill(i32::try_from(pid).expect("process numbers are small"), libc::SIGKILL) };
}

/// The work of the whole machine against that of our children.
pub(crate) struct Load {
    start: Instant,
    busy: f64,
    ours: f64,
}

impl Load {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            busy: busy_seconds(),
            ours: children_seconds(),
        }
    }

    /// The share of the machine that others took since then.
    pub(crate) fn others(&self) -> f64 {
        let all = self.start.elapsed().as_secs_f64() * cpus() as f64;
        let others = (busy_seconds() - self.busy) - (children_seconds() - self.ours);
        (others / all).clamp(0.0, 1.0)
    }
}

/// Processor seconds that were not idle, from the first line of `/proc/stat` in hundredths: user nice system idle iowait irq softirq.
fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let fields: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    fields
        .iter()
        .enumerate()
        .filter(|(at, _)| matches!(at, 0 | 1 | 2 | 5 | 6))
        .map(|(_, ticks)| ticks / 100.0)
        .sum()
}

/// Processor seconds of the children that were waited for, and theirs.
fn children_seconds() -> f64 {
    // SAFETY: all zeros are a valid `rusage`: it holds only numbers.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: `usage` is valid for the length of the call.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_clock_are_read() {
        assert!(pss_of(std::process::id()).is_ok_and(|size| size > 0.1));
        let before = now_ns();
        assert!(now_ns() >= before);
        assert!(touch(1 << 20).iter().all(|byte| *byte == 1));
        assert!(cpus() >= 1);
    }
}
