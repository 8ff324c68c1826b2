//! Removes what a crash left, found by name alone: processes and cgroups below `drover-<tag>`, namespaces and links with the tag, loop
//! devices whose file is in the directory. A machine's mounts are in its own namespace and end with its processes.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::cgroups::Hierarchies;
use super::command;
use super::names::Names;
use super::pace::Pace;
use super::spec::{Error, Limits, Result, Swept};
use super::stall;
use super::volumes::bound_below;

/// Removes everything that a drover-local left in the kernel for `dir`, and nothing else; root file systems and volumes stay. A directory
/// that does not exist left nothing. Sweeping again removes nothing.
///
/// Errors: [`Error::Unfit`] while a living process has the directory.
pub async fn sweep(dir: &Path) -> Result<Swept> {
    if !dir.exists() {
        return Ok(Swept::default());
    }
    let names = Names::of(dir)?;
    let _lock = lock(&names)?;
    locked(&names, &Limits::default()).await
}

/// The kernel lets the lock go when its holder ends, in any way. Dropped, it is let go at once: a file that is only closed stays
/// locked as long as a child that was forked meanwhile has not become its program (flock(2)).
pub(super) fn lock(names: &Names) -> Result<Flock<File>> {
    let path = names.dir().join("lock");
    let failed = |source| Error::Io { what: format!("cannot lock {}", path.display()), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::Unfit(format!("another process runs machines in {}", names.dir().display())),
        errno => failed(errno.into()),
    })
}

/// The caller holds the lock.
pub(super) async fn locked(names: &Names, limits: &Limits) -> Result<Swept> {
    let limit = limits.command;
    let hierarchies = Hierarchies::of_host()?;
    let cgroup = hierarchies.cgroup(names.cgroup());
    let devices = bound_below(names.dir(), limit).await?;
    let mut swept = Swept { processes: stall::sweep(&cgroup, &devices, limit).await?, ..Swept::default() };
    for machine in cgroup.children() {
        swept.processes += cgroup.child(&machine).kill(limit).await?;
    }
    // The host's cable goes with the switch; where only the cable was made, it goes by its own name.
    let link = names.host_link();
    if Path::new("/sys/class/net").join(&link).exists() {
        command::run(&["ip", "link", "del", &link], limit).await?;
        swept.links += 1;
    }
    for namespace in entries("/run/netns").into_iter().filter(|name| names.owns_namespace(name)) {
        command::run(&["ip", "netns", "del", &namespace], limit).await?;
        swept.namespaces += 1;
    }
    swept.loop_devices = devices.len();
    // Not the list from before: a device that was being let go is gone with its last mount.
    for device in bound_below(names.dir(), limit).await? {
        command::run(&["losetup", "--detach", &device.to_string_lossy()], limit).await?;
    }
    let mut pace = Pace::new(limit);
    while !bound_below(names.dir(), limit).await?.is_empty() {
        pace.wait(|| "releasing loop devices".into()).await?;
    }
    swept.cgroups = cgroup.remove(limit).await?;
    Ok(swept)
}

fn entries(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
