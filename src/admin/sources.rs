//! Sources.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;
use uuid::Uuid;

use super::source_options::{Edit, NewSource};
use super::{Account, Admin, AdminError, new_id, violates};
use crate::domain::identity_key::IdentityKey;
use crate::domain::name::Name;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::domain::write_key::WriteKey;
use crate::random;
use crate::secrets::vault::Field;
use crate::secrets::{decrypt_destination_key, decrypt_secret};
use crate::sources::Kind;
use crate::store::block::UnreadableBlock;
use crate::store::source::{self, Changes, Owner, SealedSource};
use crate::store::unreadable::{self, BlockAtCursor};
use crate::store::{delivery, removal};

/// How long the previous secret verifies after a rotation.
const SECRET_GRACE_PERIOD: Duration = Duration::from_hours(24);
/// How many random bytes a webhook token holds.
const TOKEN_BYTES: usize = 16;

/// A new source.
#[derive(Debug)]
pub struct Created {
    /// Its account.
    pub account_id: Uuid,
    /// The source.
    pub id: Uuid,
    /// Its name, which its account's other sources do not have.
    pub name: String,
    /// What sends to it.
    pub kind: Kind,
    /// The path of its webhook URL.
    pub webhook_path: String,
    /// The whole of it.
    pub webhook_url: String,
    /// The secret that was made for it; it is shown only now.
    pub signing_secret: Option<SigningSecret>,
}

/// A rotated secret.
#[derive(Debug)]
pub struct Rotated {
    /// What sends to the source.
    pub kind: Kind,
    /// The secret that signs from now on.
    pub secret: SigningSecret,
    /// Until when the one before verifies as well.
    pub previous_until: OffsetDateTime,
}

impl Admin {
    /// Adds a source to an account, with a token and, where its sender does not make it, a secret of its own.
    ///
    /// # Errors
    /// [`AdminError::SourceNameTaken`], [`AdminError::SecretIsMadeHere`], [`AdminError::NotOfKind`], [`AdminError::Database`].
    pub async fn add_source(&self, account: &Account, new: NewSource) -> Result<Created, AdminError> {
        self.insert_source((account.id, &account.name), Owner::Existing, new).await
    }

    /// As [`add_source`](Self::add_source), to the account of that id.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`]; others.
    pub async fn add_source_to(&self, account: Uuid, new: NewSource) -> Result<Created, AdminError> {
        let found = self.account_by_id(account).await?;
        let account = found.ok_or_else(|| AdminError::NoSuchAccount(account.to_string()))?;
        self.add_source(&account, new).await
    }

    pub(super) async fn insert_source(
        &self,
        (account_id, account_name): (Uuid, &str),
        owner: Owner,
        new: NewSource,
    ) -> Result<Created, AdminError> {
        new.check()?;
        let id = new_id();
        let (made, entered) = if new.kind.sender_makes_secret() {
            (None, new.signing_secret)
        } else {
            (Some(SigningSecret::from_random(random::bytes())), None)
        };
        let key = new.write_key.as_ref().map(WriteKey::expose);
        let key = key.or(new.calls.nudgespot_key.as_ref().map(NudgespotKey::expose));
        let name = new.name.as_ref().map_or_else(|| new.kind.as_str(), Name::as_str);
        let token = new_token();
        let sealed = SealedSource {
            id,
            account_id,
            account_name: account_name.to_owned(),
            kind: new.kind.as_str().to_owned(),
            name: name.to_owned(),
            token: token.clone(),
            region: new.region.unwrap_or(Region::Us).as_str().to_owned(),
            endpoint: None,
            write_key: key.map(|key| self.seal(id, Field::WriteKey, key)),
            secret: made.as_ref().or(entered.as_ref()).map(|secret| self.seal(id, Field::Secret, secret.expose())),
            previous_secret: None,
            previous_secret_until: None,
            unsubscribe_event: UnsubscribeEvent::EmailUnsubscribed.as_str().to_owned(),
            allow_untimestamped: false,
            status_token: new_token(),
            unknown_users: new.calls.unknown_users.unwrap_or_default().as_str().to_owned(),
            event_traits: new.calls.event_traits.unwrap_or(true),
            carrier: new.calls.carrier.flatten().map(|carrier| carrier.as_str().to_owned()),
            learn_identities: new.calls.learn_identities.unwrap_or(true),
            // Kept where its account has none yet.
            identity_key: new.kind.takes_calls().then(|| {
                let key = IdentityKey::from_random(random::bytes());
                self.seal(account_id, Field::IdentityKey, key.expose())
            }),
        };
        let inserted = self.db(async |db| source::insert(db, &sealed, owner).await).await;
        let inserted = inserted.map_err(|error| {
            if violates(&error, "account_name_unique") {
                AdminError::AccountNameTaken(account_name.to_owned())
            } else {
                name_taken(error, name)
            }
        });
        if !inserted? {
            return Err(AdminError::NoSuchAccount(account_name.to_owned()));
        }
        let webhook_path = new.kind.webhook_path(&token);
        let webhook_url = format!("{}{webhook_path}", self.urls.webhooks);
        Ok(Created {
            account_id,
            id,
            name: sealed.name,
            kind: new.kind,
            webhook_path,
            webhook_url,
            signing_secret: made,
        })
    }

