//! What a process still does when its function has returned.
//
// UNSAFETY: the tests do to processes what C code does.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "atexit(3) and streams of the C library")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc;
use std::thread;

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod, zygote};

unsafe extern "C" {
    fn flockfile(stream: *mut libc::FILE);
}

/// The output and the status of a process.
fn output_of(method: StartMethod, entry: &'static EntryPoint) -> (String, ExitStatus) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = Launcher::new()
        .method(method)
        .stdout(writer)
        .start(entry, &[], &[])
        .unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (output, child.wait().unwrap())
}

/// Writes without any buffer.
fn write(text: &str) {
    // SAFETY: the bytes live until the call returns.
    let written = unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
    assert_eq!(written, text.len() as isize);
}

extern "C" fn handler() {
    write("handler,");
}

struct Local;

impl Drop for Local {
    fn drop(&mut self) {
        write("local,");
    }
}

thread_local! {
    static LOCAL: Local = const { Local };
}

/// Leaves something to do at the end in every way there is.
fn leave_something() {
    // SAFETY: the handler is a function of this image; the stream is made of a descriptor that it then owns, and stays
    // open.
    unsafe {
        assert_eq!(libc::atexit(handler), 0);
        let descriptor = std::io::stdout();
        let duplicate = std::os::fd::AsFd::as_fd(&descriptor).try_clone_to_owned().unwrap();
        let stream = libc::fdopen(duplicate.into_raw_fd(), c"w".as_ptr());
        assert!(libc::fputs(c"stream,".as_ptr(), stream) >= 0);
    }
    LOCAL.with(|_| ());
    print!("print,");
}

const ALL: &str = "print,local,handler,stream,";

static RETURN: EntryPoint = EntryPoint::new("return", |_: Arguments| {
    leave_something();
    7
});

static EXIT: EntryPoint = EntryPoint::new("exit", |_: Arguments| {
    leave_something();
    std::process::exit(7)
});

static RETURN_WITH_THREADS: EntryPoint = EntryPoint::new("threads", |_: Arguments| {
    leave_something();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // What a thread does that waits for a line of input. exit(3) does not wait for it.
        // SAFETY: a new stream of a duplicate of the standard input.
        unsafe {
            let stream = libc::fdopen(libc::dup(std::io::stdin().as_raw_fd()), c"r".as_ptr());
            flockfile(stream);
        }
        sender.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().unwrap();
    7
});

#[test]
fn nothing_that_was_left_to_the_end_is_forgotten() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        for entry in [&RETURN, &EXIT, &RETURN_WITH_THREADS] {
            assert_eq!(
                output_of(method, entry),
                (ALL.to_owned(), ExitStatus::Code(7)),
                "{entry:?}"
            );
        }
    }
}

extern "C" fn handler_of_preload() {
    write("preload,");
}

static NOTHING: EntryPoint = EntryPoint::new("nothing", |_: Arguments| 7);

static PRELOAD: EntryPoint = EntryPoint::new("preload", |_: Arguments| {
    zygote::preload(|| {
        // SAFETY: the handler is a function of this image.
        assert_eq!(unsafe { libc::atexit(handler_of_preload) }, 0);
    })
    .unwrap();
    for (entry, expected) in [(&NOTHING, "preload,"), (&RETURN, "print,local,handler,preload,stream,")] {
        let (output, status) = output_of(StartMethod::Zygote, entry);
        assert_eq!((output.as_str(), status), (expected, ExitStatus::Code(7)));
    }
    0
});

#[test]
fn what_a_preload_function_registers_runs_in_each_process() {
    let child = Launcher::new().start(&PRELOAD, &[], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

static LIBRARY: EntryPoint = EntryPoint::new("library", |_: Arguments| {
    leave_something();
    // Any library that this program does not use.
    // SAFETY: its constructors, if it has any, rely on nothing of this program.
    let library = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
    std::io::stdout().flush().unwrap();
    if library.is_null() { 8 } else { 7 }
});

#[test]
fn with_a_library_that_was_loaded_later() {
    let (output, status) = output_of(StartMethod::Zygote, &LIBRARY);
    assert_eq!(output, ALL);
    // Not every system has it.
    assert!(matches!(status, ExitStatus::Code(7 | 8)), "{status}");
}
