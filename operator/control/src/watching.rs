//! Reads a directory of manifests, and tells when something in it may have changed. The kernel's notice makes it quick; the
//! rescan makes it sure, also where notices are not to be had (`fs.inotify.max_user_instances` is shared by everybody).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::directory::Scan;

/// A directory that is watched.
#[derive(Debug)]
pub struct Watching {
    directory: PathBuf,
    notices: mpsc::Receiver<()>,
    /// `None` where the kernel gave no watch: rescans come often enough alone.
    _watcher: Option<RecommendedWatcher>,
}

/// A change is to be seen within a second, also where the kernel does not tell of it: behind a link, on a network's file system.
const RESCAN: Duration = Duration::from_millis(500);
/// A local directory is read in milliseconds; one on a network whose server is gone, never.
const SCAN_MAX: Duration = Duration::from_secs(10);
/// Files of a directory that are read at most; a thousand sets may lie in one.
const FILES_MAX: usize = 10_000;

// === impl Watching ===

impl Watching {
    /// Of a directory of manifests.
    pub fn new(directory: PathBuf) -> Self {
        Self::watch(directory, RecursiveMode::NonRecursive)
    }

    /// Of a directory and everything below it.
    pub fn of_tree(directory: PathBuf) -> Self {
        Self::watch(directory, RecursiveMode::Recursive)
    }

    fn watch(directory: PathBuf, depth: RecursiveMode) -> Self {
        // One place: further notices before the next scan say nothing new.
        let (sender, notices) = mpsc::channel(1);
        let watch = || {
            let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // A scan opens and reads: that is no change. What the kernel could not tell may be one.
                let is_change = event.map_or(true, |event| !event.kind.is_access());
                if is_change && let Err(TrySendError::Closed(())) = sender.try_send(()) {
                    tracing::trace!("nobody waits for changed manifests any more");
                }
            })?;
            watcher.watch(&directory, depth)?;
            Ok::<_, notify::Error>(watcher)
        };
        let watcher = watch()
            .inspect_err(|error| tracing::warn!(%error, directory = %directory.display(), "the kernel does not tell of changed files: they are read twice a second"))
            .ok();
        Self { directory, notices, _watcher: watcher }
    }

    /// Waits until a scan is worth while.
    pub async fn changed(&mut self) {
        match tokio::time::timeout(RESCAN, self.notices.recv()).await {
            Ok(Some(())) | Err(_) => {}
            // Without a watcher there is no sender: only time passes.
            Ok(None) => pause(RESCAN).await,
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// As [`scan`], beside the loop that waits for it, and not for longer than [`SCAN_MAX`].
pub async fn scanned(directory: &Path) -> io::Result<Scan> {
    let directory = directory.to_owned();
    let scan = tokio::task::spawn_blocking(move || scan(&directory));
    match tokio::time::timeout(SCAN_MAX, scan).await {
        Ok(scan) => scan.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => Err(io::Error::other(format!("not read within {} s", SCAN_MAX.as_secs()))),
    }
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory, not of those below it. A file that cannot be read is part of
/// the scan, with the reason; a directory that cannot be is an error.
pub fn scan(directory: &Path) -> io::Result<Scan> {
    let mut scan = Scan::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_manifest =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        // Editors keep half-written files under hidden names.
        if !is_manifest || name.starts_with('.') {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => scan.insert(name, Ok(text)),
            // Removed between the listing and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => scan.insert(name, Err(error.to_string())),
        };
        if scan.len() > FILES_MAX {
            return Err(io::Error::other(format!("{} has more than {FILES_MAX} manifests", directory.display())));
        }
    }
    Ok(scan)
}

#[expect(clippy::disallowed_methods, reason = "the pace of rescans, where the kernel does not tell")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_at_once_and_reading_is_no_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.yaml");
        fs::write(&path, "one").expect("written");
        let mut watching = Watching::new(directory.path().to_owned());
        assert!(watching._watcher.is_some(), "no inotify on this machine");
        fs::write(&path, "two").expect("written");
        tokio::time::timeout(Duration::from_secs(1), watching.notices.recv()).await.expect("told within a second");
        // What is left of the same write is taken; then nothing but our own reading happens.
        while tokio::time::timeout(Duration::from_millis(100), watching.notices.recv()).await.is_ok() {}
        assert_eq!(scan(directory.path()).expect("a scan")["a.yaml"], Ok("two".into()));
        let told = tokio::time::timeout(Duration::from_millis(300), watching.notices.recv()).await;
        assert!(told.is_err(), "its own reading woke it");
    }

    #[tokio::test]
    async fn what_the_kernel_does_not_tell_is_looked_for() {
        const { assert!(RESCAN.as_millis() < 1000) };
        let directory = tempfile::tempdir().expect("a directory");
        for is_told in [true, false] {
            let mut watching = Watching::new(directory.path().to_owned());
            if !is_told {
                (watching.notices, watching._watcher) = (mpsc::channel(1).1, None);
            }
            let waited = tokio::time::timeout(RESCAN * 8, watching.changed()).await;
            assert!(waited.is_ok(), "with the kernel's notices: {is_told}");
        }
    }

    #[test]
    fn only_manifests_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["a.yaml", "b.yml", "c.json", "d.txt", ".e.yaml", "f.yaml~"] {
            fs::write(directory.path().join(name), name).expect("written");
        }
        fs::create_dir(directory.path().join("g.yaml")).expect("made");
        let scan = scan(directory.path()).expect("a scan");
        assert_eq!(scan.keys().collect::<Vec<_>>(), ["a.yaml", "b.yml", "c.json", "g.yaml"]);
        assert!(scan["g.yaml"].is_err(), "a directory was read as a file");
    }
}
