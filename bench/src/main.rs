//! Measures the program against its limits, in one run on one machine.
//!
//! Each party is a process of its own, so that the operating system can say what it costs: the program, its PostgreSQL,
//! the stand-in for Segment and Nudgespot (`sink`), the handler that stores nothing (`bare`), and this load generator.

#![expect(clippy::disallowed_macros, reason = "a tool for those who develop it: a closed pipe may end it")]

mod bare;
mod bench;
mod calls;
mod copy;
mod cpu;
mod http;
mod load;
mod loads;
mod payload;
mod plot;
mod processes;
mod report;
mod run;
mod sink;
mod sources;
mod subject;
mod sweeps;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all measurements and print a table.
    Run(run::Args),
    /// Compare what events cost at the rates of real installations.
    Loads(loads::Args),
    /// Post to a service that runs already, for a profiler to watch.
    Load(load::Args),
    /// The stand-in for Segment that only counts.
    Sink,
    /// The webhook handler without storing.
    Bare {
        /// The signing secret.
        secret: String,
    },
    /// Create sources in the private database of a program that runs.
    #[command(hide = true)]
    Sources(sources::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run::run(args).await,
        Command::Loads(args) => loads::run(args).await,
        Command::Sources(args) => sources::print_created(args).await,
        Command::Load(args) => load::post(args).await,
        Command::Sink => sink::run().await,
        Command::Bare { secret } => bare::run(&secret).await,
    }
}
