//! Four processes, one `map`.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```

use offspring::Pool;

fn worker(number: i32) -> i32 {
    println!("Process {number} is running");
    number * 2
}

fn main() -> offspring::Result<()> {
    let pool = Pool::new(4)?;
    let results = pool.map(worker, [1, 2, 3, 4])?;
    pool.close();
    pool.join()?;
    println!("{results:?}");
    Ok(())
}
