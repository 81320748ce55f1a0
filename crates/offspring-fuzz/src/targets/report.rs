//! What processes tell each other besides requests: errors, panics, configurations, environments.

use offspring_process::fuzzing;

use super::in_words;
use crate::input::Input;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let body = input.rest();
    let outcome = match kind % 4 {
        0 => fuzzing::failure(body).map(|error| assert!(error.to_string().len() <= body.len() + 200)),
        1 => fuzzing::panic(body).map(|panic| assert!(panic.to_string().starts_with("panicked"))),
        2 => fuzzing::environment(body).map(|count| assert!(count * 16 <= body.len())),
        _ => {
            // With this version's number in front, which hardly anybody guesses.
            let version = env!("CARGO_PKG_VERSION");
            let mut message = (version.len() as u64).to_le_bytes().to_vec();
            message.extend(version.as_bytes());
            message.extend(body);
            fuzzing::configuration(if kind & 4 == 0 { &message } else { body })
                .map(|count| assert!(count * 8 <= body.len()))
        }
    };
    if let Err(error) = outcome {
        in_words(&error);
    }
}
