//! One encoded value: what it holds, and what is left when it is gone.

// UNSAFETY: takes over blocks as parcels whose roots are wrong.
#![expect(unsafe_code, reason = "makes parcels of any root, to be refused")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use offspring_queue::Parcel;
use offspring_shm::family;
use rkyv::rancor::Fallible;
use rkyv::{Archive, Deserialize, Place, Serialize};

/// A value whose own code panics while it is written.
struct Fuse;

impl Archive for Fuse {
    type Archived = ();
    type Resolver = ();

    fn resolve(&self, (): (), _: Place<()>) {}
}

impl<S: Fallible + ?Sized> Serialize<S> for Fuse {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        panic!("in the middle of writing")
    }
}

impl<D: Fallible + ?Sized> Deserialize<Fuse, D> for () {
    fn deserialize(&self, _: &mut D) -> Result<Fuse, D::Error> {
        Ok(Fuse)
    }
}

#[test]
fn what_was_written_is_read() {
    let (arena, me) = (family::arena().unwrap(), family::me().unwrap());
    arena.flush();
    let before = arena.census().blocks;
    let value = (
        vec!["one".to_string(), "two".repeat(100_000)],
        Some(7_u32),
        [1.5_f64; 4],
    );
    let parcel = Parcel::encode(arena, me, &value).unwrap();
    parcel.check().unwrap();
    assert_eq!(parcel.view().unwrap().0[0], "one");
    assert_eq!(parcel.decode().unwrap(), value);
    drop(parcel);
    let nothing = Parcel::encode(arena, me, &()).unwrap();
    nothing.decode().unwrap();
    drop(nothing);
    arena.flush();
    assert_eq!(arena.census().blocks, before);
}

#[test]
fn vectors_are_made_where_they_are_read() {
    let (arena, _) = (family::arena().unwrap(), family::me().unwrap());
    arena.flush();
    let before = arena.census().blocks;
    for len in [0, 1, 7, 100_000] {
        let parcel = Parcel::from_fn(len, |n| [n as u16, 3, 4]).unwrap();
        parcel.check().unwrap();
        let expected: Vec<_> = (0..len).map(|n| [n as u16, 3, 4]).collect();
        assert_eq!(parcel.decode().unwrap(), expected);
    }
    for len in [1 << 31, usize::MAX] {
        let error = Parcel::from_fn(len, |_| 1_u64).map(drop).unwrap_err();
        assert!(error.to_string().contains("2 GiB"), "{error}");
    }
    let panics = AssertUnwindSafe(|| Parcel::from_fn(1000, |n| if n == 500 { panic!("half-way") } else { 1_u8 }));
    catch_unwind(panics).map(drop).unwrap_err();
    arena.flush();
    assert_eq!(arena.census().blocks, before);
}

#[test]
fn a_panic_while_writing_leaves_nothing_behind() {
    let (arena, me) = (family::arena().unwrap(), family::me().unwrap());
    arena.flush();
    let before = arena.census().blocks;
    for len in [0, 10, 10_000, 3 << 20] {
        let value = ("x".repeat(len), Fuse);
        catch_unwind(AssertUnwindSafe(|| Parcel::encode(arena, me, &value))).unwrap_err();
    }
    arena.flush();
    assert_eq!(arena.census().blocks, before);
}

#[test]
fn a_root_that_cannot_be_is_refused() {
    let (arena, me) = (family::arena().unwrap(), family::me().unwrap());
    let (block, root) = Parcel::encode(arena, me, &7_u64).unwrap().into_raw();
    for wrong in [root + 1, 0, u64::MAX] {
        // SAFETY: the block is ours and holds a number; that no number lies at `wrong` is what is tried.
        let parcel = unsafe { Parcel::<u64>::from_raw(arena, block, wrong) };
        assert!(parcel.view().is_err() && parcel.decode().is_err() && parcel.check().is_err());
        let erased = parcel.erase();
        // SAFETY: as above.
        assert!(unsafe { erased.view_as::<u64>() }.is_err());
        std::mem::forget(erased);
    }
    // SAFETY: as it was given away.
    let parcel = unsafe { Parcel::<u64>::from_raw(arena, block, root) };
    assert_eq!(parcel.decode().unwrap(), 7);
}
