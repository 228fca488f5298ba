//! Trying a source out: is its write key known to Segment, and do test events arrive?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use time::OffsetDateTime;
use uuid::Uuid;

use super::sources::kind;
use super::{Admin, AdminError};
use crate::destinations::nudgespot;
use crate::destinations::segment::{Client, KeyVerdict};
use crate::domain::event;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::timestamp::rfc3339;
use crate::random;
use crate::secrets::{DestinationKey, decrypt_destination_key, decrypt_secret};
use crate::sources::Kind;
use crate::sources::signature::{SigningScheme, sign};
use crate::store::write_key_check::{self, WriteKeyCheck};

/// How often Segment is asked again about a write key: one that was deleted there loses events with a green light.
const ASK_AGAIN: time::Duration = time::Duration::hours(24);
/// How many keys are asked about at a time. The others follow with the next turn.
const KEYS_A_TURN: i64 = 50;
/// How long the service's own listener may take to answer.
const INTAKE_TIMEOUT: Duration = Duration::from_secs(12);

/// What Segment said of a source's write key, or Nudgespot of its REST key.
#[derive(Clone, Debug)]
pub struct KeyCheck {
    /// `known`, `unknown` or `unclear`.
    pub verdict: String,
    /// When it was asked.
    pub checked_at: OffsetDateTime,
}

/// The header of what the service posts to its own listener.
pub const OWN_POST_HEADER: &str = "nudgespot-source-own-post";

/// Tells what the service posts to itself from what senders post: a number that nobody else knows.
#[derive(Clone, Debug)]
pub struct OwnPosts(Arc<str>);

impl OwnPosts {
    /// A mark for this process.
    #[must_use]
    pub fn random() -> Self {
        Self(hex::encode(random::bytes::<16>()).into())
    }

    /// Whether this is the value of such a post's header.
    #[must_use]
    pub fn is_mark(&self, value: &[u8]) -> bool {
        value == self.0.as_bytes()
    }
}

/// Asks others about sources, and sends for them.
pub struct SetUp {
    admin: Arc<Admin>,
    segment: Client,
    /// Where a write key is looked up.
    segment_cdn: Url,
    /// Nudgespot's API.
    nudgespot: Url,
    /// The service's own listener for webhooks.
    intake: SocketAddr,
    own_posts: OwnPosts,
    http: reqwest::Client,
}

