//! What an unsubscription is called.

use std::str::FromStr;

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
