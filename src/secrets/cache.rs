//! All sources, in memory, as webhooks are verified against them.
//!
//! A webhook never waits for the database to be recognised, whether its token exists or not. What changes elsewhere is
//! looked for several times a second; and before a signature is refused, the cache makes sure that it has seen every
//! change there is, so that a secret works from the moment at which it is shown.
//!
//! A source whose secret this program's master keys do not open is kept as such: that is no fault of its sender, who
//! is asked to come again. It is looked at again when it changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::activity::WebhookActivity;
use super::ingest_keys::{IngestKeys, KeyHash};
use super::vault::Vault;
use super::{DecryptError, decrypt_identity_key, decrypt_previous_secret, decrypt_secret};
use crate::domain::call::CallSettings;
use crate::domain::identity_key::IdentityKey;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::metrics::Metrics;
use crate::sources::Kind;
use crate::sources::signature::Keyring;
use crate::store::connection::{Connection, Connector, Session};
use crate::store::source::{self, SealedSource};
use crate::ticks;
use crate::wakeups::{WakeReason, Wakeups};

/// What is needed to take a source's webhooks.
#[derive(Debug)]
pub struct Source {
    /// The source.
    pub id: Uuid,
    /// What sends to it; `None`: a kind that this program does not know.
    pub kind: Option<Kind>,
    /// What its webhooks are signed with; `None`: no master key of this program opens it.
    pub keyring: Option<Keyring>,
    /// Where its events go; `None`: to no region that this program knows.
    pub region: Option<Region>,
    /// A base URL instead of the region's.
    pub endpoint: Option<String>,
    /// Its account.
    pub account_id: Uuid,
    /// Its name, which its account's other sources do not have.
    pub name: String,
    /// What it makes of calls.
    pub calls: CallSettings,
    /// What email addresses are hashed under to find out whose they are; `None`: its account has had no source of calls, or
    /// no master key of this program opens the key.
    pub identity_key: Option<Arc<IdentityKey>>,
    /// Whether its `identify` calls tell the account whose an email address is.
    pub learns_identities: bool,
    /// Whether it has a signing secret. Without one, `keyring` verifies nothing.
    pub has_secret: bool,
    /// What is seen of its webhooks.
    pub activity: Arc<WebhookActivity>,
    token: String,
    /// Of a source of calls: the keys that name it.
    ingest_keys: Option<IngestKeys>,
}

/// The sources by token, current to within a second.
pub struct SourceCache {
    vault: Arc<Vault>,
    metrics: Arc<Metrics>,
    sources: RwLock<Sources>,
    refresh: Mutex<Refresh>,
    dummy_keyring: Keyring,
    dummy_activity: WebhookActivity,
}

#[derive(Default)]
struct Sources {
    by_token: HashMap<String, Arc<Source>>,
    token_of: HashMap<Uuid, String>,
    by_ingest_key: HashMap<KeyHash, Uuid>,
    /// How many sources of calls there are whose secret no master key of this program opens.
    n_unopened_of_calls: usize,
    /// What was seen of sources before their secrets changed, until it is written down.
    retired: Vec<Arc<WebhookActivity>>,
}

struct Refresh {
    connection: Connection,
    version: i64,
    began: Instant,
    /// The sources that have changed, and of which the delivery does not know yet.
    changed: HashSet<Uuid>,
}

