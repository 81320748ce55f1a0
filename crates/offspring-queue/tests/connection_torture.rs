//! Listeners and clients are killed at random moments, while they start, prove their key, and talk.
//!
//! `OFFSPRING_TORTURE_SECONDS` makes it longer than a few seconds, `OFFSPRING_TORTURE_SEED` repeats a run.
//!
//! Whoever is left must have received whole messages in order, then an error that says that the other side is gone; it must
//! not hang, and at the end nothing may be left: no descriptor of those that were on their way, no file, no name.

mod stranger;

use std::env;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use offspring_queue::connection::{Address, Client, Connection, ConnectionError, Listener};
use offspring_testing::{LeakCheck, process_gone, run_single_threaded, temp_dir, watchdog};
use stranger::{KEY, LONG, Letter, Stranger, address, connect, keyed, letter};

/// From the start of a process to the middle of a conversation.
const LIFE: Duration = Duration::from_millis(40);

struct Rng(u64);

impl Rng {
    /// A random length of a life; many are short, as a process has begun to talk after a few milliseconds.
    fn life(&mut self) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        LIFE.mul_f64(((self.0 >> 11) as f64 / (1_u64 << 53) as f64).powi(3))
    }
}

/// Says everything that can be said, and waits for an answer.
fn speak(connection: &mut Connection, number: u64) -> Result<(), ConnectionError> {
    let null = File::open("/dev/null").unwrap();
    connection.send(&letter(number))?;
    connection.send_bytes(&vec![number as u8; number as usize % 5 * 40_000])?;
    connection.send_fds(&vec![null.as_fd(); number as usize % 3 * 150])?;
    assert_eq!(connection.recv::<u64>()?, number);
    Ok(())
}

/// Hears it, and answers.
fn listen(connection: &mut Connection, number: u64) -> Result<(), ConnectionError> {
    assert_eq!(connection.recv::<Letter>()?, letter(number));
    assert!(connection.recv_bytes()? == vec![number as u8; number as usize % 5 * 40_000]);
    assert_eq!(connection.recv_fds()?.len(), number as usize % 3 * 150);
    connection.send(&number)
}

/// Goes on until the other side is gone; says how far it came.
fn converse(mut connection: Connection, turn: fn(&mut Connection, u64) -> Result<(), ConnectionError>) -> u64 {
    for number in 0.. {
        if let Err(error) = turn(&mut connection, number) {
            assert!(error.is_disconnected(), "after {number}: {error}");
            assert!(connection.send(&number).unwrap_err().is_disconnected());
            return number;
        }
    }
    unreachable!("a killed process does not answer for ever")
}

/// What the other process does until it is killed.
fn play(role: &str) {
    let _watchdog = watchdog(LONG);
    match role {
        "client" => converse(connect(), speak),
        "listener" => {
            let listener = Listener::builder()
                .key(KEY)
                .handshake_timeout(LONG)
                .bind(address())
                .unwrap();
            converse(listener.accept().unwrap(), listen)
        }
        other => panic!("no stranger is called {other}"),
    };
    // It could say what it likes: nobody is there any more, and nobody may find it.
    sleep(LONG);
}

/// Lets `other` live for a while, and this process do `work` with it, which ends by the other's death.
fn outlive<R>(other: Stranger, life: Duration, work: impl FnOnce(u32) -> R) -> R {
    let pid = other.0.id();
    let done = scope(|scope| {
        scope.spawn(move || {
            sleep(life);
            // It is reaped below, so the number is still its own.
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        });
        work(pid)
    });
    other.kill();
    done
}

fn a_client_is_killed(life: Duration, listener: &Listener) -> Option<u64> {
    let client = Stranger::start("client", listener.address());
    outlive(client, life, |pid| {
        loop {
            // Asked first: a client that came before its death is still to be accepted.
            let gone = process_gone(pid);
            match listener.accept_timeout(Duration::from_millis(2)) {
                Ok(connection) => return Some(converse(connection, listen)),
                Err(error) if error.is_timeout() && !gone => {}
                Err(error) => {
                    assert!(error.is_timeout() || error.is_disconnected(), "{error}");
                    return None;
                }
            }
        }
    })
}

fn a_listener_is_killed(life: Duration, address: &Address) -> Option<u64> {
    let listener = Stranger::start("listener", address);
    outlive(listener, life, |pid| {
        loop {
            let gone = process_gone(pid);
            match Client::new().key(KEY).timeout(LONG).connect(address) {
                Ok(connection) => return Some(converse(connection, speak)),
                Err(ConnectionError::Io(error)) => {
                    assert!(error.to_string().ends_with("nobody listens there"), "{error}");
                    if gone {
                        return None;
                    }
                }
                Err(error) => {
                    assert!(error.is_disconnected(), "{error}");
                    return None;
                }
            }
        }
    })
}

fn listeners_and_clients_are_killed() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seconds = number("OFFSPRING_TORTURE_SECONDS").unwrap_or(3);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("OFFSPRING_TORTURE_SEED").unwrap_or_else(|| u64::from(time.subsec_nanos()));
    println!("seed {seed}");
    let _leaks = LeakCheck::new();
    let _watchdog = watchdog(Duration::from_secs(seconds + 60));
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let directory = temp_dir();
    // Without a file: a name is free again as soon as its listener is dead.
    let address = Address::abstract_name(directory.file_name().unwrap().as_encoded_bytes());
    let listener = keyed();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut met, mut turns) = (0, 0, 0);
    while Instant::now() < end || rounds == 0 {
        for talked in [
            a_client_is_killed(rng.life(), &listener),
            a_listener_is_killed(rng.life(), &address),
        ] {
            rounds += 1;
            met += u64::from(talked.is_some());
            turns += talked.unwrap_or(0);
        }
    }
    println!("{rounds} processes killed, {met} of them in conversation, after {turns} exchanges");
}

fn main() -> ExitCode {
    if let Some(role) = stranger::role() {
        play(&role);
        return ExitCode::SUCCESS;
    }
    run_single_threaded(&[("listeners_and_clients_are_killed", listeners_and_clients_are_killed)])
}
