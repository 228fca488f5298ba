//! Encryption at rest of keys and secrets.
//!
//! XChaCha20-Poly1305 under the first of the master keys, with its owner (a source, an account) and the field as associated
//! data: a ciphertext moved to another owner, or another column, does not open. The key's id stands in front of each
//! ciphertext, so that several master keys can be in use while one replaces another.

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// Seals and opens with the operator's master keys.
pub struct Vault {
    keys: Vec<MasterKey>,
}

struct MasterKey {
    id: [u8; KEY_ID_BYTES],
    cipher: XChaCha20Poly1305,
}

/// What is sealed. Part of the associated data: it binds a ciphertext to its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says it by its name")]
pub enum Field {
    WriteKey,
    Secret,
    PreviousSecret,
    ShownOnce,
    /// Of an account; the others are of a source.
    IdentityKey,
}

/// Why the text of `MASTER_KEY` cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not base64 of 32 bytes (several: comma-separated)")]
pub struct InvalidMasterKey;

/// A ciphertext that none of the master keys opens.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no key in MASTER_KEY opens the {field:?} of {} {owner}: was the key that sealed it removed?", .field.owner())]
pub struct CannotDecrypt {
    owner: Uuid,
    field: Field,
}

impl Field {
    /// What it belongs to.
    fn owner(self) -> &'static str {
        match self {
            Self::WriteKey | Self::Secret | Self::PreviousSecret | Self::ShownOnce => "source",
            Self::IdentityKey => "account",
        }
    }
}

impl Vault {
    /// Reads master keys: base64 of 32 bytes each, comma-separated. The first seals, all open.
    ///
    /// # Errors
    /// [`InvalidMasterKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidMasterKey> {
        let keys = text.split(',').map(|key| MasterKey::parse(key.trim())).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// The text of a new master key, made of random bytes.
    #[must_use]
    pub fn encode_key(random: [u8; KEY_BYTES]) -> String {
        STANDARD.encode(random)
    }

    /// Seals `text`. `nonce` must be random: a key seals with each only once.
    #[must_use]
    pub fn seal(&self, owner: Uuid, field: Field, text: &str, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let key = &self.keys[0];
        let associated = associated_data(owner, field);
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: text.as_bytes(), aad: &associated })
            .expect("the cipher takes texts of up to 256 GB");
        [&key.id[..], &nonce, &sealed].concat()
    }

    /// Opens what [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// [`CannotDecrypt`] where no master key fits, or the ciphertext belongs elsewhere.
    pub fn open(&self, owner: Uuid, field: Field, sealed: &[u8]) -> Result<String, CannotDecrypt> {
        self.try_open(owner, field, sealed).ok_or(CannotDecrypt { owner, field })
    }

    fn try_open(&self, owner: Uuid, field: Field, sealed: &[u8]) -> Option<String> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let key = self.keys.iter().find(|key| key.id == *id)?;
        let associated = associated_data(owner, field);
        let text = key.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &associated }).ok()?;
        String::from_utf8(text).ok()
    }
}

impl MasterKey {
    fn parse(text: &str) -> Result<Self, InvalidMasterKey> {
        let bytes: [u8; KEY_BYTES] =
            STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(InvalidMasterKey)?;
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&Sha256::digest(bytes)[..KEY_ID_BYTES]);
        Ok(Self { id, cipher: XChaCha20Poly1305::new(&bytes.into()) })
    }
}

fn associated_data(owner: Uuid, field: Field) -> Vec<u8> {
    let field: &[u8] = match field {
        Field::WriteKey => b"write_key",
        Field::Secret => b"secret",
        Field::PreviousSecret => b"previous_secret",
        Field::ShownOnce => b"shown_once",
        Field::IdentityKey => b"identity_key",
    };
    [owner.as_bytes(), field].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Uuid = Uuid::from_u128(1);

    fn vault(keys: &[u8]) -> Vault {
        let keys: Vec<String> = keys.iter().map(|byte| Vault::encode_key([*byte; KEY_BYTES])).collect();
        Vault::parse(&keys.join(", ")).expect("keys")
    }

    #[test]
    fn what_is_sealed_opens_under_any_of_the_keys_that_sealed_it() {
        let sealed = vault(&[1]).seal(ACCOUNT, Field::WriteKey, "key", [0; NONCE_BYTES]);
        assert_eq!(vault(&[2, 1]).open(ACCOUNT, Field::WriteKey, &sealed).as_deref(), Ok("key"));
        assert!(vault(&[2]).open(ACCOUNT, Field::WriteKey, &sealed).is_err());
        let resealed = vault(&[2, 1]).seal(ACCOUNT, Field::WriteKey, "key", [0; NONCE_BYTES]);
        assert_eq!(vault(&[2]).open(ACCOUNT, Field::WriteKey, &resealed).as_deref(), Ok("key"), "the first seals");
    }

    #[test]
    fn a_ciphertext_is_bound_to_its_account_and_field() {
        let vault = vault(&[1]);
        let mut sealed = vault.seal(ACCOUNT, Field::Secret, "secret", [0; NONCE_BYTES]);
        assert!(vault.open(Uuid::from_u128(2), Field::Secret, &sealed).is_err());
        assert!(vault.open(ACCOUNT, Field::PreviousSecret, &sealed).is_err());
        sealed[30] ^= 1;
        assert!(vault.open(ACCOUNT, Field::Secret, &sealed).is_err(), "changed");
        assert!(vault.open(ACCOUNT, Field::Secret, b"").is_err(), "cut");
    }

    #[test]
    fn a_master_key_is_base64_of_32_bytes() {
        for text in ["", "x", "AAAA", ","] {
            assert_eq!(Vault::parse(text).err(), Some(InvalidMasterKey), "{text}");
        }
    }
}
