//! A broker opens files for another program, which may not: requests, answers and descriptors over a socket, with a key.
//!
//! The two need not be of one family, nor one program; here one file holds both for brevity.
//!
//! ```sh
//! cargo run --release --example connection
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::Command;

use offspring::connection::{Address, Client, Connection, ConnectionError, Listener};

/// In earnest: 32 random bytes that both read from a file of theirs.
const KEY: &[u8] = b"an example's key";

/// What may be asked for.
const OPEN_TO_ALL: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

fn serve(mut client: Connection) -> Result<(), ConnectionError> {
    loop {
        let name: String = match client.recv() {
            Err(error) if error.is_disconnected() => return Ok(()),
            name => name?,
        };
        let file = if OPEN_TO_ALL.contains(&name.as_str()) {
            File::open(&name).map_err(|error| error.to_string())
        } else {
            Err("it is not open to all".to_string())
        };
        client.send(&file.as_ref().map(|_| ()).map_err(Clone::clone))?;
        if let Ok(file) = file {
            client.send_fds(&[file.as_fd()])?;
        }
    }
}

fn ask(address: &Address) -> Result<(), Box<dyn Error>> {
    let mut broker = Client::new().key(KEY).connect(address)?;
    for name in ["LICENSE-MIT", "Cargo.lock"] {
        broker.send(&name.to_string())?;
        if let Err(why) = broker.recv::<Result<(), String>>()? {
            println!("no {name}: {why}");
            continue;
        }
        for descriptor in broker.recv_fds()? {
            let first = BufReader::new(File::from(descriptor)).lines().next();
            println!("{name} begins: {}", first.unwrap_or_else(|| Ok(String::new()))?);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(address) = std::env::args().nth(1) {
        return ask(&address.parse()?);
    }
    let listener = Listener::builder().key(KEY).bind_temporary()?;
    let mut other = Command::new(std::env::current_exe()?)
        .arg(listener.address().to_string())
        .spawn()?;
    let connection = listener.accept()?;
    assert_eq!(connection.peer_credentials()?.pid, other.id());
    serve(connection)?;
    if !other.wait()?.success() {
        return Err(io::Error::other("the client failed").into());
    }
    Ok(())
}
