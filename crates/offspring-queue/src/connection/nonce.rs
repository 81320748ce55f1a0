// UNSAFETY: getrandom has no safe binding in the libraries that this one uses.
#![expect(unsafe_code, reason = "getrandom")]

use std::io;

/// `N` bytes that nobody can foresee, see getrandom(2).
pub(super) fn nonce<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "up to 256 bytes come at once, signals or not") };
    let mut bytes = [0; N];
    loop {
        // SAFETY: the kernel writes at most N bytes to an array of that length.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        if got == N as isize {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        // Before the system has gathered entropy the call waits, and a signal ends that.
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let (one, two): ([u8; 32], [u8; 32]) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, two);
        assert_ne!(one, [0; 32]);
    }
}
