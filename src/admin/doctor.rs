//! What becomes of webhooks before they are events: which were verified, which were refused, and why.

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sources::kind;
use super::{Admin, AdminError};
use crate::domain::secret::{SecretId, SigningSecret};
use crate::domain::timestamp::rfc3339;
use crate::secrets::{decrypt_previous_secret, decrypt_secret};
use crate::sources::signature::diagnosis::{self, Evidence, Fault, Secrets};
use crate::store::refused_webhook::{self, RefusedWebhook};
use crate::store::source;
use crate::store::webhook_activity::{self, Activity};

/// How many refused webhooks a page has at most.
pub const REFUSED_PAGE: usize = 50;
/// A source whose secret signed a webhook this lately has the right one.
const LATELY: time::Duration = time::Duration::hours(24);

/// What is seen of a source's webhooks.
#[derive(Clone, Debug, Default)]
pub struct WebhooksSeen {
    /// When the last one was verified.
    pub last_verified_at: Option<OffsetDateTime>,
    /// The secret that signed it.
    pub last_signed_with: Option<Signer>,
    /// When the source's current secret last signed one; `None`: it never has.
    pub current_secret_seen_at: Option<OffsetDateTime>,
    /// When the last one was refused.
    pub last_refused_at: Option<OffsetDateTime>,
    /// How many were refused, ever.
    pub n_refused: i64,
    /// How many of them after the last one was verified.
    pub n_refused_since_verified: i64,
    /// What is probably wrong with the last one that was refused, where none was verified after it.
    pub likely_fault: Option<LikelyFault>,
}

/// A fault as it was judged when the webhook came.
#[derive(Clone, Debug)]
pub struct LikelyFault {
    /// Its name, for programs.
    pub code: String,
    /// In words: what is wrong, and what to do.
    pub explanation: String,
}

/// Which of a source's secrets signed a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The one that signs from now on.
    Current,
    /// The one before the last rotation.
    Previous,
    /// One that the source does not have any more.
    Older,
}

/// A refused webhook as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RefusedWebhookView {
    /// Its place in the list; later ones are greater.
    pub id: i64,
    /// When it came.
    pub received_at: String,
    /// What is probably wrong, by name.
    pub fault: String,
    /// The same in words.
    pub explanation: String,
    /// The headers that sign it, or look as if: pairs of name and value.
    #[schema(value_type = Vec<Vec<String>>)]
    pub headers: Vec<(String, String)>,
    /// The beginning of its body. What is no Unicode is replaced.
    pub body: String,
    /// How long its body was.
    pub body_bytes: i64,
    /// Whether `body` is all of it.
    pub is_whole: bool,
}

/// Refused webhooks, and where the next ones begin.
#[derive(Clone, Debug)]
pub struct RefusedPage {
    /// Newest first.
    pub webhooks: Vec<RefusedWebhookView>,
    /// Hand it to [`Admin::refused_webhooks`] for those before; `None`: there are none.
    pub next: Option<i64>,
}

/// A webhook that somebody wants to have judged.
#[derive(Debug)]
pub struct PastedWebhook {
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// When it was received, where that is known; else now.
    pub received_at: OffsetDateTime,
}

/// What is wrong with a webhook's signature.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Judgement {
    /// Whether it verifies.
    pub is_valid: bool,
    /// What is wrong, the likeliest first; empty where it verifies.
    pub faults: Vec<JudgedFault>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JudgedFault {
    /// Its name, for programs.
    pub code: &'static str,
    /// In words: what is wrong, and what to do.
    pub explanation: String,
}

impl Judgement {
    fn of(faults: &[Fault]) -> Self {
        let faults: Vec<_> =
            faults.iter().map(|fault| JudgedFault { code: fault.code(), explanation: fault.to_string() }).collect();
        Self { is_valid: faults.is_empty(), faults }
    }
}

