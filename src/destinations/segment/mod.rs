//! Segment's HTTP Tracking API.

mod batch;
mod client;
mod key_check;
mod outcome;

pub use batch::{Batch, MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
pub use client::{Client, Destination};
pub use key_check::KeyVerdict;
