//! How two sides prove to each other that they have the same key, without telling it.
//!
//! ```text
//! client                                          listener
//!   challenge: a random nonce C  ------------------->
//!   <-------------------  challenge: a random nonce L
//!   answer: HMAC(key, "client" L C)  --------------->    checks it, or refuses and closes
//!   <-------------  answer: HMAC(key, "listener" L C)
//!   checks it, or closes
//! ```
//!
//! HMAC is HMAC-SHA256. Both nonces stand in both answers, so no answer of another connection fits. So does the role of who
//! answers: whoever has no key can send nothing back that was said to him. The listener answers only a client that has
//! proved itself.
//!
//! The key is proved, not used: what is sent afterwards is neither encrypted nor signed, and who can read or change packets
//! between two machines can read and change messages. A short key can be guessed from one answer: take 32 random bytes.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::frame::PROOF;

/// A key that both sides of a connection know.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

/// The side that proves that it has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Listener,
    Client,
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// What the side `role` answers.
    pub(super) fn answer(&self, role: Role, nonces: &Nonces) -> [u8; PROOF] {
        self.code(role, nonces).finalize().into_bytes().into()
    }

    /// Whether `answer` is what the side `role` must answer; takes the same time for every wrong one.
    pub(super) fn accepts(&self, answer: &[u8; PROOF], role: Role, nonces: &Nonces) -> bool {
        self.code(role, nonces).verify_slice(answer).is_ok()
    }

    fn code(&self, role: Role, nonces: &Nonces) -> Hmac<Sha256> {
        let role: &[u8] = match role {
            Role::Listener => b"offspring connection 1: listener",
            Role::Client => b"offspring connection 1: client..",
        };
        let code = self.0.clone();
        code.chain_update(role)
            .chain_update(nonces.listener)
            .chain_update(nonces.client)
    }
}

impl fmt::Debug for Key {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// What the two sides ask each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nonces {
    pub(super) listener: [u8; PROOF],
    pub(super) client: [u8; PROOF],
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCES: Nonces = Nonces {
        listener: [1; PROOF],
        client: [2; PROOF],
    };

    /// RFC 4231, test cases 1 and 2: the library does what its name says.
    #[test]
    fn the_code_is_hmac_sha256() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let code = |key: &[u8], data: &[u8]| hex(&Key::new(key).0.chain_update(data).finalize().into_bytes());
        assert_eq!(
            code(&[0x0b; 20], b"Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            code(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn an_answer_fits_one_key_one_role_and_one_pair_of_nonces() {
        let key = Key::new(b"key");
        let answer = key.answer(Role::Client, &NONCES);
        assert!(key.accepts(&answer, Role::Client, &NONCES));
        assert!(!key.accepts(&answer, Role::Listener, &NONCES));
        assert!(!Key::new(b"kez").accepts(&answer, Role::Client, &NONCES));
        let swapped = Nonces {
            listener: NONCES.client,
            client: NONCES.listener,
        };
        assert!(!key.accepts(&answer, Role::Client, &swapped));
        let mut wrong = answer;
        wrong[31] ^= 1;
        assert!(!key.accepts(&wrong, Role::Client, &NONCES));
        assert!(!key.accepts(&[0; PROOF], Role::Client, &NONCES));
    }

    #[test]
    fn an_empty_key_is_a_key() {
        let key = Key::new(b"");
        assert!(key.accepts(&key.answer(Role::Listener, &NONCES), Role::Listener, &NONCES));
        assert!(!key.accepts(&Key::new(b"x").answer(Role::Listener, &NONCES), Role::Listener, &NONCES));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new(b"secret")), "Key");
    }
}
