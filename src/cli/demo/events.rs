//! The six events, from Nudgespot to Segment.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{arrives, cell, milliseconds};
use crate::cli::{output, sign};
use crate::domain::event::Kind;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::random;
use crate::sandbox::Sandbox;
use crate::sources::signature::{self, SigningScheme};

/// One event's journey.
#[derive(Debug, Serialize)]
pub struct EventTrace {
    /// What Nudgespot calls it.
    event: &'static str,
    /// The track call that arrived.
    pub track: Option<Value>,
    /// From posting it to the 200, in milliseconds.
    stored_ms: f64,
    /// From posting it to its arrival at the stand-in, in milliseconds.
    arrived_ms: Option<f64>,
}

/// The six events, as Nudgespot would report them.
fn events() -> [Value; 6] {
    let person = json!({"uid": "019mr8mf4r", "email": "pgibbons@example.com", "first_name": "Peter"});
    let email = json!({"email_id": "18vzF7u3z", "email_subject": "First shirt on us!", "campaign_id": "123",
                       "campaign_name": "New Customer Discount"});
    let event = |name: &str, more: Value| {
        let mut properties = email.clone();
        if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
            all.extend(more);
        }
        json!({
            "id": format!("evt_{}", hex::encode(random::bytes::<8>())), "event": name,
            "timestamp": rfc3339(OffsetDateTime::now_utc()), "subscriber": person, "properties": properties,
        })
    };
    [
        event("delivered", json!({})),
        event("opened", json!({"ip": "67.207.109.102", "user_agent": "Mozilla/5.0 (Macintosh)"})),
        event("clicked", json!({"link_id": "101", "link_url": "https://www.buymyshirts.com?promo=NEWCUSTOMER"})),
        event("hard_bounced", json!({"reason": "550 5.1.1 no such user"})),
        event("marked_as_spam", json!({})),
        event("unsubscribed", json!({"list_id": "1425", "list_name": "New customers"})),
    ]
}

/// Posts the events, one after the other, and waits for each to arrive.
pub async fn traces(
    http: &reqwest::Client,
    url: &str,
    secret: &SigningSecret,
    sandbox: &Sandbox,
) -> anyhow::Result<Vec<EventTrace>> {
    let mut requests = sandbox.subscribe();
    let mut traces = Vec::new();
    for (event, kind) in events().into_iter().zip(Kind::EMAIL) {
        let began = Instant::now();
        post(http, url, secret, &event).await?;
        let stored_ms = milliseconds(began);
        let n_before = traces.len();
        let arrived = arrives(&mut requests, || sandbox.n_messages() > n_before).await;
        let arrived_ms = arrived.then(|| milliseconds(began));
        traces.push(EventTrace { event: kind.as_str(), track: sandbox.messages().pop(), stored_ms, arrived_ms });
    }
    Ok(traces)
}

/// Posts an event, signed.
pub async fn post(http: &reqwest::Client, url: &str, secret: &SigningSecret, event: &Value) -> anyhow::Result<()> {
    let (body, now) = (event.to_string(), OffsetDateTime::now_utc().unix_timestamp());
    let headers = signature::sign(secret, SigningScheme::Standard, &sign::new_webhook_id(), now, body.as_bytes());
    let mut request = http.post(url).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.context("posting a webhook")?;
    anyhow::ensure!(answer.status().is_success(), "a webhook was answered with {}", answer.status());
    Ok(())
}

/// For people.
pub fn table(traces: &[EventTrace]) -> String {
    let rows: Vec<Vec<String>> = traces
        .iter()
        .map(|trace| {
            let text = |pointer: &str| {
                let value = trace.track.as_ref().and_then(|track| track.pointer(pointer)).and_then(Value::as_str);
                value.unwrap_or("-").to_owned()
            };
            let detail = ["/properties/link_url", "/properties/bounce_reason", "/properties/list_name"].map(text);
            let [id, event, user] = ["/messageId", "/event", "/userId"].map(text);
            vec![
                trace.event.to_owned(),
                event,
                user,
                id.chars().take(18).chain(['…']).collect(),
                cell(Some(trace.stored_ms)),
                cell(trace.arrived_ms),
                detail.into_iter().find(|detail| detail != "-").unwrap_or_else(|| text("/properties/email_subject")),
            ]
        })
        .collect();
    let headings = ["Nudgespot says", "Segment hears", "userId", "messageId", "stored", "arrived", "about"];
    let n_arrived = traces.iter().filter(|trace| trace.arrived_ms.is_some()).count();
    format!(
        "\n{}\n\n{n_arrived} of {} events arrived: signed, stored in PostgreSQL, sent to the stand-in for Segment.",
        output::table(&headings, &rows),
        traces.len()
    )
}