impl SetUp {
    /// The URLs are where Segment's write keys are looked up, and of Nudgespot's API. `intake` is the address at which the service takes webhooks.
    ///
    /// # Errors
    /// Where the HTTP client cannot be set up.
    pub fn new(
        admin: Arc<Admin>,
        segment: Client,
        [segment_cdn, nudgespot]: [Url; 2],
        intake: SocketAddr,
        own_posts: OwnPosts,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(INTAKE_TIMEOUT).no_proxy();
        let http = http.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { admin, segment, segment_cdn, nudgespot, intake, own_posts, http })
    }

    /// Asks Segment whether it knows the source's write key, or Nudgespot its REST key, and keeps the answer. `None`: there is no
    /// key yet, or it is a write key for another API than Segment's: nobody else is to see it. A REST key is asked about where the
    /// source's calls go.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn check_write_key(&self, source: Uuid, now: OffsetDateTime) -> Result<Option<KeyVerdict>, AdminError> {
        let sealed = self.admin.sealed_source(source).await?;
        let Some(key) = &sealed.write_key else { return Ok(None) };
        if kind(&sealed).is_err() {
            return Ok(None);
        }
        let Some(in_clear) = decrypt_destination_key(&self.admin.vault, &sealed)? else { return Ok(None) };
        let verdict = match (in_clear, &sealed.endpoint) {
            (DestinationKey::Nudgespot(key), None) => check_nudgespot_key(&self.nudgespot, &key).await,
            (DestinationKey::Nudgespot(key), Some(own)) => match Url::parse(own) {
                Ok(own) => check_nudgespot_key(&own, &key).await,
                Err(_) => return Ok(None),
            },
            (DestinationKey::Segment(key), None) => self.segment.check_key(&self.segment_cdn, &key).await,
            (DestinationKey::Segment(_), Some(_)) => return Ok(None),
        };
        let check = WriteKeyCheck { checked_at: now, verdict: verdict.as_str().to_owned() };
        self.admin.db(async |db| write_key_check::put(db, source, key, &check).await).await?;
        Ok(Some(verdict))
    }

    /// Asks about those write keys that were not asked about for a day. A source that cannot be is no obstacle to others.
    ///
    /// # Errors
    /// [`AdminError::Database`]: try again later.
    pub async fn check_due_write_keys(&self, now: OffsetDateTime) -> Result<(), AdminError> {
        let of_segment = Kind::ALL.into_iter().filter(|kind| !kind.takes_calls()).map(Kind::as_str);
        let kinds: Vec<&str> = of_segment.collect();
        let before = now - ASK_AGAIN;
        let due = self.admin.db(async |db| write_key_check::due(db, &kinds, before, KEYS_A_TURN).await).await?;
        for source in due {
            if let Err(error) = self.check_write_key(source, now).await {
                tracing::debug!(source.id = %source, %error, "a write key cannot be checked");
            }
        }
        Ok(())
    }

    /// Signs events as the source's sender would, and posts them to the service's own listener. They reach every tool
    /// behind Segment; calls reach Nudgespot. Returns their ids.
    ///
    /// # Errors
    /// [`AdminError::NoSigningSecret`] where the source has none yet; [`AdminError::TestNotAccepted`]; others.
    pub async fn send_test_events(
        &self,
        source: Uuid,
        kinds: &[event::Kind],
        now: OffsetDateTime,
    ) -> Result<Vec<String>, AdminError> {
        let sealed = self.admin.sealed_source(source).await?;
        let of = kind(&sealed)?;
        let secret = decrypt_secret(&self.admin.vault, &sealed)?.ok_or(AdminError::NoSigningSecret)?;
        let url = format!("http://{}{}", self.intake, of.webhook_path(&sealed.token));
        let mut ids = Vec::new();
        for event in kinds {
            let id = format!("test_{}", hex::encode(random::bytes::<8>()));
            let Some(body) = of.test_event(*event, &id, now) else { continue };
            let request = self.http.post(&url).header(OWN_POST_HEADER, &*self.own_posts.0);
            let request = if of.takes_calls() {
                request.basic_auth(secret.ingest_key(), Some(""))
            } else {
                let headers = sign(&secret, SigningScheme::Standard, &id, now.unix_timestamp(), body.as_bytes());
                headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
            };
            let answer = request.body(body).send().await;
            match answer.map(|answer| answer.status()) {
                Ok(StatusCode::OK) => ids.push(id),
                Ok(status) => return Err(AdminError::TestNotAccepted(format!("it was answered {status}"))),
                Err(_) => return Err(AdminError::TestNotAccepted("it was not answered".to_owned())),
            }
        }
        Ok(ids)
    }
}

/// Asks Nudgespot, or what stands under `base`, whether it knows a REST key. A hint, that takes a few seconds at most.
pub async fn check_nudgespot_key(base: &Url, key: &NudgespotKey) -> KeyVerdict {
    match nudgespot::key_check_client() {
        Ok(http) => nudgespot::check_key(&http, base, key).await,
        Err(error) => {
            tracing::warn!(%error, "cannot ask about a key");
            KeyVerdict::Unclear
        }
    }
}

impl Admin {
    /// What was said last of a source's key.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn key_check(&self, source: Uuid) -> Result<Option<KeyCheck>, AdminError> {
        let found = self.db(async |db| write_key_check::find(db, source).await).await?;
        Ok(found.map(|check| KeyCheck { verdict: check.verdict, checked_at: check.checked_at }))
    }
}

impl KeyCheck {
    /// Whether the key is one that its destination does not know.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.verdict == "unknown"
    }

    /// When it was asked, for programs.
    #[must_use]
    pub fn checked_at_text(&self) -> String {
        rfc3339(self.checked_at)
    }
}
