//! Nudgespot's REST API (docs/contract.md, Nudgespot's API).

mod client;
mod outcome;

pub use client::{Client, Destination, Operation};
