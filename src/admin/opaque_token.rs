//! Random texts that prove something to whoever shows them: only their hash is kept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::random;

/// What is longer was not made here, and is not hashed.
const MAX_BYTES: usize = 128;

/// A text that is told once, to the one person whom it is for. Shows itself to no log.
#[derive(Clone, Debug)]
pub struct OpaqueToken(SecretString);

impl OpaqueToken {
    /// `prefix`, and `N` random bytes.
    pub(super) fn random<const N: usize>(prefix: &str) -> Self {
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::bytes::<N>())).into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.expose()).into()
    }
}

/// The hash of what somebody shows; `None`: it is no token of ours.
pub(super) fn digest(shown: &str) -> Option<[u8; 32]> {
    let is_possible = !shown.is_empty() && shown.len() <= MAX_BYTES;
    is_possible.then(|| Sha256::digest(shown).into())
}
