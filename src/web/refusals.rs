//! What is noted of webhooks after they were answered: which were verified, and those that were refused, with what is
//! probably wrong with them.
//!
//! A refused webhook waits for its note in a short queue, from which it is dropped where there is no room: whether its
//! token exists makes no difference until it is taken out there. One a second is kept of a source.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;
use actix_web::web::Bytes;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::secret::SigningSecret;
use crate::secrets::{Source, SourceCache};
use crate::sources::Kind;
use crate::sources::signature::Keyring;
use crate::sources::signature::diagnosis::{Evidence, Secrets, diagnose};
use crate::store::connection::Connection;
use crate::store::refused_webhook::{self, RefusedWebhook};
use crate::store::webhook_activity::{self, Activity};

/// How many refused webhooks wait to be noted.
const QUEUE: usize = 64;
/// How much of a body is kept.
const KEPT_BODY_BYTES: usize = 2 << 10;
/// The longest body that waits as a whole, to be judged.
const JUDGED_BODY_BYTES: usize = 64 << 10;
/// How many headers are kept, and how much of each.
const MAX_HEADERS: usize = 20;
const MAX_HEADER_BYTES: usize = 2 << 10;
/// How often a refused webhook of a source is kept at most.
const PER_SOURCE: Duration = Duration::from_secs(1);
/// How often what was seen is written down.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the last of it may take.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// For how many sources it is written at a time.
const CHUNK: usize = 1_000;
/// A source whose secret signed a webhook this lately has the right one.
const LATELY: time::Duration = time::Duration::hours(24);

/// A webhook that was refused because of its signature.
pub struct Refused {
    /// `None`: nobody has its token.
    pub source: Option<Arc<Source>>,
    pub kind: Kind,
    pub received_at: OffsetDateTime,
    headers: Vec<(String, String)>,
    /// As much of the body as waits.
    body: Bytes,
    n_body_bytes: usize,
}

/// The headers that are read. See `sources/signature.rs`.
const READ_HEADERS: [&str; 9] = [
    AUTHORIZATION,
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-id",
    "svix-timestamp",
    "svix-signature",
    "x-nudgespot-signature",
    "x-signature",
];
/// It holds a key of the source, and is judged, but never kept.
const AUTHORIZATION: &str = "authorization";
/// How much is kept of what is as long as a signature.
const SHOWN_SIGNATURE_CHARS: usize = 12;
const MIN_SIGNATURE_CHARS: usize = 40;
/// Stands for the value of another header.
const NOT_KEPT: &str = "(not kept)";

