//! `serve`: webhooks in, track calls out.

use crate::app::App;
use crate::config::{Config, Environment};

pub async fn run(env: &Environment) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // Before the start: a signal during a long recovery of the database is heeded as well.
    let stop = super::stop_signal()?;
    let Some(app) = stop.run_until_cancelled(App::start(&config)).await else { return Ok(()) };
    let app = app?;
    let public = app.public_address();
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://{public}"));
    tracing::info!(database = %config.database, address = %public, metrics = %app.internal_address(), public_url, "listening");
    app.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}
