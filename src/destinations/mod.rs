//! Where events go: what a destination takes, how its answers are read, and the only HTTP clients of the program.

pub mod nudgespot;
pub mod segment;
