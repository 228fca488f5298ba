//! Sources.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, created, done, invalid, json};
use crate::admin::audit::Action;
use crate::admin::{CallOptions, Created, Edit, NewSource, SourceView};
use crate::domain::event;
use crate::domain::name::Name;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

/// A source to be made.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSourceRequest {
    /// What sends to it.
    #[schema(example = "nudgespot", pattern = "^(nudgespot|resend)$")]
    kind: Option<String>,
    /// Its kind, unless given.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// 8 to 64 of `A-Z a-z 0-9 - _`. Without one, events wait.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{8,64}$")]
    write_key: Option<SecretString>,
    #[schema(pattern = "^(us|eu)$")]
    region: Option<String>,
    /// For kinds whose sender makes it: `whsec_` and base64 of 24 to 64 bytes.
    #[schema(value_type = Option<String>, pattern = "^whsec_[A-Za-z0-9+/]{30,86}={0,2}$")]
    signing_secret: Option<SecretString>,
}

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

/// What to change of a source. What is left out stays. An endpoint is set on the command line only.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceChange {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Tried at once.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{8,64}$")]
    write_key: Option<SecretString>,
    #[schema(pattern = "^(us|eu)$")]
    region: Option<String>,
    #[schema(pattern = "^(Email Unsubscribed|Unsubscribed)$")]
    unsubscribe_event: Option<String>,
    allow_untimestamped: Option<bool>,
    /// For kinds whose sender makes it. The one before works for another 24 hours.
    #[schema(value_type = Option<String>, pattern = "^whsec_[A-Za-z0-9+/]{30,86}={0,2}$")]
    signing_secret: Option<SecretString>,
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

/// Which test events to send. They reach every tool behind Segment.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestEvents {
    /// Of `delivered`, `opened`, `clicked`, `bounced`, `marked_as_spam` and `unsubscribed`; `delivered` unless given.
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
#[utoipa::path(get, path = "/api/v1/accounts/{account}/sources", tag = "sources", params(("account" = Uuid, Path)),
    responses((status = 200, body = Page<SourceView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let data = console.admin.sources_of(visit.account()?.id).await?;
    Ok(json(&Page { data, next_cursor: None }))
}

/// Adds a source to an account.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/sources", tag = "sources", params(("account" = Uuid, Path)),
    request_body = NewSourceRequest, responses((status = 201, body = SourceCreated), Problems, ChangeProblems))]
pub async fn add(console: Data<Console>, visit: Visit, body: Json<NewSourceRequest>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    let made = console.admin.add_source_to(account, body.into_inner().parse()?).await?;
    console.record(&visit, Action::SourceCreated, &made.id.to_string()).await?;
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

/// Makes another webhook URL. The one before is dead at once.
#[utoipa::path(post, path = "/api/v1/sources/{source}/rotate-url", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 200, body = UrlRotated), Problems))]
pub async fn rotate_url(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let (webhook_path, webhook_url) = console.admin.rotate_url(&source.id.to_string()).await?;
    console.record(&visit, Action::UrlRotated, &source.name).await?;
    Ok(json(&UrlRotated { webhook_url, webhook_path }))
}

/// Sends test events the whole way. They reach every tool behind Segment, as user `nudgespot-source-test`.
#[utoipa::path(post, path = "/api/v1/sources/{source}/test-events", tag = "sources", params(("source" = Uuid, Path)),
    request_body = TestEvents, responses((status = 200, body = TestEventsSent), Problems, ChangeProblems))]
pub async fn send_test_events(
    console: Data<Console>,
    visit: Visit,
    body: Json<TestEvents>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let kind = |name: &String| {
        let known = event::Kind::EMAIL.into_iter().find(|kind| kind.as_str() == name);
        known.ok_or_else(|| invalid("kinds", format!("`{name}` is none")))
    };
    let kinds = match &body.kinds {
        None => vec![event::Kind::Delivered],
        Some(names) if names.len() > event::Kind::EMAIL.len() => return Err(invalid("kinds", "there are six")),
        Some(names) => names.iter().map(kind).collect::<Result<_, _>>()?,
    };
    let event_ids = console.set_up.send_test_events(source.id, &kinds, visit.now).await?;
    let detail = format!("{}: {} events", source.name, event_ids.len());
    console.record(&visit, Action::TestEventsSent, &detail).await?;
    Ok(json(&TestEventsSent { event_ids }))
}

impl NewSourceRequest {
    /// # Errors
    /// [`Failure::Invalid`] names the field.
    pub fn parse(self) -> Result<NewSource, Failure> {
        let kind = self.kind.map(|kind| kind.parse().map_err(|error| invalid("kind", error))).transpose()?;
        Ok(NewSource {
            kind: kind.unwrap_or(Kind::Nudgespot),
            name: self.name.map(|name| parse_name(&name)).transpose()?,
            write_key: self.write_key.as_ref().map(parse_write_key).transpose()?,
            region: self.region.map(|region| parse_region(&region)).transpose()?,
            signing_secret: self.signing_secret.as_ref().map(parse_secret).transpose()?,
            calls: CallOptions::default(),
        })
    }
}

impl SourceChange {
    fn parse(self) -> Result<Edit, Failure> {
        let unsubscribe_event = self.unsubscribe_event.map(|event| event.parse());
        Ok(Edit {
            name: self.name.map(|name| parse_name(&name)).transpose()?,
            write_key: self.write_key.as_ref().map(parse_write_key).transpose()?,
            region: self.region.map(|region| parse_region(&region)).transpose()?,
            endpoint: None,
            unsubscribe_event: unsubscribe_event.transpose().map_err(|error| invalid("unsubscribe_event", error))?,
            allow_untimestamped: self.allow_untimestamped,
            signing_secret: self.signing_secret.as_ref().map(parse_secret).transpose()?,
            calls: CallOptions::default(),
        })
    }

    /// The fields that are there.
    fn names(&self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name.is_some()),
            ("write_key", self.write_key.is_some()),
            ("region", self.region.is_some()),
            ("unsubscribe_event", self.unsubscribe_event.is_some()),
            ("allow_untimestamped", self.allow_untimestamped.is_some()),
            ("signing_secret", self.signing_secret.is_some()),
        ];
        fields.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
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

fn parse_name(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| invalid("name", error))
}

fn parse_region(region: &str) -> Result<Region, Failure> {
    region.parse().map_err(|error| invalid("region", error))
}

fn parse_write_key(key: &SecretString) -> Result<WriteKey, Failure> {
    WriteKey::parse(key.expose_secret()).map_err(|error| invalid("write_key", error))
}

fn parse_secret(secret: &SecretString) -> Result<SigningSecret, Failure> {
    SigningSecret::parse(secret.expose_secret()).map_err(|error| invalid("signing_secret", error))
}
