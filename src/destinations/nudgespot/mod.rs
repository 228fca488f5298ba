//! Nudgespot's REST API.

mod key_check;

pub use key_check::{check_key, key_check_client};
