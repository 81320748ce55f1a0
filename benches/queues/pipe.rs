//! A pipe, between processes: a system call on each side of a message.

use std::io::{self, PipeReader, PipeWriter, Read, Write};

use nix::fcntl::{FcntlArg, fcntl};
use offspring_benches::{Kind, Setting};

use crate::content::{Tally, fill_bytes};
use crate::flow::{self, Inlet, Outlet, Plan};

struct End<E>(E, Vec<u8>);

/// Bytes of a fixed number; what is longer than a page is not kept together if there are several pairs.
pub(crate) fn rate<const WORDS: usize>(setting: &Setting, plan: Plan) -> Result<f64, String> {
    let (reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    // As large as one may without rights.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20)).map_err(|error| format!("F_SETPIPE_SZ: {error}"))?;
    flow::rate(
        setting,
        Kind::Processes,
        plan,
        WORDS,
        |_| End(writer.try_clone().expect("a descriptor is free"), vec![0; 8 * WORDS]),
        |_| End(reader.try_clone().expect("a descriptor is free"), vec![0; 8 * WORDS]),
    )
}

impl Outlet for End<PipeWriter> {
    fn send(&mut self, number: u64) -> u64 {
        fill_bytes(number, &mut self.1);
        self.0.write_all(&self.1).expect("there are readers");
        1
    }
}

impl Inlet for End<PipeReader> {
    fn recv(&mut self, tally: &mut Tally) {
        self.0.read_exact(&mut self.1).expect("there are writers");
        tally.read_bytes(&self.1);
    }
}
