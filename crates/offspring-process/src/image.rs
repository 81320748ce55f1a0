//! The program's image in memory: addresses as offsets that mean the same in every process that runs it.
//!
//! Each process of a family maps the program somewhere else, but the distance of a static from the start of the image is
//! fixed by the linker. What a library that was loaded with dlopen(3) contains has no such offset and is refused.
//!
// UNSAFETY: dl_iterate_phdr, and reading the program's own read-only segments.
#![expect(unsafe_code, reason = "program headers and mapped segments")]

use std::collections::hash_map::DefaultHasher;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;

/// A loaded part of the image, in offsets.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: usize,
    end: usize,
    /// Where the file has it, and how much of it.
    file_offset: u64,
    file_size: usize,
    executable: bool,
    writable: bool,
}

#[derive(Debug)]
struct Image {
    /// What the loader added to the addresses in the file.
    base: usize,
    segments: Vec<Segment>,
    /// The notes (the build id is one), in offsets.
    notes: Vec<Segment>,
    /// What the linker left for the loader.
    #[cfg_attr(
        not(feature = "start-hook"),
        expect(dead_code, reason = "only the hook runs before main")
    )]
    dynamic: Option<Segment>,
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut image = None;
        // SAFETY: `first_object` matches the callback's type and gets the pointer to `image` that it expects, which
        // lives until the call returns.
        unsafe { libc::dl_iterate_phdr(Some(first_object), (&raw mut image).cast()) };
        image.unwrap_or(Image {
            base: 0,
            segments: Vec::new(),
            notes: Vec::new(),
            dynamic: None,
        })
    })
}

/// Takes down the first object that dl_iterate_phdr(3) reports, which is the main program.
unsafe extern "C" fn first_object(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid description whose headers stay mapped, and `data` is what `image` passed.
    let (info, image, headers) = unsafe {
        let info = &*info;
        let headers: &[ProgramHeader] = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        (info, &mut *data.cast::<Option<Image>>(), headers)
    };
    let of_kind = |kind: u32| {
        headers
            .iter()
            .filter(move |header| header.p_type == kind && header.p_flags & libc::PF_R != 0)
            .map(|header| Segment {
                start: header.p_vaddr as usize,
                end: (header.p_vaddr + header.p_memsz) as usize,
                file_offset: header.p_offset,
                file_size: header.p_filesz as usize,
                executable: header.p_flags & libc::PF_X != 0,
                writable: header.p_flags & libc::PF_W != 0,
            })
    };
    *image = Some(Image {
        base: info.dlpi_addr as usize,
        segments: of_kind(libc::PT_LOAD).collect(),
        notes: of_kind(libc::PT_NOTE).collect(),
        dynamic: of_kind(libc::PT_DYNAMIC).next(),
    });
    1
}

fn offset_of_address(address: usize, size: usize, executable: bool, what: &str) -> io::Result<u64> {
    let image = image();
    let offset = address.wrapping_sub(image.base);
    let inside =
        |segment: &&Segment| offset >= segment.start && offset.checked_add(size).is_some_and(|end| end <= segment.end);
    if image
        .segments
        .iter()
        .filter(|segment| segment.executable || !executable)
        .any(|segment| inside(&segment))
    {
        return Ok(offset as u64);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{what} at {address:#x} is not part of the main program: what a shared library or the heap contains cannot \
             be found by another process"
        ),
    ))
}

fn address_at(offset: u64, size: usize, align: usize, executable: bool) -> io::Result<NonNull<c_void>> {
    let image = image();
    let bad = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("offset {offset:#x} is no part of this program: {why}"),
        )
    };
    let offset = usize::try_from(offset).map_err(|_| bad("it is too large"))?;
    let end = offset.checked_add(size).ok_or_else(|| bad("it is too large"))?;
    let inside =
        |segment: &Segment| offset >= segment.start && end <= segment.end && (segment.executable || !executable);
    if !image.segments.iter().any(inside) {
        return Err(bad("it is outside of the image"));
    }
    let address = image.base.wrapping_add(offset);
    if address % align != 0 {
        return Err(bad("it is not aligned"));
    }
    NonNull::new(ptr::with_exposed_provenance_mut(address)).ok_or_else(|| bad("it is null"))
}

/// The offset of a static from the start of the program's image: the same in every process that runs this program.
///
/// # Errors
///
/// `value` is not part of the main program but of a shared library, or it was leaked from the heap.
///
/// # Examples
///
/// ```
/// use offspring_process::image;
///
/// static NUMBER: u32 = 5;
/// let offset = image::offset_of(&NUMBER)?;
/// assert_eq!(image::at::<u32>(offset)?.as_ptr().cast_const(), &raw const NUMBER);
///
/// let leaked: &'static u32 = Box::leak(Box::new(5));
/// assert!(image::offset_of(leaked).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn offset_of<T>(value: &'static T) -> io::Result<u64> {
    offset_of_address(
        ptr::from_ref(value).expose_provenance(),
        size_of::<T>(),
        false,
        std::any::type_name::<T>(),
    )
}

