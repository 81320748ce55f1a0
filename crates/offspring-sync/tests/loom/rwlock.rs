//! Readers' cells and the writers' word.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::UnsafeCell;
use offspring_sync::primitive::model::Mutant;
use offspring_sync::raw::{Acquired, RawLock, RawRwLock, ReaderCell};

use crate::world::{Members, at_every_step, change, live, must_fail, read, share, tag, undisturbed};

#[derive(Debug)]
struct Shelf {
    members: Members,
    writer: RawLock,
    cells: [ReaderCell; 2],
    data: UnsafeCell<(u32, u32)>,
}

impl Shelf {
    fn new() -> Arc<Self> {
        share(Shelf {
            members: Members::new(),
            writer: RawLock::new(),
            cells: [const { ReaderCell::new() }; 2],
            data: UnsafeCell::new((0, 0)),
        })
    }

    fn raw(&self) -> RawRwLock<'_> {
        RawRwLock {
            writer: &self.writer,
            cells: &self.cells,
        }
    }

    fn read(&self, index: usize) {
        let raw = self.raw();
        let (acquired, seat) = match raw.read_free(tag(index)) {
            Some(seat) => (Acquired::Clean, seat),
            None => raw.read(&self.members, tag(index), None).unwrap(),
        };
        let data = read(&self.data);
        assert!(
            data.0 == data.1 || acquired != Acquired::Clean,
            "half-written data without a word of warning"
        );
        raw.read_unlock(tag(index), seat, acquired != Acquired::Clean).unwrap();
    }

    fn write(&self, index: usize) {
        let raw = self.raw();
        raw.write(&self.members, tag(index), None).unwrap();
        change(&self.data, |data| data.0 += 1);
        self.writer.state();
        change(&self.data, |data| data.1 = data.0);
        raw.write_unlock(tag(index), false).unwrap();
    }
}

fn rwlock(reader_dies: bool, preemptions: usize) {
    at_every_step(preemptions, move |stop| {
        let shelf = Shelf::new();
        let other = Arc::clone(&shelf);
        let thread = thread::spawn(move || {
            live(&other.members, 1, None, || {
                if reader_dies { other.write(1) } else { other.read(1) }
            });
        });
        live(&shelf.members, 0, stop, || {
            if reader_dies { shelf.read(0) } else { shelf.write(0) }
        });
        thread.join().unwrap();
        // Whoever died where: the lock can be had for both.
        shelf.read(2);
        shelf.raw().write(&shelf.members, tag(2), None).unwrap();
    });
}

#[test]
fn rwlock_with_a_dying_reader() {
    rwlock(true, 2);
}

#[test]
fn rwlock_with_a_dying_writer() {
    rwlock(false, 2);
}

#[test]
fn rwlock_with_two_writers_and_a_reader() {
    undisturbed(1, || {
        let shelf = Shelf::new();
        let threads: Vec<_> = (1..3)
            .map(|index| {
                let shelf = Arc::clone(&shelf);
                thread::spawn(move || if index == 1 { shelf.write(1) } else { shelf.read(2) })
            })
            .collect();
        shelf.write(0);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(read(&shelf.data), (2, 2));
    });
}

#[test]
fn rwlock_notices_a_missing_fence() {
    must_fail(Mutant::NoFence, "rwlock::rwlock_with_a_dying_reader");
}

#[test]
fn rwlock_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "rwlock::rwlock_with_a_dying_reader");
}

#[test]
fn rwlock_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "rwlock::rwlock_with_a_dying_writer");
}
