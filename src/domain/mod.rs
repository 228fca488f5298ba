//! What the program knows about webhooks, email events and track calls, free of databases, sockets, clocks and chance.
//!
//! In the order in which an event meets them: a webhook's [`signature`] is verified under an account's [`secret`], its
//! [`payload`] parsed into [`event`]s, each [`event`] mapped to a [`track`].

pub mod account;
mod canonical;
pub mod event;
pub mod json;
pub mod payload;
pub mod properties;
pub mod recipient;
pub mod region;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod text;
pub mod timestamp;
pub mod track;
pub mod write_key;
