//! Panics as data: what, where, and how the program got there.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use crate::wire::{Reader, Writer};

const MESSAGE_LIMIT: usize = 16 * 1024;
const LOCATION_LIMIT: usize = 1024;
const BACKTRACE_LIMIT: usize = 32 * 1024;

/// A panic that was caught, in this process or in a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    message: String,
    location: String,
    backtrace: String,
}

impl Panic {
    /// What the panic said.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it happened, as `file:line:column`; empty if another panic hook hid it.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The stack at that moment; empty unless `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asked for it.
    #[must_use]
    pub fn backtrace(&self) -> &str {
        &self.backtrace
    }

    /// Puts a panic together from its parts, for one that was carried here by other means.
    #[must_use]
    pub fn from_parts(message: String, location: String, backtrace: String) -> Self {
        Self {
            message,
            location,
            backtrace,
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.bytes(shortened(&self.message, MESSAGE_LIMIT).as_bytes());
        writer.bytes(shortened(&self.location, LOCATION_LIMIT).as_bytes());
        writer.bytes(shortened(&self.backtrace, BACKTRACE_LIMIT).as_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> io::Result<Self> {
        Ok(Self {
            message: reader.text()?.to_owned(),
            location: reader.text()?.to_owned(),
            backtrace: reader.text()?.to_owned(),
        })
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.location.is_empty() {
            write!(formatter, "panicked: {}", self.message)
        } else {
            write!(formatter, "panicked at {}: {}", self.location, self.message)
        }
    }
}

impl std::error::Error for Panic {}

/// At most `limit` bytes of `text`, whole characters, with a mark where it was cut.
fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(limit);
    format!("{} [and {} more bytes]", &text[..cut], text.len() - cut)
}

thread_local! {
    /// How many calls of [`catch_panic`] are active on this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the hook saw of the last panic on this thread while a call was active.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Runs `f` and returns its panic, if it panics, with message, location and backtrace.
///
/// The panic hook that was installed before the first call in this process still runs, so that the panic is printed as
/// usual. Nothing is done, and nothing is paid, for a call that does not panic. With `panic = "abort"` a panic ends the
/// process, and this function never sees it.
///
/// # Errors
///
/// The panic of `f`.
///
/// # Examples
///
/// ```
/// let panic = offspring_process::catch_panic(|| -> u32 { panic!("no {}", 7) }).unwrap_err();
/// assert_eq!(panic.message(), "no 7");
/// assert!(panic.location().contains(".rs:"));
/// assert_eq!(offspring_process::catch_panic(|| 3), Ok(3));
/// ```
pub fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    // Unwind safety: whoever calls this decides what to do with values that a panic may have left half-changed.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let message = payload_message(&*payload);
        // What the hook recorded may belong to an earlier panic that was handled: `resume_unwind` runs no hook, and one
        // that was installed later may not call ours. The payload is that of this panic in any case.
        let panic = LAST
            .take()
            .filter(|last| last.message == message)
            .unwrap_or_else(|| Panic {
                message: message.to_owned(),
                location: String::new(),
                backtrace: String::new(),
            });
        discard(payload);
        panic
    })
}

/// Drops a payload whose destructor may panic in its turn.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    LAST.take();
}

/// Has panics recorded while [`catch_panic`] is active; once in a process and its copies.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    // The hook cannot be changed while this thread is unwinding; a later call does it then.
    if INSTALLED.is_completed() || std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            record(info);
            previous(info);
        }));
    });
}

fn record(info: &PanicHookInfo<'_>) {
    // `try_with`: a panic in a thread-local destructor comes after these are gone.
    if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
        return;
    }
    let backtrace = Backtrace::capture();
    let panic = Panic {
        message: payload_message(info.payload()).to_owned(),
        location: info.location().map(ToString::to_string).unwrap_or_default(),
        backtrace: match backtrace.status() {
            BacktraceStatus::Captured => backtrace.to_string(),
            _ => String::new(),
        },
    };
    let _ = LAST.try_with(|last| last.replace(Some(panic)));
}

fn payload_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "a value that is not text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("aöb", 2), "a [and 3 more bytes]");
    }

    #[test]
    fn a_panic_survives_its_encoding() {
        let panic = Panic::from_parts("m".repeat(MESSAGE_LIMIT + 9), "l".into(), String::new());
        let mut writer = Writer::new();
        panic.encode(&mut writer);
        let decoded = Panic::decode(&mut Reader::new(writer.as_slice())).unwrap();
        assert!(decoded.message.ends_with("[and 9 more bytes]"));
        assert_eq!(decoded.location, "l");
    }

    #[test]
    fn an_inner_panic_that_was_handled_is_not_reported_for_a_later_one() {
        let outer = catch_panic(|| {
            let inner = catch_panic(|| panic!("inner"));
            assert_eq!(inner.unwrap_err().message(), "inner");
            panic!("outer");
        });
        assert_eq!(outer.unwrap_err().message(), "outer");
        let handled = catch_panic(|| panic::catch_unwind(|| panic!("handled")).is_err());
        assert_eq!(handled, Ok(true));
        let resumed = catch_panic(|| panic::resume_unwind(Box::new("resumed")));
        assert_eq!(resumed.unwrap_err().message(), "resumed", "resume_unwind runs no hook");
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("bomb");
            }
        }
        let panic = catch_panic(|| panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(panic.message(), "a value that is not text");
    }

    #[test]
    fn threads_do_not_see_each_others_panics() {
        let panic = catch_panic(|| {
            let other = std::thread::spawn(|| panic!("other thread")).join();
            assert!(other.is_err());
            panic!("this thread");
        });
        assert_eq!(panic.unwrap_err().message(), "this thread");
    }
}
