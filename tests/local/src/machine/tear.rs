//! A volume that is torn away from a machine that uses it: DetachVolume with Force.
//!
//! On EC2 the device is gone and whatever is still done with it fails. A loop device stays as long as anything holds it, so here every
//! mount of it is taken away and what has a file of it open is killed, which is how a database ends whose disk answers with errors.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use drover_api::InstanceId;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::makedev;
use nix::unistd::Pid;

use super::command;
use super::hypervisor::Hypervisor;
use super::pace::Pace;
use super::spec::Result;
use super::stall::mount_point;
use super::volumes::{Device, busy};

/// The major number of loop devices.
const LOOP: u64 = 7;

impl Hypervisor {
    /// Returns when nothing holds the device any more. In a frozen machine nothing can let go, so there it is an error.
    pub(super) async fn tear_away(&self, device: &Device, id: &InstanceId) -> Result<()> {
        let limit = self.site.limits.command;
        // Nobody could unmount what stays frozen.
        self.site.stalls.resume(&device.volume, limit).await?;
        let mut pace = Pace::new(limit);
        while busy(device)? {
            for pid in self.site.cgroup(id).processes() {
                if uses(pid, device.minor)
                    && let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGKILL)
                {
                    tracing::debug!(pid, %errno, "not killed");
                }
                // A process that ends while we look sees nothing, or lets nobody in. A unit may see mounts that PID 1 does not.
                let Ok(Some(mount)) = mount_point(pid, device.minor) else { continue };
                // With its PID namespace too, because umount looks itself up in the machine's /proc.
                let unmount = ["nsenter", "-t", &pid.to_string(), "-m", "-p", "umount", "--lazy", &mount];
                let done = command::output(&unmount, "", limit).await?;
                if done.status != Some(0) {
                    tracing::debug!(pid, mount, stderr = %String::from_utf8_lossy(&done.stderr), "not unmounted");
                }
            }
            pace.wait(|| format!("tearing {} away", device.volume)).await?;
        }
        Ok(())
    }
}

/// Whether a process has a file of the loop device's file system open or mapped, or stands in one of its directories.
fn uses(pid: i32, minor: u32) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let device = makedev(LOOP, minor.into());
    let there = |path: PathBuf| fs::metadata(path).is_ok_and(|file| file.dev() == device || file.rdev() == device);
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    // `<from>-<to> <rights> <offset> <major>:<minor in hex> <inode> <path>`
    let mapped = format!("{LOOP:02x}:{minor:02x}");
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.split(' ').nth(3) == Some(&mapped))
        || open.chain(["cwd", "root"].map(|name| process.join(name))).any(there)
}
