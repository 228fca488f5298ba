//! The program: parses the command line, runs a command, maps its error to an exit code.

use std::process::ExitCode;

use nudgespot_source::cli::Cli;
use nudgespot_source::telemetry;

fn main() -> ExitCode {
    match Cli::from_args().run() {
        Ok(code) => code,
        Err(error) => {
            // One line: causes are joined, line breaks within them too.
            let text = format!("{error:#}");
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("error: {}", telemetry::printable(&line));
            ExitCode::FAILURE
        }
    }
}
