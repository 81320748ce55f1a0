//! What a child changes about itself before it runs.
//!
// UNSAFETY: system calls that nix does not cover.
#![expect(unsafe_code, reason = "setpriority, signal dispositions, affinity masks of any size")]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::resource::setrlimit;

use crate::Resource;
use crate::environment::Variable;
use crate::failure::While;
use crate::wire::{Reader, Writer};

/// The most processors that any kernel is built for, and a bound for the mask that is sent to it.
const MAX_CPUS: usize = 8192;
const MASK_WORDS: usize = MAX_CPUS / 64;

/// What a child changes about itself before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) ignore_interrupt: bool,
    pub(crate) environment: Vec<Variable>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) limits: Vec<(Resource, u64, u64)>,
    pub(crate) nice: Option<i32>,
    pub(crate) affinity: Option<Vec<usize>>,
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl Settings {
    /// Whether there is anything that can fail in the child, so that the parent waits for the outcome.
    pub(crate) fn can_fail(&self) -> bool {
        !self.environment.is_empty()
            || self.directory.is_some()
            || !self.limits.is_empty()
            || self.nice.is_some()
            || self.affinity.is_some()
    }

    /// Refuses what no system would accept, or what it would silently change.
    pub(crate) fn validate(&self) -> io::Result<()> {
        self.environment.iter().try_for_each(Variable::validate)?;
        if let Some(directory) = &self.directory
            && directory.as_os_str().as_bytes().contains(&0)
        {
            return Err(invalid(format!(
                "the current directory {directory:?} contains a zero byte"
            )));
        }
        if let Some(nice) = self.nice
            && !(-20..=19).contains(&nice)
        {
            return Err(invalid(format!("nice value {nice} is not between -20 and 19")));
        }
        for (resource, soft, hard) in &self.limits {
            if soft > hard {
                return Err(invalid(format!(
                    "the soft limit {soft} of {resource:?} is above the hard limit {hard}"
                )));
            }
        }
        match &self.affinity {
            Some(cpus) if cpus.is_empty() => Err(invalid("a process needs at least one processor".into())),
            Some(cpus) => match cpus.iter().find(|&&cpu| cpu >= MAX_CPUS) {
                Some(cpu) => Err(invalid(format!("there is no processor {cpu}"))),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.flag(self.ignore_interrupt);
        writer.flag(self.can_fail());
        if !self.can_fail() {
            return;
        }
        writer.length(self.environment.len());
        self.environment.iter().for_each(|variable| variable.encode(writer));
        writer.option(self.directory.as_ref(), |writer, path| {
            writer.bytes(path.as_os_str().as_bytes());
        });
        writer.length(self.limits.len());
        for &(resource, soft, hard) in &self.limits {
            writer.u8(resource as u8);
            writer.u64(soft);
            writer.u64(hard);
        }
        writer.option(self.nice, Writer::i32);
        writer.option(self.affinity.as_ref(), |writer, cpus| {
            writer.length(cpus.len());
            for &cpu in cpus {
                writer.length(cpu);
            }
        });
    }

    /// Inlined with what every new process does, see the module `kernel`.
    #[inline(always)]
    pub(crate) fn decode(reader: &mut Reader<'_>) -> io::Result<Self> {
        let mut settings = Self {
            ignore_interrupt: reader.flag()?,
            ..Self::default()
        };
        if reader.flag()? {
            settings.decode_rest(reader)?;
        }
        Ok(settings)
    }

    #[cold]
    fn decode_rest(&mut self, reader: &mut Reader<'_>) -> io::Result<()> {
        let settings = self;
        for _ in 0..reader.count(1)? {
            settings.environment.push(Variable::decode(reader)?);
        }
        let path = |reader: &mut Reader<'_>| Ok(PathBuf::from(OsStr::from_bytes(reader.bytes()?)));
        settings.directory = reader.option(path)?;
        for _ in 0..reader.count(17)? {
            let resource = Resource::from_byte(reader.u8()?).ok_or_else(unknown_resource)?;
            settings.limits.push((resource, reader.u64()?, reader.u64()?));
        }
        settings.nice = reader.option(Reader::i32)?;
        settings.affinity = reader.option(|reader| {
            (0..reader.count(8)?)
                .map(|_| reader.length())
                .collect::<io::Result<_>>()
        })?;
        // The sender validated them. What `set_var` panics on must not get there by any other way either.
        settings.validate()
    }

    /// Puts the settings into force in this process.
    ///
    /// # Safety
    ///
    /// This process has one thread: the environment must not be changed while another may read it.
    ///
    /// # Errors
    ///
    /// The setting that failed, by name.
    pub(crate) unsafe fn apply(&self) -> io::Result<()> {
        for variable in &self.environment {
            // SAFETY: the caller vouches that there is no other thread; `validate` checked the names.
            unsafe { variable.apply() };
        }
        if let Some(directory) = &self.directory {
            nix::unistd::chdir(directory).during(format!(
                "cannot change the current directory to {}",
                directory.display()
            ))?;
        }
        if let Some(cpus) = &self.affinity {
            set_affinity(cpus).during(format!("cannot run on processors {cpus:?}"))?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: no pointers.
            let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
            if result != 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
            .during(format!("cannot set the nice value to {nice}"))?;
        }
        // Last: a limit may forbid what the others need.
        for &(resource, soft, hard) in &self.limits {
            setrlimit(resource.to_nix(), soft, hard)
                .during(format!("cannot limit {resource:?} to {soft} (hard limit {hard})"))?;
        }
        Ok(())
    }

    /// Sets the disposition of SIGINT, which cannot fail.
    pub(crate) fn apply_interrupt(&self) {
        if self.ignore_interrupt {
            // SAFETY: ignoring a signal installs no handler.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
        }
    }
}

fn unknown_resource() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "malformed message: a limit is of no known resource",
    )
}

fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    let mut wanted = [0_u64; MASK_WORDS];
    for &cpu in cpus {
        *wanted.get_mut(cpu / 64).ok_or(io::ErrorKind::InvalidInput)? |= 1 << (cpu % 64);
    }
    let size = size_of_val(&wanted);
    let mut got = [0_u64; MASK_WORDS];
    // SAFETY: the kernel reads and writes at most `size` bytes of the masks.
    unsafe {
        if libc::syscall(libc::SYS_sched_setaffinity, 0, size, wanted.as_ptr()) < 0
            || libc::syscall(libc::SYS_sched_getaffinity, 0, size, got.as_mut_ptr()) < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    // The kernel leaves out processors that do not exist, as long as one is left.
    match cpus.iter().find(|&&cpu| got[cpu / 64] & (1 << (cpu % 64)) == 0) {
        Some(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_encoding() {
        let settings = Settings {
            ignore_interrupt: true,
            environment: vec![
                Variable::Clear,
                Variable::Set("A".into(), "1".into()),
                Variable::Remove("B".into()),
            ],
            directory: Some("/tmp".into()),
            limits: Resource::ALL
                .map(|resource| (resource, 1, Resource::UNLIMITED))
                .to_vec(),
            nice: Some(-3),
            affinity: Some(vec![0, 5]),
        };
        settings.validate().unwrap();
        for settings in [settings, Settings::default()] {
            let mut writer = Writer::new();
            settings.encode(&mut writer);
            let mut reader = Reader::new(writer.as_slice());
            assert_eq!(Settings::decode(&mut reader).unwrap(), settings);
            reader.finish().unwrap();
            for end in 0..writer.as_slice().len() {
                assert!(Settings::decode(&mut Reader::new(&writer.as_slice()[..end])).is_err());
            }
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let set = |key: &str, value: &str| Settings {
            environment: vec![Variable::Set(key.into(), value.into())],
            ..Settings::default()
        };
        for settings in [
            set("", "1"),
            set("A=B", "1"),
            set("A\0", "1"),
            set("A", "\0"),
            Settings {
                directory: Some("\0".into()),
                ..Settings::default()
            },
            Settings {
                nice: Some(20),
                ..Settings::default()
            },
            Settings {
                limits: vec![(Resource::Data, 2, 1)],
                ..Settings::default()
            },
            Settings {
                affinity: Some(Vec::new()),
                ..Settings::default()
            },
            Settings {
                affinity: Some(vec![usize::MAX]),
                ..Settings::default()
            },
        ] {
            assert_eq!(
                settings.validate().unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{settings:?}"
            );
            let mut writer = Writer::new();
            settings.encode(&mut writer);
            assert!(
                Settings::decode(&mut Reader::new(writer.as_slice())).is_err(),
                "received: {settings:?}"
            );
        }
    }
}
