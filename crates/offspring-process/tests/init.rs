//! Without the start hook, a program that forgot `init` is told so.
#![cfg(not(feature = "start-hook"))]

use offspring_process::{Arguments, EntryPoint, Launcher, StartMethod};

static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));

/// libtest's own `main` calls nothing, and a copy of this program would run all tests again.
#[test]
fn a_forgotten_call_is_an_error() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let error = Launcher::new().method(method).start(&CODE, &[3], &[]).unwrap_err();
        assert!(error.to_string().contains("`init()`"), "{error}");
    }
}
