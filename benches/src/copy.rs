//! The physical limit of handing over a large value.

use crate::Setting;

/// The bytes of a large value.
pub const BIG: usize = 256 << 20;

/// A byte in the middle of it, which is looked at.
pub const PLACE: usize = 123_456_789;

/// Microseconds to copy [`BIG`] bytes into memory that was touched before.
///
/// # Errors
///
/// When the copy differs.
pub fn copy_big(setting: &Setting) -> Result<f64, String> {
    let mut number = 0_u8;
    let mut source = vec![1_u8; BIG];
    let mut target = vec![2_u8; BIG];
    setting.microseconds(|| {
        number = number.wrapping_add(1);
        source[PLACE] = number;
        target.copy_from_slice(std::hint::black_box(&source));
        let target = std::hint::black_box(&target);
        if target[PLACE] == number {
            Ok(())
        } else {
            Err("the copy differs".to_owned())
        }
    })
}
