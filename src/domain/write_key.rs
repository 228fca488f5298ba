//! Segment write keys.

use secrecy::{ExposeSecret, SecretString};

/// A Segment write key: 8 to 64 of `A-Z a-z 0-9 - _`. It becomes a Basic-auth user name, so it holds no `:`.
#[derive(Clone, Debug)]
pub struct WriteKey(SecretString);

/// Which rule a write key breaks, in words for the person who typed it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidWriteKey {
    /// Fewer than 8 or more than 64 characters.
    #[error("a Segment write key has 8 to 64 characters, this has {0}")]
    Length(usize),
    /// A character that no write key has.
    #[error("a Segment write key has only letters, digits, `-` and `_`")]
    Character,
}

impl WriteKey {
    /// Surrounding white space, which comes along when a key is pasted, is dropped.
    ///
    /// # Errors
    /// [`InvalidWriteKey`] says which rule the input breaks.
    pub fn parse(input: &str) -> Result<Self, InvalidWriteKey> {
        let key = input.trim();
        if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(InvalidWriteKey::Character);
        }
        if !(8..=64).contains(&key.len()) {
            return Err(InvalidWriteKey::Length(key.len()));
        }
        Ok(Self(SecretString::from(key)))
    }

    /// The key itself, for the `Authorization` header and the vault.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// All that is ever shown of it.
    #[must_use]
    pub fn last4(&self) -> &str {
        let key = self.expose();
        &key[key.len() - 4..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_key_is_trimmed_and_shown_by_its_end() {
        let key = WriteKey::parse(" abcdefgh1234\n").expect("a key");
        assert_eq!((key.expose(), key.last4()), ("abcdefgh1234", "1234"));
        assert!(!format!("{key:?}").contains("abcdefgh"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (input, error) in [
            ("", InvalidWriteKey::Length(0)),
            ("short", InvalidWriteKey::Length(5)),
            (&"x".repeat(65), InvalidWriteKey::Length(65)),
            ("user:pass", InvalidWriteKey::Character),
            ("schlüssel", InvalidWriteKey::Character),
            ("two words", InvalidWriteKey::Character),
        ] {
            assert_eq!(WriteKey::parse(input).err(), Some(error), "{input}");
        }
    }
}
