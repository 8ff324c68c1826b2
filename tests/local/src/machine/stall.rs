//! A disk that stalls: the volume's file system is frozen inside the machine, so every write to it hangs until it is thawed.
//!
//! A frozen file system must be thawed by whoever can still name it: a process that hangs in a write cannot even be killed, and with its
//! mounts gone nobody could. So a keeper, a process of the host inside the machine's mount namespace and outside its PID namespace, holds
//! the freeze and takes it back when it is told to end, or when drover-local dies (it is told so by the parent-death signal).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Mutex, oneshot};

use super::cgroups::Cgroup;
use super::command;
use super::pace::Pace;
use super::spec::{Error, Result};
use super::volumes::minor;

/// Freezes, says so, and thaws at SIGTERM. The `wait` is what a signal interrupts at once.
const KEEPER: &str = "trap 'fsfreeze --unfreeze \"$1\"; kill $hold; exit 0' TERM; sleep infinity & hold=$!
fsfreeze --freeze \"$1\" || { kill $hold; exit 1; }
echo frozen; wait";

#[derive(Debug, Default)]
pub(super) struct Stalls {
    kept: Mutex<BTreeMap<VolumeId, Keeper>>,
}

#[derive(Debug)]
struct Keeper {
    machine: InstanceId,
    pid: u32,
    ended: oneshot::Receiver<()>,
}

/// The cgroup, below the site's, in which keepers live: never frozen with a machine.
pub(super) const KEEPERS: &str = "keepers";

impl Stalls {
    /// Freezes what is mounted from the device `7:<minor>` in the machine whose PID 1 is `pid`. Stalling twice changes nothing.
    pub(super) async fn begin(&self, place: &Place<'_>, limit: Duration) -> Result<()> {
        let mut kept = self.kept.lock().await;
        if kept.contains_key(place.volume) {
            return Ok(());
        }
        let mount = mount_point(place.pid, place.minor)?.ok_or_else(|| Error::NotMounted(place.volume.clone()))?;
        let script = format!(
            "set -e; {}; exec setpriv --pdeathsig TERM nsenter -t {} -m -- bash -c \"$KEEPER\" keeper '{mount}'",
            place.doors.iter().map(|door| format!("echo $$ >'{}'", door.display())).collect::<Vec<_>>().join("; "),
            place.pid
        );
        let (frozen, answer) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        // A thread of its own, as a machine has: the parent-death signal is the thread's.
        let spawn = std::thread::Builder::new().name("stalled volume".into()).spawn(move || keep(&script, frozen, end));
        spawn.map_err(|source| Error::Io { what: "no thread for a stalled volume".into(), source })?;
        let waited = tokio::time::timeout(limit, answer).await;
        let said = waited.map_err(|_| Error::Deadline { command: format!("freezing {}", place.volume), limit })?;
        let pid = said.unwrap_or_else(|_| Err("its thread ended".into())).map_err(|stderr| Error::Command {
            command: format!("fsfreeze --freeze {mount}"),
            status: "failed".into(),
            stderr,
        })?;
        kept.insert(place.volume.clone(), Keeper { machine: place.machine.clone(), pid, ended });
        Ok(())
    }

    pub(super) async fn has(&self, volume: &VolumeId) -> bool {
        self.kept.lock().await.contains_key(volume)
    }

    /// Lets a volume go on; what is not stalled goes on already.
    pub(super) async fn resume(&self, volume: &VolumeId, limit: Duration) -> Result<()> {
        let keeper = self.kept.lock().await.remove(volume);
        match keeper {
            Some(keeper) => keeper.end(limit).await,
            None => Ok(()),
        }
    }

    /// Lets everything of a machine go on that was killed: a process that hangs in a write ends only then.
    pub(super) async fn end(&self, machine: &InstanceId, limit: Duration) -> Result<()> {
        let stalled: Vec<VolumeId> = self
            .kept
            .lock()
            .await
            .iter()
            .filter(|(_, keeper)| keeper.machine == *machine)
            .map(|(volume, _)| volume.clone())
            .collect();
        for volume in stalled {
            self.resume(&volume, limit).await?;
        }
        Ok(())
    }
}

