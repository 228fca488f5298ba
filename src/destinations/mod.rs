//! Where events and calls go: what a destination takes, how its answers are read, and the only HTTP clients of the program.

mod failure;
mod http;
pub mod nudgespot;
mod outcome;
pub mod segment;

pub use failure::Failure;
pub use http::{Answer, InFlight};
pub use outcome::Outcome;
