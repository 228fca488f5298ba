//! Passwords of the people who use the console.

use std::ops::RangeInclusive;

use secrecy::{ExposeSecret, SecretString};

/// How many characters a password has.
pub const PASSWORD_CHARS: RangeInclusive<usize> = 12..=256;

/// A password that a person chose. Shows itself to no log.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// It is too short, or too long.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a password has {} to {} characters", PASSWORD_CHARS.start(), PASSWORD_CHARS.end())]
pub struct InvalidPassword;

impl Password {
    /// A password that is to be set. Nothing is asked of it but its length: rules about characters make people choose worse
    /// ones.
    ///
    /// # Errors
    /// [`InvalidPassword`].
    pub fn parse(input: &str) -> Result<Self, InvalidPassword> {
        if PASSWORD_CHARS.contains(&input.chars().count()) { Ok(Self(input.into())) } else { Err(InvalidPassword) }
    }

    /// The password.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_judged_by_its_length_in_characters() {
        for (text, is_right) in [
            ("short secret", true),
            ("shortsecret", false),
            ("äöüäöüäöüäöü", true),
            (&"x".repeat(256), true),
            (&"x".repeat(257), false),
        ] {
            assert_eq!(Password::parse(text).is_ok(), is_right, "{text}");
        }
        assert!(!format!("{:?}", Password::parse("correct horse").unwrap()).contains("horse"));
    }
}
