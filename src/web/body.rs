//! Reads the bodies of requests, within the limits of size, time and memory.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use actix_web::web::{self, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;
use super::state::{State, UNIT};
use crate::ingest::IngestError;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is unpacked at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads the body, within its limits of size and time, and the service's limit of memory.
pub async fn read(
    state: &State,
    headers: &HeaderMap,
    payload: &mut web::Payload,
    max_bytes: usize,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(Problem::BodyTooLarge);
    }
    let read = async {
        let mut body = BytesMut::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = payload.next().await {
            // The sender broke off: it will not see this answer.
            let chunk = chunk.map_err(|_| Problem::MalformedBody)?;
            if body.len() + chunk.len() > max_bytes {
                return Err(Problem::BodyTooLarge);
            }
            hold(&state.body_memory, &mut memory, (body.len() + chunk.len()).div_ceil(UNIT))?;
            if body.is_empty() && announced == Some(chunk.len()) {
                return Ok((chunk, memory));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body.freeze(), memory))
    };
    timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(Problem::BodyTooSlow))
}

/// Makes sure that `held` is of `n_units` at least.
pub fn hold(memory: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, n_units: usize) -> Result<(), Problem> {
    let more = n_units.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if more == 0 {
        return Ok(());
    }
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    let more = Arc::clone(memory).try_acquire_many_owned(more).map_err(|_| IngestError::TooManyWaiting)?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

/// Unpacks a body that came compressed, within the same limits.
///
/// # Errors
/// [`Problem::MalformedBody`] where it is not what its header says, or compressed in another way than by gzip.
pub fn unpack(
    state: &State,
    headers: &HeaderMap,
    body: Bytes,
    memory: &mut Option<OwnedSemaphorePermit>,
    max_bytes: usize,
) -> Result<Bytes, Problem> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some(b"" | b"identity") => return Ok(body),
        Some(b"gzip" | b"x-gzip") => {}
        Some(_) => return Err(Problem::MalformedBody),
    }
    let (mut unpacked, mut decoder) = (BytesMut::new(), MultiGzDecoder::new(&body[..]));
    loop {
        let n_before = unpacked.len();
        unpacked.resize(n_before + CHUNK_BYTES, 0);
        let n = decoder.read(&mut unpacked[n_before..]).map_err(|_| Problem::MalformedBody)?;
        unpacked.truncate(n_before + n);
        if n == 0 {
            return Ok(unpacked.freeze());
        }
        if unpacked.len() > max_bytes {
            return Err(Problem::BodyTooLarge);
        }
        hold(&state.body_memory, memory, (body.len() + unpacked.len()).div_ceil(UNIT))?;
    }
}
