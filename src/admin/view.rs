//! Accounts and sources as people see them: settings without keys, and counts.

use std::collections::HashMap;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listed::{Listed, one_more};
use super::{Account, Admin, AdminError};
use crate::domain::call;
use crate::domain::text::with_causes;
use crate::domain::timestamp::rfc3339;
use crate::store::account;
use crate::store::source::{self, SealedSource, SourceStatus};

/// Shown where a key is there, but no master key opens it.
const UNREADABLE_KEY: &str = "????";

/// An account with its sources.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct AccountView {
    pub account_id: String,
    pub name: String,
    pub created_at: String,
    pub sources: Vec<SourceView>,
}

/// A source. Fields that are there only where there is something to say: `last_error`, `missing`; for sources of calls only:
/// those from `nudgespot_key_last4` to `identified`.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct SourceView {
    pub source_id: String,
    pub account_id: String,
    pub name: String,
    pub kind: String,
    pub region: String,
    pub endpoint: Option<String>,
    pub write_key_last4: Option<String>,
    pub webhook_url: String,
    pub unsubscribe_event: String,
    pub allow_untimestamped: bool,
    pub paused_reason: Option<String>,
    /// Why the last attempt failed, until one succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    pub waiting: i64,
    pub oldest_waiting_seconds: i64,
    pub delivered: i64,
    /// Events that the log lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<i64>,
    pub dead_letters: i64,
    pub rejected: i64,
    pub ignored: i64,
    /// There for sources of calls only.
    #[serde(flatten)]
    #[schema(value_type = CallsFields)]
    pub calls: Option<CallsView>,
    /// Whether there is a signing secret yet.
    #[serde(skip)]
    pub has_signing_secret: bool,
    /// The name of its account, for those who print it.
    #[serde(skip)]
    pub account_name: String,
    /// What is wrong with it that is not the source's fault.
    #[serde(skip)]
    pub warning: Option<String>,
}

/// What a source of calls has beside what all have.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "docs/contract.md, JSON output")]
pub struct CallsView {
    pub nudgespot_key_last4: Option<String>,
    pub unknown_users: String,
    pub event_traits: bool,
    pub carrier: Option<String>,
    pub learn_identities: bool,
    /// Calls that wait for an `identify`.
    pub held: i64,
    /// Users whom an `identify` has told of.
    pub identified: i64,
}

/// As the API describes [`CallsView`]: other sources have nothing of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
struct CallsFields {
    nudgespot_key_last4: Option<String>,
    /// `hold`, `ignore` or `send`.
    unknown_users: Option<String>,
    event_traits: Option<bool>,
    carrier: Option<String>,
    learn_identities: Option<bool>,
    /// Calls that wait for an `identify`.
    held: Option<i64>,
    /// Users whom an `identify` has told of.
    identified: Option<i64>,
}

