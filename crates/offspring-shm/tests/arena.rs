//! The arena in one process: sizes, threads, exhaustion, several owners.

// UNSAFETY: writes to blocks through raw addresses, frees and sweeps them.
#![expect(unsafe_code, reason = "blocks are used and freed as their owner does")]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use offspring_shm::{Arena, Block, Census, Owner, Segment};

const MIB: usize = 1 << 20;

/// xorshift64: a torture test prints its seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64
            | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// All magnitudes are equally likely.
    fn size(&mut self, largest: usize) -> usize {
        let magnitude = self.below(largest.ilog2() as usize + 1);
        (self.below(2 << magnitude) + 1).min(largest)
    }
}

fn arena(mib: usize) -> (Arena, Owner) {
    let arena = Arena::create(mib * MIB).unwrap();
    let me = arena.reserve_child(None).unwrap();
    (arena, me)
}

/// Writes the block's own number all over it.
fn fill(arena: &Arena, block: Block, number: u64) {
    let at = arena.pointer(block.offset, block.capacity).unwrap().cast::<u64>();
    let step = (block.capacity / 8 / 512).max(1);
    for word in (0..block.capacity / 8).step_by(step) {
        // SAFETY: inside the block, which this test owns.
        unsafe { at.add(word).write(number) };
    }
}

fn check(arena: &Arena, block: Block, number: u64) {
    let at = arena.pointer(block.offset, block.capacity).unwrap().cast::<u64>();
    let step = (block.capacity / 8 / 512).max(1);
    for word in (0..block.capacity / 8).step_by(step) {
        // SAFETY: as in `fill`.
        let found = unsafe { at.add(word).read() };
        assert_eq!(found, number, "somebody else wrote into {block:?}");
    }
}

fn free(arena: &Arena, block: Block) {
    // SAFETY: every caller is done with the block.
    assert!(unsafe { arena.free(block) }, "{block:?} was not in use");
}

fn assert_clean(arena: &Arena) {
    arena.flush();
    let census = arena.census();
    assert_eq!(
        (census.blocks, census.bytes, census.orphans, census.garbage),
        (0, 0, 0, 0),
        "{census:?}"
    );
}

#[test]
fn random_sizes_never_overlap() {
    let (arena, me) = arena(256);
    let mut random = Random::new();
    let mut live: Vec<(Block, u64)> = Vec::new();
    let mut full = 0;
    for number in 0..5000 {
        let len = random.size(8 * MIB);
        match arena.allocate(me, len) {
            Ok(block) => {
                assert!(block.capacity >= len);
                assert_eq!(block.offset % 256, 0);
                fill(&arena, block, number);
                live.push((block, number));
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                full += 1;
            }
        }
        while !live.is_empty()
            && (random.below(100) < 45 || live.iter().map(|(b, _)| b.capacity).sum::<usize>() > 128 * MIB)
        {
            let (block, number) = live.swap_remove(random.below(live.len()));
            check(&arena, block, number);
            free(&arena, block);
        }
    }
    assert!(full < 2500, "{full} of 5000 failed with half the arena free");
    let mut ranges: BTreeMap<u64, usize> = BTreeMap::new();
    for &(block, number) in &live {
        check(&arena, block, number);
        ranges.insert(block.offset, block.capacity);
    }
    for ((a, len), (b, _)) in ranges.iter().zip(ranges.iter().skip(1)) {
        assert!(a + *len as u64 <= *b, "blocks overlap");
    }
    live.into_iter().for_each(|(block, _)| free(&arena, block));
    assert_clean(&arena);
}

#[test]
fn threads_share_an_arena() {
    let (arena, me) = arena(128);
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let arena = &arena;
            scope.spawn(move || {
                let mut random = Random::new();
                let mut live = Vec::new();
                for step in 0..3000 {
                    let number = thread << 32 | step;
                    if let Ok(block) = arena.allocate(me, random.size(3 * MIB)) {
                        fill(arena, block, number);
                        live.push((block, number));
                    }
                    while live.len() > 12 || (!live.is_empty() && random.below(2) == 0) {
                        let (block, number) = live.swap_remove(random.below(live.len()));
                        check(arena, block, number);
                        free(arena, block);
                    }
                }
                live.into_iter().for_each(|(block, _)| free(arena, block));
            });
        }
    });
    assert_clean(&arena);
}

