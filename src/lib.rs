//! A reverse webhook source: signed email events in, Segment track calls out, nothing lost.
//!
//! The modules, in the order in which an event travels: [`web`] takes a webhook, whose sender and body the [`sources`]
//! know, verifies it with the [`secrets`], and hands it to [`ingest`], which commits it to the [`store`]. From there
//! [`delivery`] reads it and takes it to its destination ([`destinations`]). [`admin`] is what people do, [`cli`] how they
//! say it; [`app`] puts all together. ARCHITECTURE.md says why.

pub mod cli;

pub mod app;
pub mod config;
pub mod database;
pub mod local_postgres;
pub mod telemetry;

pub mod web;

pub mod admin;
pub mod delivery;
pub mod ingest;
pub mod jobs;

pub mod destinations;
pub mod sources;

pub mod metrics;
pub mod random;
pub mod sandbox;
pub mod secrets;
pub mod ticks;
pub mod wakeups;

pub mod store;

pub mod domain;
