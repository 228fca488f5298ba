//! The operator's pages: all accounts, the worst first.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Query};
use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, StateMark, page, page_again};
use super::super::visit::Visit;
use super::health::Health;
use super::shown_once::{About, lead_to_link};
use crate::admin::audit::Action;
use crate::admin::overview::Overview;
use crate::admin::people::{Inviter, OperatorView, Role};
use crate::admin::{Account, AdminError, NewSource};
use crate::domain::email_address::EmailAddress;
use crate::domain::name::Name;
use crate::domain::words::{clock, grouped, span};
use crate::sources::Kind;

/// How many rows the page shows at most.
const MAX_ROWS: usize = 100;

#[derive(Template)]
#[template(path = "operator.html")]
struct Operator {
    frame: Frame,
    q: String,
    n_accounts: String,
    n_sources: String,
    /// Events that came since then.
    n_lately: String,
    lately: Lately,
    n_bad: usize,
    rows: Vec<Row>,
    n_more: usize,
    operators: Vec<OperatorView>,
    health: Health,
}

/// The last whole hour and what there is of this one.
struct Lately {
    since: String,
    /// Events a minute.
    rate: String,
}

struct Row {
    path: String,
    account: String,
    source: Option<String>,
    state: StateMark,
    waiting: String,
    oldest: String,
    oldest_seconds: i64,
    /// Events a minute that came lately.
    rate: String,
    delivered: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "new_account.html")]
struct NewAccount {
    frame: Frame,
    name: String,
    email: String,
    error: Option<String>,
}

