//! The program from outside: the real binary, the real PostgreSQL, HTTP in and HTTP out.

#![expect(clippy::disallowed_macros, reason = "the test runner collects what tests print")]

mod access;
mod calls;
mod calls_crash;
mod calls_rules;
mod causes;
mod cli;
mod configuration;
mod console;
mod console_api;
mod console_calls;
mod console_events;
mod console_operator;
mod console_people;
mod console_problems;
mod crash;
mod damage;
mod delivery;
mod erasure;
mod events;
mod failover;
mod hangs;
mod harness;
mod isolation;
mod kept_leases;
mod layers;
mod operations;
mod outcomes;
mod people;
mod private_cluster;
mod refused;
mod rekey;
mod replay_jobs;
mod replicas;
mod resend;
mod sandbox;
mod sandbox_nudgespot;
mod scheduling;
mod segment_admin;
mod several_sources;
mod surroundings;
mod templates;
mod terminal;
mod webhook;
