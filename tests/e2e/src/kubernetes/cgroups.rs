//! A node's cgroup: made in every hierarchy before kubelet asks for it, removed with all that kubelet and runc made below.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use crate::{host::cgroup_roots, pace::within};

/// The last process has been killed; the kernel takes it out a moment later.
const EMPTY: Duration = Duration::from_secs(20);

pub(super) fn make(name: &str) -> anyhow::Result<()> {
    for root in cgroup_roots() {
        let dir = Path::new(&root).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    Ok(())
}

/// What is not there is no error.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    for root in cgroup_roots() {
        let dir = Path::new(&root).join(name);
        within(EMPTY, format!("{} is empty", dir.display()), || {
            remove_below(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// Its files go with a directory of a cgroup.
fn remove_below(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let below: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    below.iter().try_for_each(|path| remove_below(path))?;
    fs::remove_dir(dir)
}
