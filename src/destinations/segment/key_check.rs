//! Asks whether Segment knows a write key.
//!
//! Its API answers 200 to any key, known or not, and drops what comes with an unknown one. The settings that its browser
//! library loads are there for known keys only (Segment's docs: "Analytics.js, self-hosting"). That is no promise, so it is a
//! hint and never a gate.

use reqwest::{StatusCode, Url};

use super::Client;
use crate::domain::write_key::WriteKey;

/// What Segment says of a write key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// It has settings for it.
    Known,
    /// It has none: events sent with it are answered 200, and dropped.
    Unknown,
    /// It could not be asked, or gave another answer.
    Unclear,
}

impl KeyVerdict {
    /// Its name in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Unclear => "unclear",
        }
    }
}

impl Client {
    /// Asks the settings under `cdn` whether there are any for this key.
    pub async fn check_key(&self, cdn: &Url, key: &WriteKey) -> KeyVerdict {
        let url = format!("{}/v1/projects/{}/settings", cdn.as_str().trim_end_matches('/'), key.expose());
        match self.http.get(url).send().await.map(|answer| answer.status()) {
            Ok(StatusCode::OK) => KeyVerdict::Known,
            Ok(StatusCode::NOT_FOUND) => KeyVerdict::Unknown,
            _ => KeyVerdict::Unclear,
        }
    }
}
