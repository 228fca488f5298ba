//! Names of accounts and sources.

use super::text::is_hidden;

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// The name of an account, or of a source within its account: 1 to 100 characters, all of them to be seen, no white space
/// around, no `/` (which stands between the two), and not the form of an id (on the command line either may stand).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// Which rule a name breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidName {
    /// Empty, or too long.
    #[error("a name has 1 to {MAX_NAME_CHARS} characters")]
    Length,
    /// A line break or another character that is not seen.
    #[error("a name has no line breaks, control characters or other characters that are not seen")]
    Control,
    /// It could be mistaken for an id.
    #[error("a name may not look like an id")]
    LooksLikeId,
    /// It could be mistaken for the names of an account and its source.
    #[error("a name has no `/`, which stands between those of an account and its source")]
    Slash,
}

impl Name {
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
        if name.contains('/') {
            return Err(InvalidName::Slash);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        assert_eq!(Name::parse(" Acme Ümläut ").map(|n| n.as_str().to_owned()), Ok("Acme Ümläut".to_owned()));
        assert_eq!(Name::parse(" "), Err(InvalidName::Length));
        assert_eq!(Name::parse(&"x".repeat(101)), Err(InvalidName::Length));
        for name in ["a\nb", "a\u{9b}31mb", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{2028}b", "a\u{200f}b"] {
            assert_eq!(Name::parse(name), Err(InvalidName::Control), "{name:?}");
        }
        assert_eq!(Name::parse("01234567-89ab-cdef-0123-456789abcdef"), Err(InvalidName::LooksLikeId));
    }
}
