//! Sends calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outcome::outcome;
use crate::destinations::http::{self, Answer, InFlight, InFlightCounters, Peer};
use crate::domain::nudgespot_key::NudgespotKey;

/// No answer in this time is none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests of all sources may be on their way: each has a socket.
const MAX_CONCURRENT_REQUESTS: usize = 512;
/// The user of Basic authentication; the key is the password.
pub(super) const USER: &str = "api";

/// Nudgespot's REST API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    in_flight: InFlightCounters,
    places: Arc<Semaphore>,
}

/// Where a source's calls go.
#[derive(Debug)]
pub struct Destination {
    /// The base URL of the API.
    pub endpoint: Url,
    /// The REST key.
    pub key: NudgespotKey,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To create or update a user.
    Identify,
    /// To note something that a user did.
    Activity,
}

impl Operation {
    fn path(self) -> &'static str {
        match self {
            Self::Identify => "/subscribers/identify",
            Self::Activity => "/activities",
        }
    }
}

impl Client {
    /// # Errors
    /// Where the TLS library cannot be set up, as without certificates of authorities.
    pub fn new() -> Result<Self, reqwest::Error> {
        let places = Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS));
        Ok(Self { http: http::client(TIMEOUT)?, in_flight: InFlightCounters::default(), places })
    }

    /// The requests of this client, and of its clones, that are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.get()
    }

    /// The right to have a request on its way, where there are not too many.
    #[must_use]
    pub fn try_begin(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Sends a call, once.
    pub async fn send(
        &self,
        destination: &Destination,
        operation: Operation,
        body: Vec<u8>,
        now: SystemTime,
    ) -> Answer {
        let Destination { endpoint, key } = destination;
        let url = format!("{}{}", endpoint.as_str().trim_end_matches('/'), operation.path());
        let _counted = self.in_flight.count(body.capacity());
        let request = self.http.post(url).basic_auth(USER, Some(key.expose()));
        let response = request.header(CONTENT_TYPE, "application/json").body(body).send().await;
        let credentials = STANDARD.encode(format!("{USER}:{}", key.expose()));
        let secrets = [(credentials.as_str(), "(credentials)"), (key.expose(), "(REST key)")];
        let peer = Peer { name: "Nudgespot", endpoint, timeout: TIMEOUT, secrets: &secrets };
        peer.read(response, now, |status, after, body| outcome(operation, status, after, body)).await
    }
}