#[test]
fn a_full_arena_says_so_and_recovers() {
    let (arena, me) = arena(8);
    let blocks: Vec<Block> = (0..).map_while(|_| arena.allocate(me, 100_000).ok()).collect();
    assert_eq!(blocks.len(), 64);
    let error = arena.allocate(me, 100_000).unwrap_err();
    assert!(error.is_full());
    let text = error.to_string();
    assert!(
        text.contains("8 MiB of 8 MiB are in use") && text.contains("set_capacity"),
        "{text}"
    );
    // What was cut into small blocks can be had as one large block again.
    blocks.into_iter().for_each(|block| free(&arena, block));
    let all = arena.allocate(me, 8 * MIB).unwrap();
    assert!(arena.allocate(me, 1).unwrap_err().is_full());
    free(&arena, all);
    let small: Vec<Block> = (0..).map_while(|_| arena.allocate(me, 1).ok()).collect();
    assert_eq!(small.len(), 8 * MIB / 256);
    small.into_iter().for_each(|block| free(&arena, block));
    assert!(arena.allocate(me, 9 * MIB).unwrap_err().is_full());
    assert!(arena.allocate(me, usize::MAX).unwrap_err().is_full());
    assert_clean(&arena);
}

#[test]
fn extents_grow_where_there_is_room() {
    let (arena, me) = arena(16);
    let first = arena.allocate(me, 2 * MIB).unwrap();
    fill(&arena, first, 1);
    let grown = arena.grow_in_place(first, 5 * MIB).unwrap();
    assert_eq!(
        grown,
        Block {
            offset: first.offset,
            capacity: 5 * MIB
        }
    );
    let next = arena.allocate(me, MIB).unwrap();
    assert_eq!(arena.grow_in_place(grown, 6 * MIB), None);
    assert_eq!(arena.grow_in_place(grown, 4 * MIB), Some(grown));
    free(&arena, next);
    assert!(arena.grow_in_place(grown, 16 * MIB).is_some());
    let whole = Block {
        offset: first.offset,
        capacity: 16 * MIB,
    };
    assert_eq!(arena.grow_in_place(whole, 17 * MIB), None);
    free(&arena, whole);
    let small = arena.allocate(me, 300).unwrap();
    assert_eq!(arena.grow_in_place(small, 512), Some(small));
    assert_eq!(arena.grow_in_place(small, 513), None);
    free(&arena, small);
    assert_clean(&arena);
}

#[test]
fn blocks_change_hands_and_the_dead_are_swept() {
    let (arena, me) = arena(32);
    let child = arena.reserve_child(Some(me)).unwrap();
    assert_eq!(arena.children_of(me), [child]);
    let small = arena.allocate(me, 1000).unwrap();
    let large = arena.allocate(me, 3 * MIB).unwrap();
    let kept = arena.allocate(child, 2 * MIB).unwrap();
    let lost = [
        arena.allocate(child, 5).unwrap(),
        arena.allocate(child, 4 * MIB).unwrap(),
    ];
    // SAFETY: nobody uses the blocks, and there is no process behind `child`.
    unsafe {
        assert!(arena.transfer(small, me, child));
        assert!(arena.transfer(large, me, child));
        assert!(!arena.transfer(small, me, child), "a block was given away twice");
        assert!(arena.transfer(kept, child, me));
    }
    assert_eq!(arena.owner_of(small.offset), Some(child));
    assert_eq!(arena.owner_of(kept.offset), Some(me));
    fill(&arena, kept, 7);
    // SAFETY: there is no process behind `child`.
    unsafe {
        assert_eq!(arena.sweep(child, me), 4);
        assert_eq!(arena.sweep(child, me), 0);
    }
    for block in [small, large, lost[0], lost[1]] {
        assert_eq!(arena.owner_of(block.offset), None);
    }
    check(&arena, kept, 7);
    free(&arena, kept);
    assert_clean(&arena);
}

