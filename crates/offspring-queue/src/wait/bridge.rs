//! The way from words to descriptors: threads that sleep on bells and write to eventfds.
//!
//! A thread is started when somebody first asks, watches up to [`MOST`] bells in one sleep, and ends with the last of them.
//! To other processes it is one sleeper more. What it watches is *armed*: when it is ready the thread makes its eventfd
//! readable and watches it no more, until somebody arms it again. So a thread whose descriptors nobody looks at sleeps, whatever
//! happens in the queues.
//!
//! | armed | eventfd | who changes it |
//! |---|---|---|
//! | yes | not readable | the thread, when it is ready: first not armed, then readable |
//! | no | readable | [`Watch::arm`], after its caller has emptied the eventfd |
//!
//! Nothing is missed: the thread announces itself at the bell after it was armed, and then looks.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::EventFd;
use nix::sys::signal::SigSet;
use offspring_shm::{Owner, family};
use offspring_sync::primitive::{AtomicU32, FUTEX_WAIT_MANY_MAX, Mode, Ordering, Waited, futex_wake};
use offspring_sync::raw::{EventCount, Naps};

use super::Shared;
use crate::raw::{Look, Vigil, Watched};

/// How many bells one thread watches: with as many lives that are in the way, and the word by which the thread is told of
/// changes, one sleep's worth of words.
const MOST: usize = (FUTEX_WAIT_MANY_MAX - 1) / 2;

/// A bell that a thread watches for an eventfd. Dropping it ends that, and the thread if it was the last one.
#[derive(Debug)]
pub(super) struct Watch {
    post: Arc<Post>,
    thread: Arc<Thread>,
    owner: Owner,
}

struct Post {
    doorbell: Shared,
    notice: Arc<EventFd>,
    /// 1: armed. See the table above. `// PAIRS: post-armed`
    armed: AtomicU32,
}

/// What a thread shares with those who ask.
#[derive(Debug)]
struct Thread {
    /// Counts changes of `posts`; the thread sleeps on it, too.
    changes: AtomicU32,
    posts: Mutex<Posts>,
}

#[derive(Debug, Default)]
struct Posts {
    all: Vec<Arc<Post>>,
    /// The thread shall end, or has ended by a panic.
    over: bool,
}

/// The threads of one process.
struct Bridge {
    owner: Owner,
    threads: Vec<(Arc<Thread>, JoinHandle<()>)>,
}

static BRIDGE: Mutex<Option<Bridge>> = Mutex::new(None);

impl Watch {
    /// Has a thread of this process watch a bell for `notice`; it is armed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn new(doorbell: Shared, notice: Arc<EventFd>) -> io::Result<Self> {
        let owner = family::me()?;
        let post = Arc::new(Post {
            doorbell,
            notice,
            armed: AtomicU32::new(1),
        });
        let mut bridge = lock(&BRIDGE);
        if bridge.as_ref().is_some_and(|bridge| bridge.owner != owner) {
            // A copy of the parent's, whose threads do not run here: they cannot be joined, nor detached.
            mem::forget(bridge.take());
        }
        let threads = &mut bridge
            .get_or_insert(Bridge {
                owner,
                threads: Vec::new(),
            })
            .threads;
        let room = threads.iter().find(|(thread, _)| thread.add(&post));
        let thread = match room {
            Some((thread, _)) => Arc::clone(thread),
            None => {
                let (thread, handle) = Thread::start(&post)?;
                threads.push((Arc::clone(&thread), handle));
                thread
            }
        };
        Ok(Self { post, thread, owner })
    }

    /// Whether the bell's matter is ready now.
    pub(super) fn is_ready(&self) -> bool {
        self.post.look(true).is_ready()
    }

    /// The eventfd is written to when the matter is ready: now, if it is already.
    ///
    /// # Errors
    /// In a forked copy of the process that made it.
    pub(super) fn arm(&self) -> io::Result<()> {
        // PAIRS: post-armed
        if self.post.armed.swap(1, Ordering::AcqRel) == 0 {
            if lock(&self.thread.posts).over {
                return Err(io::Error::other(
                    "the thread that watched for this descriptor has panicked: make another one",
                ));
            }
            self.thread.tell();
        }
        Ok(())
    }

    /// # Errors
    /// In a forked copy of the process that made it: the thread does not run there.
    pub(super) fn check_ours(&self) -> io::Result<()> {
        if family::me()? == self.owner {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the descriptor belongs to the process from which this one was forked: ask for one of its own",
        ))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.check_ours().is_err() {
            return;
        }
        let mut bridge = lock(&BRIDGE);
        let mut posts = lock(&self.thread.posts);
        posts.all.retain(|post| !Arc::ptr_eq(post, &self.post));
        let last = posts.all.is_empty();
        posts.over |= last;
        drop(posts);
        self.thread.tell();
        let mut ending = None;
        if last && let Some(Bridge { threads, .. }) = &mut *bridge {
            let place = threads.iter().position(|(thread, _)| Arc::ptr_eq(thread, &self.thread));
            ending = place.map(|place| threads.swap_remove(place).1);
        }
        drop(bridge);
        if let Some(handle) = ending {
            // It has ended when this returns: a process with one thread may fork. An error is its panic, which was reported.
            let _ = handle.join();
        }
    }
}

