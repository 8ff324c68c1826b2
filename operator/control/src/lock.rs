//! Which operator process may act (law 7): a lease in `lock.json`, changed by compare-and-set only.

pub mod state;

use std::{sync::Mutex, time::Duration};

use drover_api::bucket::{ObjectKey, RealmKeys};
use drover_cloud::{CloudError, Objects, objects::Condition};

pub use state::{Challenger, Holding};
use state::{Found, LockState, Step};

use crate::edge::{Clock, Entropy};

/// One process's hold on the lock: shared by the passes, which ask it, and by whoever keeps it.
#[derive(Debug)]
pub struct Lease {
    key: ObjectKey,
    /// Of everything that the realm has in the bucket.
    realm: String,
    /// What `drover doctor` leaves there before anybody acts.
    doctor: ObjectKey,
    state: Mutex<LockState>,
    /// One conversation with the bucket at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Why nothing is known of the lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot read or write {key}: {source}")]
    Bucket { key: ObjectKey, source: CloudError },
    #[error(
        "{key} was removed while the realm has records: whoever held it may still act, and it is taken when nobody put it back for {seconds} s"
    )]
    Removed { key: ObjectKey, seconds: u64 },
    #[error("{key} is not a lock of this schema: {source}: move it away after making sure that no operator runs")]
    Unreadable { key: ObjectKey, source: serde_json::Error },
}

/// Read, write, read again after a lost reply, and once more where another was faster.
const STEPS_MAX: usize = 4;

// === impl Lease ===

impl Lease {
    pub fn new(keys: &RealmKeys, us: Challenger) -> Self {
        let (key, realm, doctor) = (keys.lock(), keys.prefix().to_owned(), keys.doctor());
        Self { key, realm, doctor, state: Mutex::new(LockState::new(us)), turn: tokio::sync::Mutex::new(()) }
    }

    /// Does what is due: takes, renews or watches the lock. To be called more often than every third of a lease.
    pub async fn keep(
        &self,
        objects: &impl Objects,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Holding, LockError> {
        let _turn = self.turn.lock().await;
        let mut has_read = false;
        for _ in 0..STEPS_MAX {
            let step = self.state().step(clock.monotonic(), entropy.write_id());
            match step {
                Step::Rest => break,
                Step::Read if has_read => break,
                Step::Read => {
                    self.read(objects, clock).await?;
                    has_read = true;
                }
                Step::Write { lock, condition } => {
                    self.write(objects, clock, lock, condition).await?;
                    has_read = false;
                }
            }
        }
        let waits = self.state().waits(clock.monotonic());
        match waits {
            Some(wait) => Err(LockError::Removed { key: self.key.clone(), seconds: wait.as_secs() }),
            None => Ok(self.holding()),
        }
    }

    /// Gives the lock up, so that the next operator need not wait. Best effort: the lease ends by itself.
    pub async fn release(
        &self,
        objects: &impl Objects,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<(), LockError> {
        let _turn = self.turn.lock().await;
        let release = self.state().release(entropy.write_id());
        match release {
            Some((lock, etag)) => self.write(objects, clock, lock, Condition::Unchanged(etag)).await,
            None => Ok(()),
        }
    }

    pub fn holding(&self) -> Holding {
        self.state().holding()
    }

    /// May a mutating call that was decided under `fence` be sent at `now`, when it ends within `deadline`?
    pub fn permits(&self, fence: u64, now: Duration, deadline: Duration) -> bool {
        self.state().permits(fence, now, deadline)
    }

    /// An agent has taken orders of this fencing number from somebody else.
    pub fn doubt(&self, fence: u64) {
        self.state().doubt(fence);
    }

    async fn read(&self, objects: &impl Objects, clock: &dyn Clock) -> Result<(), LockError> {
        let found = objects.get(&self.key).await.map_err(|source| self.bucket(source))?;
        let found = match found {
            None => {
                let listed = objects.list(&self.realm).await.map_err(|source| self.bucket(source))?;
                let is_new = listed.iter().all(|key| *key == self.doctor);
                if is_new { Found::Nothing } else { Found::Removed }
            }
            Some(object) => {
                let lock = serde_json::from_slice(&object.body)
                    .map_err(|source| LockError::Unreadable { key: self.key.clone(), source })?;
                Found::Lock(lock, object.etag)
            }
        };
        self.state().saw(found, clock.monotonic());
        Ok(())
    }

    /// A conflict or a lost reply is not an error here: the next step reads.
    async fn write(
        &self,
        objects: &impl Objects,
        clock: &dyn Clock,
        lock: drover_api::records::Lock,
        condition: Condition,
    ) -> Result<(), LockError> {
        let body = serde_json::to_vec_pretty(&lock).expect("a lock has string keys only, so it always serialises");
        self.state().sending(&lock, clock.monotonic());
        match objects.put(&self.key, body, condition).await {
            Ok(etag) => self.state().wrote(lock, etag),
            Err(error) => {
                self.state().lost();
                if !matches!(error.class, drover_cloud::Class::Conflict | drover_cloud::Class::Transient) {
                    return Err(self.bucket(error));
                }
            }
        }
        Ok(())
    }

    fn bucket(&self, source: CloudError) -> LockError {
        LockError::Bucket { key: self.key.clone(), source }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
