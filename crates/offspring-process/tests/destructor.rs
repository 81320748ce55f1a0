//! A program with a destructor of its own, which runs in its processes as well.
//
// UNSAFETY: a function in .fini_array, which is where a C compiler puts destructors.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "a destructor")]

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod};

static WANTED: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = {
    extern "C" fn destructor() {
        if WANTED.load(Ordering::Relaxed) {
            // SAFETY: the bytes are static.
            unsafe { libc::write(1, b"gone".as_ptr().cast(), 4) };
        }
    }
    destructor
};

static WANT: EntryPoint = EntryPoint::new("want", |_: Arguments| {
    WANTED.store(true, Ordering::Relaxed);
    7
});

#[test]
fn it_runs_at_the_end_of_each_process() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let child = Launcher::new()
            .method(method)
            .stdout(writer)
            .start(&WANT, &[], &[])
            .unwrap();
        let mut output = String::new();
        // The launcher is gone, and with it the last writer but the child.
        reader.read_to_string(&mut output).unwrap();
        assert_eq!(output, "gone");
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(7));
    }
}