impl Admin {
    /// An account as people see it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn show_account(&self, id_or_name: &str) -> Result<AccountView, AdminError> {
        let account = self.find_account(id_or_name).await?;
        let sources = self.sources_of(account.id).await?;
        Ok(account_view(&account, sources))
    }

    /// All accounts as people see them, by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn show_accounts(&self) -> Result<Vec<AccountView>, AdminError> {
        let accounts = self.list_accounts().await?;
        Ok(account_views(&accounts, self.views(None, None, None).await?))
    }

    /// A page of accounts, by name, from the one after `after`; only that one where a single one is meant.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn accounts_after(
        &self,
        only: Option<Uuid>,
        after: &str,
        limit: usize,
    ) -> Result<Listed<AccountView, String>, AdminError> {
        let found = self.db(async |db| account::list_after(db, only, after, one_more(limit)).await).await?;
        let Listed { data, next } = Listed::cut(found, limit, |account| account.name.clone());
        let ids: Vec<Uuid> = data.iter().map(|account| account.id).collect();
        let sources = self.views(Some(&ids), None, None).await?;
        Ok(Listed { data: account_views(&data, sources), next })
    }

    /// The sources of an account as people see them, by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn sources_of(&self, account: Uuid) -> Result<Vec<SourceView>, AdminError> {
        self.views(Some(&[account]), None, None).await
    }

    /// So many sources of an account at most, by name, from the one after `after`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn sources_after(
        &self,
        account: Uuid,
        after: &str,
        limit: usize,
    ) -> Result<Listed<SourceView, String>, AdminError> {
        let mut sources = self.sources_of(account).await?;
        // As `after` is compared: the database may order names otherwise.
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources.retain(|source| source.name.as_str() > after);
        Ok(Listed::cut(sources, limit, |source| source.name.clone()))
    }

    /// A source as people see it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn source_view(&self, id: Uuid) -> Result<SourceView, AdminError> {
        let view = self.views(None, Some(id), None).await?.pop();
        view.ok_or_else(|| AdminError::NoSuchSource(id.to_string()))
    }

    /// The same, but that held calls and identified users are not counted: the pages that ask do not show how many there are.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn source_page_view(&self, id: Uuid) -> Result<SourceView, AdminError> {
        let view = self.views(None, Some(id), Some(0)).await?.pop();
        view.ok_or_else(|| AdminError::NoSuchSource(id.to_string()))
    }

    /// The sources of the account of that id or name, as people see them, by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn show_sources(&self, account: &str) -> Result<Vec<SourceView>, AdminError> {
        let account = self.find_account(account).await?;
        self.sources_of(account.id).await
    }

    /// A source as people see it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn show_source(&self, text: &str) -> Result<SourceView, AdminError> {
        let id = self.find_source(text).await?.id;
        self.source_view(id).await
    }

    async fn views(
        &self,
        accounts: Option<&[Uuid]>,
        only: Option<Uuid>,
        max_counted: Option<i64>,
    ) -> Result<Vec<SourceView>, AdminError> {
        let ids = only.map(|id| [id]);
        let ids = ids.as_ref().map(<[Uuid; 1]>::as_slice);
        let sources = self.db(async |db| source::list(db, ids, accounts).await).await?;
        let ids: Vec<Uuid> = sources.iter().map(|source| source.id).collect();
        let of = (accounts.is_some() || only.is_some()).then_some(ids.as_slice());
        let statuses = self.db(async |db| source::list_with_status(db, of, max_counted).await).await?;
        let mut statuses: HashMap<Uuid, SourceStatus> = statuses.into_iter().map(|s| (s.id, s)).collect();
        let now = OffsetDateTime::now_utc();
        let views = sources.iter().filter_map(|source| Some(self.view(source, statuses.remove(&source.id)?, now)));
        Ok(views.collect())
    }

    fn view(&self, source: &SealedSource, status: SourceStatus, now: OffsetDateTime) -> SourceView {
        // One key that does not open hides neither the other sources nor the rest of this one.
        let (key_last4, warning) = match self.key_last4(source) {
            Ok(last4) => (last4, None),
            Err(error) => (Some(UNREADABLE_KEY.to_owned()), Some(with_causes(&error))),
        };
        let takes_calls = source.kind == call::SOURCE_KIND;
        let (write_key_last4, nudgespot_key_last4) = if takes_calls { (None, key_last4) } else { (key_last4, None) };
        let calls = takes_calls.then(|| CallsView {
            nudgespot_key_last4,
            unknown_users: source.unknown_users.clone(),
            event_traits: source.event_traits,
            carrier: source.carrier.clone(),
            learn_identities: source.learn_identities,
            held: status.held,
            identified: status.identified,
        });
        SourceView {
            source_id: source.id.to_string(),
            account_id: source.account_id.to_string(),
            account_name: source.account_name.clone(),
            name: source.name.clone(),
            kind: source.kind.clone(),
            region: source.region.clone(),
            endpoint: source.endpoint.clone(),
            write_key_last4,
            webhook_url: format!("{}/webhooks/{}/{}", self.urls.webhooks, source.kind, source.token),
            unsubscribe_event: source.unsubscribe_event.clone(),
            allow_untimestamped: source.allow_untimestamped,
            has_signing_secret: source.secret.is_some(),
            paused_reason: status.paused_reason,
            last_error: status.last_error,
            waiting: status.waiting,
            oldest_waiting_seconds: status.oldest_waiting_since.map_or(0, |since| (now - since).whole_seconds()),
            delivered: status.delivered,
            missing: Some(status.missing).filter(|missing| *missing > 0),
            dead_letters: status.dead_letters,
            rejected: status.rejected,
            ignored: status.ignored,
            calls,
            warning,
        }
    }
}

/// The accounts, each with its own of these sources.
fn account_views(accounts: &[Account], sources: Vec<SourceView>) -> Vec<AccountView> {
    let mut by_account: HashMap<String, Vec<SourceView>> = HashMap::new();
    for source in sources {
        by_account.entry(source.account_id.clone()).or_default().push(source);
    }
    let view =
        |account: &Account| account_view(account, by_account.remove(&account.id.to_string()).unwrap_or_default());
    accounts.iter().map(view).collect()
}

fn account_view(account: &Account, sources: Vec<SourceView>) -> AccountView {
    AccountView {
        account_id: account.id.to_string(),
        name: account.name.clone(),
        created_at: rfc3339(account.created_at),
        sources,
    }
}
