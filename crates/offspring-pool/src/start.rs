// UNSAFETY: tells a process that has just begun who it is.
#![expect(unsafe_code, reason = "tells a new process its tag")]

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use offspring_process::{Arguments, Child, EntryPoint, Launcher};
use offspring_shm::{Owner, family};

use crate::kin::release;

/// What every process of the family is told when it starts: its tag, five words for its entry point, its name and its
/// parent's name. The arena comes as a descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    words: [u64; 5],
    names: Names,
}

/// What a process of the family is called, and its parent.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) own: String,
    pub(crate) parent: String,
}

/// Set in children of the family alone.
static NAMES: OnceLock<Names> = OnceLock::new();

/// The name of the program's first process.
pub(crate) const ROOT: &str = "MainProcess";

const WORDS: usize = 6;

/// The names of this process, if it is a child of the family.
pub(crate) fn names() -> Option<&'static Names> {
    NAMES.get()
}

impl Start {
    pub(crate) fn new(name: &str, words: [u64; 5]) -> Self {
        let parent = names().map_or(ROOT, |names| &names.own);
        Self {
            words,
            names: Names {
                own: name.to_string(),
                parent: parent.to_string(),
            },
        }
    }

    pub(crate) fn words(&self) -> [u64; 5] {
        self.words
    }

    /// Starts a process of the family, for which `owner` was reserved.
    ///
    /// # Errors
    /// When it cannot be started; the tag has been given back then.
    pub(crate) fn launch(&self, launcher: &Launcher, entry: &'static EntryPoint, owner: Owner) -> io::Result<Child> {
        let payload = self.encode(owner);
        let started = family::arena().and_then(|arena| launcher.start(entry, &payload, &[arena.as_fd()]));
        if started.is_err() {
            release(owner);
        }
        started
    }

    pub(crate) fn encode(&self, owner: Owner) -> Vec<u8> {
        let words = [u64::from(owner.raw())].into_iter().chain(self.words);
        let mut payload: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        payload.extend_from_slice(self.names.own.as_bytes());
        payload.push(0);
        payload.extend_from_slice(self.names.parent.as_bytes());
        payload
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(crate) fn decode(payload: &[u8]) -> io::Result<(Owner, Self)> {
        let (words, names) = payload
            .split_at_checked(WORDS * 8)
            .ok_or_else(|| invalid("it is too short"))?;
        let (words, _) = words.as_chunks::<8>();
        let mut words = words.iter().map(|&bytes| u64::from_le_bytes(bytes));
        let mut word = || words.next().unwrap_or(0);
        let owner = owner_from(word())?;
        let words = [word(), word(), word(), word(), word()];
        let names = std::str::from_utf8(names).ok().and_then(|names| names.split_once('\0'));
        let (own, parent) = names.ok_or_else(|| invalid("it has no names"))?;
        let names = Names {
            own: own.to_string(),
            parent: parent.to_string(),
        };
        Ok((owner, Self { words, names }))
    }

    /// Joins the family in a process that was just started.
    ///
    /// # Errors
    /// When what was sent is not what [`launch`](Self::launch) sends, or the arena cannot be mapped.
    pub(crate) fn receive(arguments: &mut Arguments) -> io::Result<Self> {
        let (owner, start) = Self::decode(&arguments.payload)?;
        if arguments.descriptors.is_empty() {
            return Err(invalid("it came without the arena"));
        }
        // SAFETY: the parent reserved the tag for the process that it sent it to, which has just begun.
        unsafe { family::adopt(arguments.descriptors.remove(0), owner)? };
        NAMES.get_or_init(|| start.names.clone());
        Ok(start)
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn into_names(self) -> Names {
        self.names
    }

    /// Joins the family in a process that was just forked.
    ///
    /// # Errors
    /// When the tag has been given to somebody else.
    ///
    /// # Safety
    /// The parent reserved `owner` for this process, which has just been forked and has one thread.
    pub(crate) unsafe fn become_child(self, owner: Owner) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { family::become_child(owner)? };
        NAMES.get_or_init(|| self.names);
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad start message: {what}"))
}

/// The tag of a process that came as a word of a message.
pub(crate) fn owner_from(raw: u64) -> io::Result<Owner> {
    u32::try_from(raw)
        .ok()
        .and_then(Owner::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{raw:#x} is no process tag")))
}
