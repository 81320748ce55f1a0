use std::sync::Arc;
use std::time::{Duration, Instant};

use offspring_sync::primitive::{AtomicU32, Mode, Ordering, Waited, futex_wait_many, futex_wake, heavy_fence};
use offspring_sync::raw::{EventCount, Life, Ticket};

/// What one look at something that is waited for found.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// The operation would not wait now.
    Ready,
    /// It would.
    Waiting,
    /// It would; the end of this life may change that.
    Behind(Life<'a>),
}

impl Look<'_> {
    /// Whether the operation would not wait now.
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// Something whose changes an event count announces.
pub trait Watched {
    /// Notified after each change that may make it ready.
    fn bell(&self) -> &EventCount;

    /// How those changes are ordered before the look at who sleeps.
    fn mode(&self) -> Mode;

    /// Whether it is ready. `thoroughly`: a nap has ended by itself, which is the time for slow questions.
    fn look(&self, thoroughly: bool) -> Look<'_>;
}

impl<W: Watched + ?Sized> Watched for &W {
    fn bell(&self) -> &EventCount {
        (**self).bell()
    }

    fn mode(&self) -> Mode {
        (**self).mode()
    }

    fn look(&self, thoroughly: bool) -> Look<'_> {
        (**self).look(thoroughly)
    }
}

impl<W: Watched + ?Sized> Watched for Arc<W> {
    fn bell(&self) -> &EventCount {
        (**self).bell()
    }

    fn mode(&self) -> Mode {
        (**self).mode()
    }

    fn look(&self, thoroughly: bool) -> Look<'_> {
        (**self).look(thoroughly)
    }
}

/// The sleep of somebody who waits for several things at once and takes none of them.
///
/// Each change wakes one sleeper, who takes what there is. One who takes nothing must not keep a wake, or who would have taken
/// sleeps on: after each sleep, whatever ended it, every bell that has rung is rung again if there is something for another
/// sleeper.
#[derive(Debug)]
pub struct Vigil<W> {
    posts: Vec<Post<W>>,
    /// The last fence failed: nothing that was announced before it counts.
    unsure: bool,
}

/// How long one sleeps whose fence failed, and who may therefore have missed a change.
const UNSURE_NAP: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Post<W> {
    watched: W,
    ticket: Option<Ticket>,
}

impl<W: Watched> Post<W> {
    /// The word to sleep on, if the announcement of the last sleep still stands.
    fn word(&self) -> Option<(&AtomicU32, u32)> {
        let (word, seen) = self.watched.bell().word(self.ticket?);
        (word.load(Ordering::SeqCst) == seen).then_some((word, seen))
    }
}

impl<W: Watched> Vigil<W> {
    /// Over nothing yet.
    pub const fn new() -> Self {
        Self {
            posts: Vec::new(),
            unsure: false,
        }
    }

    /// Watches one thing more.
    pub fn push(&mut self, watched: W) {
        self.posts.push(Post { watched, ticket: None });
    }

    /// What is watched.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.posts.iter().map(|post| &post.watched)
    }

    /// Watches no more what `keep` says false to.
    pub fn retain(&mut self, mut keep: impl FnMut(&W) -> bool) {
        self.posts.retain(|post| keep(&post.watched));
    }

    /// Sleeps until a bell rings, the word `beside` changes, or `until`; not at all if something is ready already.
    ///
    /// The kernel watches [128 words](offspring_sync::primitive::FUTEX_WAIT_MANY_MAX) at most: first `beside`, then the bells,
    /// then the lives that are in the way.
    pub fn sleep(
        &mut self,
        beside: Option<(&AtomicU32, u32)>,
        until: Option<Instant>,
        thoroughly: bool,
    ) -> Option<Waited> {
        // One fence serves all: it is dear.
        let mut mode = Mode::Full;
        for post in &mut self.posts {
            if self.unsure || post.word().is_none() {
                post.ticket = Some(post.watched.bell().prepare(Mode::Full));
                if post.watched.mode() == Mode::Asymmetric {
                    mode = Mode::Asymmetric;
                }
            }
        }
        self.unsure = mode == Mode::Asymmetric && heavy_fence(mode).is_err();
        let looks = self.posts.iter().map(|post| post.watched.look(thoroughly));
        let looks: Vec<_> = looks.collect();
        if looks.iter().any(|look| look.is_ready()) {
            return None;
        }
        let lives = looks.iter().filter_map(|look| match look {
            Look::Behind(life) => Some((life.word, life.seen)),
            _ => None,
        });
        let lives: Vec<_> = lives.collect();
        let bells = self
            .posts
            .iter()
            .filter_map(|post| Some(post.watched.bell().word(post.ticket?)));
        let words: Vec<_> = beside.into_iter().chain(bells).chain(lives.iter().copied()).collect();
        let nap = self.unsure.then(|| Instant::now() + UNSURE_NAP);
        let waited = match nap {
            Some(nap) if until.is_none_or(|until| nap < until) => {
                futex_wait_many(&words, Some(nap));
                Waited::Woken
            }
            _ => futex_wait_many(&words, until),
        };
        for (life, seen) in lives {
            // PAIRS: life-ended
            if life.load(Ordering::Acquire) != seen {
                // The kernel woke one sleeper of the dead.
                futex_wake(life, u32::MAX);
            }
        }
        for post in &self.posts {
            if post.word().is_none() {
                let more = || post.watched.look(false).is_ready();
                post.watched.bell().pass_on(more);
            }
        }
        Some(waited)
    }
}

impl<W: Watched> Default for Vigil<W> {
    fn default() -> Self {
        Self::new()
    }
}
