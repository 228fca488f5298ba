//! The database that the console works on.

use std::time::{Duration, Instant};

use super::{Admin, AdminError};
use crate::store::stats;

/// The database that answered, and how fast.
#[derive(Clone, Debug)]
pub struct DatabaseServer {
    /// Its name.
    pub name: String,
    /// The server's address and port; `None`: a local socket.
    pub address: Option<String>,
    /// The version of PostgreSQL.
    pub version: String,
    /// How long a question took, with the wait for a connection.
    pub answered_in: Duration,
}

impl Admin {
    /// Asks the database what it is.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn database_server(&self) -> Result<DatabaseServer, AdminError> {
        let began = Instant::now();
        let server = self.db(async |db| stats::server_identity(db).await).await?;
        let (name, address, version) = (server.name, server.address, server.version);
        Ok(DatabaseServer { name, address, version, answered_in: began.elapsed() })
    }
}