/// Why the sources could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceCacheError {
    /// The database did not answer. Start again when it does.
    #[error("cannot read the sources")]
    Database(#[from] sqlx::Error),
    /// The master keys open none of the sources: they belong to another database. Mend `MASTER_KEY`.
    #[error("MASTER_KEY")]
    Open(#[from] DecryptError),
}

impl SourceCache {
    /// Reads all sources.
    ///
    /// # Errors
    /// [`SourceCacheError`]. A source that does not open is an error only where none does.
    pub async fn load(
        connector: &Arc<Connector>,
        vault: Arc<Vault>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceCacheError> {
        let mut connection = Connection::new(connector, Session::LOOK_UP);
        // The version first: what changes between the two reads is read again, not missed.
        let version = connection.run(async |db| source::latest_version(db).await).await?;
        let all = connection.run(async |db| source::list(db, None, None).await).await?;
        let dummy_secret = SigningSecret::from_random(crate::random::bytes());
        let dummy_keyring = Keyring {
            current: dummy_secret.clone(),
            previous: dummy_secret,
            previous_until: None,
            allow_untimestamped: false,
        };
        let sources = Self {
            refresh: Mutex::new(Refresh { connection, version, began: Instant::now(), changed: HashSet::new() }),
            sources: RwLock::default(),
            dummy_activity: WebhookActivity::new(Uuid::nil(), &dummy_keyring),
            dummy_keyring,
            vault,
            metrics,
        };
        // A source that nothing is sealed for opens under any key.
        let sealed = || all.iter().filter(|source| source.secret.is_some() || source.write_key.is_some());
        if let Some(first) = sealed().next()
            && sealed().all(|source| sources.open(source).is_err())
        {
            sources.open(first)?;
        }
        for sealed in &all {
            sources.put(sealed, None);
        }
        Ok(sources)
    }

    /// The source of that kind whose webhook URL holds `token`.
    #[must_use]
    pub fn find(&self, kind: Kind, token: &str) -> Option<Arc<Source>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.by_token.get(token).filter(|source| source.kind == Some(kind)).cloned()
    }

    /// The source with this id; `None` where it is not known (yet).
    #[must_use]
    pub fn find_by_id(&self, id: Uuid) -> Option<Arc<Source>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.by_token.get(sources.token_of.get(&id)?).cloned()
    }

    /// The source of calls that this ingest key names: the current one or, for a while after a rotation, the one before.
    #[must_use]
    pub fn find_by_ingest_key(&self, key: &str) -> Option<Arc<Source>> {
        let hash = KeyHash::of(key);
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let source = sources.by_token.get(sources.token_of.get(sources.by_ingest_key.get(&hash)?)?)?;
        let is_valid = source.ingest_keys.as_ref().is_some_and(|keys| keys.has(hash, OffsetDateTime::now_utc()));
        is_valid.then(|| Arc::clone(source))
    }

    /// Whether an ingest key that is not found may be a good one all the same: the secret of a source of calls does not open
    /// here, and its keys are made of it.
    #[must_use]
    pub fn may_miss_ingest_keys(&self) -> bool {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        0 < sources.n_unopened_of_calls
    }

    /// A keyring that verifies nothing, for tokens that do not exist: refusing them costs the same work.
    #[must_use]
    pub fn dummy_keyring(&self) -> &Keyring {
        &self.dummy_keyring
    }

    /// What is seen of webhooks whose tokens do not exist: noting it costs the same work, and it is never written down.
    #[must_use]
    pub fn dummy_activity(&self) -> &WebhookActivity {
        &self.dummy_activity
    }

    /// The sources of an account.
    #[must_use]
    pub fn of_account(&self, account: Uuid) -> Vec<Arc<Source>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.by_token.values().filter(|source| source.account_id == account).cloned().collect()
    }

    /// What is seen of all sources' webhooks.
    #[must_use]
    pub fn activities(&self) -> Vec<Arc<WebhookActivity>> {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        let mut activities = std::mem::take(&mut sources.retired);
        activities.extend(sources.by_token.values().map(|source| Arc::clone(&source.activity)));
        activities
    }

    /// Looks for changes until `stop`, and wakes the delivery of what has changed.
    pub async fn watch(&self, due: &Wakeups, stop: CancellationToken) {
        let mut is_away = false;
        while stop.run_until_cancelled(ticks::next()).await.is_some() {
            let Some(refreshed) = stop.run_until_cancelled(self.changed()).await else { return };
            match refreshed {
                Ok(changed) => {
                    is_away = false;
                    if !changed.is_empty() {
                        due.wake(WakeReason::AdminChange, changed);
                    }
                }
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "cannot look for changed sources");
                }
                Err(_) => {}
            }
        }
    }

    /// Sees to it that every change committed before this call is known. However many ask at once, the database is asked
    /// once.
    ///
    /// # Errors
    /// The database did not answer: what is known may be old. Ask again.
    pub async fn refresh(&self) -> sqlx::Result<()> {
        let asked = Instant::now();
        let mut refresh = self.refresh.lock().await;
        if refresh.began > asked { Ok(()) } else { self.look(&mut refresh).await }
    }

    /// The sources that have changed since this was asked last, whoever saw it first.
    async fn changed(&self) -> sqlx::Result<Vec<Uuid>> {
        let mut refresh = self.refresh.lock().await;
        self.look(&mut refresh).await?;
        Ok(std::mem::take(&mut refresh.changed).into_iter().collect())
    }

    async fn look(&self, refresh: &mut Refresh) -> sqlx::Result<()> {
        let began = Instant::now();
        let version = refresh.version;
        let changes = refresh.connection.run(async |db| source::changes_after(db, version).await).await?;
        let mut ids: Vec<Uuid> = changes.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        if let Some((version, _)) = changes.last() {
            let sealed = refresh.connection.run(async |db| source::list(db, Some(&ids), None).await).await?;
            let mut activities: HashMap<Uuid, _> = ids.iter().filter_map(|id| Some((*id, self.remove(*id)?))).collect();
            for sealed in &sealed {
                self.put(sealed, activities.remove(&sealed.id));
            }
            refresh.version = *version;
            refresh.changed.extend(ids);
        }
        refresh.began = began;
        Ok(())
    }

    fn open(&self, sealed: &SealedSource) -> Result<Keyring, DecryptError> {
        let previous = decrypt_previous_secret(&self.vault, sealed)?;
        Ok(Keyring {
            // Without a secret, nothing verifies.
            current: decrypt_secret(&self.vault, sealed)?.unwrap_or_else(|| self.dummy_keyring.current.clone()),
            previous_until: previous.as_ref().and(sealed.previous_secret_until).map(OffsetDateTime::unix_timestamp),
            previous: previous.unwrap_or_else(|| self.dummy_keyring.previous.clone()),
            allow_untimestamped: sealed.allow_untimestamped,
        })
    }

    /// Adds a source, with what was seen of its webhooks so far.
    fn put(&self, sealed: &SealedSource, seen: Option<Arc<WebhookActivity>>) {
        let keyring = self.open(sealed);
        if let Err(error) = &keyring {
            self.metrics.unopened_secret("signing_secret");
            tracing::error!(source.id = %sealed.id, %error, "a signing secret cannot be opened; its webhooks are answered 503");
        }
        let keyring = keyring.ok();
        let kind: Option<Kind> = sealed.kind.parse().ok();
        let takes_calls = kind.is_some_and(Kind::takes_calls) && sealed.secret.is_some();
        let of = keyring.as_ref().unwrap_or(&self.dummy_keyring);
        let (activity, retired) = match seen {
            Some(seen) if seen.is_of(of) => (seen, None),
            seen => (Arc::new(WebhookActivity::new(sealed.id, of)), seen),
        };
        let source = Source {
            id: sealed.id,
            account_id: sealed.account_id,
            name: sealed.name.clone(),
            has_secret: sealed.secret.is_some(),
            activity,
            token: sealed.token.clone(),
            kind,
            region: sealed.region.parse().ok(),
            endpoint: sealed.endpoint.clone(),
            calls: CallSettings {
                unknown_users: sealed.unknown_users.parse().unwrap_or_default(),
                without_event_traits: !sealed.event_traits,
                carrier: sealed.carrier.clone(),
            },
            identity_key: self.open_identity_key(sealed),
            learns_identities: sealed.learn_identities,
            ingest_keys: keyring.as_ref().filter(|_| takes_calls).map(IngestKeys::of),
            keyring,
        };
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.retired.extend(retired);
        let hashes = source.ingest_keys.iter().flat_map(IngestKeys::hashes);
        sources.by_ingest_key.extend(hashes.map(|hash| (hash, source.id)));
        sources.n_unopened_of_calls += usize::from(source.is_unopened_of_calls());
        sources.token_of.insert(source.id, source.token.clone());
        sources.by_token.insert(source.token.clone(), Arc::new(source));
    }

    /// Takes a source out, and returns what was seen of its webhooks.
    fn remove(&self, id: Uuid) -> Option<Arc<WebhookActivity>> {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        let token = sources.token_of.remove(&id)?;
        let source = sources.by_token.remove(&token)?;
        for hash in source.ingest_keys.iter().flat_map(IngestKeys::hashes) {
            sources.by_ingest_key.remove(&hash);
        }
        sources.n_unopened_of_calls -= usize::from(source.is_unopened_of_calls());
        Some(Arc::clone(&source.activity))
    }

    /// That it does not open is no fault of any sender: webhooks are taken as ever, and nobody is recognised by an address.
    fn open_identity_key(&self, sealed: &SealedSource) -> Option<Arc<IdentityKey>> {
        let opened = decrypt_identity_key(&self.vault, sealed.account_id, sealed.identity_key.as_deref()?);
        if let Err(error) = &opened {
            self.metrics.unopened_secret("identity_key");
            tracing::error!(
                source.id = %sealed.id, %error,
                "an identity key cannot be opened; nobody is recognised by an email address"
            );
        }
        opened.ok().map(Arc::new)
    }
}

impl Source {
    fn is_unopened_of_calls(&self) -> bool {
        self.keyring.is_none() && self.kind.is_some_and(Kind::takes_calls)
    }
}
