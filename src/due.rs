//! Accounts that may have something to deliver: how a commit, or an admin, wakes the delivery.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// Why an account is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Events were appended. An account that waits to try again goes on waiting.
    Appended,
    /// Its time has come: an account that waits to try again does so now.
    Due,
    /// An admin changed it: nothing is waited for.
    Now,
}

/// A set of accounts, filled by whoever learns of work and emptied by the dispatch.
#[derive(Debug, Default)]
pub struct Due {
    accounts: Mutex<HashMap<Uuid, Call>>,
    marked: Notify,
}

impl Due {
    /// Marks accounts as due. It does no harm where they are not.
    pub fn mark(&self, call: Call, ids: impl IntoIterator<Item = Uuid>) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let strongest = accounts.entry(id).or_insert(call);
            *strongest = call.max(*strongest);
        }
        self.marked.notify_one();
    }

    /// Waits until accounts are marked, and takes them.
    pub async fn take(&self) -> HashMap<Uuid, Call> {
        loop {
            let accounts = std::mem::take(&mut *self.accounts.lock().unwrap_or_else(PoisonError::into_inner));
            if !accounts.is_empty() {
                return accounts;
            }
            self.marked.notified().await;
        }
    }
}
