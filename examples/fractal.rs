//! The Mandelbrot set in 3840 x 2160 pixels, a task for each row, written to a PNG. The rows are read in place, where
//! the workers wrote them.
//!
//!     cargo run --release --example fractal [FILE]
//!
//! Without FILE it writes `fractal.png` into the directory for temporary files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;
use std::{env, iter};

use offspring::Pool;

const WIDTH: u32 = 3840;
const HEIGHT: u32 = 2160;
const MOST_STEPS: u32 = 500;

/// The part of the plane that is shown: its centre, and the width of a pixel.
const CENTRE: (f64, f64) = (-0.65, 0.0);
const PIXEL: f64 = 3.2 / WIDTH as f64;

/// One row of the picture, as RGB bytes.
fn row(y: u32) -> Vec<u8> {
    let imaginary = CENTRE.1 + (f64::from(y) - f64::from(HEIGHT) / 2.0) * PIXEL;
    let reals = (0..WIDTH).map(|x| CENTRE.0 + (f64::from(x) - f64::from(WIDTH) / 2.0) * PIXEL);
    reals.flat_map(|real| colour(escape(real, imaginary))).collect()
}

/// How many steps a point takes to leave the disc, as a fraction of the most that are tried; `None` if it stays.
fn escape(real: f64, imaginary: f64) -> Option<f64> {
    let orbit = iter::successors(Some((0.0_f64, 0.0_f64)), |&(x, y)| {
        Some((x * x - y * y + real, 2.0 * x * y + imaginary))
    });
    let mut steps = orbit.take(MOST_STEPS as usize).enumerate();
    let (step, (x, y)) = steps.find(|(_, (x, y))| x * x + y * y > 256.0)?;
    // Between two steps the colour changes smoothly: how far outside the point is says where between them it left.
    let outside = (x * x + y * y).ln() / 2.0;
    Some((step as f64 + 1.0 - outside.log2()) / f64::from(MOST_STEPS))
}

fn colour(escape: Option<f64>) -> [u8; 3] {
    let Some(escape) = escape else { return [0; 3] };
    let hue = escape.max(0.0).sqrt();
    [9.0, 15.0, 8.5].map(|speed: f64| (255.0 * (0.5 - 0.5 * (speed * hue + 0.4).cos())) as u8)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args_os()
        .nth(1)
        .map_or_else(|| env::temp_dir().join("fractal.png"), PathBuf::from);
    let pool = Pool::builder().build()?;
    let since = Instant::now();
    let rows = pool.map_views(row, 0..HEIGHT)?;
    println!(
        "{WIDTH} x {HEIGHT} pixels by {} workers in {:.2?}",
        pool.workers(),
        since.elapsed()
    );

    let file = File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut header = encoder.write_header()?;
    let mut image = header.stream_writer()?;
    for row in rows.iter() {
        image.write_all(row)?;
    }
    image.finish()?;
    println!("wrote {}", path.display());
    Ok(())
}
