use std::io;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use offspring_sync::primitive::{FUTEX_WAIT_MANY_MAX, Waited};
use offspring_sync::raw::{Naps, Spin};
use std::os::fd::AsFd;

use super::poll::poll;
use super::waitable::Kind;
use super::{Descriptor, Doorbell, Waitable};
use crate::raw::Vigil;

/// Waits until at least one of several things is ready, and says which are: their places in `on`, in order. Empty when the time
/// runs out first.
///
/// Queues, pipes, processes, descriptors and [deadlines](crate::Deadline) can be mixed: see [`Waitable`]. Nothing is taken, so
/// another consumer may be faster: receive with `try_recv` if there are any. `None` waits for ever, a timeout of zero looks
/// and does not wait, and with nothing to wait for the time is waited out. Signals do not end the wait.
///
/// ```
/// use std::time::Duration;
/// use offspring_queue::{Queue, wait_any};
///
/// let (orders, news) = (Queue::<u32>::new(8)?, Queue::<String>::new(8)?);
/// let (socket, other_end) = std::os::unix::net::UnixStream::pair()?;
///
/// assert!(wait_any(&[&orders, &news, &socket], Some(Duration::ZERO))?.is_empty());
/// news.send("it rains".to_string())?;
/// drop(other_end);
/// assert_eq!(wait_any(&[&orders, &news, &socket], None)?, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
///
/// If all are in shared memory, at most 128 of them, or if none is, the wait is one system call. Otherwise a thread
/// stands between the two kinds while this one sleeps, as it does for a [`Descriptor`]; it is started for each wait unless some
/// `Descriptor` keeps it.
///
/// # Errors
/// When a descriptor is not open, or there are too many; when the thread or the eventfd in between cannot be had.
#[doc(alias = "select")]
#[doc(alias = "wait")]
pub fn wait_any(on: &[&dyn Waitable], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    wait(on, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// As [`wait_any`], but not beyond `deadline`.
///
/// # Errors
/// As there.
pub fn wait_any_deadline(on: &[&dyn Waitable], deadline: Instant) -> io::Result<Vec<usize>> {
    wait(on, Some(deadline))
}

/// What is waited for, by kind; each with its place.
struct Targets<'a> {
    bells: Vec<(usize, Box<dyn Doorbell + 'a>)>,
    places: Vec<usize>,
    descriptors: Vec<PollFd<'a>>,
    deadlines: Vec<(usize, Instant)>,
}

impl<'a> Targets<'a> {
    fn new(on: &[&'a dyn Waitable]) -> Self {
        let mut targets = Self {
            bells: Vec::new(),
            places: Vec::new(),
            descriptors: Vec::new(),
            deadlines: Vec::new(),
        };
        for (place, waitable) in on.iter().enumerate() {
            match waitable.wait_on().0 {
                Kind::Bell(doorbell) => targets.bells.push((place, doorbell)),
                Kind::Descriptor(fd, flags) => {
                    targets.places.push(place);
                    targets.descriptors.push(PollFd::new(fd, flags));
                }
                Kind::Deadline(at) => targets.deadlines.push((place, at)),
            }
        }
        targets
    }

    /// The places of all that are ready now.
    fn ready(&mut self) -> io::Result<Vec<usize>> {
        let mut ready = Vec::new();
        let now = Instant::now();
        if !self.descriptors.is_empty() {
            poll(&mut self.descriptors, Some(now))?;
            let seen = |entry: &PollFd<'_>| entry.revents() != Some(PollFlags::empty());
            let found = self.places.iter().zip(&self.descriptors);
            ready.extend(found.filter(|(_, entry)| seen(entry)).map(|(place, _)| *place));
        }
        let bells = self.bells.iter().filter(|(_, doorbell)| doorbell.look(true).is_ready());
        ready.extend(bells.map(|(place, _)| *place));
        let passed = self.deadlines.iter().filter(|(_, at)| *at <= now);
        ready.extend(passed.map(|(place, _)| *place));
        ready.sort_unstable();
        Ok(ready)
    }
}

fn wait(on: &[&dyn Waitable], deadline: Option<Instant>) -> io::Result<Vec<usize>> {
    let mut targets = Targets::new(on);
    let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
    let mut ready = targets.ready()?;
    // The kernel is slow to wake: who rings a bell may be about to.
    let mut spin = if targets.bells.is_empty() {
        Spin::none()
    } else {
        Spin::new()
    };
    while ready.is_empty() && !over && spin.again() {
        ready = targets.ready()?;
    }
    if over || !ready.is_empty() {
        spin.succeeded();
        return Ok(ready);
    }
    let first = targets.deadlines.iter().map(|(_, at)| *at).min();
    let until = first.into_iter().chain(deadline).min();
    if targets.descriptors.is_empty() && (1..=FUTEX_WAIT_MANY_MAX).contains(&targets.bells.len()) {
        wait_for_bells(&mut targets, until)
    } else {
        wait_for_descriptors(&mut targets, until)
    }
}

/// On bells alone.
fn wait_for_bells(targets: &mut Targets<'_>, until: Option<Instant>) -> io::Result<Vec<usize>> {
    let mut naps = Naps::new(until);
    let mut nap = naps.until();
    let mut overslept = false;
    while let Some(end) = nap {
        let mut vigil = Vigil::new();
        targets.bells.iter().for_each(|(_, doorbell)| vigil.push(&**doorbell));
        overslept = vigil.sleep(None, Some(end), overslept) == Some(Waited::TimedOut);
        if overslept {
            naps.ran_out();
            nap = naps.until();
        }
        let ready = targets.ready()?;
        if !ready.is_empty() {
            return Ok(ready);
        }
    }
    // The time has run out since the last look, if there was one.
    targets.ready()
}

/// On descriptors, with one for all bells.
fn wait_for_descriptors(targets: &mut Targets<'_>, until: Option<Instant>) -> io::Result<Vec<usize>> {
    let mut bridge = None;
    if !targets.bells.is_empty() {
        let doorbells = targets.bells.iter().map(|(_, doorbell)| doorbell.share());
        bridge = Some(Descriptor::over(doorbells)?);
    }
    loop {
        let mut entries = targets.descriptors.clone();
        entries.extend(
            bridge
                .iter()
                .map(|bridge| PollFd::new(bridge.as_fd(), PollFlags::POLLIN)),
        );
        poll(&mut entries, until)?;
        // Asked first: what is ready in time is told.
        let over = until.is_some_and(|until| until <= Instant::now());
        let ready = targets.ready()?;
        if over || !ready.is_empty() {
            return Ok(ready);
        }
        // Somebody else was faster.
        if let Some(bridge) = &bridge {
            bridge.rearm()?;
        }
    }
}
