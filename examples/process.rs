//! One function in a process of its own: start, join, result; and what becomes of one that crashes.
//!
//! ```sh
//! cargo run --release --example process
//! ```

use offspring::Process;

fn area(width: u32, height: u32) -> u32 {
    println!("{} computes {width} x {height}", offspring::current().name());
    width * height
}

fn crash() -> u32 {
    std::process::abort()
}

fn main() -> offspring::Result<()> {
    let process = Process::spawn(area, (6, 7))?;
    process.join()?;
    println!("result: {}", process.result()?);

    let crashing = Process::spawn(crash, ())?;
    match crashing.result() {
        Ok(result) => println!("result: {result}"),
        Err(error) => match error.exit_status() {
            Some(status) => println!("no result: {} {status}", crashing.name()),
            None => return Err(error),
        },
    }
    Ok(())
}