/// The place in this process of what another process of the same program has at `offset`.
///
/// The place is inside of the image and aligned for a `T`. Whether there is a `T` is for the caller to check, by a magic
/// number for instance, before it trusts it.
///
/// # Errors
///
/// The offset, or the end of a `T` there, is outside of the image, or it is not aligned.
pub fn at<T>(offset: u64) -> io::Result<NonNull<T>> {
    Ok(address_at(offset, size_of::<T>(), align_of::<T>(), false)?.cast())
}

/// As [`offset_of`], for a function.
pub(crate) fn offset_of_function(function: fn()) -> io::Result<u64> {
    offset_of_address(function as usize, 1, true, "the function")
}

/// The function at an offset that [`offset_of_function`] gave in a process of the same program.
///
/// # Safety
///
/// The offset was made by a process that runs the same image.
pub(crate) unsafe fn function_at(offset: u64) -> io::Result<fn()> {
    let address = address_at(offset, 1, 1, true)?;
    // SAFETY: the caller vouches that there is a `fn()` at that place of the same image, which is executable.
    Ok(unsafe { mem::transmute::<NonNull<c_void>, fn()>(address) })
}

/// The functions that the loader runs before `main`, in their order: the image's `DT_INIT_ARRAY`. Empty for a program that
/// is linked statically and not position-independent, which has no table of that kind.
#[cfg(feature = "start-hook")]
pub(crate) fn constructors() -> &'static [usize] {
    functions(DT_INIT_ARRAY, DT_INIT_ARRAYSZ)
}

/// Likewise the functions that exit(3) calls last, in the reverse of their order: `DT_FINI_ARRAY`.
#[cfg(feature = "start-hook")]
pub(crate) fn destructors() -> &'static [usize] {
    functions(DT_FINI_ARRAY, DT_FINI_ARRAYSZ)
}

/// The address at which the loader describes the loaded objects to debuggers.
#[cfg(feature = "start-hook")]
pub(crate) fn debug() -> Option<usize> {
    dynamic_value(DT_DEBUG).filter(|&address| address != 0)
}

/// What the linker left for the loader under this tag.
#[cfg(feature = "start-hook")]
fn dynamic_value(wanted: usize) -> Option<usize> {
    let image = image();
    let mut entry: *const [usize; 2] = ptr::with_exposed_provenance(image.base.wrapping_add(image.dynamic?.start));
    loop {
        // SAFETY: the dynamic section is mapped, and it ends with an entry of tag 0.
        let [tag, value] = unsafe { entry.read() };
        if tag == wanted {
            return Some(value);
        }
        if tag == 0 {
            return None;
        }
        entry = entry.wrapping_add(1);
    }
}

/// A table of functions and its size in bytes, by their tags.
#[cfg(feature = "start-hook")]
fn functions(table: usize, size: usize) -> &'static [usize] {
    let (Some(table), Some(size)) = (dynamic_value(table), dynamic_value(size)) else {
        return &[];
    };
    // The loader relocates the table's contents, but not the address of the table in the dynamic section.
    match address_at(table as u64, size, align_of::<usize>(), false) {
        // SAFETY: the table is inside of the image and aligned, and nothing changes it once the loader is done.
        Ok(table) if size > 0 => unsafe {
            std::slice::from_raw_parts(table.cast().as_ptr(), size / size_of::<usize>())
        },
        _ => &[],
    }
}

#[cfg(feature = "start-hook")]
mod tags {
    pub(super) const DT_DEBUG: usize = 21;
    pub(super) const DT_INIT_ARRAY: usize = 25;
    pub(super) const DT_FINI_ARRAY: usize = 26;
    pub(super) const DT_INIT_ARRAYSZ: usize = 27;
    pub(super) const DT_FINI_ARRAYSZ: usize = 28;
}
#[cfg(feature = "start-hook")]
use tags::{DT_DEBUG, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_INIT_ARRAY, DT_INIT_ARRAYSZ};