/// What is looked for.
#[derive(Deserialize)]
pub struct Search {
    #[serde(default)]
    q: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct AccountForm {
    name: String,
    #[serde(default)]
    email: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct InviteForm {
    email: String,
}

/// `GET /operator`
pub async fn show(console: Data<Console>, visit: Visit, search: Query<Search>) -> Result<HttpResponse, Failure> {
    let accounts = console.admin.list_accounts().await?;
    let sources = console.admin.overviews(None, visit.now).await?;
    let q = search.into_inner().q.trim().to_owned();
    let wanted = q.to_lowercase();
    let number = |n: usize| grouped(i64::try_from(n).unwrap_or(i64::MAX));
    let (n_accounts, n_sources) = (number(accounts.len()), number(sources.len()));
    let n_bad = sources.iter().filter(|source| !source.judgement.is_ok).count();
    let n_lately = sources.iter().map(|source| source.standing.accepted_lately).sum();
    let oldest = sources.iter().map(|source| oldest_seconds(source, visit.now)).max().unwrap_or_default();
    let health = Health::of(console.admin.database_server().await?, &sources, oldest);
    let mut of_account: HashMap<Uuid, Vec<Overview>> = HashMap::new();
    for source in sources {
        of_account.entry(source.standing.account_id).or_default().push(source);
    }
    let of = |account: Account| {
        let sources = of_account.remove(&account.id).unwrap_or_default();
        rows(&account, sources, visit.now)
    };
    let mut rows: Vec<Row> = accounts.into_iter().flat_map(of).collect();
    let is_wanted = |name: &str| name.to_lowercase().contains(&wanted);
    rows.retain(|row| is_wanted(&row.account) || row.source.as_deref().is_some_and(is_wanted));
    // Stable: within a state, by name.
    rows.sort_by_key(|row| (rank(row.state), std::cmp::Reverse(row.oldest_seconds)));
    let n_more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    page(&Operator {
        frame: Frame::new(&visit, ""),
        q,
        n_accounts,
        n_sources,
        n_lately: grouped(n_lately),
        lately: lately(n_lately, visit.now),
        n_bad,
        rows,
        n_more,
        operators: console.admin.list_operators().await?,
        health,
    })
}

/// `GET /operator/new-account`
pub async fn new_account(visit: Visit) -> Result<HttpResponse, Failure> {
    page(&NewAccount { frame: Frame::new(&visit, ""), name: String::new(), email: String::new(), error: None })
}

/// `POST /operator/new-account`
pub async fn create_account(
    console: Data<Console>,
    visit: Visit,
    form: Form<AccountForm>,
) -> Result<HttpResponse, Failure> {
    let AccountForm { name, email } = form.into_inner();
    let again = |error: String| {
        page_again(&NewAccount {
            frame: Frame::new(&visit, ""),
            name: name.clone(),
            email: email.clone(),
            error: Some(error),
        })
    };
    let parsed_name = match Name::parse(&name) {
        Ok(parsed) => parsed,
        Err(error) => return again(error.to_string()),
    };
    let admin = match email.trim() {
        "" => None,
        address => match EmailAddress::parse(address) {
            Ok(address) => Some(address),
            Err(error) => return again(error.to_string()),
        },
    };
    if admin.is_some() {
        visit.needs_password()?;
    }
    let made = match console.admin.create_account(&parsed_name, NewSource::of(Kind::Nudgespot)).await {
        Err(error @ AdminError::AccountNameTaken(_)) => return again(error.to_string()),
        made => made?,
    };
    let (account, actor) = (made.account_id, visit.actor());
    console.admin.record(&actor, Some(account), Action::AccountCreated, parsed_name.as_str()).await?;
    let onward = format!("/sources/{}/set-up", made.id);
    let Some(address) = admin else { return Ok(super::super::frame::see_other(&onward)) };
    let invited = console.admin.invite(account, &address, Role::Admin, Inviter::Operator).await?;
    console.admin.record(&actor, Some(account), Action::PersonInvited, address.as_str()).await?;
    lead_to_link(&console, &visit, About::Account(account), &invited, address.as_str(), onward).await
}

/// `POST /operator/invite`
pub async fn invite(console: Data<Console>, visit: Visit, form: Form<InviteForm>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let address = EmailAddress::parse(&form.email).map_err(|error| Failure::Invalid(error.to_string()))?;
    let invited = console.admin.invite_operator(&address).await?;
    console.record(&visit, Action::OperatorInvited, address.as_str()).await?;
    lead_to_link(&console, &visit, About::Service, &invited, address.as_str(), "/operator".to_owned()).await
}

fn rows(account: &Account, sources: Vec<Overview>, now: OffsetDateTime) -> Vec<Row> {
    if sources.is_empty() {
        return vec![Row {
            path: format!("/accounts/{}", account.id),
            account: account.name.clone(),
            source: None,
            state: StateMark { word: "No source", class: "none" },
            waiting: grouped(0),
            oldest: String::new(),
            oldest_seconds: 0,
            rate: String::new(),
            delivered: grouped(0),
            error: None,
        }];
    }
    let is_only = sources.len() == 1;
    let row = |source: Overview| {
        let oldest_seconds = oldest_seconds(&source, now);
        let (state, standing) = (StateMark::from(&source.judgement), source.standing);
        Row {
            state,
            path: format!("/sources/{}", standing.source_id),
            account: account.name.clone(),
            source: (!is_only).then_some(standing.name),
            waiting: grouped(standing.waiting),
            oldest: if standing.waiting > 0 { seconds(oldest_seconds) } else { String::new() },
            oldest_seconds,
            rate: lately(standing.accepted_lately, now).rate,
            delivered: grouped(standing.delivered),
            error: standing.paused_reason.or(standing.last_error),
        }
    };
    sources.into_iter().map(row).collect()
}

/// For how long its first event waits.
fn oldest_seconds(source: &Overview, now: OffsetDateTime) -> i64 {
    source.standing.oldest_waiting_since.map_or(0, |since| (now - since).whole_seconds())
}

fn lately(n: i64, now: OffsetDateTime) -> Lately {
    let seconds = now.unix_timestamp();
    let since = seconds - seconds.rem_euclid(3600) - 3600;
    let (n_minutes, since) = ((seconds - since) / 60, OffsetDateTime::from_unix_timestamp(since).unwrap_or(now));
    let tenths = n * 10 / n_minutes.max(1);
    Lately { since: clock(since, now), rate: format!("{}.{}", grouped(tenths / 10), tenths % 10) }
}

/// The worst first.
fn rank(state: StateMark) -> u8 {
    match state.class {
        "bad" => 0,
        "waiting" => 1,
        "none" => 2,
        _ => 3,
    }
}

fn seconds(seconds: i64) -> String {
    span(Duration::from_secs(seconds.unsigned_abs()))
}