impl Refused {
    pub fn new(
        source: Option<Arc<Source>>,
        kind: Kind,
        received_at: OffsetDateTime,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Self {
        let signs = |name: &str| {
            name.starts_with("webhook-")
                || name.starts_with("svix-")
                || name.contains("signature")
                || name.contains("hmac")
                || kind.takes_calls() && name == AUTHORIZATION
        };
        let kept = headers.iter().filter(|(name, _)| signs(name.as_str())).take(MAX_HEADERS);
        let kept = kept.map(|(name, value)| {
            let value = &value.as_bytes()[..value.len().min(MAX_HEADER_BYTES)];
            let value = String::from_utf8_lossy(value);
            // Of others, which look as if they signed, the name tells enough; and a sender may send its secret along.
            let is_told = READ_HEADERS.contains(&name.as_str()) && !value.contains("whsec_");
            (name.as_str().to_owned(), if is_told { value.into_owned() } else { NOT_KEPT.to_owned() })
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort();
        Self {
            source,
            kind,
            received_at,
            headers: kept,
            body: if body.len() > JUDGED_BODY_BYTES {
                // Not a part of the whole, which would be held with it.
                Bytes::copy_from_slice(&body[..KEPT_BODY_BYTES])
            } else {
                body.clone()
            },
            n_body_bytes: body.len(),
        }
    }
}

/// Where refused webhooks wait.
#[derive(Clone)]
pub struct RefusalQueue(mpsc::Sender<Refused>);

impl RefusalQueue {
    /// Hands the webhook on when what is returned is dropped; where there is no room then, nobody hears of it.
    pub fn note_later(&self, refused: Refused) -> PendingNote {
        PendingNote(Some((self.0.clone(), refused)))
    }
}

/// A refused webhook whose answer is being written.
pub struct PendingNote(Option<(mpsc::Sender<Refused>, Refused)>);

impl Drop for PendingNote {
    fn drop(&mut self) {
        if let Some((queue, refused)) = self.0.take()
            && queue.try_send(refused).is_err()
        {
            tracing::debug!("no room to note a refused webhook");
        }
    }
}

/// Notes them.
pub struct ActivityRecorder {
    sources: Arc<SourceCache>,
    db: Connection,
    queue: mpsc::Receiver<Refused>,
    noted: HashMap<Uuid, Instant>,
}

impl ActivityRecorder {
    /// A recorder, and the queue that it takes from.
    #[must_use]
    pub fn new(sources: Arc<SourceCache>, db: Connection) -> (RefusalQueue, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (RefusalQueue(sender), Self { sources, db, queue, noted: HashMap::new() })
    }

    /// Notes what there is to note until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WRITE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => stop.run_until_cancelled(self.write()).await,
                Some(refused) = self.queue.recv() => stop.run_until_cancelled(self.note(refused)).await,
            };
            match done {
                Some(Err(error)) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "cannot note which webhooks were verified and refused");
                }
                Some(Ok(())) => is_away = false,
                _ => {}
            }
        }
        if timeout(LAST_WRITE, self.write()).await.is_err() {
            tracing::debug!("what was last seen of webhooks is not written down");
        }
    }

    /// Writes down which webhooks were verified and refused.
    async fn write(&mut self) -> sqlx::Result<()> {
        let mut seen: Vec<_> = self.sources.activities();
        let mut failure = None;
        while !seen.is_empty() {
            let taken: Vec<_> =
                std::iter::from_fn(|| seen.pop()).filter_map(|a| Some((a.take()?, a))).take(CHUNK).collect();
            let (deltas, activities): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            if deltas.is_empty() {
                break;
            }
            let written = match failure {
                None => self.db.run_once(async |db| webhook_activity::write(db, &deltas).await).await,
                Some(_) => Ok(()),
            };
            failure = failure.or(written.err());
            if failure.is_some() {
                deltas.iter().zip(&activities).for_each(|(delta, activity)| activity.put_back(delta));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn note(&mut self, refused: Refused) -> sqlx::Result<()> {
        let Some(source) = refused.source.as_ref().filter(|source| source.kind == Some(refused.kind)) else {
            return Ok(());
        };
        let Some(keyring) = source.keyring.as_ref() else { return Ok(()) };
        let now = Instant::now();
        if self.noted.get(&source.id).is_some_and(|at| now.duration_since(*at) < PER_SOURCE) {
            return Ok(());
        }
        self.noted.retain(|_, at| now.duration_since(*at) < PER_SOURCE);
        self.noted.insert(source.id, now);

        let known = self.db.run(async |db| webhook_activity::find(db, source.id).await).await?;
        let others = self.sources.of_account(source.account_id);
        let faults = diagnose(&evidence(&refused, source, keyring, &others, &known));
        let (fault, explanation) = match faults.first() {
            Some(fault) => (fault.code(), fault.to_string()),
            // By now it would verify: its secret was changed in between.
            None => {
                ("none", "It would be accepted now: the source's secret or settings were changed meanwhile.".to_owned())
            }
        };
        let row = RefusedWebhook {
            source_id: source.id,
            received_at: refused.received_at,
            body: refused.body[..refused.body.len().min(KEPT_BODY_BYTES)].to_vec(),
            n_body_bytes: i64::try_from(refused.n_body_bytes).unwrap_or(i64::MAX),
            fault: fault.to_owned(),
            explanation,
            headers: refused.headers.into_iter().map(kept).collect(),
        };
        self.db.run_once(async |db| refused_webhook::insert(db, &row).await).await
    }
}

/// A header's value as it is kept, once it was judged: of each signature, its form and its beginning. Whole, it might sign
/// another body.
fn shortened(value: &str) -> String {
    let part = |part: &str| match part.char_indices().nth(SHOWN_SIGNATURE_CHARS) {
        Some((end, _)) if part.len() >= MIN_SIGNATURE_CHARS => format!("{}…", &part[..end]),
        _ => part.to_owned(),
    };
    value.split_inclusive([' ', ',']).map(part).collect()
}

/// A header as it is kept.
fn kept((name, value): (String, String)) -> (String, String) {
    let value = if name == AUTHORIZATION { NOT_KEPT.to_owned() } else { shortened(&value) };
    (name, value)
}

fn evidence<'a>(
    refused: &'a Refused,
    source: &'a Source,
    keyring: &'a Keyring,
    others: &'a [Arc<Source>],
    known: &Activity,
) -> Evidence<'a> {
    let of_other = |other: &'a Arc<Source>| -> Option<(&'a str, &'a SigningSecret)> {
        let is_other = other.id != source.id && other.has_secret;
        Some((other.name.as_str(), &other.keyring.as_ref()?.current)).filter(|_| is_other)
    };
    Evidence {
        kind: refused.kind,
        headers: &refused.headers,
        body: &refused.body,
        is_whole: refused.body.len() == refused.n_body_bytes,
        received_at: refused.received_at.unix_timestamp(),
        secrets: Secrets {
            current: source.has_secret.then_some(&keyring.current),
            previous: keyring.previous_until.map(|until| (&keyring.previous, until)),
            of_others: others.iter().filter_map(of_other).collect(),
            allow_untimestamped: keyring.allow_untimestamped,
        },
        is_verified_lately: known.last_verified_at.is_some_and(|at| refused.received_at - at < LATELY),
    }
}