/// Where a volume is mounted, and the cgroup for its keeper.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub volume: &'a VolumeId,
    pub machine: &'a InstanceId,
    pub pid: i32,
    pub minor: u32,
    pub doors: Vec<PathBuf>,
}

impl Keeper {
    async fn end(self, limit: Duration) -> Result<()> {
        tell_to_end(self.pid.cast_signed());
        let waited = tokio::time::timeout(limit, self.ended).await;
        waited.map(drop).map_err(|_| Error::Deadline { command: "thawing a stalled volume".into(), limit })
    }
}

/// One that has ended already was told, or ends by itself.
fn tell_to_end(pid: i32) {
    if let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
        tracing::debug!(pid, %errno, "not told to end");
    }
}

/// The life of the thread: what the keeper says, then its end.
fn keep(script: &str, frozen: oneshot::Sender<std::result::Result<u32, String>>, _end: oneshot::Sender<()>) {
    let begun = spawn(script);
    let (answer, child) = match begun {
        Ok(child) => (Ok(child.id()), Some(child)),
        Err(reason) => (Err(reason), None),
    };
    if frozen.send(answer).is_err() {
        tracing::debug!("a volume was frozen after its caller had given up");
    }
    if let Some(Err(error)) = child.map(|mut child| child.wait()) {
        tracing::error!(%error, "cannot wait for the keeper of a stalled volume");
    }
}

fn spawn(script: &str) -> std::result::Result<Child, String> {
    let mut child = Command::new("bash")
        .args(["-c", script])
        .env("KEEPER", KEEPER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut said = [0; 7];
    let mut stdout = child.stdout.take().expect("standard output was asked for");
    if stdout.read_exact(&mut said).is_ok() && said == *b"frozen\n" {
        return Ok(child);
    }
    let mut reason = String::new();
    let mut stderr = child.stderr.take().expect("standard error was asked for");
    stderr.read_to_string(&mut reason).and_then(|_| child.wait()).map_err(|error| error.to_string())?;
    Err(reason.trim().to_owned())
}

/// Where the block device 7:`minor` is mounted, as the process `pid` sees it.
pub(super) fn mount_point(pid: i32, minor: u32) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).map_err(|source| Error::Io { what: format!("cannot read {path}"), source })?;
    let device = format!("7:{minor}");
    Ok(text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&device.as_str())).then(|| fields.get(4).map(|mount| (*mount).to_owned()))?
    }))
}

/// After a crash: tells keepers that are left to thaw and end, which they do by themselves too, and waits for them. Then thaws what a
/// keeper that was itself killed left frozen, as long as any process of a machine still sees its mount. Returns how many keepers it found.
pub(super) async fn sweep(cgroup: &Cgroup, devices: &[PathBuf], limit: Duration) -> Result<usize> {
    let keepers = cgroup.child(KEEPERS);
    let mut pace = Pace::new(limit);
    let found = keepers.processes().len();
    while let [first, ..] = keepers.processes()[..] {
        // The one that sleeps for the keeper is told too and simply ends.
        tell_to_end(first);
        pace.wait(|| "thawing volumes that a crash left stalled".into()).await?;
    }
    for device in devices {
        let minor = minor(device)?;
        for pid in cgroup.processes() {
            // A process that ends while we look sees nothing, or lets nobody in: the next one may, and one that hangs in a write stays.
            let Ok(Some(mount)) = mount_point(pid, minor) else { continue };
            let thaw = ["nsenter", "-t", &pid.to_string(), "-m", "fsfreeze", "--unfreeze", &mount];
            if command::output(&thaw, "", limit).await?.status == Some(0) {
                break;
            }
        }
    }
    Ok(found)
}
