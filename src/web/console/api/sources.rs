//! Sources.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::source_requests::{NewSourceRequest, SourceChange};
use super::{Page, Paging, created, done, invalid, json, page_of};
use crate::admin::audit::Action;
use crate::admin::{Created, SourceView};
use crate::domain::event;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::sources::Kind;

/// A new source.
#[derive(Serialize, ToSchema)]
pub struct SourceCreated {
    /// Its account.
    account_id: Uuid,
    /// The source.
    source_id: Uuid,
    /// Where its sender posts.
    webhook_url: String,
    /// The same, without the beginning.
    webhook_path: String,
    #[serde(flatten)]
    secrets: SourceSecrets,
}

/// The secrets that were made for a source; they are shown only now.
#[derive(Default, Serialize, ToSchema)]
pub struct SourceSecrets {
    /// What its webhooks are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    /// Of a source of calls: what its calls are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_secret: Option<String>,
    /// Of a source of calls: the key under which they come where they are not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    ingest_key: Option<String>,
}

/// A new signing secret.
#[derive(Serialize, ToSchema)]
pub struct SecretRotated {
    #[serde(flatten)]
    secrets: SourceSecrets,
    /// Until when the one before works.
    previous_valid_until: String,
    /// There where a rotation was under way: the secret before that does not work any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ended_at_once: bool,
}

/// A new webhook URL. The one before is dead.
#[derive(Serialize, ToSchema)]
pub struct UrlRotated {
    webhook_url: String,
    webhook_path: String,
}

/// Which test events to send. They reach every tool behind Segment; calls reach Nudgespot.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestEvents {
    /// Of `delivered`, `opened`, `clicked`, `bounced`, `marked_as_spam` and `unsubscribed`; `delivered` unless given. Of a
    /// source of calls, of `identify` and `track`; both unless given.
    #[schema(example = json!(["delivered"]), max_items = 6)]
    kinds: Option<Vec<String>>,
}

/// Test events that were sent.
#[derive(Serialize, ToSchema)]
pub struct TestEventsSent {
    /// Their ids.
    event_ids: Vec<String>,
}

/// The sources of an account, by name.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/sources", tag = "sources",
    params(("account" = Uuid, Path), Paging), responses((status = 200, body = Page<SourceView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    Ok(page_of(console.admin.sources_after(visit.account()?.id, paging.name()?, paging.limit()?).await?))
}

/// Adds a source to an account.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/sources", tag = "sources", params(("account" = Uuid, Path)),
    request_body = NewSourceRequest, responses((status = 201, body = SourceCreated), Problems, ChangeProblems))]
pub async fn add(console: Data<Console>, visit: Visit, body: Json<NewSourceRequest>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    let made = console.admin.add_source_to(account, body.into_inner().parse()?).await?;
    console.record(&visit, Action::SourceCreated, &made.name).await?;
    Ok(created(&SourceCreated::from(made)))
}

/// A source: its settings without keys, and counts.
#[utoipa::path(get, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 200, body = SourceView), Problems))]
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    Ok(json(&console.admin.source_view(visit.source()?.id).await?))
}

/// Changes settings of a source.
#[utoipa::path(patch, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = Uuid, Path)),
    request_body = SourceChange, responses((status = 200, body = SourceView), Problems, ChangeProblems))]
pub async fn edit(console: Data<Console>, visit: Visit, body: Json<SourceChange>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let change = body.into_inner();
    let detail = change.names().join(", ");
    console.admin.edit_source(&source.id.to_string(), change.parse()?, visit.now).await?;
    let detail = format!("{}: {detail}", source.name);
    console.record(&visit, Action::SourceChanged, &detail).await?;
    Ok(json(&console.admin.source_view(source.id).await?))
}

/// Deletes a source, and all that is kept of it.
#[utoipa::path(delete, path = "/api/v1/sources/{source}", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 204), Problems))]
pub async fn delete(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    // First: a deletion that is broken off, and goes on by itself, is told of as well.
    console.record(&visit, Action::SourceDeleted, &source.name).await?;
    console.admin.delete_source(&source.id.to_string()).await?;
    Ok(done())
}

