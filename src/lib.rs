//! A reverse webhook source: signed email events from Nudgespot in, Segment track calls out, nothing lost.
//!
//! The modules, in the order in which an event travels: [`web`] takes a webhook, verifies it against the [`accounts`] by
//! the rules of the [`domain`], and hands it to [`ingest`], which commits it to the [`store`]. From there [`dispatch`]
//! reads it and takes it to [`segment`]. [`app`] puts them together, [`cli`] starts them; ARCHITECTURE.md says why.

pub mod cli;

pub mod app;
pub mod backend;
pub mod config;
pub mod local_postgres;
pub mod telemetry;

pub mod web;

pub mod dispatch;
pub mod segment;

pub mod accounts;
pub mod due;
pub mod ingest;
pub mod metrics;
pub mod random;
pub mod sandbox;
pub mod vault;

pub mod store;

pub mod domain;
