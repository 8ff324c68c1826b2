//! Reads a directory of manifests, and tells when something in it may have changed. The kernel's notice makes it quick; the
//! rescan makes it sure, also where notices are not to be had (`fs.inotify.max_user_instances` is shared by everybody).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::directory::Scan;

/// A directory that is watched.
#[derive(Debug)]
pub struct Watching {
    directory: PathBuf,
    notices: mpsc::Receiver<()>,
    /// `None` where the kernel gave no watch: then rescans come often enough alone.
    watcher: Option<RecommendedWatcher>,
}

/// Where the kernel tells: in case a notice was lost, or the file system gives none.
const RESCAN: Duration = Duration::from_secs(5);
/// Where it does not: a change is to be seen within a second.
const RESCAN_ALONE: Duration = Duration::from_millis(500);
/// Files of a directory that are read at most; a thousand sets may lie in one.
const FILES_MAX: usize = 10_000;

// === impl Watching ===

impl Watching {
    pub fn new(directory: PathBuf) -> Self {
        // One place: further notices before the next scan say nothing new.
        let (sender, notices) = mpsc::channel(1);
        let watch = || {
            let mut watcher = notify::recommended_watcher(move |_| {
                if sender.try_send(()).is_err() {
                    // A scan is due already.
                }
            })?;
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
            Ok::<_, notify::Error>(watcher)
        };
        let watcher = watch()
            .inspect_err(|error| tracing::warn!(%error, "the kernel does not tell of changed manifests: they are read twice a second"))
            .ok();
        Self { directory, notices, watcher }
    }

    /// Waits until a scan is worth while.
    pub async fn changed(&mut self) {
        let rescan = if self.watcher.is_some() { RESCAN } else { RESCAN_ALONE };
        match tokio::time::timeout(rescan, self.notices.recv()).await {
            Ok(Some(())) | Err(_) => {}
            // Without a watcher there is no sender: only time passes.
            Ok(None) => pause(rescan).await,
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
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
