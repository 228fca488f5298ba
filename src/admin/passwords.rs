//! Passwords are hashed with Argon2id: 19 MiB and 20 ms of a core each, so no more at a time than there are cores.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::domain::password::{PASSWORD_CHARS, Password};
use crate::random;

/// How long one may wait for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// A hash that no password has: where there is none to compare with, it takes as long to find out.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyBpdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Too many passwords are being checked.
#[derive(Debug)]
pub(super) struct Busy;

/// Hashes passwords, and verifies them.
#[derive(Debug)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
}

impl Passwords {
    pub fn new() -> Self {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { turns: Arc::new(Semaphore::new(n_cores)) }
    }

    /// The hash of a password that is to be set, as a PHC string.
    pub async fn hash(&self, password: &Password) -> Result<String, Busy> {
        let password = password.clone();
        self.run(move || {
            let hash: PasswordHash = Argon2::default()
                .hash_password_with_salt(password.expose().as_bytes(), &random::bytes::<16>())
                .expect("a password of at most 256 characters, and a salt of 16 bytes, can be hashed");
            hash.to_string()
        })
        .await
    }

    /// Whether a password has that hash. Without one it takes as long.
    pub async fn verify(&self, password: &SecretString, hash: Option<&str>) -> Result<bool, Busy> {
        let (password, hash) = (password.clone(), hash.map(str::to_owned));
        self.run(move || {
            let password = password.expose_secret();
            // One that is too long is no password, and costs no more than another.
            let is_possible = password.chars().count() <= *PASSWORD_CHARS.end();
            let password = if is_possible { password.as_bytes() } else { b"" };
            let is_right = PasswordHash::new(hash.as_deref().unwrap_or(DUMMY_HASH))
                .is_ok_and(|expected| Argon2::default().verify_password(password, &expected).is_ok());
            is_right && is_possible && hash.is_some()
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let permit = self.permit().await?;
        // The permit goes along: whoever asked may go away, the work goes on.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        // Cancelled only when the program ends.
        done.await.map_err(|_| Busy)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Busy> {
        timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await.map_err(|_| Busy)?.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_verified_against_its_hash_and_no_other() {
        let passwords = Passwords::new();
        let password = Password::parse("correct horse battery").unwrap();
        let hash = passwords.hash(&password).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(&password).await.unwrap(), "each has a salt of its own");
        let verify = async |text: &str, hash: Option<&str>| passwords.verify(&text.into(), hash).await.unwrap();
        assert!(verify("correct horse battery", Some(&hash)).await);
        assert!(!verify("correct horse batterz", Some(&hash)).await);
        assert!(!verify("correct horse battery", None).await);
        assert!(!verify("", Some("nonsense")).await);
        assert!(PasswordHash::new(DUMMY_HASH).is_ok(), "it would be told apart by its time");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_get_a_turn_in_time_is_told_so() {
        let passwords = Passwords::new();
        let mut taken = Vec::new();
        while let Ok(permit) = Arc::clone(&passwords.turns).try_acquire_owned() {
            taken.push(permit);
        }
        assert!(passwords.verify(&"x".into(), None).await.is_err());
    }
}
