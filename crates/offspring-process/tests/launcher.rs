//! Starting processes: payloads, descriptors, streams, both start methods.
#![cfg(feature = "start-hook")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod, Stdio};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

static SUM: EntryPoint = EntryPoint::new("sum", |arguments: Arguments| {
    (arguments.payload.iter().map(|&byte| u64::from(byte)).sum::<u64>() % 251) as i32
});

#[test]
fn payloads_of_every_size_arrive() {
    for method in METHODS {
        for length in [0_usize, 1, 1000, 64 * 1024 - 100, 64 * 1024, 64 * 1024 + 1, 5_000_000] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let expected = (payload.iter().map(|&byte| u64::from(byte)).sum::<u64>() % 251) as i32;
            let child = Launcher::new().method(method).start(&SUM, &payload, &[]).unwrap();
            assert_eq!(
                child.wait().unwrap(),
                ExitStatus::Code(expected),
                "{method:?}, {length} bytes"
            );
        }
    }
}

static SHOUT: EntryPoint = EntryPoint::new("shout", |mut arguments: Arguments| {
    let mut text = String::new();
    File::from(arguments.descriptors.remove(0))
        .read_to_string(&mut text)
        .unwrap();
    println!("{}", text.to_uppercase());
    eprint!("done");
    0
});

#[test]
fn descriptors_and_streams_are_passed() {
    for method in METHODS {
        let (input, mut to_child) = std::io::pipe().unwrap();
        let (mut output, from_child) = std::io::pipe().unwrap();
        let (mut errors, errors_of_child) = std::io::pipe().unwrap();
        let child = Launcher::new()
            .method(method)
            .stdout(from_child)
            .stderr(errors_of_child)
            .start(&SHOUT, &[], &[input.as_fd()])
            .unwrap();
        to_child.write_all(b"hello").unwrap();
        drop(to_child);
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
        let (mut text, mut error) = ([0; 6], [0; 4]);
        output.read_exact(&mut text).unwrap();
        errors.read_exact(&mut error).unwrap();
        assert_eq!((&text, &error), (b"HELLO\n", b"done"));
    }
}

static ECHO: EntryPoint = EntryPoint::new("echo", |_: Arguments| {
    std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap() as i32
});

#[test]
fn standard_input_is_empty_unless_it_is_given() {
    for method in METHODS {
        let child = Launcher::new().method(method).start(&ECHO, &[], &[]).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
        let (input, mut to_child) = std::io::pipe().unwrap();
        let child = Launcher::new()
            .method(method)
            .stdin(input)
            .stdout(Stdio::Null)
            .start(&ECHO, &[], &[])
            .unwrap();
        to_child.write_all(b"1234").unwrap();
        drop(to_child);
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(4));
    }
}
