//! One process to start: what its parent sends and what the new process does with it.
//!
// UNSAFETY: settings change the environment of the whole process.
#![expect(
    unsafe_code,
    reason = "a new process changes its environment before it has a second thread"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;

use crate::failure::Failure;
use crate::packet::{self, Kind, Packet};
use crate::settings::Settings;
use crate::socket::MAX_DESCRIPTORS;
use crate::wire::{Reader, Writer};
use crate::{Arguments, EntryPoint, PANIC_CODE, Panic, catch_panic, image, kernel, lifeline};

/// What a new process is told.
pub(crate) struct Request<'a> {
    head: Writer,
    payload: &'a [u8],
    streams: [Option<BorrowedFd<'a>>; 3],
    descriptors: &'a [BorrowedFd<'a>],
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        entry: &'static EntryPoint,
        name: &str,
        settings: &Settings,
        streams: [Option<BorrowedFd<'a>>; 3],
        payload: &'a [u8],
        descriptors: &'a [BorrowedFd<'a>],
    ) -> io::Result<Self> {
        let offset = image::offset_of(entry)?;
        // The lifeline is one more.
        if descriptors.len() + streams.iter().flatten().count() + 1 > MAX_DESCRIPTORS {
            return Err(packet::too_many_descriptors());
        }
        let mut head = Writer::new();
        head.u64(offset);
        head.bytes(name.as_bytes());
        settings.encode(&mut head);
        for stream in streams {
            head.flag(stream.is_some());
        }
        Ok(Self {
            head,
            payload,
            streams,
            descriptors,
        })
    }

    /// Sends the request, with the child's end of its lifeline.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, lifeline: BorrowedFd<'_>) -> io::Result<()> {
        let mut all = Vec::with_capacity(4 + self.descriptors.len());
        all.push(lifeline);
        all.extend(self.streams.iter().flatten());
        all.extend(self.descriptors);
        packet::send(socket, Kind::Start, &self.head, self.payload, &all)
    }
}

/// Becomes the process that `packet` (received into `buffer`) describes, and exits as it does. This process has one
/// thread.
pub(crate) fn become_process(packet: &mut Packet, buffer: &[u8]) -> ! {
    // Before anything else: until the lifeline is armed, a parent that dies is not noticed; once it is, one that died
    // meanwhile has been noticed, too.
    let Some(Ok(())) = packet.descriptors.next().map(lifeline::arm) else {
        process::exit(PANIC_CODE)
    };
    match prepare(packet, buffer) {
        Ok((entry, arguments)) => exit_with(|| entry.run(arguments)),
        Err(error) => fail(&error),
    }
}

#[inline(always)]
fn prepare(packet: &mut Packet, buffer: &[u8]) -> io::Result<(&'static EntryPoint, Arguments)> {
    let mut long = Vec::new();
    let mut reader = Reader::new(packet.body(buffer, &mut long)?);
    let offset = reader.u64()?;
    let entry = EntryPoint::at(offset)?;
    kernel::set_name(reader.bytes()?);
    let settings = Settings::decode(&mut reader)?;
    let mut streams = [None, None, None];
    for stream in &mut streams {
        if reader.flag()? {
            *stream = Some(packet.descriptors.next().ok_or(io::ErrorKind::InvalidData)?);
        }
    }
    replace_streams(streams)?;
    settings.apply_interrupt();
    kernel::empty_signal_mask();
    if settings.can_fail() {
        apply(&settings)?;
    }
    let payload = reader.rest();
    let payload = if payload.is_empty() {
        Vec::new()
    } else {
        payload.to_vec()
    };
    let descriptors = packet.descriptors.by_ref().collect();
    Ok((entry, Arguments { payload, descriptors }))
}

/// Applies settings that can fail, and tells the parent that they are in force.
pub(crate) fn apply(settings: &Settings) -> io::Result<()> {
    // SAFETY: called by a process that has just been made, from its only thread.
    unsafe { settings.apply() }?;
    lifeline::tell_parent(Kind::Done, &Writer::new());
    Ok(())
}

/// Puts the streams that were passed in the place of 0, 1 and 2. The others are `/dev/null`, as 0 is on entry.
#[inline(always)]
fn replace_streams([stdin, stdout, stderr]: [Option<OwnedFd>; 3]) -> io::Result<()> {
    // Standard input last: until then it is what the streams that were not passed become.
    for (stream, passed) in [(1, stdout), (2, stderr), (0, stdin)] {
        match passed {
            Some(fd) => {
                kernel::replace_stream(fd.as_fd(), stream)?;
                kernel::close(fd);
            }
            None if stream != 0 => kernel::replace_stream(io::stdin().as_fd(), stream)?,
            None => {}
        }
    }
    Ok(())
}

/// Reports an error to the parent and exits.
pub(crate) fn fail(error: &io::Error) -> ! {
    lifeline::tell_parent(Kind::Failed, &encode_error(error));
    process::exit(1)
}

/// An error for another process: what was being done and the system's error number, where both are known.
pub(crate) fn encode_error(error: &io::Error) -> Writer {
    let mut writer = Writer::new();
    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
    match (failure, error.raw_os_error()) {
        (Some(failure), _) => failure.encode(&mut writer),
        (None, Some(errno)) => {
            Failure::new("cannot start the process", io::Error::from_raw_os_error(errno)).encode(&mut writer);
        }
        (None, None) => {
            writer.i32(0);
            writer.bytes(error.to_string().as_bytes());
        }
    }
    writer
}

/// Runs a process's function and exits with its code; a panic is reported to the parent.
pub(crate) fn exit_with(run: impl FnOnce() -> i32) -> ! {
    let code = catch_panic(run).unwrap_or_else(|panic| {
        report(&panic);
        PANIC_CODE
    });
    // This flushes Rust's standard output, too.
    process::exit(code)
}

fn report(panic: &Panic) {
    let mut writer = Writer::new();
    panic.encode(&mut writer);
    lifeline::tell_parent(Kind::Panicked, &writer);
}

/// This process's stream, if it is open.
pub(crate) fn open_stream(stream: BorrowedFd<'_>) -> Option<BorrowedFd<'_>> {
    nix::fcntl::fcntl(stream.as_fd(), nix::fcntl::FcntlArg::F_GETFD)
        .is_ok()
        .then_some(stream)
}