/// Stops delivery. Webhooks are taken as ever; their events wait.
#[utoipa::path(post, path = "/api/v1/sources/{source}/pause", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 204), Problems))]
pub async fn pause(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.pause(&source.id.to_string()).await?;
    console.record(&visit, Action::SourcePaused, &source.name).await?;
    Ok(done())
}

/// Lets events flow again.
#[utoipa::path(post, path = "/api/v1/sources/{source}/resume", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 204), Problems))]
pub async fn resume(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.resume(&source.id.to_string()).await?;
    console.record(&visit, Action::SourceResumed, &source.name).await?;
    Ok(done())
}

/// Makes another signing secret. The one before works for another 24 hours.
#[utoipa::path(post, path = "/api/v1/sources/{source}/rotate-secret", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 200, body = SecretRotated), Problems, ChangeProblems))]
pub async fn rotate_secret(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let before = console.admin.rotation(source.id, visit.now).await?;
    let rotated = console.admin.rotate_secret(&source.id.to_string(), visit.now).await?;
    console.record(&visit, Action::SecretRotated, &source.name).await?;
    Ok(json(&SecretRotated {
        secrets: SourceSecrets::of(rotated.kind, &rotated.secret),
        previous_valid_until: rfc3339(rotated.previous_until),
        ended_at_once: before.previous_until.is_some(),
    }))
}

/// Ends the secret before the current one at once, instead of 24 hours after the rotation. Does nothing where there is none.
#[utoipa::path(post, path = "/api/v1/sources/{source}/end-previous-secret", tag = "sources",
    params(("source" = Uuid, Path)), responses((status = 204), Problems))]
pub async fn end_previous_secret(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    if console.admin.end_previous_secret(source.id).await? {
        console.record(&visit, Action::PreviousSecretEnded, &source.name).await?;
    }
    Ok(done())
}

/// Makes another webhook URL. The one before is dead at once.
#[utoipa::path(post, path = "/api/v1/sources/{source}/rotate-url", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 200, body = UrlRotated), Problems))]
pub async fn rotate_url(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let (webhook_path, webhook_url) = console.admin.rotate_url(&source.id.to_string()).await?;
    console.record(&visit, Action::UrlRotated, &source.name).await?;
    Ok(json(&UrlRotated { webhook_url, webhook_path }))
}

/// Sends test events the whole way. They reach every tool behind Segment, or Nudgespot, as user `nudgespot-source-test`.
#[utoipa::path(post, path = "/api/v1/sources/{source}/test-events", tag = "sources", params(("source" = Uuid, Path)),
    request_body = TestEvents, responses((status = 200, body = TestEventsSent), Problems, ChangeProblems))]
pub async fn send_test_events(
    console: Data<Console>,
    visit: Visit,
    body: Json<TestEvents>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let all = source.kind.map_or(&event::Kind::EMAIL[..], Kind::event_kinds);
    let kind = |name: &String| {
        let known = all.iter().copied().find(|kind| kind.as_str() == name);
        known.ok_or_else(|| invalid("kinds", format!("`{name}` is none")))
    };
    let kinds = match &body.kinds {
        None if visit.terms().are_calls => all.to_vec(),
        None => vec![event::Kind::Delivered],
        Some(names) if names.len() > all.len() => return Err(invalid("kinds", format!("there are {}", all.len()))),
        Some(names) => names.iter().map(kind).collect::<Result<_, _>>()?,
    };
    let event_ids = console.set_up.send_test_events(source.id, &kinds, visit.now).await?;
    let detail = format!("{}: {} events", source.name, event_ids.len());
    console.record(&visit, Action::TestEventsSent, &detail).await?;
    Ok(json(&TestEventsSent { event_ids }))
}

impl From<Created> for SourceCreated {
    fn from(made: Created) -> Self {
        Self {
            account_id: made.account_id,
            source_id: made.id,
            webhook_url: made.webhook_url,
            webhook_path: made.webhook_path,
            secrets: made.signing_secret.map(|secret| SourceSecrets::of(made.kind, &secret)).unwrap_or_default(),
        }
    }
}

impl SourceSecrets {
    fn of(kind: Kind, secret: &SigningSecret) -> Self {
        let text = Some(secret.expose().to_owned());
        if kind.takes_calls() {
            Self { signing_secret: None, shared_secret: text, ingest_key: Some(secret.ingest_key()) }
        } else {
            Self { signing_secret: text, ..Self::default() }
        }
    }
}
