//! Segment's HTTP Tracking API: the only HTTP client of the program.

mod batch;
mod client;
mod failure;
mod key_check;
mod outcome;

pub use batch::{Batch, MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
pub use client::{Answer, Client, Destination, InFlight};
pub use failure::Failure;
pub use key_check::KeyVerdict;
pub use outcome::Outcome;
