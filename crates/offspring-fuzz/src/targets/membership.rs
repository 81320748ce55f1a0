//! A table of members whose words are overwritten, but for libc's own mutexes in it.

// UNSAFETY: makes memberships in a mapping whose words are overwritten.
#![expect(unsafe_code, reason = "memberships in memory that is overwritten")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use offspring_shm::{Mapping, Segment};
use offspring_sync::raw::Lives;
use offspring_sync::{Membership, Tag};

use super::in_words;
use crate::input::Input;
use crate::memory::Words;

/// The most operations of one run.
const STEPS: usize = 32;

/// A record, and how much of it is libc's.
const RECORD: usize = 128;
const TOKEN: usize = 64;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let members = 1 + input.below(130);
    let len = Membership::bytes_for(members);
    let segment = Segment::anonymous("fuzz-membership", len.next_multiple_of(4096)).expect("a memfd");
    let mapping: Arc<Mapping> = Arc::new(segment.map().expect("address space"));
    let words = Words::over(&segment);
    // SAFETY: nobody else uses the mapping, and the Arc keeps it.
    let membership = unsafe { Membership::init_at(mapping.as_ptr(), len, members, Arc::<Mapping>::clone(&mapping)) };
    let membership = membership.expect("there is room");
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            // The header, without the count of records that are made: one that is too small has live tokens made anew.
            0 => words
                .at(usize::from(input.byte() % 2) * 8)
                .store(input.number(), Relaxed),
            1 => {
                let layout = words.at(16);
                layout.store(layout.load(Relaxed) & 0xffff_ffff | input.number() << 32, Relaxed);
            }
            2 => {
                let counts = words.at(24);
                let ready = (counts.load(Relaxed) as u32).max(input.number() as u32);
                counts.store(input.number() << 32 | u64::from(ready), Relaxed);
            }
            3 => {
                let record = RECORD * (1 + input.below(members + 1));
                words
                    .at(record + TOKEN + usize::from(input.byte()) % (RECORD - TOKEN))
                    .store(input.number(), Relaxed);
            }
            4 => {
                // SAFETY: as above; whoever writes here besides this crate is what is tried.
                match unsafe { Membership::attach_at(mapping.as_ptr(), len, Arc::<Mapping>::clone(&mapping)) } {
                    Ok(other) => assert!(Membership::bytes_for(other.capacity()) <= len),
                    Err(error) => in_words(&error),
                }
            }
            5 => join(&membership),
            6 => {
                let tag = match input.byte() % 2 {
                    0 => Tag::from_bits(input.number() as u32),
                    _ => Tag::new(1 + input.below(members + 2), u32::from(input.byte() % 4)),
                };
                if let Some(tag) = tag {
                    let _ = (membership.is_dead(tag), membership.inquire(tag));
                    if let Some(member) = membership.member(tag) {
                        assert!(member.to_string().starts_with("thread "));
                    }
                }
            }
            _ => {
                assert!(membership.members().len() <= members);
                assert!(format!("{membership:?}").contains("Membership"));
            }
        }
    }
}

/// A thread that becomes a member, and ends.
fn join(membership: &Membership) {
    std::thread::scope(|scope| {
        scope.spawn(|| match membership.me() {
            Ok(tag) => assert_eq!(membership.is_dead(tag), Some(false)),
            Err(error) => in_words(&error),
        });
    });
}
