//! What the program knows about webhooks, email events and track calls, free of databases, sockets, clocks and chance.
//!
//! In the order in which an event meets them: a webhook's signature is verified under a source's [`secret`], and its body
//! parsed, as [`sources`](crate::sources) say; each [`event`] is mapped to a [`track`].

pub mod call;
pub mod canonical;
pub mod carrier;
pub mod email_address;
pub mod event;
pub mod identity_key;
pub mod ignored;
pub mod json;
pub mod json_text;
pub mod mention;
pub mod name;
pub mod nudgespot_key;
pub mod password;
pub mod properties;
pub mod recipient;
pub mod region;
pub mod rejection;
pub mod retry;
pub mod search_key;
pub mod secret;
pub mod source_state;
pub mod text;
pub mod timestamp;
pub mod track;
pub mod unsubscribe_event;
pub mod words;
pub mod write_key;
