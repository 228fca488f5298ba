//! How the server comes to run: taken over where one runs, started where none does.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::instance::ServerState;
use super::pid_file::Status;
use super::state::{self, IN_USE_LOCK, Mode};
use super::{ClusterError, LOCK_TIMEOUT, POLL, PrivateCluster};

/// How long a server may take to start that says that it recovers from a crash.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(10);
/// How long a server may take to say anything. One that lives says at least that it does not take connections yet.
const UNRESPONSIVE: Duration = Duration::from_secs(10);
/// How long it may take to let somebody in, or to refuse.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a server is asked that does not yet say that it takes connections.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A server that ends so often on its way up will not come up: 6 s, with the pauses between.
const MAX_STARTS: u32 = 6;
/// The first pause; the next ones double.
const PAUSE: Duration = Duration::from_millis(200);
/// How often servers are killed that do not answer.
const MAX_KILLS: u32 = 2;

/// What a server says to somebody who knocks.
enum Answer {
    Ready,
    /// It is on its way up or down.
    NotYet,
    WrongPassword,
    /// It will not let this program in, however often it is asked.
    Refused(String),
    Silence,
}

impl PrivateCluster {
    /// Takes over the server that runs, or starts one. `start.lock` must be held.
    ///
    /// # Errors
    /// [`ClusterError`], as soon as it is plain that the server will not come up by itself.
    pub(super) async fn start(&mut self) -> Result<(), ClusterError> {
        let began = Instant::now();
        let (mut last_sign, mut next_question) = (began, began);
        let (mut n_starts, mut n_kills, mut is_told) = (0, 0, false);
        let mut password_was_set = false;
        loop {
            let state = self.server.instance.probe();
            match state {
                ServerState::Running(status) if status == Status::Ready || next_question <= Instant::now() => {
                    next_question = Instant::now() + ASK_AGAIN;
                    match self.ask().await {
                        Answer::Ready => return Ok(()),
                        Answer::NotYet if status == Status::Starting => last_sign = Instant::now(),
                        Answer::WrongPassword if password_was_set || !self.is_alone().await? => {
                            return Err(ClusterError::WrongPassword(self.dir.join(state::PASSWORD)));
                        }
                        Answer::WrongPassword => {
                            self.server.instance.stop().await?;
                            self.is_password_set = false;
                            last_sign = Instant::now();
                        }
                        Answer::Refused(reason) => return Err(ClusterError::Refused(reason)),
                        // It waits for its clients to leave, for as long as they like. This one is needed sooner.
                        Answer::NotYet | Answer::Silence if status == Status::Stopping => {
                            self.server.instance.signal(Signal::SIGINT);
                        }
                        Answer::NotYet | Answer::Silence => {}
                    }
                }
                ServerState::Running(_) | ServerState::Busy => {}
                ServerState::Gone if n_starts == MAX_STARTS => return Err(self.server.does_not_start()),
                ServerState::Gone => {
                    if 0 < n_starts {
                        tokio::time::sleep(PAUSE * 2_u32.pow(n_starts - 1)).await;
                    }
                    if !self.is_password_set {
                        self.server.set_password(&self.password).await?;
                        (self.is_password_set, password_was_set) = (true, true);
                    }
                    self.server.spawn()?;
                    n_starts += 1;
                    last_sign = Instant::now();
                }
            }
            if last_sign.elapsed() > UNRESPONSIVE {
                if n_kills == MAX_KILLS {
                    return Err(self.server.does_not_start());
                }
                self.kill_unresponsive().await?;
                n_kills += 1;
                last_sign = Instant::now();
            }
            if began.elapsed() > RECOVERY_TIMEOUT {
                return Err(self.server.does_not_start());
            }
            if began.elapsed() > UNRESPONSIVE && !is_told {
                tracing::info!("waiting for the private PostgreSQL to recover");
                is_told = true;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills what is left of a server that says nothing, such as one that is suspended. With a postmaster only where
    /// nobody else uses it; backends that have outlived theirs are of no use to anybody.
    async fn kill_unresponsive(&self) -> Result<(), ClusterError> {
        if self.server.instance.has_postmaster() && !self.is_alone().await? {
            return Err(ClusterError::Unresponsive("another nudgespot-source uses it"));
        }
        tracing::warn!("the private PostgreSQL does not answer; killing it");
        match self.server.instance.kill() {
            0 => Err(ClusterError::Unresponsive("and its processes cannot be found")),
            _ => Ok(()),
        }
    }

    /// Whether no other process uses the cluster.
    async fn is_alone(&self) -> Result<bool, ClusterError> {
        let is_alone = self.in_use.try_lock().is_ok();
        // The lock that was shared is gone either way.
        state::wait_for(&self.in_use, &self.dir.join(IN_USE_LOCK), Mode::Shared, LOCK_TIMEOUT).await?;
        Ok(is_alone)
    }

    async fn ask(&self) -> Answer {
        let options = self.connect_options();
        let error = match tokio::time::timeout(ANSWER_TIMEOUT, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => {
                // It has let us in; how it says goodbye does not matter.
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close()).await;
                return Answer::Ready;
            }
            Ok(Err(sqlx::Error::Database(error))) => error,
            Ok(Err(_)) | Err(_) => return Answer::Silence,
        };
        match error.code().as_deref() {
            // All places are taken: it serves.
            Some("53300") => Answer::Ready,
            Some("57P01" | "57P02" | "57P03") => Answer::NotYet,
            Some("28P01") => Answer::WrongPassword,
            _ => Answer::Refused(error.message().to_owned()),
        }
    }
}
