//! What a pool and its processes read of each other: boards, chunks, headers, results, start messages.

use offspring_pool::fuzzing;
use offspring_shm::family;

use super::in_words;
use crate::input::Input;
use crate::memory::arena;

pub(super) fn run(data: &[u8]) {
    arena();
    let mut input = Input::new(data);
    match input.byte() % 8 {
        0..=3 => board(&mut input),
        4 => {
            let mut words = vec![fuzzing::pool_magic(), u64::from(input.byte())];
            words[usize::from(input.byte() & 1)] ^= u64::from(input.byte()) << (input.byte() % 64);
            words.resize(2 + input.below(1 << 12), 0);
            match fuzzing::pool(&words) {
                Ok(workers) => assert!(words[0] == fuzzing::pool_magic() && workers as u64 == words[1]),
                Err(error) => in_words(&error),
            }
        }
        5 => {
            let (state, capacity) = (u32::from(input.byte() % 5), input.number());
            let contents = [input.word(), input.word()];
            if let Err(error) = fuzzing::delivery(state, capacity, input.number(), &contents) {
                in_words(&error);
            }
        }
        6 => match fuzzing::start(input.clone().rest()) {
            Ok((own, parent)) => assert!(own.len() + parent.len() < data.len() && !own.contains('\0')),
            Err(error) => in_words(&error),
        },
        _ => fuzzing::chunk(input.number()),
    }
}

/// A good board, with words of it overwritten.
fn board(input: &mut Input<'_>) {
    let me = family::me().expect("a tag").raw();
    let items = u64::from(input.byte());
    let chunk = 1 + u64::from(input.byte() % 8);
    let workers = 1 + usize::from(input.byte() % 3);
    let (mut words, place) = fuzzing::board_words(items, chunk).expect("a function of this program");
    // Where the results and the chunks' words lie: the chains' heads have a line each.
    let chunks = words.len().next_multiple_of(8) + 8 * workers;
    let arguments = chunks + items.div_ceil(chunk) as usize;
    words.resize(arguments + 2 * items as usize, 0);
    words[place] = 8 * arguments as u64;
    let mut relative = vec![(place, 0)];
    // Done, with results where the arguments are.
    for (index, word) in words[chunks..arguments].iter_mut().enumerate() {
        *word = (8 * arguments as u64 + 16 * chunk * index as u64) << 2 | 2;
        relative.push((chunks + index, 2));
    }
    let overwritten = input.byte() % 8;
    for _ in 0..overwritten {
        let at = match input.byte() % 3 {
            0 => usize::from(input.byte() % 16),
            _ => chunks + input.below(words.len() - chunks + 1),
        };
        let value = match input.byte() % 4 {
            // A chunk that this process has claimed.
            0 => (u64::from(input.byte()) << 30 | u64::from(me)) << 2 | 1,
            1 => words.get(at).copied().unwrap_or(0) ^ input.number(),
            _ => input.number(),
        };
        if let Some(word) = words.get_mut(at) {
            *word = value;
        }
    }
    let died = [(); 3].map(|()| input.below(1 << 16) as u16);
    match fuzzing::board(&words, &relative, workers, died) {
        Ok((results, errors)) => {
            assert!(results + errors <= 1 << 13);
            assert!(overwritten > 0 || (results as u64, errors) == (items, 0));
        }
        Err(error) => in_words(&error),
    }
}
