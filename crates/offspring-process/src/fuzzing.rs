//! Ways into the decoders of what comes over sockets, for fuzz targets. Each panics when a property does not hold.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::packet::{self, Absent, Kind, Packet};
use crate::settings::Settings;
use crate::wire::{Reader, Writer};
use crate::{EntryPoint, Panic, environment, failure, socket, spawn};

/// Receives `message` with as many descriptors, and reads its body; gives the body, if it is one.
///
/// # Errors
/// When it is no message.
pub fn packet(message: &[u8], descriptors: &[OwnedFd]) -> io::Result<Vec<u8>> {
    let (ours, theirs) = socket::pair()?;
    let attached: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    socket::send(ours.as_fd(), &[io::IoSlice::new(message)], &attached)?;
    let mut buffer = packet::buffer();
    let mut packet = Packet::receive(theirs.as_fd(), &mut buffer, false)?;
    assert!(packet.descriptors.len() <= descriptors.len());
    let mut long = Vec::new();
    let body = packet.body(&buffer, &mut long)?.to_vec();
    // What was read can be sent, and is the same then.
    let kind = packet.kind;
    packet::send(ours.as_fd(), kind, &Writer::new(), &body, &[])?;
    let mut again = Packet::receive(theirs.as_fd(), &mut buffer, false)?;
    assert_eq!(again.kind, kind);
    let mut long = Vec::new();
    assert_eq!(again.body(&buffer, &mut long)?, body);
    assert!(matches!(
        Packet::receive(theirs.as_fd(), &mut buffer, false),
        Err(Absent::NotYet)
    ));
    Ok(body)
}

/// What a new process reads of its request before it acts on it; gives the entry point's name.
///
/// # Errors
/// When it is no request.
pub fn request(body: &[u8]) -> io::Result<&'static str> {
    let mut reader = Reader::new(body);
    let entry = EntryPoint::at(reader.u64()?)?;
    settings(&mut reader)?;
    for _ in 0..3 {
        reader.flag()?;
    }
    Ok(entry.name())
}

fn settings(reader: &mut Reader<'_>) -> io::Result<()> {
    let settings = Settings::decode(reader)?;
    settings.validate().expect("decoded settings are as the sender's");
    let mut writer = Writer::new();
    settings.encode(&mut writer);
    let mut again = Reader::new(writer.as_slice());
    assert_eq!(Settings::decode(&mut again)?, settings);
    assert!(again.rest().is_empty());
    Ok(())
}

/// The settings of a request alone.
///
/// # Errors
/// When they are none.
pub fn only_settings(body: &[u8]) -> io::Result<()> {
    settings(&mut Reader::new(body))
}

/// What a zygote and a copy of the program are told at their start.
///
/// # Errors
/// When it is no configuration.
pub fn configuration(message: &[u8]) -> io::Result<usize> {
    let (ours, theirs) = socket::pair()?;
    packet::send(ours.as_fd(), Kind::Configure, &Writer::new(), message, &[])?;
    let mut buffer = packet::buffer();
    let packet = Packet::receive(theirs.as_fd(), &mut buffer, false)?;
    let configuration = spawn::Configuration::decode(packet, &buffer)?;
    let _ = configuration.check();
    Ok(configuration.preloads.len())
}

/// An environment that a zygote is to take over.
///
/// # Errors
/// When it is none.
pub fn environment(body: &[u8]) -> io::Result<usize> {
    environment::decode(&mut Reader::new(body)).map(|variables| variables.len())
}

/// The report of a panic.
///
/// # Errors
/// When it is none.
pub fn panic(body: &[u8]) -> io::Result<Panic> {
    let panic = Panic::decode(&mut Reader::new(body))?;
    let mut writer = Writer::new();
    panic.encode(&mut writer);
    Panic::decode(&mut Reader::new(writer.as_slice()))
}

/// An error of another process.
///
/// # Errors
/// When it is none.
pub fn failure(body: &[u8]) -> io::Result<io::Error> {
    failure::Failure::decode(&mut Reader::new(body))
}

/// A file with these contents, as bodies of messages come in.
///
/// # Errors
/// When the system has no room for one.
pub fn sealed(contents: &[u8]) -> io::Result<OwnedFd> {
    packet::sealed(contents, &[])
}

/// A file that is no memfd.
///
/// # Errors
/// When it cannot be opened.
pub fn null() -> io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}
