//! A copy of this program that is executed anew and told an address.
#![allow(dead_code, reason = "not every test binary uses everything")]

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use offspring_queue::connection::{Address, Client, Connection, Listener};

const ROLE: &str = "OFFSPRING_TEST_STRANGER";
const ADDRESS: &str = "OFFSPRING_TEST_ADDRESS";
pub(crate) const KEY: &[u8] = b"told in another way";

/// Long enough for any machine, where a test ends before.
pub(crate) const LONG: Duration = Duration::from_secs(100);

/// A copy of this program in another role; killed and reaped when it is dropped.
pub(crate) struct Stranger(pub(crate) Child);

impl Stranger {
    pub(crate) fn start(role: &str, address: &Address) -> Self {
        Self::start_with(role, address, Stdio::null())
    }

    pub(crate) fn start_with(role: &str, address: &Address, input: Stdio) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(ROLE, role).env(ADDRESS, address.to_string()).stdin(input);
        Self(command.spawn().unwrap())
    }

    /// It ended by itself, and none of its assertions failed.
    pub(crate) fn end(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn keyed() -> Listener {
    let builder = Listener::builder().key(KEY).handshake_timeout(LONG);
    builder.bind_temporary().unwrap()
}

/// What this process is to be, if it is such a copy.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

pub(crate) fn address() -> Address {
    env::var(ADDRESS).unwrap().parse().unwrap()
}

pub(crate) fn connect() -> Connection {
    Client::new().key(KEY).timeout(LONG).connect(address()).unwrap()
}

pub(crate) type Letter = (u64, Vec<String>);

pub(crate) fn letter(number: u64) -> Letter {
    (
        number,
        (0..number % 50)
            .map(|line| format!("line {line} of letter {number}"))
            .collect(),
    )
}
