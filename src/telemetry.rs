//! Structured logs, to stderr: text on a terminal, else JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, Environment};

/// Starts logging as `RUST_LOG` (else `default`) and `LOG_FORMAT` say.
///
/// # Errors
/// One line that names the variable and the remedy.
pub fn start(env: &Environment, default: &str) -> Result<(), ConfigError> {
    let filter = env.get("RUST_LOG")?.unwrap_or(default);
    let filter = EnvFilter::try_new(filter)
        .map_err(|e| ConfigError::new("RUST_LOG", format!("{e}; write something like info or debug")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Told on stderr, a failure to write to stderr would end in a panic: of whatever wanted to log something, after
        // whoever collects the logs is gone.
        .log_internal_errors(false);
    let is_terminal = std::io::stderr().is_terminal();
    match env.get("LOG_FORMAT")? {
        Some("text") => builder.with_ansi(is_terminal).init(),
        None if is_terminal => builder.init(),
        Some("json") | None => builder.json().flatten_event(true).init(),
        Some(other) => return Err(ConfigError::new("LOG_FORMAT", format!("`{other}` is neither `text` nor `json`"))),
    }
    Ok(())
}
