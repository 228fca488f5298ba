//! `sandbox`: the stand-in for Segment.

use std::net::SocketAddr;

use crate::config::address;
use crate::sandbox::{Faults, Odds, Request, Sandbox};

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
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<String>,
    /// Do not answer at all, with a probability (1 where none is given).
    #[arg(long, value_name = "PROBABILITY", num_args = 0..=1, default_value = "0", default_missing_value = "1", value_parser = probability)]
    hang: f64,
    /// Refuse batches that hold this text with 400.
    #[arg(long, value_name = "TEXT")]
    refuse: Option<String>,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let odds = Odds {
        fail: args.fail,
        retry_after: args.retry_after,
        hang: args.hang,
        refuse: args.refuse.map(|text| (text, 400)),
    };
    let stop = super::stop_signal()?;
    let sandbox = Sandbox::new(Faults::by_chance(odds));
    let (server, handle, address) = sandbox
        .bind(args.bind)
        .map_err(|error| anyhow::anyhow!("--bind {}: cannot listen there: {error}", args.bind))?;
    println!("A stand-in for Segment listens on http://{address}; what it keeps: GET http://{address}/messages");
    println!("To use it: SEGMENT_US_URL=http://{address} nudgespot-source");
    let watch = async {
        let (mut seen, mut changed) = (0, sandbox.subscribe());
        while changed.changed().await.is_ok() {
            let requests = sandbox.requests();
            for request in &requests[seen..] {
                println!("{}", line(request));
            }
            seen = requests.len();
        }
    };
    let end = async {
        stop.cancelled().await;
        handle.stop(false).await;
    };
    tokio::select! {
        ended = async { tokio::join!(server, end).0 } => Ok(ended?),
        () = watch => Ok(()),
    }
}

fn line(request: &Request) -> String {
    let status = request.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let at = crate::domain::timestamp::rfc3339(request.at);
    format!("{at}  {:>5} events  {:>7} bytes  {status}", request.n_events, request.n_bytes)
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
