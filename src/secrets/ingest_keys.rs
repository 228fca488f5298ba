//! The keys by which senders that sign nothing name a source of calls. Looked up by their hashes: how long that takes tells
//! nothing of how much of a key is right.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::sources::signature::Keyring;

/// What a key is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// The ingest keys of one source, as hashes.
#[derive(Debug)]
pub struct IngestKeys {
    current: KeyHash,
    /// The one before the last rotation, and until when it counts, in Unix seconds.
    previous: Option<(KeyHash, i64)>,
}

impl KeyHash {
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl IngestKeys {
    /// Those that belong to the secrets of a source.
    pub fn of(keyring: &Keyring) -> Self {
        Self {
            current: KeyHash::of(&keyring.current.ingest_key()),
            previous: keyring.previous_until.map(|until| (KeyHash::of(&keyring.previous.ingest_key()), until)),
        }
    }

    /// All of them, also one that does not count any more.
    pub fn hashes(&self) -> impl Iterator<Item = KeyHash> {
        std::iter::once(self.current).chain(self.previous.map(|(hash, _)| hash))
    }

    /// Whether this is one of them that counts.
    pub fn has(&self, hash: KeyHash, now: OffsetDateTime) -> bool {
        let is_previous =
            self.previous.is_some_and(|(previous, until)| previous == hash && now.unix_timestamp() < until);
        self.current == hash || is_previous
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::domain::secret::SigningSecret;

    #[test]
    fn the_key_before_a_rotation_counts_for_a_while() {
        let [current, previous, other] = [1, 2, 3].map(|byte| SigningSecret::from_random([byte; 32]));
        let [of_current, of_previous, of_other] =
            [&current, &previous, &other].map(|secret| KeyHash::of(&secret.ingest_key()));
        let until = datetime!(2026-01-02 03:04:05 UTC);
        let keyring = |previous_until| Keyring {
            current: current.clone(),
            previous: previous.clone(),
            previous_until,
            allow_untimestamped: false,
        };
        let keys = IngestKeys::of(&keyring(Some(until.unix_timestamp())));
        let before = until - Duration::SECOND;
        assert!(keys.has(of_current, until) && keys.has(of_previous, before));
        assert!(!keys.has(of_previous, until) && !keys.has(of_other, before));
        assert_eq!(keys.hashes().collect::<Vec<_>>(), [of_current, of_previous]);
        // What stands in for a secret that is not there has a key as well, which nobody is to find.
        let keys = IngestKeys::of(&keyring(None));
        assert!(!keys.has(of_previous, before));
        assert_eq!(keys.hashes().collect::<Vec<_>>(), [of_current]);
    }
}
