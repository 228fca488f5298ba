//! The other direction: two calls from Segment to Nudgespot, and what they tell of an email event that comes after them.

use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::post;
use super::{Scene, arrives, cell, milliseconds};
use crate::admin::{Admin, CallOptions, NewSource};
use crate::cli::output;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::sources;

const USER: &str = "01michaelb";
const ADDRESS: &str = "mbolton@example.com";

/// What came of it.
pub struct WayBack {
    rows: Vec<Row>,
    /// As whom Segment heard of the recipient whom only an address named.
    learnt: Option<String>,
}

struct Row {
    said: &'static str,
    request: Option<(String, Value)>,
    stored_ms: f64,
    arrived_ms: Option<f64>,
}

/// Posts an identify and a track as Segment does, then an email event that names its recipient by address alone.
pub async fn traces(
    admin: &Admin,
    account: Uuid,
    scene: &Scene<'_>,
    http: &reqwest::Client,
    webhook_url: &str,
    secret: &SigningSecret,
) -> anyhow::Result<WayBack> {
    let calls = CallOptions { nudgespot_key: Some(NudgespotKey::parse("demo-rest-key")?), ..CallOptions::default() };
    let new = NewSource { calls, ..NewSource::of(sources::Kind::Segment) };
    let source = admin.add_source_to(account, new).await?;
    let ingest_key = source.signing_secret.context("a source of this kind has a secret")?.ingest_key();
    let url = format!("{}{}", scene.url, source.webhook_path);
    let now = rfc3339(OffsetDateTime::now_utc());
    let calls = [
        (
            "identify",
            json!({"type": "identify", "userId": USER, "timestamp": now,
            "traits": {"email": ADDRESS, "name": "Michael Bolton", "plan": "pro"}}),
        ),
        (
            "track",
            json!({"type": "track", "userId": USER, "timestamp": now, "event": "Shirt Bought",
            "properties": {"size": "M", "revenue": 39.95}}),
        ),
    ];
    let mut requests = scene.sandbox.subscribe();
    let posted = || scene.sandbox.nudgespot_requests().into_iter().filter(|request| request.method == "POST");
    let mut rows = Vec::new();
    for (said, call) in calls {
        let began = Instant::now();
        let answer = http.post(&url).basic_auth(&ingest_key, Some("")).body(call.to_string()).send().await;
        let answer = answer.context("posting a call")?;
        anyhow::ensure!(answer.status().is_success(), "a call was answered with {}", answer.status());
        let stored_ms = milliseconds(began);
        let n_before = rows.len();
        let arrived = arrives(&mut requests, || posted().count() > n_before).await;
        let arrived_ms = arrived.then(|| milliseconds(began));
        let request = posted().nth(n_before).map(|r| (r.path, serde_json::from_str(&r.body).unwrap_or_default()));
        rows.push(Row { said, request, stored_ms, arrived_ms });
    }
    let n_before = scene.sandbox.n_messages();
    post(http, webhook_url, secret, &json!({"event": "opened", "email": ADDRESS})).await?;
    let arrived = arrives(&mut requests, || scene.sandbox.n_messages() > n_before).await;
    let track = arrived.then(|| scene.sandbox.messages().pop()).flatten();
    let learnt = track.and_then(|track| Some(track["userId"].as_str()?.to_owned()));
    Ok(WayBack { rows, learnt })
}

impl WayBack {
    /// Whether all of it came where it should.
    pub fn all_arrived(&self) -> bool {
        self.rows.iter().all(|row| row.request.is_some()) && self.learnt.as_deref() == Some(USER)
    }

    /// For people.
    pub fn table(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let (path, body) = row.request.clone().unwrap_or_default();
                let activity = &body["activity"];
                let subscriber = if activity.is_null() { &body["subscriber"] } else { &activity["subscriber"] };
                let about = if activity.is_null() { &subscriber["name"] } else { &activity["event"] };
                let times = [cell(Some(row.stored_ms)), cell(row.arrived_ms)];
                [row.said.to_owned(), format!("POST {path}"), text(&subscriber["uid"])]
                    .into_iter()
                    .chain(times)
                    .chain([text(about)])
                    .collect()
            })
            .collect();
        let headings = ["Segment says", "Nudgespot hears", "uid", "stored", "arrived", "about"];
        let learnt = match &self.learnt {
            Some(user) => format!("reached Segment with the userId `{user}`, which the identify had told."),
            None => "did not reach Segment with a userId.".to_owned(),
        };
        let n_arrived = self.rows.iter().filter(|row| row.arrived_ms.is_some()).count();
        format!(
            "\nAnd the other direction:\n\n{}\n\n{n_arrived} of {} calls arrived at the stand-in for Nudgespot. \
             Then an email event that names only {ADDRESS} {learnt}",
            output::table(&headings, &rows),
            self.rows.len()
        )
    }
}
