use std::ffi::CString;
use std::io;

/// The longest name of a segment in bytes.
const MAX_LEN: usize = 254;

/// A checked name as the system wants it: with a leading slash.
pub(crate) fn system_name(name: &str) -> io::Result<CString> {
    check(name)?;
    CString::new(format!("/{name}")).map_err(|_| refuse("contains a NUL byte".to_owned()))
}

/// A checked name for an anonymous segment, where it only serves to be recognised in `/proc/PID/maps`.
pub(crate) fn label(name: &str) -> io::Result<CString> {
    // memfd_create takes 249 bytes.
    if name.len() > 249 {
        return Err(refuse(format!("is {} bytes long, at most 249 are allowed", name.len())));
    }
    CString::new(name).map_err(|_| refuse("contains a NUL byte".to_owned()))
}

fn check(name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Err(refuse("is empty".to_owned()));
    }
    if name.len() > MAX_LEN {
        return Err(refuse(format!(
            "is {} bytes long, at most {MAX_LEN} are allowed",
            name.len()
        )));
    }
    if name.contains('/') {
        return Err(refuse(format!("{name:?} contains a slash; it is one name, not a path")));
    }
    if name == "." || name == ".." {
        return Err(refuse(format!("{name:?} is the name of a directory")));
    }
    Ok(())
}

fn refuse(what: String) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("the name of a shared memory segment {what}"),
    )
}
