//! The directory of one drover-local: what lies where, and what other processes read of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cloud::{staged, write_whole},
    session,
};

/// Held while a process has the directory.
const LOCK: &str = "lock";

/// The directory and the paths in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// Where a client finds the cloud, and as whom. In the file `ready.json` while it is up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    pub ec2: String,
    pub s3: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
    pub pid: u32,
}

/// The operator's static keys, made once and kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct OperatorKey {
    pub access_key: String,
    pub secret_key: String,
}

impl Home {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The account's state.
    pub fn state(&self) -> PathBuf {
        self.0.join("account.json")
    }

    /// The objects of the bucket.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// Root file systems, volumes and consoles.
    pub fn machines(&self) -> PathBuf {
        self.0.join("hardware")
    }

    /// The socket that the other commands talk to.
    pub fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready.json")
    }

    fn key(&self) -> PathBuf {
        self.0.join("operator-key.json")
    }

    /// Whether this is the directory of a drover-local, or holds nothing that anybody could miss: `down` removes no other.
    pub fn is_ours(&self) -> io::Result<bool> {
        if self.state().exists() || self.key().exists() {
            return Ok(true);
        }
        // An `up` that got no further leaves its lock.
        let mut names = fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.file_name()));
        names.try_fold(true, |all, name| Ok(all && name? == LOCK))
    }

    /// Makes the directory, and takes it for this process: the lock lasts as long as the file that is returned.
    pub fn take(&self) -> io::Result<nix::fcntl::Flock<fs::File>> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(self.0.join(LOCK))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
    }

    /// The operator's keys: those of this directory, or new ones.
    pub fn operator_key(&self) -> io::Result<OperatorKey> {
        if let Some(key) = read(&self.key())? {
            return Ok(key);
        }
        let access_key = format!("AKIA{}", session::random(16).to_uppercase());
        let key = OperatorKey { access_key, secret_key: session::random(40) };
        write_whole(&self.key(), &serde_json::to_vec(&key)?)?;
        Ok(key)
    }

    /// Says where the cloud is, for programs that wait for it. A crash leaves the file, so who wants to know whether the cloud
    /// is up asks its socket.
    pub fn announce(&self, endpoints: &Endpoints) -> io::Result<()> {
        write_whole(&self.ready(), &serde_json::to_vec_pretty(endpoints)?)
    }

    /// Takes back what `announce` said.
    pub fn withdraw(&self) -> io::Result<()> {
        for path in [self.ready(), self.socket()] {
            remove(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Removes everything: the account, its bucket, its volumes, and the directory unless somebody keeps other things there.
    pub fn remove(&self) -> io::Result<()> {
        self.withdraw()?;
        for dir in [self.objects(), self.machines()] {
            remove(fs::remove_dir_all(dir))?;
        }
        // The marks by which the directory is ours go last, so that an interrupted `down` can be repeated.
        for file in [self.ready(), self.state(), self.key()] {
            remove(fs::remove_file(staged(&file)))?;
            remove(fs::remove_file(file))?;
        }
        remove(fs::remove_file(self.0.join(LOCK)))?;
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                tracing::warn!(dir = %self.0.display(), "the directory stays: it holds what is not drover-local's");
                Ok(())
            }
            other => remove(other),
        }
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("ec2", &self.ec2).field("s3", &self.s3).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorKey").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_ours_by_its_account_or_key_and_while_it_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert!(home.is_ours().unwrap(), "empty");
        drop(home.take().unwrap());
        assert!(home.is_ours().unwrap(), "only the lock");
        fs::write(dir.path().join("letter"), "dear").unwrap();
        assert!(!home.is_ours().unwrap(), "somebody else's");
        home.operator_key().unwrap();
        assert!(home.is_ours().unwrap(), "the key is there");
    }

    #[test]
    fn what_is_not_ours_in_the_directory_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        drop(home.take().unwrap());
        home.operator_key().unwrap();
        fs::create_dir_all(home.machines().join("machines/i-1")).unwrap();
        fs::create_dir_all(home.objects()).unwrap();
        fs::write(home.dir().join("letter"), "dear").unwrap();
        home.remove().unwrap();
        let left: Vec<_> = fs::read_dir(home.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["letter"]);
        fs::remove_file(home.dir().join("letter")).unwrap();
        home.remove().unwrap();
        assert!(!home.dir().exists());
    }
}