impl Admin {
    /// What is seen of a source's webhooks: as of a few seconds ago.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn webhooks_seen(&self, source: Uuid) -> Result<WebhooksSeen, AdminError> {
        let sealed = self.sealed_source(source).await?;
        let Activity { last_verified_at, last_refused_at, n_refused, n_refused_since_verified } =
            self.db(async |db| webhook_activity::find(db, source).await).await?;
        let secrets = self.db(async |db| webhook_activity::list_secrets(db, source).await).await?;
        // A secret that does not open says nothing here; it is told of elsewhere.
        let id = |secret: Option<SigningSecret>| secret.map(|secret| secret.id());
        let current = id(decrypt_secret(&self.vault, &sealed).ok().flatten());
        let previous = id(decrypt_previous_secret(&self.vault, &sealed).ok().flatten());
        let signer = |(id, _): &(SecretId, OffsetDateTime)| match Some(*id) {
            id if id == current => Signer::Current,
            id if id == previous => Signer::Previous,
            _ => Signer::Older,
        };
        let likely_fault = if n_refused_since_verified > 0 {
            let last = self.db(async |db| refused_webhook::list(db, source, None, 1).await).await?.pop();
            last.map(|(_, last)| LikelyFault { code: last.fault, explanation: last.explanation })
        } else {
            None
        };
        Ok(WebhooksSeen {
            last_verified_at,
            last_signed_with: secrets.first().map(signer),
            current_secret_seen_at: secrets.iter().find(|seen| signer(seen) == Signer::Current).map(|(_, at)| *at),
            last_refused_at,
            n_refused,
            n_refused_since_verified,
            likely_fault,
        })
    }

    /// A source's refused webhooks of the last day, newest first. `before` is where the page before it ended.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn refused_webhooks(
        &self,
        source: Uuid,
        before: Option<i64>,
        limit: usize,
    ) -> Result<RefusedPage, AdminError> {
        let limit = i64::try_from(limit.clamp(1, REFUSED_PAGE)).unwrap_or(1);
        let found = self.db(async |db| refused_webhook::list(db, source, before, limit + 1).await).await?;
        let mut webhooks: Vec<_> = found.into_iter().map(|(id, refused)| view(id, refused)).collect();
        let has_more = i64::try_from(webhooks.len()).is_ok_and(|n| n > limit);
        if has_more {
            webhooks.pop();
        }
        let next = webhooks.last().filter(|_| has_more).map(|last| last.id);
        Ok(RefusedPage { webhooks, next })
    }

    /// Says what is wrong with a webhook's signature. Never says what signature would be right.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Decrypt`], [`AdminError::Database`].
    pub async fn judge_signature(&self, source: Uuid, webhook: &PastedWebhook) -> Result<Judgement, AdminError> {
        let sealed = self.sealed_source(source).await?;
        let account = sealed.account_id;
        let neighbours = self.db(async |db| source::list(db, None, Some(&[account])).await).await?;
        let others: Vec<(String, SigningSecret)> = neighbours
            .iter()
            .filter(|other| other.id != source)
            // One that does not open cannot be tried.
            .filter_map(|other| Some((other.name.clone(), decrypt_secret(&self.vault, other).ok()??)))
            .collect();
        let current = decrypt_secret(&self.vault, &sealed)?;
        let previous = decrypt_previous_secret(&self.vault, &sealed)?;
        let activity = self.db(async |db| webhook_activity::find(db, source).await).await?;
        let faults = diagnosis::diagnose(&Evidence {
            kind: kind(&sealed)?,
            headers: &webhook.headers,
            body: &webhook.body,
            is_whole: true,
            received_at: webhook.received_at.unix_timestamp(),
            secrets: Secrets {
                current: current.as_ref(),
                previous: previous.as_ref().zip(sealed.previous_secret_until.map(OffsetDateTime::unix_timestamp)),
                of_others: others.iter().map(|(name, secret)| (name.as_str(), secret)).collect(),
                allow_untimestamped: sealed.allow_untimestamped,
            },
            is_verified_lately: activity.last_verified_at.is_some_and(|at| webhook.received_at - at < LATELY),
        });
        Ok(Judgement::of(&faults))
    }
}

fn view(id: i64, refused: RefusedWebhook) -> RefusedWebhookView {
    let is_whole = i64::try_from(refused.body.len()).is_ok_and(|n| n == refused.n_body_bytes);
    RefusedWebhookView {
        id,
        received_at: rfc3339(refused.received_at),
        fault: refused.fault,
        explanation: refused.explanation,
        headers: refused.headers,
        body: String::from_utf8_lossy(&refused.body).into_owned(),
        body_bytes: refused.n_body_bytes,
        is_whole,
    }
}
