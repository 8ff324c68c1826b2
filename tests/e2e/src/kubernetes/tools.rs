//! Where Kubernetes' programs are: `tests/kubernetes/tools/build.sh` knows.

use std::{path::PathBuf, time::Duration};

use crate::programs::run;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes/tools/build.sh");
/// It builds nothing here.
const FINDING: Duration = Duration::from_secs(30);

/// The programs of a control plane, and kubectl and helm.
pub(super) fn of_control_plane() -> anyhow::Result<PathBuf> {
    find(&[])
}

/// Those of a node too.
pub(super) fn of_cluster() -> anyhow::Result<PathBuf> {
    find(&["--cluster"])
}

fn find(options: &[&str]) -> anyhow::Result<PathBuf> {
    let found = run(&[&[SCRIPT, "--find"], options].concat(), FINDING)?;
    Ok(PathBuf::from(found.trim()))
}
