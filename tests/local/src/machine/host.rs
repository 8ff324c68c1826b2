//! What the host must offer, and how much of it is left: looked at before anything is made, and told in sentences.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::command;
use super::spec::{Error, Limits, Result};

/// With the Debian package that has each.
const TOOLS: [(&str, &str); 8] = [
    ("bash", "bash"),
    ("ip", "iproute2"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("fsfreeze", "util-linux"),
];

/// `fs.inotify.max_user_instances` is 128 by default and shared by all that root runs, in every machine. A machine's systemd, journald,
/// logind and dbus hold 6 together (measured), and its own programs may want some.
const INOTIFY_OF_A_MACHINE: usize = 12;
const INOTIFY_WANTED: usize = 1024;
const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Errors: [`Error::Unfit`] with all that is missing.
pub(super) async fn check(limit: Duration) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Unfit("namespaces, mounts and loop devices need root".into()));
    }
    let mut missing: Vec<String> = Vec::new();
    for (tool, package) in TOOLS {
        let found = command::output(&["sh", "-c", &format!("command -v {tool}")], "", limit).await?;
        if found.status != Some(0) {
            missing.push(format!("{tool} (apt-get install {package})"));
        }
    }
    if !missing.is_empty() {
        return Err(Error::Unfit(format!("it lacks {}", missing.join(", "))));
    }
    if !Path::new("/dev/loop-control").exists() {
        command::output(&["modprobe", "loop"], "", limit).await.ok();
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err(Error::Unfit("it has no loop devices (/dev/loop-control is missing; try modprobe loop)".into()));
    }
    if !has_overlay()? {
        command::output(&["modprobe", "overlay"], "", limit).await.ok();
    }
    if !has_overlay()? {
        return Err(Error::Unfit("its kernel has no overlayfs (try modprobe overlay)".into()));
    }
    raise_inotify()
}

/// Whether root file systems can be laid over an image in this directory.
///
/// Errors: [`Error::Unfit`], inside a container for example.
pub(super) fn check_dir(dir: &Path) -> Result<()> {
    let kind = nix::sys::statfs::statfs(dir)
        .map_err(|errno| Error::Io {
            what: format!("cannot look at the file system of {}", dir.display()),
            source: errno.into(),
        })?
        .filesystem_type();
    if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
        let dir = dir.display();
        return Err(Error::Unfit(format!(
            "{dir} is on overlayfs, which cannot carry another; choose a directory on a real disk"
        )));
    }
    Ok(())
}

/// Whether one more machine fits.
///
/// Errors: [`Error::Capacity`] with what is exhausted and what would help.
pub(super) fn room(dir: &Path, limits: &Limits) -> Result<()> {
    let memory = available_memory(&read("/proc/meminfo")?);
    if memory < limits.memory_reserve {
        let (have, need) = (memory >> 20, limits.memory_reserve >> 20);
        return Err(Error::Capacity(format!(
            "{have} MiB of memory are available, below the reserve of {need} MiB; stop other machines"
        )));
    }
    let disk = nix::sys::statvfs::statvfs(dir).map_err(|errno| Error::Io {
        what: format!("cannot look at the disk of {}", dir.display()),
        source: errno.into(),
    })?;
    let disk = disk.blocks_available() * disk.fragment_size();
    if disk < limits.disk_reserve {
        let (have, need) = (disk >> 20, limits.disk_reserve >> 20);
        return Err(Error::Capacity(format!(
            "{have} MiB of disk are free in {}, below the reserve of {need} MiB",
            dir.display()
        )));
    }
    let (used, max) = (inotify_used(), inotify_max()?);
    if used + INOTIFY_OF_A_MACHINE > max {
        return Err(Error::Capacity(format!(
            "{used} of {max} inotify instances are in use and a machine needs {INOTIFY_OF_A_MACHINE}; raise fs.inotify.max_user_instances"
        )));
    }
    Ok(())
}

fn has_overlay() -> Result<bool> {
    Ok(read("/proc/filesystems")?.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay"))
}

fn raise_inotify() -> Result<()> {
    let max = inotify_max()?;
    if max < INOTIFY_WANTED {
        match fs::write(INOTIFY, INOTIFY_WANTED.to_string()) {
            Ok(()) => tracing::info!("fs.inotify.max_user_instances raised from {max} to {INOTIFY_WANTED}"),
            Err(error) => {
                let machines = max / INOTIFY_OF_A_MACHINE;
                tracing::warn!(%error, "fs.inotify.max_user_instances stays {max}: enough for about {machines} machines");
            }
        }
    }
    Ok(())
}

fn inotify_max() -> Result<usize> {
    let text = read(INOTIFY)?;
    text.trim().parse().map_err(|_| Error::Unfit(format!("{INOTIFY} holds {text:?}")))
}

/// Instances in use by everybody: an upper bound of what root uses. A process that ends while we look counts as none.
fn inotify_used() -> usize {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(Path::new("/proc"))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok()))
        .flat_map(|process| entries(&process.join("fd")).collect::<Vec<_>>())
        .filter(|fd| fs::read_link(fd).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify"))
        .count()
}

/// Bytes.
fn available_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Io { what: format!("cannot read {path}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_or_disk_refuses_with_a_sentence() {
        let refusal = |limits: Limits| room(Path::new("/"), &limits).unwrap_err().to_string();
        let memory = refusal(Limits { memory_reserve: u64::MAX, ..Limits::default() });
        assert!(memory.contains("MiB of memory are available, below the reserve"), "{memory}");
        let disk = refusal(Limits { memory_reserve: 0, disk_reserve: u64::MAX, ..Limits::default() });
        assert!(disk.contains("MiB of disk are free in /"), "{disk}");
        assert_eq!(available_memory("MemTotal: 5 kB\nMemAvailable:    3 kB\n"), 3072);
    }
}
