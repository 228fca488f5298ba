//! `sandbox`: the stand-in for Segment and Nudgespot.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use serde_json::json;

use super::output;
use crate::config::address;
use crate::domain::text::visible;
use crate::domain::timestamp;
use crate::sandbox::{Faults, NudgespotRequest, Odds, Request, Sandbox};

/// Where to listen, and how to fail.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8090", value_parser = address)]
    bind: SocketAddr,
    /// Answer with a status instead, with a probability: `503:0.2`, or `503` for always. May be repeated.
    #[arg(long, value_name = "STATUS[:PROBABILITY]", value_parser = failure)]
    fail: Vec<(u16, f64)>,
    /// The Retry-After of these answers, in seconds or as an HTTP date.
    #[arg(long, value_name = "SECONDS", value_parser = header_value)]
    retry_after: Option<String>,
    /// Do not answer at all, with a probability (1 where none is given).
    #[arg(long, value_name = "PROBABILITY", num_args = 0..=1, default_value = "0", default_missing_value = "1", value_parser = probability)]
    hang: f64,
    /// Refuse requests that hold this text with 400.
    #[arg(long, value_name = "TEXT")]
    refuse: Option<String>,
    /// As which of the two to fail.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "both")]
    faults_for: FaultsFor,
}

/// As whom to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FaultsFor {
    Segment,
    Nudgespot,
    Both,
}

pub async fn run(args: Args, json: bool) -> anyhow::Result<()> {
    let odds = Odds {
        fail: args.fail,
        retry_after: args.retry_after,
        hang: args.hang,
        refuse: args.refuse.map(|text| (text, 400)),
    };
    let stop = super::stop_signal()?;
    let faults = |other| {
        let is_meant = args.faults_for != other;
        if is_meant { Faults::by_chance(odds.clone()) } else { Faults::default() }
    };
    let sandbox = Sandbox::with_both(faults(FaultsFor::Nudgespot), faults(FaultsFor::Segment));
    let (server, handle, address) = sandbox
        .bind(args.bind)
        .map_err(|error| anyhow::anyhow!("--bind {}: cannot listen there: {error}", args.bind))?;
    // A task that may end before: whoever has read enough of what it prints still has a stand-in to use.
    tokio::spawn(print(sandbox, address, json));
    tokio::spawn(async move {
        stop.cancelled().await;
        handle.stop(false).await;
    });
    Ok(server.await?)
}

/// Prints where the stand-in is, then a line for each request, as long as somebody reads it.
async fn print(sandbox: Arc<Sandbox>, address: SocketAddr, json: bool) {
    let url = format!("http://{address}");
    let is_read = blocking(move || {
        output::print(json, &json!({"url": url, "messages_url": format!("{url}/messages")}), || {
            format!(
                "A stand-in for Segment listens on {url}; what it keeps: GET {url}/messages\n\
                 It is one for Nudgespot, too: GET {url}/nudgespot/subscribers and {url}/nudgespot/activities\n\
                 To use it: SEGMENT_US_URL={url} NUDGESPOT_URL={url} nudgespot-source"
            )
        })
    });
    if !is_read.await || json {
        return;
    }
    let (mut n_segment, mut n_nudgespot, mut changed) = (0, 0, sandbox.subscribe());
    while changed.changed().await.is_ok() {
        let (to_segment, to_nudgespot);
        (to_segment, n_segment) = sandbox.requests_after(n_segment);
        (to_nudgespot, n_nudgespot) = sandbox.nudgespot_requests_after(n_nudgespot);
        let lines: Vec<String> = to_segment.iter().map(line).chain(to_nudgespot.iter().map(nudgespot_line)).collect();
        if !lines.is_empty() && !blocking(move || output::line(&lines.join("\n"))).await {
            return;
        }
    }
}

/// Prints on a thread of its own, as whoever reads may be slow; says whether it could.
async fn blocking(print: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> bool {
    tokio::task::spawn_blocking(print).await.is_ok_and(|printed| printed.is_ok())
}

fn line(request: &Request) -> String {
    let (at, status) = (timestamp::rfc3339(request.at), status(request.status));
    format!("{at}  {:>5} events  {:>7} bytes  {status}", request.n_events, request.n_bytes)
}

fn nudgespot_line(request: &NudgespotRequest) -> String {
    let (at, status) = (timestamp::rfc3339(request.at), status(request.status));
    let what = format!("{} {}", request.method, request.path);
    let user = request.uid.as_deref().map_or_else(String::new, |uid| format!("  user {}", visible(uid)));
    format!("{at}  {what}{user}  {} bytes  {status}", request.body.len())
}

fn status(status: Option<u16>) -> String {
    status.map_or_else(|| "no answer".to_owned(), |status| status.to_string())
}

fn failure(text: &str) -> Result<(u16, f64), String> {
    let (status, likely) = text.split_once(':').unwrap_or((text, "1"));
    let status = status.parse().ok().filter(|status| (200..=599).contains(status));
    Ok((status.ok_or("write a status from 200 to 599, as in 503:0.2")?, probability(likely)?))
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("a probability is a number from 0 to 1".to_owned()),
    }
}

fn header_value(text: &str) -> Result<String, String> {
    HeaderValue::from_str(text).map(|_| text.to_owned()).map_err(|_| "write seconds, or an HTTP date".to_owned())
}
