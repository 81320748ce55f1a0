// UNSAFETY: a task function is conjured up in another process from its type alone; it is a value of no bytes.
#![expect(unsafe_code, reason = "zero-sized functions are conjured up from their type")]

use std::mem;
use std::ptr::NonNull;

use offspring_queue::{DecodeError, Message, decode};
use rkyv::Archive;

/// Marks a task function that takes its argument as a value.
#[derive(Debug)]
pub enum ByValue {}

/// Marks a task function that reads its argument in place.
#[derive(Debug)]
pub enum ByView {}

/// Marks a task function of `N` arguments that come as a tuple.
#[derive(Debug)]
pub enum Spread<const N: usize> {}

/// A function that another process can run: an `fn` item, or a closure that captures nothing.
///
/// One trait covers the shapes a function may have; `Kind` tells them apart and is always inferred:
///
/// | function | takes |
/// |---|---|
/// | `fn(A) -> R` | the value, rebuilt in the worker |
/// | `fn(&A::Archived) -> R` | a view of the value in shared memory: nothing is copied |
/// | `fn(A, B, ...) -> R`, up to six | the parts of a tuple, rebuilt in the worker |
/// | `fn() -> R` | nothing: the argument is `()` |
///
/// The types of a closure's parameters must be written out: `|x: i32| x + 1`.
///
/// A function may not capture anything, since only its name travels:
///
/// ```compile_fail
/// # use offspring_pool::Pool;
/// let offset = 3;
/// let pool = Pool::new(2)?;
/// pool.map(move |x: i32| x + offset, [1, 2, 3])?; // error: captures its environment
/// # Ok::<(), offspring_pool::Error>(())
/// ```
///
/// Arguments and results must be messages:
///
/// ```compile_fail,E0277
/// # use offspring_pool::Pool;
/// let pool = Pool::new(2)?;
/// pool.map(|id: std::thread::ThreadId| format!("{id:?}"), [std::thread::current().id()])?;
/// # Ok::<(), offspring_pool::Error>(())
/// ```
///
/// The archived form of a message is aligned to 32 bytes at most:
///
/// ```compile_fail,E0080
/// # use offspring_pool::Pool;
/// #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[rkyv(attr(repr(align(64))))]
/// struct Wide(u8);
///
/// Pool::new(2)?.map(|n: u8| Wide(n), [1, 2])?;
/// # Ok::<(), offspring_pool::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task function for arguments of type `{A}`",
    label = "expected a function of the argument, of a view of it, or of the parts of a tuple",
    note = "write out the types of a closure's parameters: `|x: i32| x + 1`",
    note = "arguments and results must be messages: derive `rkyv::Archive`, `rkyv::Serialize`, `rkyv::Deserialize`"
)]
pub trait TaskFn<A: Message, R: Message, Kind>: 'static {
    /// Calls the function with an archived argument.
    ///
    /// # Errors
    /// When the argument cannot be rebuilt.
    fn call(&self, argument: &A::Archived) -> Result<R, DecodeError>;
}

impl<F, A, R> TaskFn<A, R, ByValue> for F
where
    F: Fn(A) -> R + 'static,
    A: Message,
    R: Message,
{
    #[inline]
    fn call(&self, argument: &A::Archived) -> Result<R, DecodeError> {
        Ok(self(decode::<A>(argument)?))
    }
}

impl<F, A, R> TaskFn<A, R, ByView> for F
where
    F: for<'a> Fn(&'a <A as Archive>::Archived) -> R + 'static,
    A: Message,
    R: Message,
{
    #[inline]
    fn call(&self, argument: &A::Archived) -> Result<R, DecodeError> {
        Ok(self(argument))
    }
}

/// A task function of several arguments that come as a tuple, as [`Pool::starmap`](crate::Pool::starmap) takes it.
pub trait SpreadKind {}

macro_rules! spread {
    ($count:literal: $($part:ident)*) => {
        impl SpreadKind for Spread<$count> {}

        impl<Func, $($part,)* Res> TaskFn<($($part,)*), Res, Spread<$count>> for Func
        where
            Func: Fn($($part),*) -> Res + 'static,
            ($($part,)*): Message,
            Res: Message,
        {
            #[expect(non_snake_case, reason = "the parts are named after their types")]
            fn call(&self, argument: &<($($part,)*) as Archive>::Archived) -> Result<Res, DecodeError> {
                let ($($part,)*) = decode::<($($part,)*)>(argument)?;
                Ok(self($($part),*))
            }
        }
    };
}

spread!(2: A B);
spread!(3: A B C);
spread!(4: A B C D);
spread!(5: A B C D E);
spread!(6: A B C D E F);

impl<F, R> TaskFn<(), R, Spread<0>> for F
where
    F: Fn() -> R + 'static,
    R: Message,
{
    fn call(&self, _: &()) -> Result<R, DecodeError> {
        Ok(self())
    }
}

/// Takes in a function of which only the type matters.
pub(crate) fn admit<F>(function: F) {
    const {
        assert!(
            size_of::<F>() == 0,
            "this task function captures its environment (or is a function pointer), and only a function's name \
             travels to another process: pass what it needs as an argument, or use `Process::fork`"
        );
    }
    mem::forget(function);
}

/// Makes a function of its type alone.
///
/// # Safety
/// Somebody had a value of type `F`, here or in another process of the same image, and passed it to [`admit`].
pub(crate) unsafe fn conjure<F>() -> F {
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: `F` has no bytes to read and a dangling pointer is aligned; that a value may exist is the caller's
    // promise, and `admit` forgot the one that did, so that nothing is dropped twice.
    unsafe { NonNull::<F>::dangling().read() }
}
