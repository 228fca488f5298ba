//! `migrate`: brings the schema up to date.

use crate::cli::output;
use crate::config::{Config, Environment};
use crate::database::DatabaseHandle;

pub async fn run(env: &Environment, json: bool) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    let database = DatabaseHandle::open(&config.database).await?;
    let migrated = database.migrate().await;
    database.close().await?;
    migrated?;
    output::print(json, &serde_json::json!({"migrated": true}), || "The schema is up to date.".to_owned())?;
    Ok(())
}
