//! What an account's admin chooses.

use std::str::FromStr;

use super::text::is_hidden;

/// How many random bytes a webhook token holds.
pub const TOKEN_BYTES: usize = 16;
/// The longest account name, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// An account's unique name: 1 to 100 characters, all of them to be seen, no white space around, and not the
/// form of an account id (on the command line either may stand).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountName(String);

/// Which rule an account's name breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidName {
    /// Empty, or too long.
    #[error("an account's name has 1 to {MAX_NAME_CHARS} characters")]
    Length,
    /// A line break or another character that is not seen.
    #[error("an account's name has no line breaks, control characters or other characters that are not seen")]
    Control,
    /// It could be mistaken for an account id.
    #[error("an account's name may not look like an account id")]
    LooksLikeId,
}

impl AccountName {
    /// # Errors
    /// [`InvalidName`] says which rule the input breaks.
    pub fn parse(input: &str) -> Result<Self, InvalidName> {
        let name = input.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
            return Err(InvalidName::Length);
        }
        if name.chars().any(is_hidden) {
            return Err(InvalidName::Control);
        }
        if uuid::Uuid::parse_str(name).is_ok() {
            return Err(InvalidName::LooksLikeId);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an unsubscription is called at Segment. Segment's Nudgespot Source page and its Email spec disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsubscribeEvent {
    /// Segment's Nudgespot Source page.
    EmailUnsubscribed,
    /// Segment's Email spec; Segment's Optimizely destination matches only this.
    Unsubscribed,
}

impl UnsubscribeEvent {
    /// The event's name in a track call.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmailUnsubscribed => "Email Unsubscribed",
            Self::Unsubscribed => "Unsubscribed",
        }
    }
}

/// The text is neither name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the unsubscribe event is `Email Unsubscribed` or `Unsubscribed`")]
pub struct UnknownUnsubscribeEvent;

impl FromStr for UnsubscribeEvent {
    type Err = UnknownUnsubscribeEvent;

    fn from_str(text: &str) -> Result<Self, UnknownUnsubscribeEvent> {
        [Self::EmailUnsubscribed, Self::Unsubscribed]
            .into_iter()
            .find(|event| event.as_str() == text)
            .ok_or(UnknownUnsubscribeEvent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        assert_eq!(AccountName::parse(" Acme Ümläut ").map(|n| n.as_str().to_owned()), Ok("Acme Ümläut".to_owned()));
        assert_eq!(AccountName::parse(" "), Err(InvalidName::Length));
        assert_eq!(AccountName::parse(&"x".repeat(101)), Err(InvalidName::Length));
        for name in ["a\nb", "a\u{9b}31mb", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{2028}b", "a\u{200f}b"] {
            assert_eq!(AccountName::parse(name), Err(InvalidName::Control), "{name:?}");
        }
        assert_eq!(AccountName::parse("01234567-89ab-cdef-0123-456789abcdef"), Err(InvalidName::LooksLikeId));
    }
}
