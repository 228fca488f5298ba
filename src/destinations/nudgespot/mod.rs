//! Nudgespot's REST API (docs/contract.md, Nudgespot's API).

mod client;
mod key_check;
mod outcome;

pub use client::{Client, Destination, Operation};
pub use key_check::{check_key, key_check_client};
