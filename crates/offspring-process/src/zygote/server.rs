//! The zygote's own side.
//!
// UNSAFETY: it clones itself and runs functions that it is given as offsets.
#![expect(unsafe_code, reason = "clone, functions by offset")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use super::slot::Slot;
use crate::clone::{Cloned, Cloner};
use crate::failure::While;
use crate::packet::{self, Absent, Kind, Packet};
use crate::request::{become_process, encode_error};
use crate::spawn::Configuration;
use crate::wire::{Reader, Writer};
use crate::{catch, catch_panic, environment, hook, image, kernel};

/// Whether this process is a zygote that is running preload functions. Set and read by the one thread there is; relaxed.
static PRELOADING: AtomicBool = AtomicBool::new(false);

/// Refuses to start a process from a preload function: the zygote's clones would inherit the ties to it.
pub(crate) fn check_not_preloading() -> io::Result<()> {
    if PRELOADING.load(Ordering::Relaxed) {
        return Err(io::Error::other("a preload function cannot start processes"));
    }
    Ok(())
}

/// Serves requests until the other end of `control` is closed.
pub(crate) fn serve(control: OwnedFd, configuration: Configuration, mut buffer: Vec<u8>) -> ! {
    kernel::set_name(b"zygote");
    // Ctrl-C reaches the whole foreground group, but it is the root that decides when the zygote goes. Blocked and not
    // ignored: a clone that has not yet got its own mask keeps such a signal until then and is not spared it.
    let mut keyboard = SigSet::empty();
    keyboard.add(Signal::SIGINT);
    keyboard.add(Signal::SIGQUIT);
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&keyboard), None);

    let cloner = configuration
        .slot
        .as_ref()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        .and_then(Slot::map)
        .and_then(|slot| Cloner::new(slot.for_clones()));
    let cloner = match cloner {
        Ok(cloner) => cloner,
        Err(error) => {
            answer(&control, Kind::Unsupported, &encode_error(&error));
            process::exit(0);
        }
    };
    answer(&control, Kind::Done, &Writer::new());
    if !configuration.preloads.is_empty() {
        PRELOADING.store(true, Ordering::Relaxed);
        let loaded = preload(&configuration.preloads);
        PRELOADING.store(false, Ordering::Relaxed);
        match loaded {
            Ok(()) => answer(&control, Kind::Done, &Writer::new()),
            Err(error) => {
                answer(&control, Kind::Failed, &encode_error(&error));
                process::exit(1);
            }
        }
    }
    drop(configuration);
    // The output of this process belongs to the children: whoever reads it must not wait for the zygote's end.
    if let Ok(null) = hook::null_device() {
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    // What is computed on first use is computed here, and shared by all clones.
    image::fingerprint(false);
    catch::install_hook();
    loop {
        match Packet::receive(control.as_fd(), &mut buffer, true) {
            Ok(mut packet) => match packet.kind {
                Kind::Start => {
                    // SAFETY: this process has one thread, this one, which also made the cloner.
                    match unsafe { cloner.clone() } {
                        Ok(Cloned::Child) => {
                            // The clone must not hide the zygote's death from the client.
                            kernel::close(control);
                            become_process(&mut packet, &buffer)
                        }
                        Ok(Cloned::Parent { pid, pidfd }) => {
                            let pid = pid.to_le_bytes();
                            let pidfd = [pidfd.as_fd()];
                            if packet::send(control.as_fd(), Kind::Done, &Writer::new(), &pid, &pidfd).is_err() {
                                break;
                            }
                        }
                        Err(error) => refuse(&control, "cannot start a process", error),
                    }
                }
                Kind::Adopt => match adopt(&mut packet, &buffer) {
                    Ok(()) => answer(&control, Kind::Done, &Writer::new()),
                    Err(error) => answer(&control, Kind::Failed, &encode_error(&error)),
                },
                _ => break,
            },
            Err(Absent::NoRoom) => refuse(
                &control,
                "cannot pass so many descriptors (RLIMIT_NOFILE of the zygote)",
                io::Error::from_raw_os_error(libc::EMFILE),
            ),
            Err(_) => break,
        }
    }
    // SAFETY: no pointers. Not `exit`: handlers that a preloaded library registered are for the processes that use it.
    unsafe { libc::_exit(0) }
}

fn answer(control: &OwnedFd, kind: Kind, body: &Writer) {
    // A client that is gone is noticed by the next receive.
    let _ = packet::send(control.as_fd(), kind, body, &[], &[]);
}

fn refuse(control: &OwnedFd, action: &str, error: io::Error) {
    if let Err(error) = Err::<(), _>(error).during(action) {
        answer(control, Kind::Failed, &encode_error(&error));
    }
}

fn preload(offsets: &[u64]) -> io::Result<()> {
    for &offset in offsets {
        // SAFETY: the client made the offset from a `fn()`, and the handshake compared the images.
        let function = unsafe { image::function_at(offset) }?;
        catch_panic(function).map_err(|panic| io::Error::other(format!("a preload function {panic}")))?;
    }
    // Where /proc is missing the check is, too.
    match fs::read_dir("/proc/self/task").map_or(1, Iterator::count) {
        0 | 1 => Ok(()),
        count => Err(io::Error::other(format!(
            "a preload function left {} threads running: a process with several threads cannot be forked safely",
            count - 1
        ))),
    }
}

/// Takes over the client's environment or current directory; its next clones have them.
fn adopt(packet: &mut Packet, buffer: &[u8]) -> io::Result<()> {
    let descriptor = packet.descriptors.pop();
    let mut long = Vec::new();
    let mut reader = Reader::new(packet.body(buffer, &mut long)?);
    if reader.flag()? {
        let directory = OsStr::from_bytes(reader.bytes()?);
        nix::unistd::chdir(directory).during(format!(
            "cannot change to the current directory {}",
            directory.display()
        ))?;
    }
    if let Some(directory) = descriptor {
        nix::unistd::fchdir(directory).during("cannot change to the current directory, which has no path")?;
    }
    if reader.flag()? {
        // SAFETY: the zygote has one thread.
        unsafe { environment::replace(&mut reader) }?;
    }
    Ok(())
}
