//! Becoming another build in place. The link `current` is flipped and the process replaced by the new one, so that the unit,
//! its process id and mysqld stay. Until the new build has shown that it serves and has found mysqld again it is on trial:
//! it goes back by itself when it cannot, and the unit's own guard goes back when it does not even come that far.
//!
//! In the directory of builds: `<sha256>/drover`, links `current` and `previous`, and while a build is on trial the file
//! `trial`: its id and the mysqld that it has to find, then one line for each start. `failed` begins with the id of the last build that was sent back: it is the
//! verdict, and written first, so that a crash after it tells going back from a switch that never came to the new build.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
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

/// What a build on trial has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The start of the mysqld that the build before left running.
    pub mysqld: Option<String>,
}

/// Flips the link. From here a crash starts the new build, on trial: it has to find this `mysqld`.
pub fn switch(bin: &Path, build: &BuildId, mysqld: Option<&str>) -> Result<(), UpdateError> {
    make(bin, switching(bin, build, mysqld)?)
}

/// Whether this build is on trial. (Its starts are counted by the unit's guard, which works for a build that cannot count.)
pub fn begin_trial(bin: &Path, build: &BuildId) -> Result<Option<Trial>, UpdateError> {
    match std::fs::read_to_string(bin.join("trial")) {
        Ok(text) if first_words(&text).next() == Some(build.as_str()) => {
            Ok(Some(Trial { mysqld: first_words(&text).nth(1).map(str::to_owned) }))
        }
        // Of another build, which was never started, or was sent back; then `failed` says so.
        Ok(_) => {
            make(bin, vec![Change::Remove("trial")])?;
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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
    // A verdict that a crash left beside it does not count: it stays.
    make(bin, vec![Change::Remove("failed"), Change::Remove("trial")])
}

/// Back to the build before, which is started by [`become_current`].
pub fn send_back(bin: &Path) -> Result<(), UpdateError> {
    make(bin, going_back(bin)?)
}

/// Replaces this process by the current build. Returns only when that failed.
pub fn become_current(bin: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    std::process::Command::new(bin.join("current")).args(arguments).exec()
}

/// The last build that was sent back, if one was.
pub fn sent_back(bin: &Path) -> Option<BuildId> {
    let text = std::fs::read_to_string(bin.join("failed")).ok()?;
    BuildId::new(first_words(&text).next()?).ok()
}

fn first_words(text: &str) -> impl Iterator<Item = &str> {
    text.lines().next().unwrap_or_default().split_whitespace()
}

/// One change of the directory: a crash leaves it done or not done.
#[derive(Clone, Debug)]
enum Change {
    Point(&'static str, PathBuf),
    Write(&'static str, Vec<u8>),
    Remove(&'static str),
}

fn switching(bin: &Path, build: &BuildId, mysqld: Option<&str>) -> io::Result<Vec<Change>> {
    Ok(vec![
        Change::Point("previous", std::fs::read_link(bin.join("current"))?),
        Change::Write("trial", format!("{build} {}\n", mysqld.unwrap_or_default()).into_bytes()),
        Change::Point("current", bin.join(build.as_str()).join("drover")),
    ])
}

/// The unit's guard does the same.
fn going_back(bin: &Path) -> io::Result<Vec<Change>> {
    Ok(vec![
        Change::Write("failed", std::fs::read(bin.join("trial"))?),
        Change::Point("current", std::fs::read_link(bin.join("previous"))?),
        Change::Remove("trial"),
    ])
}

fn make(bin: &Path, changes: Vec<Change>) -> Result<(), UpdateError> {
    for change in changes {
        match change {
            Change::Point(name, target) => point(bin, name, &target)?,
            Change::Write(name, content) => crate::durable::write_file(bin, name, &content, 0o600)?,
            Change::Remove(name) => match std::fs::remove_file(bin.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => File::open(bin)?.sync_all()?,
            },
        }
    }
    Ok(())
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

    fn path_of(bin: &Path, build: &BuildId) -> PathBuf {
        bin.join(build.as_str()).join("drover")
    }

    fn current(bin: &Path) -> String {
        std::fs::read_to_string(bin.join("current")).expect("the link leads somewhere")
    }

    #[test]
    fn a_build_that_stays_is_on_trial_no_more() {
        let (bin, old, new) = builds();
        std::fs::create_dir(bin.path().join("older")).expect("made");
        switch(bin.path(), &new, None).expect("switched");
        assert_eq!(current(bin.path()), "new");
        assert_eq!(begin_trial(bin.path(), &new).expect("read"), Some(Trial { mysqld: None }));
        end_trial(bin.path()).expect("ended");
        assert_eq!(begin_trial(bin.path(), &new).expect("read"), None);
        assert_eq!((current(bin.path()).as_str(), sent_back(bin.path())), ("new", None));
        assert!(path_of(bin.path(), &old).exists() && !bin.path().join("older").exists());
    }

    #[test]
    fn a_build_that_is_sent_back_is_remembered() {
        let (bin, old, new) = builds();
        switch(bin.path(), &new, Some("start-1")).expect("switched");
        assert_eq!(begin_trial(bin.path(), &new).expect("read"), Some(Trial { mysqld: Some("start-1".into()) }));
        send_back(bin.path()).expect("sent back");
        assert_eq!((current(bin.path()).as_str(), sent_back(bin.path())), ("old", Some(new)));
        assert_eq!(begin_trial(bin.path(), &old).expect("read"), None);
    }

    #[test]
    fn the_guard_of_the_unit_sends_back_a_build_that_never_comes_so_far() {
        let (bin, _, new) = builds();
        switch(bin.path(), &new, None).expect("switched");
        let script = crate::userdata::guard(bin.path());
        for start in 1..=4 {
            let guarded = std::process::Command::new("sh").args(["-euc", &script]).status().expect("sh runs");
            assert!(guarded.success());
            let expected = if start <= 3 { "new" } else { "old" };
            assert_eq!(current(bin.path()), expected, "after start {start}");
        }
        assert_eq!(sent_back(bin.path()), Some(new));
    }

    /// What a start of the unit does: the guard, and then whatever is current.
    fn start(bin: &Path) -> (String, bool) {
        let guarded = std::process::Command::new("sh").args(["-euc", &crate::userdata::guard(bin)]).status();
        assert!(guarded.expect("sh runs").success());
        let is_on_trial = begin_trial(bin, &hash_of(&bin.join("current")).expect("there")).expect("read");
        (current(bin), is_on_trial.is_some())
    }

    #[test]
    fn a_crash_in_a_switch_condemns_no_build() {
        for done in 0..=3 {
            let (bin, _, new) = builds();
            let changes = switching(bin.path(), &new, None).expect("read");
            assert_eq!(changes.len(), 3);
            make(bin.path(), changes[..done].to_vec()).expect("made");
            let expected = if done < 3 { ("old".to_owned(), false) } else { ("new".to_owned(), true) };
            assert_eq!(start(bin.path()), expected, "after {done} changes");
            assert_eq!(sent_back(bin.path()), None, "after {done} changes");
            // It is ordered again.
            switch(bin.path(), &new, None).expect("switched");
            assert_eq!(start(bin.path()), ("new".to_owned(), true), "after {done} changes");
            end_trial(bin.path()).expect("ended");
        }
    }

    #[test]
    fn a_crash_in_going_back_strands_no_machine() {
        for done in 0..=3 {
            let (bin, _, new) = builds();
            switch(bin.path(), &new, None).expect("switched");
            let changes = going_back(bin.path()).expect("read");
            assert_eq!(changes.len(), 3);
            make(bin.path(), changes[..done].to_vec()).expect("made");
            let (build, is_on_trial) = start(bin.path());
            assert_eq!((build == "new", is_on_trial), (done < 2, done < 2), "after {done} changes: on trial, or gone");
            if is_on_trial {
                send_back(bin.path()).expect("sent back");
            }
            assert_eq!(start(bin.path()), ("old".to_owned(), false), "after {done} changes");
            assert_eq!(sent_back(bin.path()), Some(new), "after {done} changes");
        }
    }

    #[test]
    fn a_verdict_that_a_crash_left_does_not_outlive_a_trial_that_ends_well() {
        let (bin, _, new) = builds();
        switch(bin.path(), &new, None).expect("switched");
        make(bin.path(), going_back(bin.path()).expect("read")[..1].to_vec()).expect("made");
        assert_eq!(start(bin.path()), ("new".to_owned(), true));
        end_trial(bin.path()).expect("ended");
        assert_eq!((start(bin.path()), sent_back(bin.path())), (("new".to_owned(), false), None));
    }

    #[test]
    fn a_crash_in_the_units_guard_strands_no_machine() {
        let script = crate::userdata::guard(Path::new("/"));
        let changes = script.lines().skip_while(|line| !line.contains("-gt 4")).skip(1);
        let changes = changes.take_while(|line| line.trim() != "fi").count();
        assert!(changes >= 3, "{script}");
        for done in 0..=changes {
            let (bin, _, new) = builds();
            switch(bin.path(), &new, None).expect("switched");
            let trial = bin.path().join("trial");
            std::fs::write(&trial, format!("{new}\nstart\nstart\nstart\n")).expect("written");
            let script = crate::userdata::guard(bin.path());
            let at = script.lines().position(|line| line.contains("-gt 4")).expect("it counts") + 1 + done;
            let cut: Vec<&str> = script.lines().take(at).chain(["exit 0", "fi", "fi"]).collect();
            let cut = std::process::Command::new("sh").args(["-euc", &cut.join("\n")]).status().expect("sh runs");
            assert!(cut.success());
            assert_eq!(start(bin.path()), ("old".to_owned(), false), "after {done} commands");
            assert_eq!(sent_back(bin.path()), Some(new), "after {done} commands");
        }
    }
}
