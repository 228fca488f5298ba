//! A stand-in for Segment and Nudgespot that costs as little as possible: it counts.
//!
//! `GET /count` answers how many events, or calls for Nudgespot, came, and `GET /requests` in how many requests. From
//! `GET /watch` on it notes of each event when it came; `GET /arrivals` ends that, and answers with a line for each: its
//! number (see `load`), and the microseconds since 1970.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::http;

#[derive(Default)]
struct Sink {
    n_events: AtomicU64,
    n_requests: AtomicU64,
    watches: AtomicBool,
    arrivals: Mutex<Vec<(u64, u64)>>,
}

pub async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let sink = Arc::new(Sink::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, Arc::clone(&sink)));
    }
}

async fn serve(mut stream: TcpStream, sink: Arc<Sink>) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(64 << 10);
    while let Some(message) = http::read(&mut stream, &mut buffer).await? {
        let body = if buffer.starts_with(b"GET /count") {
            sink.n_events.load(Ordering::Relaxed).to_string()
        } else if buffer.starts_with(b"GET /requests") {
            sink.n_requests.load(Ordering::Relaxed).to_string()
        } else if buffer.starts_with(b"GET /watch") {
            sink.watches.store(true, Ordering::Relaxed);
            String::new()
        } else if buffer.starts_with(b"GET /arrivals") {
            sink.watches.store(false, Ordering::Relaxed);
            let arrivals = std::mem::take(&mut *sink.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
            arrivals.iter().fold(String::new(), |mut lines, (id, at)| {
                let _ = writeln!(lines, "{id} {at}");
                lines
            })
        } else if buffer.starts_with(b"POST /subscribers/identify ") {
            sink.count(1);
            r#"{"subscriber":{}}"#.to_owned()
        } else if buffer.starts_with(b"POST /activities ") {
            sink.count(1);
            "{}".to_owned()
        } else {
            sink.take(&buffer[message.head_end..message.body_end]);
            r#"{"success":true}"#.to_owned()
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await?;
        buffer.drain(..message.body_end);
    }
    Ok(())
}

impl Sink {
    /// A request with so many.
    fn count(&self, n_events: u64) {
        self.n_events.fetch_add(n_events, Ordering::Relaxed);
        self.n_requests.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self, body: &[u8]) {
        let n_events = memmem::find_iter(body, br#""type":"track""#).count();
        self.count(n_events as u64);
        if self.watches.load(Ordering::Relaxed) {
            let now = now_micros();
            let key = br#""email_id":""#;
            let ids = memmem::find_iter(body, key).filter_map(|at| {
                let rest = &body[at + key.len()..];
                let end = memchr::memchr(b'"', rest)?;
                u64::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()
            });
            self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).extend(ids.map(|id| (id, now)));
        }
    }
}

/// Microseconds since 1970.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Asks a sink.
pub async fn ask(address: &str, what: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /{what} HTTP/1.1\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    let mut buffer = Vec::new();
    let message = http::read(&mut stream, &mut buffer).await?.context("no answer")?;
    Ok(String::from_utf8(buffer[message.head_end..message.body_end].to_vec())?)
}

/// How many events a sink has seen.
pub async fn count(address: &str) -> anyhow::Result<u64> {
    Ok(ask(address, "count").await?.parse()?)
}
