//! Where a source's Segment workspace lives.

use std::str::FromStr;

/// A Segment region. Events sent to the other region vanish, perhaps without an error, so each source names its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// `https://api.segment.io`.
    Us,
    /// `https://events.eu1.segmentapis.com`.
    Eu,
}

impl Region {
    /// `us` or `eu`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Eu => "eu",
        }
    }
}

/// The text names no region.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a region is `us` or `eu`")]
pub struct UnknownRegion;

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, UnknownRegion> {
        match text {
            "us" => Ok(Self::Us),
            "eu" => Ok(Self::Eu),
            _ => Err(UnknownRegion),
        }
    }
}
