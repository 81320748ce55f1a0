mod arena;
mod connection;
mod image;
mod locks;
mod membership;
mod packet;
mod parcel;
mod pool;
mod queue_handle;
mod report;
mod request;
mod ring;
mod segment;
mod shared;

use crate::Target;

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target {
        name: "arena",
        run: arena::run,
    },
    Target {
        name: "connection",
        run: connection::run,
    },
    Target {
        name: "image",
        run: image::run,
    },
    Target {
        name: "locks",
        run: locks::run,
    },
    Target {
        name: "membership",
        run: membership::run,
    },
    Target {
        name: "packet",
        run: packet::run,
    },
    Target {
        name: "parcel",
        run: parcel::run,
    },
    Target {
        name: "pool",
        run: pool::run,
    },
    Target {
        name: "queue_handle",
        run: queue_handle::run,
    },
    Target {
        name: "report",
        run: report::run,
    },
    Target {
        name: "request",
        run: request::run,
    },
    Target {
        name: "ring",
        run: ring::run,
    },
    Target {
        name: "segment",
        run: segment::run,
    },
    Target {
        name: "shared",
        run: shared::run,
    },
];

/// An error says what is wrong.
fn in_words(error: &dyn std::error::Error) {
    assert!(error.to_string().len() > 8, "{error:?} has no words");
}
