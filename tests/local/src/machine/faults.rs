//! What may befall a machine on demand, and how each is taken back. All of it happens from outside; nothing inside knows.

use std::collections::BTreeSet;
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};

use super::hypervisor::Hypervisor;
use super::spec::{Cut, Error, Result};
use super::stall::{KEEPERS, Place, mount_point};

/// Filling a disk allocates without writing; a big one takes a moment.
const FILL: Duration = Duration::from_secs(60);

/// In the root of the file system that is filled.
const FILLER: &str = ".drover-fault-full";

/// Takes all that is free, in ever smaller pieces, because a file system cannot say how much one file may still get.
const FILL_SCRIPT: &str = "file=$1/$2; at=0; step=$(($(stat -f -c %f \"$1\") * $(stat -f -c %S \"$1\")))
[ -e \"$file\" ] && exit 0
: >\"$file\"
while [ \"$step\" -ge 4096 ]; do
    if fallocate -o \"$at\" -l \"$step\" \"$file\" 2>/dev/null; then at=$((at + step)); else step=$((step / 2 / 4096 * 4096)); fi
done";

impl Hypervisor {
    /// Stops every process of the machine where it stands. Its network still answers ARP, nothing more.
    pub fn freeze(&self, id: &InstanceId) -> Result<()> {
        self.pid(id)?;
        self.site.cgroup(id).freeze()
    }

    pub fn thaw(&self, id: &InstanceId) -> Result<()> {
        self.pid(id)?;
        self.site.cgroup(id).thaw()
    }

    pub fn is_frozen(&self, id: &InstanceId) -> bool {
        self.site.cgroup(id).is_frozen()
    }

    /// Makes the cuts in force exactly those that `wanted` says when it is its turn. They stay through restarts of their machines.
    pub async fn cut(&self, wanted: impl FnOnce() -> BTreeSet<Cut>) -> Result<()> {
        let mut cuts = self.site.cuts.lock().await;
        let wanted = wanted();
        if wanted != *cuts {
            self.site.network.cut(&wanted).await?;
            *cuts = wanted;
        }
        Ok(())
    }

    /// Makes every write to the volume's file system hang, and with time every read that misses the cache behind one.
    ///
    /// Errors: [`Error::NotMounted`] where the machine has not mounted it.
    pub async fn stall_volume(&self, volume: &VolumeId) -> Result<()> {
        let (machine, pid, minor) = self.mounted(volume)?;
        let cgroup = self.site.cgroup_root().child(KEEPERS);
        cgroup.create(None, &[])?;
        let place = Place { volume, machine: &machine, pid, minor, doors: cgroup.doors() };
        self.site.stalls.begin(&place, self.site.limits.command).await
    }

    pub async fn resume_volume(&self, volume: &VolumeId) -> Result<()> {
        self.site.stalls.resume(volume, self.site.limits.command).await
    }

    pub async fn is_stalled(&self, volume: &VolumeId) -> bool {
        self.site.stalls.has(volume).await
    }

    /// Leaves no free block in the volume's file system, those reserved for root included.
    pub async fn fill_volume(&self, volume: &VolumeId) -> Result<()> {
        let (machine, pid, minor) = self.mounted(volume)?;
        let mount = mount_point(pid, minor)?.ok_or_else(|| Error::NotMounted(volume.clone()))?;
        self.must(&machine, &["sh", "-euc", FILL_SCRIPT, "fill", &mount, FILLER]).await
    }

    /// Gives the blocks back, also where no machine has the volume mounted by now.
    pub async fn empty_volume(&self, volume: &VolumeId) -> Result<()> {
        if let Ok((machine, pid, minor)) = self.mounted(volume)
            && let Some(mount) = mount_point(pid, minor)?
        {
            return self.must(&machine, &["rm", "-f", &format!("{mount}/{FILLER}")]).await;
        }
        self.site.volumes.on_host(volume, "rm -f \"$1\"", &[FILLER]).await
    }

    async fn must(&self, id: &InstanceId, argv: &[&str]) -> Result<()> {
        let done = self.exec(id, argv, FILL).await?;
        if done.status == Some(0) {
            return Ok(());
        }
        Err(Error::Command {
            command: argv[0].to_owned(),
            status: format!("{:?}", done.status),
            stderr: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        })
    }

    /// The machine that runs with the volume, its PID 1 and the minor number of the volume's device.
    fn mounted(&self, volume: &VolumeId) -> Result<(InstanceId, i32, u32)> {
        let (machine, minor) = self.site.volumes.held(volume).ok_or_else(|| Error::NotMounted(volume.clone()))?;
        let pid = self.pid(&machine)?;
        Ok((machine, pid, minor))
    }
}
