//! A process is killed inside a lock, between two writes that belong together. The next one is told, and repairs.
//!
//! ```sh
//! cargo run --release --example owner_died
//! ```

use std::io;

use offspring::{LockError, Mutex, Process, Shared};

/// Two accounts that always hold 100 between them.
type Accounts = Mutex<[i64; 2]>;

/// Moves money from one account to the other, and is killed half-way.
fn die_half_way(accounts: Shared<Accounts>) {
    let mut guard = accounts.lock().expect("nobody has died yet");
    guard[0] -= 30;
    std::process::abort();
}

fn main() -> io::Result<()> {
    let accounts = Shared::new(Mutex::new([100, 0]))?;
    let process = Process::spawn(die_half_way, accounts.clone())?;
    process.join()?;
    if let Some(status) = process.exit_status()? {
        println!("the process inside the lock was {status}");
    }

    let mut guard = match accounts.lock() {
        Err(LockError::OwnerDied(guard)) => guard,
        Ok(_) => return Err(io::Error::other("nobody said that the owner had died")),
        Err(error) => return Err(error.into()),
    };
    println!("the owner of the lock died and left {:?}", *guard);
    guard[1] = 100 - guard[0];
    guard.mark_consistent();
    drop(guard);

    println!("repaired: {:?}", *accounts.lock()?);
    Ok(())
}
