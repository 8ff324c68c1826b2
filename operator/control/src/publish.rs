//! Puts the running binary, and those it brings for other architectures, where new machines take them from: `bin/<sha256>/drover`, named
//! by its own hash, and `bin/current`, which says what each architecture runs. Done once per lease, before anything is launched.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use drover_api::{BuildId, bucket::RealmKeys, records::CurrentBuilds};
use drover_cloud::{Class, CloudError, Objects, objects::Condition};

/// A binary that this process hands out: its own, or one beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// As EC2 names it: `x86_64`, `arm64`.
    pub architecture: String,
    pub build: BuildId,
    /// Where its bytes can still be read.
    pub path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot read the agent's binary {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no program for {architecture}: put the drover there that was built for it")]
    OtherArchitecture { path: PathBuf, architecture: String },
    #[error("cannot publish the agent's binary: {0}")]
    Bucket(#[from] CloudError),
    #[error("bin/current cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("bin/current changes faster than it can be written")]
    Contended,
    #[error("cannot publish the agent's binary: this operator's lease does not last long enough")]
    LeaseEnds,
}

/// EC2's names of what machines may be, with the kernel's number in a program's file (elf(5), e_machine).
const ARCHITECTURES: [(&str, u16); 2] = [("arm64", 183), ("x86_64", 62)];
/// Only the lock's holder writes `bin/current`; a conflict is a lost reply, and the next try sees it.
const TRIES: usize = 3;

// === impl Binary ===

impl Binary {
    /// Reads and hashes the file.
    pub fn of(path: PathBuf, architecture: &str) -> Result<Self, PublishError> {
        let bytes = read(&path)?;
        Ok(Self::new(path, architecture, &bytes))
    }

    /// Those for architectures other than `own`: the files `<architecture>/drover` in a directory.
    pub fn beside(directory: &Path, own: &str) -> Result<Vec<Self>, PublishError> {
        let others = ARCHITECTURES.iter().filter(|(architecture, _)| *architecture != own);
        let there =
            others.map(|(architecture, number)| (directory.join(architecture).join("drover"), *architecture, number));
        let there = there.filter(|(path, ..)| path.exists());
        let read = there.map(|(path, architecture, number)| {
            let bytes = read(&path)?;
            match bytes.get(..20) {
                Some([0x7f, b'E', b'L', b'F', .., low, high]) if u16::from_le_bytes([*low, *high]) == *number => {
                    Ok(Self::new(path, architecture, &bytes))
                }
                _ => Err(PublishError::OtherArchitecture { path, architecture: architecture.to_owned() }),
            }
        });
        read.collect()
    }

    fn new(path: PathBuf, architecture: &str, bytes: &[u8]) -> Self {
        Self {
            architecture: architecture.to_owned(),
            build: BuildId::new(hex::encode(digest(&SHA256, bytes))).expect("SHA-256 in hex is a build id"),
            path,
        }
    }

    /// Uploads the binary unless it is there, and names it current. `permit` is asked before each write. An upload that outlasts the
    /// lease does no harm: it is named by its content, and whoever holds the lock by then finds it there.
    pub async fn publish(
        &self,
        objects: &impl Objects,
        keys: &RealmKeys,
        permit: impl Fn() -> bool,
    ) -> Result<(), PublishError> {
        let key = keys.binary(&self.build);
        if objects.list(key.as_str()).await?.is_empty() {
            let bytes = read(&self.path)?;
            if !permit() {
                return Err(PublishError::LeaseEnds);
            }
            objects.put(&key, bytes, Condition::Always).await?;
            tracing::info!(build = %self.build, architecture = self.architecture, "the agent's binary is in the bucket");
        }
        for _ in 0..TRIES {
            let found = objects.get(&keys.current()).await?;
            let (mut current, condition): (CurrentBuilds, _) = match found {
                None => (CurrentBuilds::default(), Condition::Absent),
                Some(object) => (serde_json::from_slice(&object.body)?, Condition::Unchanged(object.etag)),
            };
            if current.builds.get(&self.architecture) == Some(&self.build) {
                return Ok(());
            }
            current.builds.insert(self.architecture.clone(), self.build.clone());
            let body = serde_json::to_vec_pretty(&current).expect("builds have string keys, so they always serialise");
            if !permit() {
                return Err(PublishError::LeaseEnds);
            }
            match objects.put(&keys.current(), body, condition).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.class, Class::Conflict | Class::Transient) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(PublishError::Contended)
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, PublishError> {
    std::fs::read(path).map_err(|source| PublishError::Read { path: path.clone(), source })
}
