//! The program: parses the command line, runs a command, maps its error to an exit code.

use std::process::ExitCode;

use nudgespot_source::cli::{self, Cli};

fn main() -> ExitCode {
    match Cli::from_arguments() {
        Ok(cli) => cli.run().unwrap_or_else(|error| cli::report(&error)),
        Err(code) => code,
    }
}
