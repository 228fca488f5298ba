//! What is seen of a source's webhooks: when its secrets last signed one, and how many were refused.
//!
//! Kept in memory, as it is noted for each webhook, and written down every few seconds
//! ([`store::webhook_activity`](crate::store::webhook_activity)).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::secret::SecretId;
use crate::sources::signature::{Keyring, SignedWith};
use crate::store::webhook_activity::ActivityDelta;

/// No time.
const NEVER: i64 = 0;

/// What is seen of the webhooks of a source, while it has the same secrets.
#[derive(Debug)]
pub struct WebhookActivity {
    source_id: Uuid,
    current: SecretActivity,
    previous: SecretActivity,
    refusals: Mutex<Refusals>,
}

#[derive(Debug)]
struct SecretActivity {
    id: SecretId,
    /// In microseconds since 1970; see [`NEVER`].
    verified_at: AtomicI64,
    /// Up to when it is written down. Used by the one task that writes.
    written: AtomicI64,
}

/// Refused webhooks that are not written down yet.
#[derive(Debug, Default)]
struct Refusals {
    last_at: Option<OffsetDateTime>,
    n: i64,
    /// Those after a webhook was verified, which was at `verified_at`.
    n_since_verified: i64,
    verified_at: i64,
}

impl WebhookActivity {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(source_id: Uuid, keyring: &Keyring) -> Self {
        let secret = |id| SecretActivity { id, verified_at: AtomicI64::new(NEVER), written: AtomicI64::new(NEVER) };
        Self {
            source_id,
            current: secret(keyring.current.id()),
            previous: secret(keyring.previous.id()),
            refusals: Mutex::default(),
        }
    }

    /// Whether it is of these secrets.
    #[must_use]
    pub fn is_of(&self, keyring: &Keyring) -> bool {
        self.current.id == keyring.current.id() && self.previous.id == keyring.previous.id()
    }

    /// A webhook was verified.
    pub fn verified(&self, signed_with: SignedWith, at: OffsetDateTime) {
        let secret = match signed_with {
            SignedWith::Current => &self.current,
            SignedWith::Previous => &self.previous,
        };
        let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(NEVER);
        secret.verified_at.store(micros, Ordering::Relaxed);
    }

    /// A webhook was refused. Costs the same whether its source exists.
    pub fn refused(&self, at: OffsetDateTime) {
        let verified_at = self.last_verified();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.verified_at != verified_at {
            refusals.verified_at = verified_at;
            refusals.n_since_verified = 0;
        }
        refusals.last_at = Some(at);
        refusals.n += 1;
        refusals.n_since_verified += 1;
    }

    /// What was seen since this was last asked; `None`: nothing.
    #[must_use]
    pub fn take(&self) -> Option<ActivityDelta> {
        let last_verified = self.last_verified();
        let refusals = std::mem::take(&mut *self.refusals.lock().unwrap_or_else(PoisonError::into_inner));
        let verified: Vec<_> = [&self.current, &self.previous].into_iter().filter_map(SecretActivity::take).collect();
        if verified.is_empty() && refusals.n == 0 {
            return None;
        }
        Some(ActivityDelta {
            source_id: self.source_id,
            verified,
            last_refused_at: refusals.last_at,
            n_refused: refusals.n,
            n_refused_since_verified: if refusals.verified_at == last_verified { refusals.n_since_verified } else { 0 },
        })
    }

    /// What was taken could not be written down.
    pub fn put_back(&self, delta: &ActivityDelta) {
        self.current.written.store(NEVER, Ordering::Relaxed);
        self.previous.written.store(NEVER, Ordering::Relaxed);
        let verified_at = self.last_verified();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.last_at = refusals.last_at.or(delta.last_refused_at);
        refusals.n += delta.n_refused;
        let is_since =
            delta.verified.iter().all(|(_, at)| at.unix_timestamp_nanos() / 1_000 == i128::from(verified_at));
        if is_since {
            refusals.n_since_verified += delta.n_refused_since_verified;
            refusals.verified_at = verified_at;
        }
    }

    fn last_verified(&self) -> i64 {
        let at = |secret: &SecretActivity| secret.verified_at.load(Ordering::Relaxed);
        at(&self.current).max(at(&self.previous))
    }
}

impl SecretActivity {
    fn take(&self) -> Option<(SecretId, OffsetDateTime)> {
        let at = self.verified_at.load(Ordering::Relaxed);
        if at == NEVER || at == self.written.swap(at, Ordering::Relaxed) {
            return None;
        }
        Some((self.id, OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::domain::secret::SigningSecret;

    fn activity() -> WebhookActivity {
        let keyring = Keyring {
            current: SigningSecret::from_random([1; 32]),
            previous: SigningSecret::from_random([2; 32]),
            previous_until: None,
            allow_untimestamped: false,
        };
        WebhookActivity::new(Uuid::nil(), &keyring)
    }

    #[test]
    fn what_was_seen_is_told_once() {
        let (activity, at) = (activity(), datetime!(2026-01-02 03:04:05 UTC));
        assert!(activity.take().is_none());
        activity.verified(SignedWith::Previous, at);
        activity.refused(at);
        let delta = activity.take().expect("seen");
        assert_eq!(delta.verified, [(SigningSecret::from_random([2; 32]).id(), at)]);
        assert_eq!((delta.n_refused, delta.n_refused_since_verified, delta.last_refused_at), (1, 1, Some(at)));
        assert!(activity.take().is_none());
    }

    #[test]
    fn refusals_since_the_last_verified_webhook_are_those_after_it() {
        let (activity, at) = (activity(), datetime!(2026-01-02 03:04:05 UTC));
        activity.refused(at);
        activity.refused(at);
        activity.verified(SignedWith::Current, at);
        let delta = activity.take().expect("seen");
        assert_eq!((delta.n_refused, delta.n_refused_since_verified), (2, 0));
        activity.refused(at);
        let delta = activity.take().expect("seen");
        assert_eq!((delta.n_refused, delta.n_refused_since_verified, delta.verified.len()), (1, 1, 0));
    }

    #[test]
    fn what_could_not_be_written_down_is_told_again() {
        let (activity, at) = (activity(), datetime!(2026-01-02 03:04:05 UTC));
        activity.verified(SignedWith::Current, at);
        activity.refused(at);
        let delta = activity.take().expect("seen");
        activity.refused(at);
        activity.put_back(&delta);
        let again = activity.take().expect("seen");
        assert_eq!(again.verified, delta.verified);
        assert_eq!((again.n_refused, again.n_refused_since_verified), (2, 2));
    }
}