impl Post {
    /// Tells the eventfd, if the matter is ready.
    fn tell_if_ready(&self) -> bool {
        if !self.doorbell.look(false).is_ready() {
            return false;
        }
        self.tell();
        true
    }

    fn tell(&self) {
        // PAIRS: post-armed
        self.armed.store(0, Ordering::Release);
        // It fails when the count is full, and is readable then.
        let _ = self.notice.write(1);
    }
}

impl Watched for Post {
    fn bell(&self) -> &EventCount {
        self.doorbell.bell()
    }

    fn mode(&self) -> Mode {
        self.doorbell.mode()
    }

    fn look(&self, thoroughly: bool) -> Look<'_> {
        self.doorbell.look(thoroughly)
    }
}

impl Thread {
    /// # Errors
    /// When the system has no thread for us.
    fn start(post: &Arc<Post>) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let thread = Arc::new(Self {
            changes: AtomicU32::new(0),
            posts: Mutex::new(Posts {
                all: vec![Arc::clone(post)],
                over: false,
            }),
        });
        let mine = Arc::clone(&thread);
        let handle = thread::Builder::new()
            .name("offspring-wait".to_string())
            .spawn(move || mine.run())
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot start the thread that watches queues for descriptors: {error}"),
                )
            })?;
        Ok((thread, handle))
    }

    /// Takes one more post, unless there is no room.
    fn add(&self, post: &Arc<Post>) -> bool {
        let mut posts = lock(&self.posts);
        if posts.over || posts.all.len() >= MOST {
            return false;
        }
        posts.all.push(Arc::clone(post));
        drop(posts);
        self.tell();
        true
    }

    /// Has the thread look at its posts again.
    fn tell(&self) {
        // PAIRS: posts-changed
        self.changes.fetch_add(1, Ordering::Release);
        futex_wake(&self.changes, 1);
    }

    fn run(&self) {
        // The program's signals are for the program's threads.
        let _ = SigSet::all().thread_block();
        let _end = End(self);
        let mut vigil = Vigil::<Arc<Post>>::new();
        let mut naps = Naps::new(None);
        let mut nap = naps.until();
        let mut overslept = false;
        let mut known = None;
        loop {
            // Before the list is read, so that a later change ends the sleep.
            // PAIRS: posts-changed
            let changes = self.changes.load(Ordering::Acquire);
            if known != Some(changes) && !self.follow(&mut vigil) {
                return;
            }
            let mut rested = known == Some(changes);
            known = Some(changes);
            vigil.retain(|post| {
                let told = post.tell_if_ready();
                rested &= !told;
                !told
            });
            if !rested {
                naps = Naps::new(None);
                nap = naps.until();
            }
            let until = nap.filter(|_| vigil.iter().next().is_some());
            overslept = vigil.sleep(Some((&self.changes, changes)), until, overslept) == Some(Waited::TimedOut);
            if overslept {
                naps.ran_out();
                nap = naps.until();
            }
        }
    }

    /// Makes `vigil` watch what is armed; false when it is time to end.
    fn follow(&self, vigil: &mut Vigil<Arc<Post>>) -> bool {
        let posts = lock(&self.posts);
        if posts.over {
            return false;
        }
        vigil.retain(|post| posts.all.iter().any(|other| Arc::ptr_eq(other, post)));
        for post in &posts.all {
            // PAIRS: post-armed
            let armed = post.armed.load(Ordering::Acquire) == 1;
            if armed && !vigil.iter().any(|other| Arc::ptr_eq(other, post)) {
                vigil.push(Arc::clone(post));
            }
        }
        true
    }
}

/// The end of a thread. By a panic it leaves descriptors that nobody watches any more: their users are told.
struct End<'a>(&'a Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut posts = lock(&self.0.posts);
            posts.over = true;
            posts.all.iter().for_each(|post| post.tell());
        }
    }
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post")
            .field("bell", self.doorbell.bell())
            .field("armed", &self.armed)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use offspring_testing::watchdog;

    use super::*;
    use crate::Queue;

    /// Panics as soon as it is looked at.
    struct Bomb(EventCount);

    impl Watched for Bomb {
        fn bell(&self) -> &EventCount {
            &self.0
        }

        fn mode(&self) -> Mode {
            Mode::Full
        }

        fn look(&self, _thoroughly: bool) -> Look<'_> {
            panic!("a test of a panic");
        }
    }

    fn await_readable(fd: &impl AsFd) {
        let mut entries = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entries, PollTimeout::NONE), Ok(1));
    }

    #[test]
    fn a_panic_is_told_and_the_next_one_gets_another_thread() {
        let _watchdog = watchdog(std::time::Duration::from_secs(60));
        let notice = Arc::new(EventFd::new().unwrap());
        let watch = Watch::new(Arc::new(Bomb(EventCount::new())), Arc::clone(&notice)).unwrap();
        await_readable(&notice);
        let error = watch.arm().unwrap_err().to_string();
        assert!(error.contains("panicked: make another one"), "{error}");
        let queue = Queue::<u32>::new(1).unwrap();
        let descriptor = queue.descriptor().unwrap();
        drop(watch);
        queue.send(1).unwrap();
        await_readable(&descriptor);
        drop(descriptor);
        assert!(lock(&BRIDGE).as_ref().unwrap().threads.is_empty());
    }
}
