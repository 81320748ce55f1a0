use std::io;
use std::sync::Arc;

use super::{Consumer, Producer};
use crate::Message;
use crate::core::Core;
use crate::shape::Shape;

/// Makes a pair of one producer and one consumer, with room for `capacity` messages.
///
/// ```
/// use std::thread;
/// use offspring_queue::spsc;
///
/// let (producer, consumer) = spsc::channel::<u64>(64)?;
/// let sum = thread::spawn(move || consumer.iter().sum::<u64>());
/// for number in 1..=1000 {
///     producer.send(number)?;
/// }
/// drop(producer);
/// assert_eq!(sum.join().unwrap(), 500_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the capacity is 0, or the arena has no room for so many slots.
#[doc(alias = "Pipe")]
pub fn channel<T: Message>(capacity: usize) -> io::Result<(Producer<T>, Consumer<T>)> {
    let core = Core::create(Shape::of_pair::<T>(capacity)?)?;
    Ok((Producer::new(Arc::clone(&core))?, Consumer::new(core)?))
}
