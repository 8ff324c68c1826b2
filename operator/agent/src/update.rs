//! Becoming another build in place. The link `current` is flipped and the process replaced by the new one, so that the unit,
//! its process id and mysqld stay. Until the new build has shown that it serves and has found mysqld again it is on trial:
//! it goes back by itself when it cannot, and the unit's own guard goes back when it does not even come that far.
//!
//! In the directory of builds: `<sha256>/drover`, links `current` and `previous`, and while a build is on trial the file
//! `trial`: its id, then one line for each start. `failed` is the trial of the last build that was sent back.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    time::Duration,
};

use drover_api::{BuildId, bucket::RealmKeys};
use drover_cloud::Objects;
use sha2::{Digest, Sha256};

use crate::hands::command::{CommandError, run};

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("the build could not be fetched: {0}")]
    Fetch(String),
    #[error("the build is not in the bucket")]
    Missing,
    #[error("the fetched bytes are build {found}, {wanted} was ordered")]
    OtherHash { wanted: BuildId, found: BuildId },
    #[error("the build does not run here: {0}")]
    DoesNotRun(#[from] CommandError),
    #[error("build {0} was tried and sent back")]
    SentBack(BuildId),
    #[error("the build could not be put in place: {0}")]
    Io(#[from] io::Error),
}

const FETCH: Duration = Duration::from_secs(90);
const TRY: Duration = Duration::from_secs(10);
/// How long a build on trial has to serve and to find mysqld again.
pub const TRIAL: Duration = Duration::from_secs(60);

/// The build that this process is.
pub fn running_build() -> Result<BuildId, UpdateError> {
    Ok(hash_of(Path::new("/proc/self/exe"))?)
}

/// Fetches, checks and tries a build. It is in place, and not yet the current one, when this returns.
pub async fn fetch<O: Objects>(bin: &Path, objects: &O, keys: &RealmKeys, build: &BuildId) -> Result<(), UpdateError> {
    if sent_back(bin).as_ref() == Some(build) {
        return Err(UpdateError::SentBack(build.clone()));
    }
    let file = bin.join(build.as_str()).join("drover");
    if !(file.exists() && hash_of(&file)? == *build) {
        let read = tokio::time::timeout(FETCH, objects.get(&keys.binary(build))).await;
        let object = read
            .map_err(|_| UpdateError::Fetch(format!("no answer within {} s", FETCH.as_secs())))?
            .map_err(|error| UpdateError::Fetch(error.to_string()))?
            .ok_or(UpdateError::Missing)?;
        let found = id_of(&Sha256::digest(&object.body));
        if found != *build {
            return Err(UpdateError::OtherHash { wanted: build.clone(), found });
        }
        let directory = bin.join(build.as_str());
        std::fs::create_dir_all(&directory)?;
        crate::durable::write_file(&directory, "drover", &object.body, 0o755)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
    }
    run(&file.display().to_string(), &["--version"], TRY).await?;
    Ok(())
}

/// Flips the link. From here a crash starts the new build, on trial.
pub fn switch(bin: &Path, build: &BuildId) -> Result<(), UpdateError> {
    let current = std::fs::read_link(bin.join("current"))?;
    point(bin, "previous", &current)?;
    crate::durable::write_file(bin, "trial", format!("{build}\n").as_bytes(), 0o600)?;
    point(bin, "current", &bin.join(build.as_str()).join("drover"))?;
    Ok(())
}

/// Whether this build is on trial. (Its starts are counted by the unit's guard, which works for a build that cannot count.)
pub fn begin_trial(bin: &Path, build: &BuildId) -> Result<bool, UpdateError> {
    let trial = bin.join("trial");
    match std::fs::read_to_string(&trial) {
        Ok(text) if text.lines().next() == Some(build.as_str()) => Ok(true),
        // A trial of another build is over: this one runs instead.
        Ok(_) => {
            std::fs::rename(&trial, bin.join("failed"))?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// It serves and has found mysqld: it stays, and of the others only the one before it.
pub fn end_trial(bin: &Path) -> Result<(), UpdateError> {
    let kept = [std::fs::read_link(bin.join("current"))?, std::fs::read_link(bin.join("previous"))?];
    for entry in std::fs::read_dir(bin)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() && kept.iter().all(|kept| kept.parent() != Some(&path)) {
            std::fs::remove_dir_all(&path)?;
        }
    }
    std::fs::remove_file(bin.join("trial"))?;
    Ok(File::open(bin)?.sync_all()?)
}

/// Back to the build before, which is started by [`become_current`].
pub fn send_back(bin: &Path) -> Result<(), UpdateError> {
    std::fs::rename(bin.join("trial"), bin.join("failed"))?;
    std::fs::rename(bin.join("previous"), bin.join("current"))?;
    Ok(File::open(bin)?.sync_all()?)
}

/// Replaces this process by the current build. Returns only when that failed.
pub fn become_current(bin: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    std::process::Command::new(bin.join("current")).args(arguments).exec()
}

/// The last build that was sent back, if one was.
pub fn sent_back(bin: &Path) -> Option<BuildId> {
    let text = std::fs::read_to_string(bin.join("failed")).ok()?;
    BuildId::new(text.lines().next()?).ok()
}

fn point(bin: &Path, name: &str, target: &Path) -> io::Result<()> {
    let temporary = bin.join(format!(".{name}.tmp"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &temporary)?;
    std::fs::rename(&temporary, bin.join(name))?;
    File::open(bin)?.sync_all()
}

fn hash_of(path: &Path) -> io::Result<BuildId> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(id_of(&hasher.finalize())),
            n => hasher.update(&bytes[..n]),
        }
    }
}

fn id_of(hash: &[u8]) -> BuildId {
    BuildId::new(hex::encode(hash)).expect("a SHA-256 in hex is a build id")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory in which `old` runs and `new` is there too.
    fn builds() -> (tempfile::TempDir, BuildId, BuildId) {
        let directory = tempfile::tempdir().expect("a directory");
        let ids: Vec<BuildId> = ["old", "new"]
            .map(|text| {
                let id = id_of(&Sha256::digest(text));
                std::fs::create_dir(directory.path().join(id.as_str())).expect("made");
                std::fs::write(path_of(directory.path(), &id), text).expect("written");
                id
            })
            .into();
        symlink(path_of(directory.path(), &ids[0]), directory.path().join("current")).expect("linked");
        (directory, ids[0].clone(), ids[1].clone())
    }

    fn path_of(bin: &Path, build: &BuildId) -> std::path::PathBuf {
        bin.join(build.as_str()).join("drover")
    }

    fn current(bin: &Path) -> String {
        std::fs::read_to_string(bin.join("current")).expect("the link leads somewhere")
    }

    #[test]
    fn a_build_that_stays_is_on_trial_no_more() {
        let (bin, old, new) = builds();
        std::fs::create_dir(bin.path().join("older")).expect("made");
        switch(bin.path(), &new).expect("switched");
        assert_eq!(current(bin.path()), "new");
        assert!(begin_trial(bin.path(), &new).expect("read"));
        end_trial(bin.path()).expect("ended");
        assert!(!begin_trial(bin.path(), &new).expect("read"));
        assert_eq!((current(bin.path()).as_str(), sent_back(bin.path())), ("new", None));
        assert!(path_of(bin.path(), &old).exists() && !bin.path().join("older").exists());
    }

    #[test]
    fn a_build_that_is_sent_back_is_remembered() {
        let (bin, old, new) = builds();
        switch(bin.path(), &new).expect("switched");
        send_back(bin.path()).expect("sent back");
        assert_eq!((current(bin.path()).as_str(), sent_back(bin.path())), ("old", Some(new)));
        assert!(!begin_trial(bin.path(), &old).expect("read"));
    }

    #[test]
    fn the_guard_of_the_unit_sends_back_a_build_that_never_comes_so_far() {
        let (bin, _, new) = builds();
        switch(bin.path(), &new).expect("switched");
        let script = crate::userdata::guard(bin.path());
        for start in 1..=4 {
            let guarded = std::process::Command::new("sh").args(["-euc", &script]).status().expect("sh runs");
            assert!(guarded.success());
            let expected = if start <= 3 { "new" } else { "old" };
            assert_eq!(current(bin.path()), expected, "after start {start}");
        }
        assert_eq!(sent_back(bin.path()), Some(new));
    }
}
