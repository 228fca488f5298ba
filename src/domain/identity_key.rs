//! What the email addresses of an account's users are hashed under.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use uuid::Uuid;

const KEY_BYTES: usize = 32;

/// An account's key for the hashes of email addresses: who reads the database learns no address from them, and cannot
/// compare accounts. Made ready, as each email event may need it.
#[derive(Clone)]
pub struct IdentityKey {
    text: SecretString,
    hmac: Hmac<Sha256>,
}

/// The text is no identity key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an identity key is base64 of {KEY_BYTES} bytes")]
pub struct InvalidIdentityKey;

impl IdentityKey {
    /// Makes a key of random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; KEY_BYTES]) -> Self {
        let hmac = Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length (RFC 2104)");
        Self { text: SecretString::from(STANDARD.encode(bytes)), hmac }
    }

    /// Reads what [`expose`](Self::expose) gave.
    ///
    /// # Errors
    /// [`InvalidIdentityKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidIdentityKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidIdentityKey)?;
        Ok(Self::from_random(bytes.try_into().map_err(|_| InvalidIdentityKey)?))
    }

    /// The key as text, for the vault.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What stands for an address in the database: the first half of its HMAC-SHA256. White space around it and the case of
    /// its letters make no difference.
    #[must_use]
    pub fn address_hash(&self, address: &str) -> Uuid {
        let mut mac = self.hmac.clone();
        mac.update(address.trim().to_lowercase().as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut first = [0; 16];
        first.copy_from_slice(&tag[..16]);
        Uuid::from_bytes(first)
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_hash_however_it_is_written() {
        let key = IdentityKey::from_random([7; 32]);
        let hash = key.address_hash("ada@example.com");
        // printf ada@example.com | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
        assert_eq!(hash.simple().to_string(), "c7f22a2b3094d750db28d69f809d573d");
        for same in [" Ada@Example.com ", "ADA@EXAMPLE.COM", "\tada@example.com\n"] {
            assert_eq!(key.address_hash(same), hash, "{same:?}");
        }
        assert_eq!(key.address_hash("ÄDA@example.com"), key.address_hash("äda@example.com"));
        assert_ne!(key.address_hash("adah@example.com"), hash);
        assert_ne!(IdentityKey::from_random([8; 32]).address_hash("ada@example.com"), hash);
    }

    #[test]
    fn a_key_reads_back_and_redacts_itself() {
        let key = IdentityKey::from_random([7; 32]);
        let again = IdentityKey::parse(key.expose()).expect("own format");
        assert_eq!(key.address_hash("a@b.c"), again.address_hash("a@b.c"));
        assert!(!format!("{key:?}").contains(&key.expose()[..8]));
        for text in ["", "x", "AAAA", "not base64"] {
            assert_eq!(IdentityKey::parse(text).err(), Some(InvalidIdentityKey), "{text}");
        }
    }
}
