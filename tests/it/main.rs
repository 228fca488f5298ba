//! The program from outside: the real binary, the real PostgreSQL, HTTP in and HTTP out.

mod cli;
mod crash;
mod delivery;
mod harness;
mod layers;
mod operations;
mod outcomes;
mod private_cluster;
mod replicas;
mod scheduling;
mod webhook;