/// Calls a constructor as the loader does.
///
/// # Safety
///
/// The constructor came from [`constructors`] and has not been run.
#[cfg(feature = "start-hook")]
pub(crate) unsafe fn call_constructor(constructor: usize) {
    type Constructor = extern "C" fn(c_int, *const *const libc::c_char, *const *const libc::c_char);
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // Old linkers mark unused entries in these ways.
    if constructor == 0 || constructor == usize::MAX {
        return;
    }
    let no_arguments = [ptr::null::<libc::c_char>()];
    // SAFETY: the caller vouches that this is a constructor; `environ` is only read, by the only thread.
    unsafe {
        let constructor: Constructor = mem::transmute(ptr::with_exposed_provenance::<()>(constructor));
        constructor(0, no_arguments.as_ptr(), environ);
    }
}

/// A number that tells two programs apart.
///
/// The quick one covers the layout of the image only, and guards against a mix-up when the same inode is executed again.
/// The thorough one, for an image that was found by its path, covers the build id too, or where the linker left none, all
/// that is loaded read-only.
pub(crate) fn fingerprint(thorough: bool) -> u64 {
    let image = image();
    let mut hasher = DefaultHasher::new();
    for segment in &image.segments {
        hasher.write_usize(segment.start);
        hasher.write_usize(segment.end);
    }
    if thorough {
        let contents = if has_build_id(image) {
            &image.notes
        } else {
            &image.segments
        };
        for segment in contents.iter().filter(|segment| !segment.writable) {
            hasher.write(bytes(image, *segment));
        }
    }
    hasher.finish()
}

/// Whether `file` holds the program that this process runs: all that is loaded from it read-only is compared.
pub(crate) fn is_loaded_from(file: &File) -> io::Result<bool> {
    let image = image();
    let mut buffer = vec![0; 256 * 1024];
    for segment in image.segments.iter().filter(|segment| !segment.writable) {
        let loaded = &bytes(image, *segment)[..segment.file_size.min(segment.end - segment.start)];
        let mut offset = segment.file_offset;
        for part in loaded.chunks(buffer.len()) {
            let read = &mut buffer[..part.len()];
            match file.read_exact_at(read, offset) {
                Ok(()) if read == part => offset += part.len() as u64,
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(!image.segments.is_empty())
}

fn bytes(image: &Image, segment: Segment) -> &'static [u8] {
    let start = ptr::with_exposed_provenance(image.base.wrapping_add(segment.start));
    // SAFETY: a segment of the main program that is not writable: mapped and unchanged as long as the process lives.
    unsafe { std::slice::from_raw_parts(start, segment.end - segment.start) }
}

/// Looks for a note of type NT_GNU_BUILD_ID (3) with the name "GNU".
fn has_build_id(image: &Image) -> bool {
    image.notes.iter().filter(|segment| !segment.writable).any(|segment| {
        bytes(image, *segment)
            .windows(16)
            .step_by(4)
            .any(|words| words[..4] == [4, 0, 0, 0] && words[8..12] == [3, 0, 0, 0] && words[12..16] == *b"GNU\0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_outside_of_the_image_are_refused() {
        assert!(at::<u64>(u64::MAX).is_err());
        assert!(at::<u64>(u64::MAX - 7).is_err());
        assert!(at::<u64>(1 << 40).is_err());
        let end = image().segments.iter().map(|segment| segment.end).max().unwrap() as u64;
        assert!(at::<u8>(end - 1).is_ok());
        assert!(at::<[u8; 2]>(end - 1).is_err());
        static WORD: u64 = 3;
        let offset = offset_of(&WORD).unwrap();
        assert!(at::<u64>(offset).is_ok());
        assert!(at::<u64>(offset + 1).is_err(), "not aligned");
    }

    #[test]
    fn functions_are_found_again() {
        fn function() {}
        let offset = offset_of_function(function).unwrap();
        // SAFETY: the offset was made by this very process.
        let found = unsafe { function_at(offset) }.unwrap();
        found();
        static DATA: u64 = 3;
        // SAFETY: refused, as the offset is not executable.
        assert!(unsafe { function_at(offset_of(&DATA).unwrap()) }.is_err());
    }

    #[test]
    fn a_function_of_another_library_is_refused() {
        // SAFETY: looking up a symbol of libc by name; the result is only used as an address.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"getpid".as_ptr()) };
        assert!(!address.is_null());
        let error = offset_of_address(address as usize, 1, true, "getpid").unwrap_err();
        assert!(error.to_string().contains("not part of the main program"), "{error}");
    }

    #[test]
    fn the_file_is_recognised() {
        assert!(is_loaded_from(&File::open("/proc/self/exe").unwrap()).unwrap());
        assert!(!is_loaded_from(&File::open("/bin/sh").unwrap()).unwrap());
        assert!(!is_loaded_from(&File::open("/dev/null").unwrap()).unwrap());
    }

    #[test]
    fn the_fingerprint_does_not_change() {
        assert_eq!(fingerprint(true), fingerprint(true));
        assert_ne!(fingerprint(true), fingerprint(false));
    }
}