    /// The source of that id; the one that is called `account/source`; or that of an account that has just one.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::WhichSource`], [`AdminError::NoSource`], [`AdminError::Database`].
    pub async fn find_source(&self, text: &str) -> Result<SealedSource, AdminError> {
        let mut found = self.db(async |db| source::candidates(db, text).await).await?;
        if let Some(at) = found.iter().position(|source| source.id.to_string() == text.to_lowercase()) {
            found = vec![found.swap_remove(at)];
        }
        match found.as_slice() {
            [] if self.find_account(text).await.is_ok() => Err(AdminError::NoSource(text.to_owned())),
            [] => Err(AdminError::NoSuchSource(text.to_owned())),
            [source] => {
                tracing::Span::current().record("source.id", tracing::field::display(source.id));
                Ok(found.swap_remove(0))
            }
            [first, ..] => Err(AdminError::WhichSource(first.account_name.clone(), first.name.clone())),
        }
    }

    /// The source of that id.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub(super) async fn sealed_source(&self, id: Uuid) -> Result<SealedSource, AdminError> {
        let found = self.db(async |db| source::list(db, Some(&[id]), None).await).await?.pop();
        found.ok_or_else(|| AdminError::NoSuchSource(id.to_string()))
    }

    /// Changes settings. A new key, region or endpoint is tried at once; of a new signing secret, the one before
    /// verifies for another 24 hours.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn edit_source(&self, text: &str, edit: Edit, now: OffsetDateTime) -> Result<Uuid, AdminError> {
        let source = self.find_source(text).await?;
        let id = source.id;
        match kind(&source) {
            Ok(kind) => edit.check(kind)?,
            // Of a kind that this program does not know, it changes only what it does not need to know it for.
            Err(error) if edit.is_of_kinds() => return Err(error),
            Err(_) => {}
        }
        let key = edit.write_key.as_ref().map(WriteKey::expose);
        let key = key.or(edit.calls.nudgespot_key.as_ref().map(NudgespotKey::expose));
        let changes = Changes {
            name: edit.name.as_ref().map(|name| name.as_str().to_owned()),
            region: edit.region.map(|region| region.as_str().to_owned()),
            endpoint: edit.endpoint.map(|endpoint| endpoint.map(String::from)),
            write_key: key.map(|key| self.seal(id, Field::WriteKey, key)),
            unsubscribe_event: edit.unsubscribe_event.map(|event| event.as_str().to_owned()),
            allow_untimestamped: edit.allow_untimestamped,
            unknown_users: edit.calls.unknown_users.map(|choice| choice.as_str().to_owned()),
            event_traits: edit.calls.event_traits,
            carrier: edit.calls.carrier.map(|carrier| carrier.map(|carrier| carrier.as_str().to_owned())),
            learn_identities: edit.calls.learn_identities,
        };
        let updated = self.db(async |db| source::update(db, id, &changes).await).await;
        let name = edit.name.as_ref().map_or("", Name::as_str);
        there_is(updated.map_err(|error| name_taken(error, name))?, text)?;
        if let Some(secret) = &edit.signing_secret {
            let source = self.sealed_source(id).await?;
            // Entered again, it must not displace the one before, which may still sign.
            let current = decrypt_secret(&self.vault, &source)?;
            if current.is_none_or(|current| current.expose() != secret.expose()) {
                self.replace_secret(&source, secret, now).await?;
            }
        }
        Ok(id)
    }

    /// Stops delivery; webhooks are taken as ever.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn pause(&self, text: &str) -> Result<(), AdminError> {
        let id = self.find_source(text).await?.id;
        there_is(self.db(async |db| delivery::pause(db, id).await).await?, text)
    }

    /// Lets events flow again.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn resume(&self, text: &str) -> Result<(), AdminError> {
        let id = self.find_source(text).await?.id;
        there_is(self.db(async |db| delivery::resume(db, id).await).await?, text)
    }

    /// Gives up the events at a source's cursor that cannot be read, so that those behind them flow. Returns how many they
    /// were.
    ///
    /// # Errors
    /// [`AdminError::Readable`] and [`AdminError::NewerVersion`] where there is nothing to give up; others.
    pub async fn skip_unreadable(&self, text: &str) -> Result<i64, AdminError> {
        let id = self.find_source(text).await?.id;
        let found = self.db(async |db| unreadable::find_at_cursor(db, id).await).await?;
        let BlockAtCursor { cursor, block } = found.ok_or_else(|| AdminError::NoSuchSource(text.to_owned()))?;
        let block = block.ok_or(AdminError::Readable)?;
        match block.read() {
            Ok(_) => Err(AdminError::Readable),
            Err(UnreadableBlock::NewerVersion) => Err(AdminError::NewerVersion),
            Err(why @ UnreadableBlock::Damaged) => {
                let is_done = self.db(async |db| unreadable::skip(db, id, cursor, &block, why).await).await?;
                if is_done { Ok(block.last_seq - cursor) } else { Err(AdminError::Conflict) }
            }
        }
    }

    /// Gives the source a new signing secret. The one before verifies for another 24 hours.
    ///
    /// # Errors
    /// [`AdminError::SecretIsEntered`] where its sender makes it; others.
    pub async fn rotate_secret(&self, text: &str, now: OffsetDateTime) -> Result<Rotated, AdminError> {
        let source = self.find_source(text).await?;
        let kind = kind(&source)?;
        if kind.sender_makes_secret() {
            return Err(AdminError::SecretIsEntered);
        }
        let secret = SigningSecret::from_random(random::bytes());
        let previous_until = self.replace_secret(&source, &secret, now).await?;
        Ok(Rotated { kind, secret, previous_until })
    }

    /// Returns until when the secret before verifies.
    async fn replace_secret(
        &self,
        source: &SealedSource,
        secret: &SigningSecret,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, AdminError> {
        let current = decrypt_secret(&self.vault, source)?;
        let previous_until = now + SECRET_GRACE_PERIOD;
        let previous = current.map(|current| self.seal(source.id, Field::PreviousSecret, current.expose()));
        let rotated = SealedSource {
            secret: Some(self.seal(source.id, Field::Secret, secret.expose())),
            previous_secret_until: previous.is_some().then_some(previous_until),
            previous_secret: previous,
            ..source.clone()
        };
        let is_done = self.db(async |db| source::reseal(db, source, &rotated).await).await?;
        if is_done { Ok(previous_until) } else { Err(AdminError::Conflict) }
    }

    /// Gives the source a new webhook URL; the one before is dead at once. Returns its path, and the whole of it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rotate_url(&self, text: &str) -> Result<(String, String), AdminError> {
        let source = self.find_source(text).await?;
        let token = new_token();
        let path = kind(&source)?.webhook_path(&token);
        there_is(self.db(async |db| source::update_token(db, source.id, &token).await).await?, text)?;
        let url = format!("{}{path}", self.urls.webhooks);
        Ok((path, url))
    }

    /// Deletes a source and all that is kept of it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn delete_source(&self, text: &str) -> Result<(), AdminError> {
        let id = self.find_source(text).await?.id;
        Ok(removal::remove_source(&mut *self.connection().await, id).await?)
    }

    /// The last characters of the key of a source's destination; `None`: it has none yet.
    ///
    /// # Errors
    /// [`AdminError::Decrypt`].
    pub(super) fn key_last4(&self, source: &SealedSource) -> Result<Option<String>, AdminError> {
        Ok(decrypt_destination_key(&self.vault, source)?.map(|key| key.last4().to_owned()))
    }
}

/// The kind of a stored source.
pub(super) fn kind(source: &SealedSource) -> Result<Kind, AdminError> {
    source.kind.parse().map_err(|_| AdminError::UnknownSetting(format!("a source of kind `{}`", source.kind)))
}

/// What was changed may have been deleted since it was found.
pub(super) fn there_is(is_there: bool, text: &str) -> Result<(), AdminError> {
    if is_there { Ok(()) } else { Err(AdminError::NoSuchSource(text.to_owned())) }
}

pub(super) fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<TOKEN_BYTES>())
}

fn name_taken(error: sqlx::Error, name: &str) -> AdminError {
    if violates(&error, "source_name_unique") { AdminError::SourceNameTaken(name.to_owned()) } else { error.into() }
}
