//! Names of Segment's destinations.

use super::text::is_hidden;

/// The longest name, in characters.
const MAX_CHARS: usize = 100;

/// The destination at Segment that brings a source its calls, by its name in `integrations`: 1 to 100 characters, all of them
/// to be seen, no white space around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier(String);

/// Which rule a name breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidCarrier {
    /// Empty, or too long.
    #[error("the name of a destination at Segment has 1 to {MAX_CHARS} characters")]
    Length,
    /// A line break or another character that is not seen.
    #[error("the name of a destination at Segment has no control characters or others that are not seen")]
    Control,
}

impl Carrier {
    /// # Errors
    /// [`InvalidCarrier`] says which rule the input breaks.
    pub fn parse(input: &str) -> Result<Self, InvalidCarrier> {
        let name = input.trim();
        if !(1..=MAX_CHARS).contains(&name.chars().count()) {
            return Err(InvalidCarrier::Length);
        }
        if name.chars().any(is_hidden) {
            return Err(InvalidCarrier::Control);
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
        for (input, parsed) in [
            (" Nudgespot (my/workspace) ", Ok("Nudgespot (my/workspace)")),
            (&"ü".repeat(100), Ok(&*"ü".repeat(100))),
            (&"x".repeat(101), Err(InvalidCarrier::Length)),
            (" ", Err(InvalidCarrier::Length)),
            ("a\nb", Err(InvalidCarrier::Control)),
            ("a\0b", Err(InvalidCarrier::Control)),
        ] {
            assert_eq!(Carrier::parse(input).as_ref().map(Carrier::as_str), parsed.as_ref().copied(), "{input:?}");
        }
    }
}