#[test]
fn two_mappings_see_the_same_blocks() {
    let (arena, me) = arena(8);
    let other = Arena::attach(arena.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let block = arena.allocate(me, 5000).unwrap();
    fill(&arena, block, 99);
    check(&other, block, 99);
    arena.roots()[3].store(block.offset, Relaxed);
    assert_eq!(other.roots()[3].load(Relaxed), block.offset);
    free(&other, block);
    assert_eq!(arena.owner_of(block.offset), None);
    assert_clean(&arena);
}

#[test]
fn memory_is_given_back_above_the_watermark() {
    let (arena, me) = arena(64);
    arena.set_watermark(8 * MIB);
    let block = arena.allocate(me, 32 * MIB).unwrap();
    assert_eq!(arena.census().committed, 32 * MIB);
    fill(&arena, block, 1);
    free(&arena, block);
    assert_eq!(arena.census().committed, 8 * MIB);
    for _ in 0..10 {
        let block = arena.allocate(me, 32 * MIB).unwrap();
        fill(&arena, block, 2);
        free(&arena, block);
    }
    assert_eq!(arena.census().committed, 8 * MIB);
    assert_clean(&arena);
}

#[test]
fn garbage_offsets_are_errors() {
    let (arena, me) = arena(4);
    let block = arena.allocate(me, 256).unwrap();
    let end = block.offset + 4 * MIB as u64;
    for offset in [
        0,
        8,
        block.offset + 1,
        block.offset + 64,
        end,
        end + MIB as u64,
        1 << 40,
        u64::MAX,
    ] {
        let garbage = Block { offset, capacity: 256 };
        assert_eq!(arena.owner_of(offset), None, "{offset:#x}");
        assert_eq!(arena.grow_in_place(garbage, 1), None);
        // SAFETY: nothing is in use there.
        assert!(!unsafe { arena.free(garbage) }, "{offset:#x}");
        // SAFETY: as above.
        assert!(!unsafe { arena.transfer(garbage, me, me) });
    }
    for (offset, len) in [
        (0, 1),
        (block.offset, 8 * MIB),
        (block.offset, usize::MAX),
        (block.offset - 1, 1),
        (end - 1, 1),
        (end, 0),
        (u64::MAX, usize::MAX),
    ] {
        let error = arena.pointer(offset, len).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{offset:#x} {len}");
    }
    free(&arena, block);
    assert_clean(&arena);
}

#[test]
fn the_roster_is_bounded_and_tags_do_not_come_back() {
    let (arena, me) = arena(1);
    let mut seen = std::collections::HashSet::from([me]);
    while let Ok(child) = arena.reserve_child(Some(me)) {
        assert!(seen.insert(child));
    }
    assert_eq!(seen.len(), 4095);
    let error = arena.reserve_child(Some(me)).unwrap_err();
    assert!(error.to_string().contains("4095"), "{error}");
    assert_eq!(arena.children_of(me).len(), 4094);
}

#[test]
fn a_census_of_nothing_is_empty() {
    let (arena, _) = arena(2);
    let empty = arena.census();
    assert_eq!(empty.capacity, 2 * MIB);
    assert_eq!((empty.blocks, empty.committed, empty.slabs), Default::default());
    assert!(empty.owners.is_empty());
    let _: Census = empty;
}

/// Every operation, with whatever the words say; none may panic or touch memory that is not mapped.
fn exercise(arena: &Arena, me: Owner, other: Owner, random: &mut Random) {
    let first = arena.capacity() as u64;
    let mut blocks = Vec::new();
    for _ in 0..30 {
        blocks.extend(arena.allocate(me, random.size(4 * MIB)));
        blocks.extend(arena.allocate(other, random.size(MIB)));
    }
    for block in &mut blocks {
        if let Some(grown) = arena.grow_in_place(*block, random.size(6 * MIB)) {
            *block = grown;
        }
        let _ = arena.pointer(block.offset, block.capacity);
        let _ = arena.owner_of(block.offset + random.below(1 << 22) as u64 * 256);
        // SAFETY: nobody reads or writes any block here.
        unsafe {
            match random.below(3) {
                0 => drop(arena.transfer(*block, me, other)),
                1 => drop(arena.free(*block)),
                _ => {}
            }
        }
    }
    for _ in 0..50 {
        let offset = first + random.below(20 * MIB) as u64 / 256 * 256;
        // SAFETY: as above.
        unsafe { arena.free(Block { offset, capacity: 1 }) };
    }
    let _ = arena.reserve_child(Some(me));
    let _ = arena.children_of(me);
    let _ = arena.process_of(other);
    // SAFETY: no process has this tag.
    unsafe { arena.sweep(other, me) };
    arena.flush();
    let _ = arena.census();
}

#[test]
fn garbage_words_do_no_harm() {
    let mut random = Random::new();
    for _ in 0..150 {
        let (arena, me) = arena(12);
        let other = arena.reserve_child(Some(me)).unwrap();
        exercise(&arena, me, other, &mut random);
        // All control words are in front of the first block.
        let words = Segment::from_fd(arena.as_fd().try_clone_to_owned().unwrap())
            .unwrap()
            .map()
            .unwrap();
        let control = (words.len() - arena.capacity()) / 8;
        let word = |at: usize| {
            // SAFETY: in bounds, aligned, and accessed as an atomic by everybody.
            unsafe { words.as_ptr().cast::<AtomicU64>().add(at).as_ref() }
        };
        for _ in 0..20 {
            for _ in 0..40 {
                let at = match random.below(3) {
                    // The header, the first places, the chunk, commit and vacancy words.
                    0 => random.below(512),
                    1 => 512 + 2048 * 8 + random.below(3 * 512),
                    _ => random.below(control),
                };
                // A word of another place, a plausible one, or anything.
                let value = match random.below(5) {
                    0 => word(random.below(control)).load(Relaxed),
                    1 => (random.below(20) as u64) << 32 | u64::from(me.raw()) << 2 | random.below(4) as u64,
                    2 => random.below(64) as u64,
                    3 => u64::MAX - random.below(16) as u64,
                    _ => random.0,
                };
                word(at).store(value, Relaxed);
            }
            exercise(&arena, me, other, &mut random);
        }
    }
}
