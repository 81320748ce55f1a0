//! Descriptors that are said to be segments, and segments that are said to be arenas.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use offspring_shm::{Arena, Segment};

use super::{arena, in_words};
use crate::input::Input;
use crate::memory::{Words, touch};

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = input.byte();
    // Large enough for an arena of one chunk, or just about, or of any size.
    let model = Arena::create(1).expect("an arena");
    let model = Words::of(&model);
    let len = match shape & 3 {
        0 => model.len() as u64,
        1 => (model.len() as u64).wrapping_add_signed(i64::from(input.byte() as i8)),
        _ => input.number() % (1 << 32),
    };
    let file = File::from(memfd_create(c"fuzz", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd"));
    file.set_len(len).expect("a length");
    let mut contents: Vec<u8> = (0..512)
        .step_by(8)
        .flat_map(|at| model.at(at).load(std::sync::atomic::Ordering::Relaxed).to_le_bytes())
        .collect();
    for _ in 0..input.byte() % 8 {
        let at = usize::from(input.byte()) % (contents.len() / 8) * 8;
        let word = input.number().to_le_bytes();
        contents[at..at + 8].copy_from_slice(&word);
    }
    contents.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    (&file).write_all(&contents).expect("room");
    let mut seals = SealFlag::empty();
    for (bit, seal) in [
        (4, SealFlag::F_SEAL_SHRINK),
        (8, SealFlag::F_SEAL_GROW),
        (16, SealFlag::F_SEAL_WRITE),
    ] {
        // Mostly sealed, as what is not is refused at once.
        if (shape & bit == 0) != (bit == 16) {
            seals |= seal;
        }
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    let fd = OwnedFd::from(file);
    match Segment::from_fd(fd.try_clone().expect("a descriptor")) {
        Ok(segment) => {
            assert!(segment.len() as u64 == len && seals.contains(SealFlag::F_SEAL_SHRINK));
            let mapping = segment.map().expect("address space");
            assert_eq!(mapping.len(), segment.len());
            if mapping.is_writable() {
                touch(mapping.as_ptr(), mapping.len());
            }
            for range in [
                input.number() as usize..input.number() as usize,
                0..segment.len().min(4096),
            ] {
                if range.len() < 1 << 20
                    && let Err(error) = segment.reserve(range)
                {
                    in_words(&error);
                }
            }
        }
        Err(error) => {
            in_words(&error);
            assert!(len == 0 || !seals.contains(SealFlag::F_SEAL_SHRINK));
        }
    }
    match Arena::attach(fd) {
        Ok(arena) => arena::exercise(arena, &mut input),
        Err(error) => in_words(&error),
    }
}
