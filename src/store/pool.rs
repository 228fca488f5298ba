//! A few connections, for those who come and go: the console's pages, a command.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::connection::{Connection, Connector, Session};

/// Connections that are lent. What comes back is not asked whether it is alive: a [`Connection`] finds out by itself.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// A connection, until it is dropped. Dropped in the middle of a statement, it comes back closed.
#[derive(Debug)]
pub struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    /// `n` connections, none of them open yet.
    #[must_use]
    pub fn new(connector: &Arc<Connector>, session: Session, n: usize) -> Self {
        let idle = (0..n).map(|_| Connection::new(connector, session)).collect();
        Self { idle: Mutex::new(idle), permits: Semaphore::new(n) }
    }

    /// The next connection that nobody uses. As every statement has a limit, so has the wait.
    pub async fn lend(&self) -> Lent<'_> {
        let permit = self.permits.acquire().await.expect("never closed");
        let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { pool: self, connection, _permit: permit }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("there are as many as permits")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("there are as many as permits")
    }
}
