//! Counts the words of a folder of text in three stages, each of several processes: read, split, add up.
//!
//! ```sh
//! cargo run --release --example pipeline -- crates
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use offspring::{Process, Queue, Receiver, Sender};

type Counts = HashMap<String, u64>;

/// The first stage: paths become texts.
fn read((paths, texts): (Receiver<String>, Sender<String>)) {
    for path in paths {
        if let Ok(text) = fs::read_to_string(&path) {
            texts.send(text).expect("somebody splits");
        }
    }
}

/// The second stage: texts become counts. Each text is read where it lies in shared memory.
fn split((texts, counts): (Receiver<String>, Sender<Counts>)) {
    while let Ok(text) = texts.recv_view() {
        let mut found = Counts::new();
        for word in text
            .split(|letter: char| !letter.is_alphabetic())
            .filter(|word| word.len() > 3)
        {
            *found.entry(word.to_lowercase()).or_default() += 1;
        }
        counts.send(found).expect("somebody adds up");
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "md" || kind == "txt")
        {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).unwrap_or_else(|| ".".to_string());
    let mut files = Vec::new();
    files_below(Path::new(&folder), &mut files)?;

    let (path_sender, paths) = Queue::new(64)?.split();
    let (text_sender, texts) = Queue::new(16)?.split();
    let (count_sender, counts) = Queue::new(16)?.split();
    let mut stages = Vec::new();
    for _ in 0..2 {
        stages.push(Process::spawn(read, (paths.clone(), text_sender.clone()))?);
        stages.push(Process::spawn(split, (texts.clone(), count_sender.clone()))?);
    }
    // From here on the processes alone hold these ends: each stage ends when the one before has ended.
    drop((paths, text_sender, texts, count_sender));

    let total = files.len();
    let feeder = std::thread::spawn(move || path_sender.send_many(files.iter().map(|path| path.display().to_string())));

    // The third stage.
    let (mut texts, mut sum) = (0, Counts::new());
    for part in counts {
        texts += 1;
        for (word, count) in part {
            *sum.entry(word).or_default() += count;
        }
    }
    feeder.join().expect("the feeder does not panic")?;
    for stage in stages {
        stage.result()?;
    }
    let mut ranking: Vec<_> = sum.iter().collect();
    ranking.sort_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    println!(
        "{texts} of {total} files, {} words, {} different",
        sum.values().sum::<u64>(),
        sum.len()
    );
    for (word, count) in ranking.into_iter().take(5) {
        println!("{count:8} {word}");
    }
    Ok(())
}
