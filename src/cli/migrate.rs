//! `migrate`: brings the schema up to date.

use crate::backend::Backend;
use crate::cli::output;
use crate::config::{Config, Environment};

pub async fn run(env: &Environment, json: bool) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    let backend = Backend::open(&config.database).await?;
    let migrated = backend.migrate().await;
    backend.close().await?;
    migrated?;
    output::print(json, &serde_json::json!({"migrated": true}), || "The schema is up to date.".to_owned())?;
    Ok(())
}
