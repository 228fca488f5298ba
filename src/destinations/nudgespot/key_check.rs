//! Asks whether Nudgespot knows a REST key.
//!
//! It reads a user who does not exist. What Nudgespot answers to that is not documented, but for a key that it does not know:
//! so this is a hint, and never a gate.

use std::time::Duration;

use reqwest::{StatusCode, Url};

use super::client::USER;
use crate::destinations::http;
use crate::destinations::segment::KeyVerdict;
use crate::domain::nudgespot_key::NudgespotKey;

/// No answer in this time is none: a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client for asking once.
///
/// # Errors
/// Where the TLS library cannot be set up, as without certificates of authorities.
pub fn key_check_client() -> Result<reqwest::Client, reqwest::Error> {
    http::client(TIMEOUT)
}

/// Reads a user of no id from the API under `base`, with this key. `client` must follow no redirects: the key would go along.
pub async fn check_key(client: &reqwest::Client, base: &Url, key: &NudgespotKey) -> KeyVerdict {
    let url = format!("{}/subscribers.json?uid=", base.as_str().trim_end_matches('/'));
    let request = client.get(url).basic_auth(USER, Some(key.expose()));
    match request.send().await.map(|answer| answer.status()) {
        Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => KeyVerdict::Unknown,
        Ok(status) if status.is_success() || status == StatusCode::NOT_FOUND => KeyVerdict::Known,
        _ => KeyVerdict::Unclear,
    }
}
