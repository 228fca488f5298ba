//! Structured logs, to stderr: text on a terminal, else JSON.

mod noise;
mod output;

use std::io::IsTerminal;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, Environment};

pub use output::printable;

/// How logs are written.
enum Format {
    Text { is_colored: bool },
    Json,
}

/// Starts logging as `RUST_LOG` (else `default`) and `LOG_FORMAT` say. What is logged is written until the returned guard
/// is dropped.
///
/// A thread of its own writes: whoever collects the logs may stop reading, and must not stop the program with it. Lines
/// for which there is no room are dropped then.
///
/// # Errors
/// Names the variable and the remedy.
pub fn start(env: &Environment, default: &str) -> Result<WorkerGuard, ConfigError> {
    let directives = env.get("RUST_LOG")?.unwrap_or(default);
    // Blanks after the commas, as in any list.
    let directives = directives.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let filter = EnvFilter::try_new(&directives)
        .map_err(|e| ConfigError::new("RUST_LOG", format!("{e}; write something like info or debug")))?;
    let is_terminal = std::io::stderr().is_terminal();
    let format = match env.get("LOG_FORMAT")? {
        Some("text") => Format::Text { is_colored: is_terminal },
        None if is_terminal => Format::Text { is_colored: true },
        Some("json") | None => Format::Json,
        Some(other) => {
            return Err(ConfigError::new("LOG_FORMAT", format!("`{other}` is neither `text` nor `json`")));
        }
    };
    let (lines, guard) = tracing_appender::non_blocking(output::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        // Told on stderr, a failure to write to stderr would end in a panic: of whatever wanted to log something, after
        // whoever collects the logs is gone.
        .log_internal_errors(false);
    let quiet = noise::filter(&directives);
    match format {
        Format::Text { is_colored } => {
            builder.with_ansi(is_colored).fmt_fields(output::fields()).finish().with(quiet).init();
        }
        Format::Json => builder.json().flatten_event(true).finish().with(quiet).init(),
    }
    Ok(guard)
}
