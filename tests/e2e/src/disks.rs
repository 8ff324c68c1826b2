//! Data volumes from outside: looked at, copied and put back, as a person with snapshots would.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{Cloud, Operator, pace::within, programs::run};

/// A machine ends, and lets its volume go.
const END: Duration = Duration::from_secs(240);
/// A few hundred MB.
const COPY: Duration = Duration::from_secs(180);

impl Cloud {
    /// Ends a machine and changes what is on its volume before the machine that replaces it can see any of it.
    pub fn end_and_change(
        &self,
        operator: &Operator,
        instance: &str,
        change: impl FnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let volume = self.volume_of(instance)?;
        operator.freeze()?;
        self.end_machine(instance)?;
        self.await_state(instance, "terminated")?;
        change(&volume)?;
        operator.thaw()
    }

    /// The data volume that a machine has.
    pub fn volume_of(&self, instance: &str) -> anyhow::Result<String> {
        let machine = self.machines()?.into_iter().find(|machine| machine.id == instance);
        let volumes = machine.context("EC2 shows the machine")?.volumes;
        volumes.into_iter().next().context("a data volume is attached")
    }

    /// Waits until a machine is in that state; one that is stopped or terminated has let its volume go.
    pub fn await_state(&self, instance: &str, state: &str) -> anyhow::Result<()> {
        within(END, format!("{instance} is {state}"), || {
            Ok(self.machines()?.iter().any(|machine| machine.id == instance && machine.state == state).then_some(()))
        })
    }

    /// A copy, under that name, of what is on a volume that no machine uses now.
    pub fn copy_volume(&self, volume: &str, name: &str) -> anyhow::Result<PathBuf> {
        let copy = self.dir.join(format!("{volume}.{name}"));
        copy_disk(&self.disk(volume)?, &copy)?;
        Ok(copy)
    }

    /// Puts an earlier copy in the place of what is on a volume that no machine uses now.
    pub fn put_back(&self, volume: &str, copy: &Path) -> anyhow::Result<()> {
        copy_disk(copy, &self.disk(volume)?)
    }

    /// Takes everything from a volume that no machine uses now: as EC2 makes them.
    pub fn blank(&self, volume: &str) -> anyhow::Result<()> {
        let disk = self.disk(volume)?;
        let size = fs::metadata(&disk)?.len();
        fs::File::create(&disk)?.set_len(size).context("a sparse file has any size")
    }

    /// The disk behind a volume.
    fn disk(&self, volume: &str) -> anyhow::Result<PathBuf> {
        let disk = self.home().join(format!("hardware/volumes/{volume}.img"));
        ensure!(disk.exists(), "{volume} has no disk");
        let used = run(&["losetup", "--associated", &disk.display().to_string()], COPY)?;
        ensure!(used.trim().is_empty(), "{volume} is in use: {used}");
        Ok(disk)
    }
}

/// Where a Nitro machine shows a volume.
pub fn device(volume: &str) -> String {
    format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", volume.replace('-', ""))
}

fn copy_disk(from: &Path, to: &Path) -> anyhow::Result<()> {
    let temporary = to.with_extension("part");
    run(&["cp", "--sparse=always", &from.display().to_string(), &temporary.display().to_string()], COPY)?;
    Ok(fs::rename(temporary, to)?)
}
