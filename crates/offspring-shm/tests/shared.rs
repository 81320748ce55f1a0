//! Shared values in one process: handles, types, exhaustion, threads.

use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use offspring_shm::{Handle, Shared, SharedSlice, family};

#[test]
fn a_value_is_read_in_place_by_every_handle() {
    let value = Shared::new((1_u8, 2_u64, [3_i32; 5])).unwrap();
    let same = Shared::<(u8, u64, [i32; 5])>::from_handle(value.to_handle()).unwrap();
    assert_eq!(*same, (1, 2, [3; 5]));
    assert!(std::ptr::eq(&raw const *value, &raw const *same));
    let counter = Shared::new(AtomicU64::new(1)).unwrap();
    let copy = counter.clone();
    drop(counter);
    copy.fetch_add(1, Relaxed);
    assert_eq!(copy.load(Relaxed), 2);
    assert_eq!(format!("{copy:?}"), "Shared(2)");
}

#[test]
fn slices_of_all_makes() {
    let copied = SharedSlice::from_slice(&[1.5_f64, 2.5]).unwrap();
    assert_eq!(*copied, [1.5, 2.5]);
    let made = SharedSlice::from_fn(100_000, |i| i as u32).unwrap();
    assert_eq!(made.iter().map(|&n| u64::from(n)).sum::<u64>(), 99_999 * 100_000 / 2);
    let zeroed = SharedSlice::<AtomicU32>::zeroed(1000).unwrap();
    zeroed[7].store(9, Relaxed);
    assert_eq!(zeroed.iter().map(|n| n.load(Relaxed)).sum::<u32>(), 9);
    let built = SharedSlice::build(3 << 20, |bytes: &mut [u8]| bytes.fill(7)).unwrap();
    assert!(built.iter().all(|&byte| byte == 7));
    let again = SharedSlice::<u8>::from_handle(built.to_handle()).unwrap();
    drop(built);
    assert_eq!(again.len(), 3 << 20);
    assert!(again.into_iter().all(|&byte| byte == 7));
    let empty = SharedSlice::<u64>::from_slice(&[]).unwrap();
    assert!(SharedSlice::<u64>::from_handle(empty.to_handle()).unwrap().is_empty());
    assert_eq!(format!("{copied:?}"), "SharedSlice([1.5, 2.5])");
}

#[test]
fn what_is_gone_stays_gone() {
    let value = Shared::new(AtomicU64::new(5)).unwrap();
    let handle = value.to_handle();
    drop(value);
    // Its record and its block are used again.
    let others: Vec<_> = (0..200).map(|n| Shared::new(AtomicU64::new(n)).unwrap()).collect();
    let error = Shared::<AtomicU64>::from_handle(handle).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("keep a handle alive"), "{error}");
    assert!(
        others
            .iter()
            .enumerate()
            .all(|(n, other)| other.load(Relaxed) == n as u64)
    );
    assert!(
        others
            .iter()
            .all(|other| Shared::<AtomicU64>::from_handle(other.to_handle()).is_ok())
    );
}

#[test]
fn a_handle_of_something_else_is_refused() {
    let value = Shared::new(AtomicU64::new(5)).unwrap();
    let handle = value.to_handle();
    let message = |error: std::io::Error| error.to_string();
    assert!(message(Shared::<u64>::from_handle(handle).unwrap_err()).contains("another type"));
    assert!(message(SharedSlice::<AtomicU64>::from_handle(handle).unwrap_err()).contains("another type"));
    let slice = SharedSlice::from_slice(&[1_u64, 2]).unwrap();
    let long = Handle {
        len: 3,
        ..slice.to_handle()
    };
    assert!(message(SharedSlice::<u64>::from_handle(long).unwrap_err()).contains("length"));
    assert!(message(Shared::<u64>::from_handle(slice.to_handle()).unwrap_err()).contains("single"));
    for offset in [
        0,
        1,
        handle.offset + 1,
        handle.offset + 8,
        handle.offset + (1 << 30),
        u64::MAX,
    ] {
        assert!(
            Shared::<AtomicU64>::from_handle(Handle { offset, ..handle }).is_err(),
            "{offset:#x}"
        );
    }
    for id in [0, handle.id + (1 << 40), u64::MAX] {
        assert!(Shared::<AtomicU64>::from_handle(Handle { id, ..handle }).is_err());
    }
    // A failed attempt has taken nothing from those who hold it.
    assert_eq!(value.load(Relaxed), 5);
    assert_eq!(Shared::<AtomicU64>::from_handle(handle).unwrap().load(Relaxed), 5);
}

#[test]
fn what_does_not_fit_is_an_error_and_leaves_nothing() {
    let capacity = family::arena().unwrap().capacity();
    let error = SharedSlice::<u8>::build(capacity + 1, |_| unreachable!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(SharedSlice::<u64>::zeroed(usize::MAX).is_err());
    assert!(SharedSlice::<u64>::zeroed(usize::MAX / 8).is_err());
}

#[test]
fn a_panic_while_filling_frees_the_block() {
    let arena = family::arena().unwrap();
    let size = 40 << 20;
    let extents = || {
        arena
            .census()
            .owners
            .values()
            .filter(|holding| holding.bytes >= size)
            .count()
    };
    let panicked = std::panic::catch_unwind(|| {
        SharedSlice::from_fn(size, |i| if i == 1000 { panic!("in the middle") } else { 0_u8 }).map(drop)
    });
    assert!(panicked.is_err());
    assert_eq!(extents(), 0);
}

#[test]
fn threads_take_and_drop_handles_at_once() {
    let value = Shared::new(AtomicU64::new(0)).unwrap();
    let handle = value.to_handle();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    Shared::<AtomicU64>::from_handle(handle).unwrap().fetch_add(1, Relaxed);
                    let own = Shared::new(7_u32).unwrap();
                    assert_eq!(*own.clone(), 7);
                }
            });
        }
    });
    assert_eq!(value.load(Relaxed), 8000);
}

#[test]
fn a_ledger_that_is_garbage_ends_with_its_value() {
    for (first, stride, count) in [
        (0, 0, usize::MAX),
        (u32::MAX, 8, 1),
        (0, 1, usize::MAX),
        (4, u32::MAX, 2),
    ] {
        let slice = SharedSlice::<u64>::zeroed(4).unwrap();
        let handle = slice.to_handle();
        slice.set_ledger(first, stride, count);
        drop(slice);
        assert!(SharedSlice::<u64>::from_handle(handle).is_err());
    }
}
