//! Signing secrets, in the form that Standard Webhooks gives them: `whsec_` and base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

const PREFIX: &str = "whsec_";
const RANDOM_BYTES: usize = 32;

/// An HMAC-SHA256 tag.
pub type Tag = [u8; 32];
/// An HMAC-SHA1 tag. Segment signs so; SHA-1's collisions do not touch HMAC.
pub type Sha1Tag = [u8; 20];

/// A signing secret, with its HMAC keys made ready: each webhook is verified under one of them.
#[derive(Clone)]
pub struct SigningSecret {
    text: SecretString,
    decoded: Hmac<Sha256>,
    whole: Hmac<Sha256>,
    whole_sha1: Hmac<Sha1>,
}

/// Part of a hash of a secret: it tells the secrets of a source apart, and says nothing else of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretId(pub i64);

/// Which bytes of the secret are the HMAC key. The contract ties it to the signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The base64-decoded part after `whsec_`, as Standard Webhooks has it.
    Decoded,
    /// The whole secret string, as it is shown.
    Whole,
}

/// Why a text is no signing secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a signing secret reads `whsec_` and then base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

impl SigningSecret {
    /// Makes a secret of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; RANDOM_BYTES]) -> Self {
        Self::with_key(format!("{PREFIX}{}", STANDARD.encode(bytes)), &bytes)
    }

    /// # Errors
    /// [`InvalidSecret`] where the prefix, the base64 or the length is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&key.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self::with_key(text.to_owned(), &key))
    }

    fn with_key(text: String, key: &[u8]) -> Self {
        let (whole, whole_sha1) = (hmac(text.as_bytes()), hmac_sha1(text.as_bytes()));
        Self { decoded: hmac(key), whole, whole_sha1, text: SecretString::from(text) }
    }

    /// A secret in another form than ours, as the examples of others have it.
    #[cfg(test)]
    pub(crate) fn of_any_text(text: &str) -> Self {
        Self::with_key(text.to_owned(), text.as_bytes())
    }

    /// The secret as its owner sees it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The key by which Segment's libraries and destination functions name the source of calls that has this secret, where
    /// they sign nothing. Made of the secret, so that both are renewed together; the secret cannot be made of it.
    #[must_use]
    pub fn ingest_key(&self) -> String {
        hex::encode(&self.tag(KeyPart::Decoded, &[b"nudgespot-source ingest key"])[..16])
    }

    /// Whether `key` is the [ingest key](Self::ingest_key), compared in constant time.
    #[must_use]
    pub fn has_ingest_key(&self, key: &str) -> Choice {
        self.ingest_key().as_bytes().ct_eq(key.as_bytes())
    }

    /// What it is told from others by.
    #[must_use]
    pub fn id(&self) -> SecretId {
        let hash = Sha256::new().chain_update("nudgespot-source secret\0").chain_update(self.expose()).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        SecretId(i64::from_le_bytes(id))
    }

    /// The tag over the concatenation of `parts`.
    #[must_use]
    pub fn tag(&self, key: KeyPart, parts: &[&[u8]]) -> Tag {
        let mut mac = match key {
            KeyPart::Decoded => self.decoded.clone(),
            KeyPart::Whole => self.whole.clone(),
        };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The HMAC-SHA1 tag over `content`, under the whole secret string.
    #[must_use]
    pub fn sha1_tag(&self, content: &[u8]) -> Sha1Tag {
        self.whole_sha1.clone().chain_update(content).finalize().into_bytes().into()
    }
}

/// The tag over the concatenation of `parts` under any key: for finding out which mistake made a signature.
#[must_use]
pub fn tag_under(key: &[u8], parts: &[&[u8]]) -> Tag {
    let mut mac = hmac(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The HMAC-SHA1 tag over `content` under any key: see [`tag_under`].
#[must_use]
pub fn sha1_tag_under(key: &[u8], content: &[u8]) -> Sha1Tag {
    hmac_sha1(key).chain_update(content).finalize().into_bytes().into()
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningSecret([redacted])")
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)")
}

fn hmac_sha1(key: &[u8]) -> Hmac<Sha1> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_secret_reads_back() {
        let secret = SigningSecret::from_random([7; 32]);
        let again = SigningSecret::parse(secret.expose()).expect("own format");
        assert_eq!(secret.tag(KeyPart::Decoded, &[b"x"]), again.tag(KeyPart::Decoded, &[b"x"]));
        assert_eq!(secret.tag(KeyPart::Whole, &[b"x"]), again.tag(KeyPart::Whole, &[b"x"]));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(SigningSecret::parse(text).err(), Some(InvalidSecret), "{text}");
        }
    }

    #[test]
    fn secrets_have_ids_of_their_own() {
        let [one, other] = [1, 2].map(|byte| SigningSecret::from_random([byte; 32]));
        assert_eq!(one.id(), SigningSecret::parse(one.expose()).expect("own format").id());
        assert_ne!(one.id(), other.id());
    }

    #[test]
    fn an_ingest_key_is_the_secrets_own() {
        let [one, other] = [1, 2].map(|byte| SigningSecret::from_random([byte; 32]));
        let key = one.ingest_key();
        assert!(key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
        assert!(bool::from(one.has_ingest_key(&key)));
        for wrong in [other.ingest_key().as_str(), &key[1..], &key.to_uppercase(), one.expose(), ""] {
            assert!(!bool::from(one.has_ingest_key(wrong)), "{wrong}");
        }
    }

    #[test]
    fn hmac_sha1_is_that_of_rfc_2202() {
        let tag = sha1_tag_under(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex::encode(tag), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(SigningSecret::of_any_text("Jefe").sha1_tag(b"what do ya want for nothing?"), tag);
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = SigningSecret::from_random([7; 32]);
        assert!(!format!("{secret:?}").contains(&secret.expose()[6..]));
    }
}
