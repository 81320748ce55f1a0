//! Messages and descriptors over a socket, between processes that are not of one family.
//!
//! A [`Listener`] waits at an [`Address`] for [`Client`]s; each pair has a [`Connection`] then. [`Connection::pair`] makes
//! both ends at once.
//!
//! ```
//! use offspring_queue::connection::{Client, Listener};
//!
//! let listener = Listener::builder().key(b"secret").bind_temporary()?;
//! # let address = listener.address().clone();
//! # let other = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // In another program, which was told the address:
//! let mut connection = Client::new().key(b"secret").connect(address)?;
//! connection.send(&("lines".to_string(), 17_u64))?;
//! # Ok(())
//! # });
//!
//! let mut connection = listener.accept()?;
//! let (what, count) = connection.recv::<(String, u64)>()?;
//! assert_eq!((what.as_str(), count), ("lines", 17));
//! # other.join().unwrap().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is believed
//!
//! Nothing. The decoders of received bytes are `frame.rs`, for heads, and `value.rs`, for values. A message's memory grows
//! with what has come of it; values pass rkyv's validation, with a limit to their depth; descriptors that nobody announced
//! are closed. Whoever breaks a rule loses the connection, and no other.
//!
//! # What is read when
//!
//! A receive takes a head and a body off the socket and not a byte more. So a socket that is readable has a message, or a
//! part of one, that no buffer of this process hides; and the descriptors that come with a head are those of its frame.

mod address;
mod authentication;
mod buffer;
mod client;
#[expect(
    clippy::module_inception,
    reason = "the type and the module of its family are called alike"
)]
mod connection;
mod error;
#[doc(hidden)]
pub mod frame;
mod handshake;
mod listener;
mod listener_builder;
mod message;
mod nonce;
mod peer_credentials;
mod receiver;
mod sender;
mod socket;
mod socket_file;
#[doc(hidden)]
pub mod value;

pub use address::Address;
pub use client::Client;
pub use connection::Connection;
pub use error::ConnectionError;
pub use listener::Listener;
pub use listener_builder::ListenerBuilder;
pub use peer_credentials::PeerCredentials;
pub use receiver::ConnectionReceiver;
pub use sender::ConnectionSender;
