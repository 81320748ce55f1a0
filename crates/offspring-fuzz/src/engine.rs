//! libFuzzer calls this.

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use offspring_fuzz::Target;

/// Says which target to run.
const TARGET: &str = "OFFSPRING_FUZZ_TARGET";

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var(TARGET).unwrap_or_default();
        let target = offspring_fuzz::target(&name).unwrap_or_else(|| panic!("{TARGET}={name} is no target"));
        CHOSEN.get_or_init(|| target);
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(data);
        }
    }
);
