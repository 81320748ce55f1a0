//! Segments and mappings: names, seals, reservation, and what is refused.

// UNSAFETY: writes to mappings through raw addresses.
#![expect(unsafe_code, reason = "bytes of a mapping that this test alone has")]

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use offspring_shm::{Arena, Mapping, Segment};

fn write(mapping: &Mapping, at: usize, value: u8) {
    assert!(at < mapping.len());
    // SAFETY: in bounds, and no other test has this segment.
    unsafe { mapping.as_ptr().add(at).write(value) };
}

fn read(mapping: &Mapping, at: usize) -> u8 {
    assert!(at < mapping.len());
    // SAFETY: as in `write`.
    unsafe { mapping.as_ptr().add(at).read() }
}

fn name(what: &str) -> String {
    format!("offspring-test-{what}-{}", std::process::id())
}

fn clone(segment: &Segment) -> OwnedFd {
    segment.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn an_anonymous_segment_is_shared_by_its_descriptor() {
    let segment = Segment::anonymous("test", 10_000).unwrap();
    assert_eq!(segment.len(), 10_000);
    let first = segment.map().unwrap();
    let second = Segment::from_fd(clone(&segment)).unwrap().map().unwrap();
    assert_eq!((first.len(), second.len()), (10_000, 10_000));
    assert!(first.is_writable());
    write(&first, 9_999, 42);
    assert_eq!(read(&second, 9_999), 42);
    assert_eq!(read(&second, 0), 0);
    // A mapping outlives its segment.
    drop(segment);
    write(&second, 1, 7);
    assert_eq!(read(&first, 1), 7);
}

#[test]
fn the_size_of_an_anonymous_segment_is_final() {
    let segment = Segment::anonymous("test", 4096).unwrap();
    let file = File::from(clone(&segment));
    assert_eq!(file.set_len(0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(file.set_len(1 << 20).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let error = segment.seal_writes().unwrap_err();
    assert!(error.to_string().contains("anonymous_sealable"), "{error}");
}

#[test]
fn sealed_contents_are_read_only_for_everybody() {
    let segment = Segment::anonymous_sealable("test", 4096).unwrap();
    let mapping = segment.map().unwrap();
    write(&mapping, 5, 55);
    let error = segment.seal_writes().unwrap_err();
    assert!(error.to_string().contains("mapping"), "{error}");
    drop(mapping);
    segment.seal_writes().unwrap();
    let mapping = segment.map().unwrap();
    assert!(!mapping.is_writable());
    assert_eq!(read(&mapping, 5), 55);
    let again = Segment::from_fd(clone(&segment)).unwrap().map().unwrap();
    assert_eq!(read(&again, 5), 55);
    assert!(Arena::attach(clone(&segment)).is_err());
}

#[test]
fn a_named_segment_is_found_until_its_creator_drops_it() {
    let name = name("named");
    let segment = Segment::create_named(&name, 5000).unwrap();
    let path = Path::new("/dev/shm").join(&name);
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o777,
        0o600
    );
    let opened = Segment::open_named(&name).unwrap();
    assert_eq!(opened.len(), 5000);
    let (mine, theirs) = (segment.map().unwrap(), opened.map().unwrap());
    write(&mine, 4999, 9);
    assert_eq!(read(&theirs, 4999), 9);
    assert_eq!(
        Segment::create_named(&name, 5000).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    drop(opened);
    assert!(path.exists(), "only the creator removes the name");
    drop(segment);
    assert!(!path.exists());
    assert_eq!(Segment::open_named(&name).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Segment::unlink(&name).unwrap_err().kind(), ErrorKind::NotFound);
    write(&theirs, 0, 1);
}

#[test]
fn a_leaked_name_can_be_removed() {
    let name = name("leaked");
    std::mem::forget(Segment::create_named(&name, 1).unwrap());
    Segment::unlink(&name).unwrap();
    assert_eq!(Segment::open_named(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn bad_names_are_refused_in_words() {
    let long = "x".repeat(255);
    for (bad, word) in [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("a/b", "slash"),
        ("/a", "slash"),
        (&long, "255 bytes"),
        (".", "directory"),
        ("..", "directory"),
    ] {
        for error in [
            Segment::create_named(bad, 1).unwrap_err(),
            Segment::open_named(bad).unwrap_err(),
            Segment::unlink(bad).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
    assert!(Segment::anonymous("a\0b", 1).unwrap_err().to_string().contains("NUL"));
    assert!(Segment::anonymous(&long, 1).unwrap_err().to_string().contains("249"));
}

#[test]
fn bad_sizes_are_refused() {
    for len in [0, usize::MAX, 1 << 63] {
        let error = Segment::anonymous("test", len).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge),
            "{len}: {error}"
        );
    }
    let name = name("sizes");
    assert!(
        Segment::create_named(&name, 0)
            .unwrap_err()
            .to_string()
            .contains("at least one byte")
    );
    assert!(!Path::new("/dev/shm").join(&name).exists());
}

#[test]
fn too_large_a_name_fails_at_once_and_leaves_nothing() {
    // A file system without a limit would try.
    let shm = nix_statvfs_blocks();
    if shm == 0 {
        return;
    }
    let name = name("huge");
    let error = Segment::create_named(&name, 1 << 45).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(!Path::new("/dev/shm").join(&name).exists());
}

fn nix_statvfs_blocks() -> u64 {
    nix::sys::statvfs::statvfs("/dev/shm").unwrap().blocks()
}

#[test]
fn a_file_without_a_size_is_not_opened() {
    let name = name("young");
    let path = Path::new("/dev/shm").join(&name);
    File::create(&path).unwrap();
    let error = Segment::open_named(&name).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
}

#[test]
fn descriptors_that_are_no_segments_are_refused() {
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    assert!(Segment::from_fd(null).unwrap_err().to_string().contains("not a memfd"));
    let name = name("unsealed");
    let segment = Segment::create_named(&name, 100).unwrap();
    let error = Segment::from_fd(clone(&segment)).unwrap_err();
    assert!(error.to_string().contains("shrinking"), "{error}");
}

#[test]
fn reservation_takes_memory_and_checks_its_range() {
    let segment = Segment::anonymous("test", 1 << 20).unwrap();
    let blocks = || nix::sys::stat::fstat(&segment).unwrap().st_blocks as usize * 512;
    assert_eq!(blocks(), 0);
    segment.reserve(0..65_536).unwrap();
    assert_eq!(blocks(), 65_536);
    segment.reserve(10..10).unwrap();
    segment.reserve(0..1 << 20).unwrap();
    assert_eq!(blocks(), 1 << 20);
    for range in [0..(1 << 20) + 1, 1 << 21..1 << 22] {
        assert_eq!(segment.reserve(range).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn an_arena_is_not_made_of_anything_else() {
    for len in [1, 4095, 4096, 1 << 20] {
        let segment = Segment::anonymous("test", len).unwrap();
        let error = Arena::attach(clone(&segment)).unwrap_err();
        assert!(error.to_string().contains("no arena"), "{error}");
    }
    assert!(Arena::create(0).is_err());
    assert!(Arena::create(usize::MAX).is_err());
}

#[test]
fn nothing_stays_open() {
    let before = descriptors();
    for _ in 0..20 {
        let segment = Segment::anonymous("test", 4096).unwrap();
        let raw = segment.as_fd().as_raw_fd();
        drop(segment.map().unwrap());
        drop(segment);
        assert!(!before.contains(&raw) || raw >= 0);
        drop(Arena::create(1 << 20).unwrap());
        assert!(Segment::from_fd(OwnedFd::from(File::open("/dev/null").unwrap())).is_err());
    }
    // Other tests of this binary open and close some meanwhile.
    assert!(descriptors().len() < before.len() + 15);
}

fn descriptors() -> Vec<i32> {
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
