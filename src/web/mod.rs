//! HTTP in: webhooks and health on the public address, metrics on the internal one.

mod body;
pub mod console;
mod health;
mod problem;
mod refusals;
mod server;
mod state;
mod webhook;

pub use refusals::ActivityRecorder;
pub use server::Servers;
pub use state::State;
