//! Sends batches.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::Batch;
use super::outcome::outcome;
use crate::destinations::http::{self, Answer, InFlight, InFlightCounters, Peer};
use crate::domain::write_key::WriteKey;

/// No answer in this time is none.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Segment's HTTP API.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) http: reqwest::Client,
    in_flight: InFlightCounters,
}

/// Where a source's events go.
#[derive(Debug)]
pub struct Destination {
    /// The endpoint of the source's region.
    pub endpoint: Url,
    /// The write key.
    pub write_key: WriteKey,
}

impl Client {
    /// # Errors
    /// Where the TLS library cannot be set up, as without certificates of authorities.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { http: http::client(TIMEOUT)?, in_flight: InFlightCounters::default() })
    }

    /// The requests of this client, and of its clones, that are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.get()
    }

    /// Sends a batch, once.
    pub async fn send(&self, destination: &Destination, batch: Batch, sent_at: SystemTime) -> Answer {
        let Destination { endpoint, write_key } = destination;
        let url = format!("{}/v1/batch", endpoint.as_str().trim_end_matches('/'));
        let body = batch.into_body(sent_at.into());
        let _counted = self.in_flight.count(body.capacity());
        let request = self.http.post(url).basic_auth(write_key.expose(), Some(""));
        let response = request.header(CONTENT_TYPE, "application/json").body(body).send().await;
        let credentials = STANDARD.encode(format!("{}:", write_key.expose()));
        let secrets = [(credentials.as_str(), "(credentials)"), (write_key.expose(), "(write key)")];
        let peer = Peer { name: "Segment", endpoint, timeout: TIMEOUT, secrets: &secrets };
        peer.read(response, sent_at, |status, after, _| outcome(status, after)).await
    }
}
