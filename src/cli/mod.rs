//! The command line: one file a command.

mod account;
mod calls;
mod dead_letters;
mod demo;
mod migrate;
mod operator;
mod output;
mod sandbox;
mod serve;
mod session;
mod sign;
mod source;
mod stdin;
mod temporary_dir;
mod token;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Environment, settings};
use crate::telemetry;
pub use output::report;

/// Reverse webhook source: signed email events in, Segment track calls out, nothing lost.
///
/// Settings come from the environment and from `.env`; `serve --help` explains each.
#[derive(Debug, Parser)]
#[command(name = "nudgespot-source", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON value on stdout, and nothing else.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take webhooks and deliver events until SIGTERM or Ctrl-C (the default).
    #[command(after_long_help = settings::help())]
    Serve,
    /// Show the whole way of six events on this machine, with a stand-in for Segment.
    Demo(demo::Args),
    /// Administer accounts.
    #[command(subcommand)]
    Account(account::Command),
    /// Administer the sources of accounts.
    #[command(subcommand)]
    Source(source::Command),
    /// See the events that were given up, and send them again.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Let people into the console who may see all accounts.
    #[command(subcommand)]
    Operator(operator::Command),
    /// Administer the tokens that open the console's API.
    #[command(subcommand)]
    Token(token::Command),
    /// Run a stand-in for Segment and Nudgespot.
    Sandbox(sandbox::Args),
    /// Sign a webhook: prints the headers for the body on stdin, as `curl -H @-` reads them.
    Sign(sign::Args),
    /// Bring the database's schema up to date (`serve` does it too).
    Migrate,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What kept it from its work, in one line for the person who typed it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let env = Environment::read()?;
        let command = self.command.unwrap_or(Command::Serve);
        let is_service = matches!(command, Command::Serve);
        let _logging = telemetry::start(&env, if is_service { "info,sqlx=warn" } else { "warn" })?;
        // Half the cores. The HTTP server has a thread a core of its own and commits have one (`app::commit_thread`); they share.
        let n_threads = std::thread::available_parallelism()?.get().div_ceil(2);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(n_threads).enable_all().build()?;
        let json = self.json;
        let done = runtime.block_on(async {
            match command {
                Command::Serve => serve::run(&env).await.map(|()| ExitCode::SUCCESS),
                Command::Demo(args) => Box::pin(demo::run(&env, &args, json)).await,
                Command::Account(command) => account::run(&env, command, json).await.map(|()| ExitCode::SUCCESS),
                Command::Source(command) => source::run(&env, command, json).await.map(|()| ExitCode::SUCCESS),
                Command::DeadLetters(command) => {
                    dead_letters::run(&env, command, json).await.map(|()| ExitCode::SUCCESS)
                }
                Command::Operator(command) => operator::run(&env, command, json).await.map(|()| ExitCode::SUCCESS),
                Command::Token(command) => token::run(&env, command, json).await.map(|()| ExitCode::SUCCESS),
                Command::Sandbox(args) => sandbox::run(args, json).await.map(|()| ExitCode::SUCCESS),
                Command::Sign(args) => sign::run(&env, &args, json).map(|()| ExitCode::SUCCESS),
                Command::Migrate => Box::pin(until_stopped(migrate::run(&env, json))).await.map(|()| ExitCode::SUCCESS),
            }
        });
        // Nothing that matters runs any more; a look-up of a name may, on a thread that cannot be cancelled.
        runtime.shutdown_background();
        done
    }
}

/// Cancelled by SIGTERM, Ctrl-C, SIGQUIT, or when the terminal is closed. A second signal ends the program at once:
/// nothing acknowledged is lost even then.
fn stop_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut quit = signal(SignalKind::quit())?;
    let mut hangup = if hangups_are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut asked = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
        };
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => _ = hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = asked() => {}
            () = hung_up => {}
        }
        token.cancel();
        tracing::info!("stopping");
        // Not a second hangup: of a closed terminal both the kernel and the shell tell.
        asked().await;
        std::process::exit(1);
    });
    Ok(stop)
}

/// Whether whoever started the program wants it to outlive the terminal, as `nohup` does. Told on Linux only.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A bit a signal, from 1; SIGHUP is 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Runs a command's work on the database to its end, or until a signal. Dropped on the way, it leaves the private
/// cluster in good order.
///
/// # Errors
/// The work's own, or that it was interrupted.
async fn until_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let stop = stop_signal()?;
    stop.run_until_cancelled(Box::pin(work)).await.unwrap_or_else(|| Err(anyhow::anyhow!("interrupted")))
}
