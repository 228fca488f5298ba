//! Keys of Nudgespot's REST API.

use secrecy::{ExposeSecret, SecretString};

/// The longest key, in characters.
const MAX_CHARS: usize = 200;
/// How many characters are shown of a key, and how many are hidden at least.
const SHOWN_CHARS: usize = 4;
const HIDDEN_CHARS: usize = 3;

/// A REST key of Nudgespot: 1 to 200 printable characters of ASCII without white space. It becomes a Basic-auth password.
/// Nudgespot has said nowhere what its keys look like.
#[derive(Clone, Debug)]
pub struct NudgespotKey(SecretString);

/// Which rule a key breaks, in words for the person who typed it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidNudgespotKey {
    /// None at all, or more than a key has.
    #[error("a Nudgespot key has 1 to {MAX_CHARS} characters, this has {0}")]
    Length(usize),
    /// A character that no key has.
    #[error("a Nudgespot key has only printable ASCII characters, and no white space")]
    Character,
}

impl NudgespotKey {
    /// Surrounding white space, which comes along when a key is pasted, is dropped.
    ///
    /// # Errors
    /// [`InvalidNudgespotKey`] says which rule the input breaks.
    pub fn parse(input: &str) -> Result<Self, InvalidNudgespotKey> {
        let key = input.trim();
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidNudgespotKey::Character);
        }
        if !(1..=MAX_CHARS).contains(&key.len()) {
            return Err(InvalidNudgespotKey::Length(key.len()));
        }
        Ok(Self(SecretString::from(key)))
    }

    /// The key itself, for the `Authorization` header and the vault.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// All that is ever shown of it: the end, and less of it where the key is very short.
    #[must_use]
    pub fn last4(&self) -> &str {
        let key = self.expose();
        &key[key.len() - SHOWN_CHARS.min(key.len().saturating_sub(HIDDEN_CHARS))..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_key_is_trimmed_and_shown_by_its_end() {
        let key = NudgespotKey::parse(" 0123:abcd/+=\n").expect("a key");
        assert_eq!((key.expose(), key.last4()), ("0123:abcd/+=", "d/+="));
        assert!(!format!("{key:?}").contains("0123"));
        for (input, shown) in [("bad-key", "-key"), ("12345", "45"), ("123", ""), ("x", "")] {
            assert_eq!(NudgespotKey::parse(input).expect("a key").last4(), shown, "{input}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(NudgespotKey::parse(&"x".repeat(MAX_CHARS)).is_ok());
        for (input, error) in [
            ("", InvalidNudgespotKey::Length(0)),
            (" \t", InvalidNudgespotKey::Length(0)),
            (&"x".repeat(MAX_CHARS + 1), InvalidNudgespotKey::Length(MAX_CHARS + 1)),
            ("two words", InvalidNudgespotKey::Character),
            ("schlüssel", InvalidNudgespotKey::Character),
            ("nul\0", InvalidNudgespotKey::Character),
            ("del\u{7f}", InvalidNudgespotKey::Character),
        ] {
            assert_eq!(NudgespotKey::parse(input).err(), Some(error), "{input}");
        }
    }
}
