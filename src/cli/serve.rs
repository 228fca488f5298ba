//! `serve`: webhooks in, track calls out.

use super::output;
use crate::admin::Admin;
use crate::app::App;
use crate::config::{Config, Environment};
use crate::domain::text::with_causes;

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
    let admin = app.admin();
    tracing::info!(database = %config.database, address = %public, console = %app.console_address(), metrics = %app.internal_address(),
        public_url, "listening");
    // Beside the service: a database that does not answer in this moment must keep it neither from serving nor from ending.
    let (ended, _) = tokio::join!(app.run(stop.clone()), stop.run_until_cancelled(welcome(&admin)));
    ended?;
    tracing::info!("stopped");
    Ok(())
}

/// Prints the way in while there is no operator. The one exception to "no token in a log": without it, nobody could ever
/// sign in.
async fn welcome(admin: &Admin) {
    match admin.first_operator_link().await {
        Ok(None) => {}
        Ok(Some(link)) => {
            let printed = output::line(&format!(
                "There is no operator yet. Open this link within a day to become one (another: `nudgespot-source operator \
                 invite`):\n\n  {}\n",
                admin.link_url(&link)
            ));
            if let Err(error) = printed {
                tracing::debug!(%error, "nobody reads what is printed");
            }
        }
        Err(error) => tracing::warn!(
            error = with_causes(&error),
            "cannot make a link for the first operator; `operator invite` makes one"
        ),
    }
}
