//! Connections for statements that come one after the other, thousands a second.

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

/// A connection that is kept from one statement to the next.
///
/// One that goes back to its pool is tested there first, which is another way to the server and back; and the next
/// statement gets another connection, whose server process has the tables and plans not as near at hand. Together that
/// costs about a fifth of a small statement.
pub struct KeptConnection {
    pool: PgPool,
    connection: Option<PoolConnection<Postgres>>,
}

impl KeptConnection {
    /// A connection of `pool`, taken when it is needed first.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), connection: None }
    }

    /// Runs a statement. If it fails or is dropped, the connection goes back to the pool, which finds out whether it still
    /// works.
    ///
    /// # Errors
    /// Those of the statement, and where there is no connection.
    pub async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        let done = statement(&mut connection).await?;
        self.connection = Some(connection);
        Ok(done)
    }
}
