//! The conversation that `authentication.rs` describes.

use std::time::Instant;

use super::authentication::{Key, Nonces, Role};
use super::frame::Kind;
use super::nonce::nonce;
use super::{Connection, ConnectionError};

/// Proves to the other side that this one has the key, and has it prove the same.
pub(super) fn shake_hands(
    connection: &mut Connection,
    key: &Key,
    role: Role,
    deadline: Instant,
) -> Result<(), ConnectionError> {
    let (receiver, sender) = (&mut connection.receiver, &mut connection.sender);
    let mut say = |kind, body: &[u8]| sender.frame(kind, 0, body, Some(deadline));
    let result = (|| {
        let mine = nonce()?;
        say(Kind::Challenge, &mine)?;
        let theirs = receiver.proof(Kind::Challenge, deadline)?;
        // A mirror, or a socket that was connected to itself.
        if mine == theirs {
            return Err(ConnectionError::Authentication(
                "the other side repeats what it is told",
            ));
        }
        match role {
            Role::Client => {
                let nonces = Nonces {
                    listener: theirs,
                    client: mine,
                };
                say(Kind::Answer, &key.answer(Role::Client, &nonces))?;
                let proof = receiver.proof(Kind::Answer, deadline)?;
                if !key.accepts(&proof, Role::Listener, &nonces) {
                    return Err(ConnectionError::Authentication("the listener has another key"));
                }
            }
            Role::Listener => {
                let nonces = Nonces {
                    listener: mine,
                    client: theirs,
                };
                let proof = receiver.proof(Kind::Answer, deadline)?;
                if !key.accepts(&proof, Role::Client, &nonces) {
                    // If the client is gone, it does not need to know.
                    let _ = say(Kind::Refusal, &[]);
                    return Err(ConnectionError::Authentication("the client has another key"));
                }
                say(Kind::Answer, &key.answer(Role::Listener, &nonces))?;
            }
        }
        Ok(())
    })();
    result.map_err(|error| match error {
        ConnectionError::Timeout => ConnectionError::Authentication("the other side did not answer in time"),
        ConnectionError::Unexpected { .. } => {
            ConnectionError::Authentication("the other side sent a message where it had to prove a key: it has none")
        }
        error => error,
    })
}
