//! The account while it is up: one model behind one lock, saved after every change, and what it orders of the machines.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_api::Millis;
use drover_cloud::ec2::{Account, Caller, Ec2, HostEvent};
use tokio::sync::Notify;

use crate::{
    clock,
    query::{self, Answer, Request},
    session::Sessions,
};

/// The account's state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the account's state cannot be written to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the account's state cannot be read from {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the account's state in {path} is not readable by this build: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// The account. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Cloud(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
    path: PathBuf,
}

#[derive(Debug)]
struct Inner {
    ec2: Ec2,
    /// What the machines have not been told yet. Bounded by the changes since the host last took it.
    orders: Vec<HostEvent>,
    /// The role credentials of each instance, as its metadata service hands them out.
    sessions: Sessions,
}

/// What the host waits for.
#[derive(Debug)]
pub enum Wait {
    Orders(Vec<HostEvent>),
    /// Nothing was ordered; time went by.
    Nothing,
}

impl Cloud {
    /// The account kept in `path`, or a new one with ids from `seed`.
    pub fn open(path: &Path, account: Account, seed: u64) -> Result<Self, StateError> {
        let ec2 = match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| StateError::Parse { path: path.into(), source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ec2::new(account, seed),
            Err(source) => return Err(StateError::Read { path: path.into(), source }),
        };
        let inner = Inner { ec2, orders: Vec::new(), sessions: Sessions::new() };
        let shared = Shared { inner: Mutex::new(inner), changed: Notify::new(), path: path.into() };
        let cloud = Self(Arc::new(shared));
        cloud.change(|_, _| ())?;
        Ok(cloud)
    }

    /// Makes one call of the Query API. A change is on disk before it is answered.
    pub fn call(&self, caller: &Caller, request: &Request, request_id: &str) -> Result<Answer, StateError> {
        let mut inner = self.lock();
        let answer = query::call(&mut inner.ec2, now(), caller, request, request_id);
        self.settle(&mut inner, answer.changed)?;
        Ok(answer)
    }

    /// Changes the account from below or beside the API: reports of the host, faults.
    pub fn change<T>(&self, change: impl FnOnce(&mut Ec2, Millis) -> T) -> Result<T, StateError> {
        let mut inner = self.lock();
        let result = change(&mut inner.ec2, now());
        self.settle(&mut inner, true)?;
        Ok(result)
    }

    /// Reads the account and the sessions of its machines.
    pub fn look<T>(&self, look: impl FnOnce(&Ec2, &mut Sessions) -> T) -> T {
        let mut inner = self.lock();
        let Inner { ec2, sessions, .. } = &mut *inner;
        look(ec2, sessions)
    }

    /// Waits until the host has something to do, or until `at_most` passed. Lets what is due by then happen.
    pub async fn wait(&self, at_most: Duration) -> Result<Wait, StateError> {
        let until_due = {
            let mut inner = self.lock();
            self.settle(&mut inner, false)?;
            if !inner.orders.is_empty() {
                return Ok(Wait::Orders(std::mem::take(&mut inner.orders)));
            }
            inner.ec2.next_due().map_or(at_most, |due| due.since(now()).max(Duration::from_millis(1)))
        };
        match tokio::time::timeout(until_due.min(at_most), self.0.changed.notified()).await {
            Ok(()) => Ok(Wait::Orders(std::mem::take(&mut self.lock().orders))),
            Err(_elapsed) => Ok(Wait::Nothing),
        }
    }

    fn settle(&self, inner: &mut Inner, changed: bool) -> Result<(), StateError> {
        let orders = inner.ec2.advance(now());
        if changed || !orders.is_empty() {
            self.save(&inner.ec2)?;
        }
        if !orders.is_empty() {
            inner.orders.extend(orders);
            self.0.changed.notify_one();
        }
        Ok(())
    }

    fn save(&self, ec2: &Ec2) -> Result<(), StateError> {
        let bytes =
            serde_json::to_vec(ec2).map_err(|source| StateError::Parse { path: self.0.path.clone(), source })?;
        write_whole(&self.0.path, &bytes).map_err(|source| StateError::Write { path: self.0.path.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces a file by a rename, readable by its owner only: a kill leaves the old content or the new.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let staged = staged(path);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    file.write_all(bytes)?;
    fs::rename(&staged, path)
}

/// Where `write_whole` writes first; a kill may leave it.
pub fn staged(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The time, as the model takes it.
pub fn now() -> Millis {
    Millis(u64::try_from(clock::now().as_millisecond()).unwrap_or(0))
}
