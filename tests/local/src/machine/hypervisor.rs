//! What stands for EC2's hosts: starts, stops and ends machines, and tells what they do by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::boot::{self, Boot, Ending, Running};
use super::cgroups::{Cgroup, Hierarchies};
use super::command;
use super::enter;
use super::host;
use super::imds;
use super::names::{Names, short_hash};
use super::network::Network;
use super::spec::{Config, Cut, Error, HostEvent, Limits, MachineSpec, Metadata, Output, Result, Stop, Swept};
use super::stall::Stalls;
use super::sweep;
use super::volumes::{self, Device, Volumes};

/// The machines of one drover-local. Cheap to clone. When the last clone is dropped, and when the process ends in any way, every machine is
/// killed at once; [`Hypervisor::close`] also removes what they stood on.
#[derive(Clone, Debug)]
pub struct Hypervisor {
    pub(super) site: Arc<Site>,
}

pub(super) struct Site {
    pub names: Names,
    pub limits: Limits,
    pub hierarchies: Hierarchies,
    pub network: Network,
    pub volumes: Volumes,
    pub stalls: Stalls,
    pub cuts: tokio::sync::Mutex<BTreeSet<Cut>>,
    machines: Mutex<BTreeMap<InstanceId, Arc<Machine>>>,
    metadata: Arc<dyn Metadata>,
    events: mpsc::Sender<HostEvent>,
    /// Held for the life of this process: two that share a directory would sweep each other away.
    _lock: File,
}

pub(super) struct Machine {
    id: InstanceId,
    /// PID 1 as the host sees it; 0 while the machine is off.
    pid: AtomicI32,
    /// Its end was asked for: no event then.
    ending: AtomicBool,
    bay: tokio::sync::Mutex<Bay>,
}

/// What only one operation at a time may change.
struct Bay {
    spec: MachineSpec,
    secondary: BTreeSet<Ipv4Addr>,
    devices: Vec<Device>,
    live: Option<Live>,
    boots: u64,
}

struct Live {
    running: Running,
    _service: imds::Service,
}

/// As many as an account may launch in one call; a slow reader holds the senders back, never the machines.
const EVENTS_MAX: usize = 1_000;

impl Hypervisor {
    /// Checks the host, sweeps what a crash left in `dir`, and makes the network. Root file systems and volumes in `dir` are kept.
    ///
    /// Errors: [`Error::Unfit`] with a sentence that says what is missing, or that another process has the directory.
    pub async fn open(config: Config, metadata: Arc<dyn Metadata>) -> Result<(Hypervisor, mpsc::Receiver<HostEvent>)> {
        let Config { dir, network: range, limits } = config;
        host::check(limits.command).await?;
        for dir in [dir.join("machines"), dir.join("volumes")] {
            fs::create_dir_all(&dir)
                .map_err(|source| Error::Io { what: format!("cannot make {}", dir.display()), source })?;
        }
        let names = Names::of(&dir)?;
        let lock = sweep::lock(&names)?;
        sweep::locked(&names, &limits).await?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let site = Site {
            hierarchies: Hierarchies::of_host()?,
            network: Network::new(names.clone(), range, limits.command),
            volumes: Volumes::new(names.clone(), limits.command),
            stalls: Stalls::default(),
            cuts: tokio::sync::Mutex::default(),
            machines: Mutex::default(),
            names,
            limits,
            metadata,
            events,
            _lock: lock,
        };
        let hypervisor = Hypervisor { site: Arc::new(site) };
        if let Err(error) = hypervisor.site.network.open().await {
            hypervisor.close().await?;
            return Err(error);
        }
        Ok((hypervisor, received))
    }

    /// The host's address in the machines' network: endpoints that listen there are reached from inside.
    pub fn gateway(&self) -> Ipv4Addr {
        self.site.network.gateway()
    }

    /// Launches a machine, or starts it again: its root file system is made the first time and kept until [`Hypervisor::terminate`].
    /// Returns when systemd runs.
    ///
    /// Errors: [`Error::Capacity`] before anything is made; on any other error nothing is left but the root file system.
    pub async fn boot(&self, spec: &MachineSpec) -> Result<()> {
        let machine = self.site.machine_for(spec);
        let mut bay = machine.bay.lock().await;
        if bay.live.is_some() {
            return Err(Error::AlreadyRunning(spec.id.clone()));
        }
        host::room(self.site.names.dir(), &self.site.limits)?;
        machine.ending.store(false, Ordering::SeqCst);
        bay.spec = spec.clone();
        self.site.power_on(&machine, &mut bay).await
    }

    /// Returns when the machine is off. What does not run is off already.
    pub async fn stop(&self, id: &InstanceId, how: Stop) -> Result<()> {
        let machine = self.site.machine(id)?;
        machine.ending.store(true, Ordering::SeqCst);
        if how == Stop::Forced {
            // Before its turn: a graceful stop that hangs has to end by this.
            self.site.kill(id).await?;
        }
        let mut bay = machine.bay.lock().await;
        if how == Stop::Graceful {
            self.site.ask_to_end(&bay, "RTMIN+4").await?;
        }
        self.site.dismantle(&machine, &mut bay).await
    }

    /// Reboots by systemd, or by force after [`Limits::graceful_stop`]; the root file system stays, the boot id is a new one.
    pub async fn reboot(&self, id: &InstanceId) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.live.is_none() {
            return Err(Error::NotRunning(id.clone()));
        }
        self.site.ask_to_end(&bay, "RTMIN+5").await?;
        self.site.dismantle(&machine, &mut bay).await?;
        self.site.power_on(&machine, &mut bay).await
    }

    /// Kills the machine and deletes its root file system. Its volumes are left, unattached. What does not exist is terminated already.
    pub async fn terminate(&self, id: &InstanceId) -> Result<()> {
        if let Ok(machine) = self.site.machine(id) {
            machine.ending.store(true, Ordering::SeqCst);
            self.site.kill(id).await?;
            let mut bay = machine.bay.lock().await;
            self.site.dismantle(&machine, &mut bay).await?;
            self.site.machines().remove(id);
        }
        let home = self.site.names.machine_dir(id);
        tokio::task::spawn_blocking(move || match fs::remove_dir_all(&home) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Io { what: format!("cannot delete {}", home.display()), source })
            }
            _ => Ok(()),
        })
        .await
        .expect("deleting a directory does not panic")
    }

    /// Runs a command inside as root, bounded by `limit`.
    pub async fn exec(&self, id: &InstanceId, argv: &[&str], limit: Duration) -> Result<Output> {
        let entrance = self.entrance(id)?;
        let argv: Vec<&str> = entrance.iter().map(String::as_str).chain(argv.iter().copied()).collect();
        command::output(&argv, "", limit).await
    }

    /// The words to put before a command so that it runs inside: for a terminal's own use.
    pub fn entrance(&self, id: &InstanceId) -> Result<Vec<String>> {
        enter::entrance(&self.site.hierarchies, &self.site.cgroup(id), self.pid(id)?)
    }

    /// The console's newest output, at most half a MiB.
    pub fn console(&self, id: &InstanceId) -> PathBuf {
        self.site.names.machine_dir(id).join("console.log")
    }

    /// PID 1 of a machine, as the host sees it.
    pub fn pid(&self, id: &InstanceId) -> Result<i32> {
        match self.site.machine(id)?.pid.load(Ordering::SeqCst) {
            0 => Err(Error::NotRunning(id.clone())),
            pid => Ok(pid),
        }
    }

    /// Gives a running or stopped machine a secondary address; what had it before loses it first ([`Hypervisor::unassign_address`]).
    /// Inside it is configured at once, as the network agents of EC2's images do.
    pub async fn assign_address(&self, id: &InstanceId, address: Ipv4Addr) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.secondary.insert(address) && bay.live.is_some() {
            self.site.network.address(id, "add", address, &self.site.running()).await?;
        }
        Ok(())
    }

    pub async fn unassign_address(&self, id: &InstanceId, address: Ipv4Addr) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.secondary.remove(&address) && bay.live.is_some() {
            self.site.network.address(id, "del", address, &self.site.running()).await?;
        }
        Ok(())
    }

    /// Makes an empty volume. Creating it again changes nothing.
    pub fn create_volume(&self, volume: &VolumeId, bytes: u64) -> Result<()> {
        self.site.volumes.create(volume, bytes)
    }

    /// Errors: [`Error::VolumeInUse`] while it is attached to a machine that runs.
    pub fn delete_volume(&self, volume: &VolumeId) -> Result<()> {
        self.site.volumes.delete(volume)
    }

    /// Attaches a volume: a running machine sees it at once, a stopped one when it boots.
    pub async fn attach(&self, volume: &VolumeId, id: &InstanceId) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.spec.volumes.contains(volume) {
            return Ok(());
        }
        if bay.live.is_some() {
            let node = free_node(&bay.devices);
            let device = self.site.volumes.bind(volume, &node, id).await?;
            bay.devices.push(device.clone());
            self.inside(id, volumes::SHOW, &device).await?;
        }
        bay.spec.volumes.push(volume.clone());
        Ok(())
    }

    /// Errors: [`Error::VolumeInUse`] while it is mounted inside: EC2's own detachment hangs there, in `busy`.
    pub async fn detach(&self, volume: &VolumeId, id: &InstanceId) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if !bay.spec.volumes.contains(volume) {
            return Err(Error::NotAttached { volume: volume.clone(), instance: id.clone() });
        }
        if let Some(index) = bay.devices.iter().position(|device| device.volume == *volume) {
            let device = bay.devices[index].clone();
            if volumes::busy(&device)? {
                return Err(Error::VolumeInUse {
                    volume: volume.clone(),
                    by: format!("a file system mounted in {id}"),
                });
            }
            self.inside(id, volumes::HIDE, &device).await?;
            self.site.volumes.unbind(&device).await?;
            bay.devices.remove(index);
        }
        bay.spec.volumes.retain(|other| other != volume);
        Ok(())
    }

    /// Kills every machine and removes everything but root file systems and volumes. The directory is then free for another.
    pub async fn close(&self) -> Result<Swept> {
        for machine in self.site.all() {
            machine.ending.store(true, Ordering::SeqCst);
            let mut bay = machine.bay.lock().await;
            self.site.dismantle(&machine, &mut bay).await?;
        }
        sweep::locked(&self.site.names, &self.site.limits).await
    }

    async fn inside(&self, id: &InstanceId, script: &str, device: &Device) -> Result<()> {
        let entrance = self.entrance(id)?;
        let minor = device.minor.to_string();
        let mut argv: Vec<&str> = entrance.iter().map(String::as_str).collect();
        let link = super::names::device_link(&device.volume);
        argv.extend(["sh", "-euc", script, "volume", &device.node, &minor, &link]);
        command::run(&argv, self.site.limits.command).await.map(drop)
    }
}

// === impl Site: the steps that operations share ===

impl Site {
    pub(super) fn cgroup_root(&self) -> Cgroup {
        self.hierarchies.cgroup(self.names.cgroup())
    }

    pub(super) fn cgroup(&self, id: &InstanceId) -> Cgroup {
        self.cgroup_root().child(id.as_str())
    }

    /// Nothing in these maps is half-changed by a panic.
    fn machines(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Machine>> {
        self.machines().values().cloned().collect()
    }

    fn running(&self) -> Vec<InstanceId> {
        self.all()
            .iter()
            .filter(|machine| machine.pid.load(Ordering::SeqCst) != 0)
            .map(|machine| machine.id.clone())
            .collect()
    }

    fn machine(&self, id: &InstanceId) -> Result<Arc<Machine>> {
        self.machines().get(id).cloned().ok_or_else(|| Error::NoSuchMachine(id.clone()))
    }

    fn machine_for(&self, spec: &MachineSpec) -> Arc<Machine> {
        let fresh = || {
            let bay = Bay { spec: spec.clone(), secondary: BTreeSet::new(), devices: Vec::new(), live: None, boots: 0 };
            Arc::new(Machine {
                id: spec.id.clone(),
                pid: AtomicI32::new(0),
                ending: AtomicBool::new(false),
                bay: bay.into(),
            })
        };
        self.machines().entry(spec.id.clone()).or_insert_with(fresh).clone()
    }

    async fn kill(&self, id: &InstanceId) -> Result<()> {
        self.stalls.end(id, self.limits.command).await?;
        self.cgroup(id).kill(self.limits.command).await.map(drop)
    }

    /// Sends systemd a signal and waits until the machine has ended or the patience has.
    async fn ask_to_end(&self, bay: &Bay, signal: &str) -> Result<()> {
        let Some(live) = &bay.live else { return Ok(()) };
        let pid = live.running.pid.to_string();
        command::output(&["kill", "-s", signal, &pid], "", self.limits.command).await?;
        let mut ended = live.running.ended.clone();
        let waited = tokio::time::timeout(self.limits.graceful_stop, ended.wait_for(Option::is_some)).await;
        if waited.is_err() {
            tracing::warn!(machine = %bay.spec.id, "it did not end within {:?} and is killed", self.limits.graceful_stop);
        }
        Ok(())
    }

    async fn power_on(self: &Arc<Self>, machine: &Arc<Machine>, bay: &mut Bay) -> Result<()> {
        let outcome = self.assemble(bay).await;
        let live = match outcome {
            Ok(live) => live,
            Err(error) => {
                if let Err(left) = self.dismantle(machine, bay).await {
                    tracing::error!(machine = %machine.id, %left, "what a failed boot made could not be removed");
                }
                return Err(error);
            }
        };
        bay.boots += 1;
        machine.pid.store(live.running.pid, Ordering::SeqCst);
        let mut ended = live.running.ended.clone();
        bay.live = Some(live);
        let (site, machine, boot) = (Arc::downgrade(self), machine.clone(), bay.boots);
        tokio::spawn(async move {
            let ending = ended.wait_for(Option::is_some).await.map_or(None, |ending| *ending);
            Site::after_end(site, machine, boot, ending.unwrap_or(Ending::Died)).await;
        });
        Ok(())
    }

    /// Network, cgroup, devices, metadata service, then systemd.
    async fn assemble(&self, bay: &mut Bay) -> Result<Live> {
        let spec = &bay.spec;
        let home = self.names.machine_dir(&spec.id);
        prepare(&home)?;
        self.network.plug(spec, &bay.secondary).await?;
        let cgroup = self.cgroup(&spec.id);
        cgroup.create(spec.memory_max)?;
        for volume in spec.volumes.clone() {
            let node = free_node(&bay.devices);
            bay.devices.push(self.volumes.bind(&volume, &node, &bay.spec.id).await?);
        }
        let spec = &bay.spec;
        let namespace = self.names.namespace(&spec.id);
        let netns = Path::new("/run/netns").join(&namespace);
        let service = imds::Service::open(&netns, spec.metadata_hop_limit, spec.id.clone(), self.metadata.clone())
            .await
            .map_err(|source| Error::Io { what: format!("no metadata service for {}", spec.id), source })?;
        let failed = |reason: String| Error::Boot { id: spec.id.clone(), reason };
        let boot = Boot {
            lower: spec.image.overlay().map_err(|reason| failed(reason.to_owned()))?,
            hostname: spec.hostname.split('.').next().unwrap_or_default().to_owned(),
            uuid: platform_uuid(&spec.id),
            namespace,
            doors: cgroup.doors(),
            devices: bay.devices.iter().map(Device::line).collect(),
            home,
        };
        let begun = boot::start(boot).map_err(|error| failed(error.to_string()))?;
        let begun = tokio::time::timeout(self.limits.boot, begun)
            .await
            .map_err(|_| failed(format!("systemd did not run after {:?}", self.limits.boot)))?;
        let running = begun.map_err(|_| failed("its thread ended".into()))?.map_err(failed)?;
        Ok(Live { running, _service: service })
    }

    /// Removes everything a boot made, however far it came, and tells the first thing that could not be removed.
    async fn dismantle(&self, machine: &Machine, bay: &mut Bay) -> Result<()> {
        let cgroup = self.cgroup(&machine.id);
        self.kill(&machine.id).await?;
        if let Some(live) = &bay.live {
            let mut ended = live.running.ended.clone();
            let waited = tokio::time::timeout(self.limits.command, ended.wait_for(Option::is_some)).await;
            waited
                .map_err(|_| Error::Deadline {
                    command: format!("reaping {}", machine.id),
                    limit: self.limits.command,
                })?
                .ok();
        }
        machine.pid.store(0, Ordering::SeqCst);
        bay.live = None;
        let mut outcome = Ok(());
        for device in std::mem::take(&mut bay.devices) {
            outcome = outcome.and(self.volumes.unbind(&device).await);
        }
        outcome = outcome.and(self.network.unplug(&machine.id).await);
        outcome.and(cgroup.remove(self.limits.command).await.map(drop))
    }

    /// A boot has ended. Where an operation of ours ended it, that operation goes on from there; else this is the machine's own doing.
    ///
    /// Boxed, because a reboot leads to the next boot, and that to this again.
    fn after_end(site: Weak<Site>, machine: Arc<Machine>, boot: u64, ending: Ending) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(site) = site.upgrade() {
                site.report_end(&machine, boot, ending).await;
            }
        })
    }

    async fn report_end(self: &Arc<Self>, machine: &Arc<Machine>, boot: u64, ending: Ending) {
        let mut bay = machine.bay.lock().await;
        if bay.live.is_none() || bay.boots != boot || machine.ending.load(Ordering::SeqCst) {
            return;
        }
        let id = machine.id.clone();
        let mut outcome = self.dismantle(machine, &mut bay).await;
        if outcome.is_ok() && ending == Ending::Rebooted {
            outcome = self.power_on(machine, &mut bay).await;
        }
        let event = match (outcome, ending) {
            (Err(error), _) => HostEvent::Died { id, reason: error.to_string() },
            (Ok(()), Ending::Rebooted) => HostEvent::Rebooted(id),
            (Ok(()), Ending::PoweredOff) => HostEvent::PoweredOff(id),
            (Ok(()), Ending::Died) => HostEvent::Died { id, reason: "its PID 1 was killed".into() },
        };
        if self.events.send(event).await.is_err() {
            tracing::debug!("nobody listens to the hypervisor any more");
        }
    }
}

impl Drop for Site {
    /// What runs must not outlive what it belongs to, also where nobody called `close`.
    fn drop(&mut self) {
        self.cgroup_root().signal_all();
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The directories of a root file system, and this boot's own id.
fn prepare(home: &Path) -> Result<()> {
    let failed = |source| Error::Io { what: format!("cannot prepare {}", home.display()), source };
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(home.join(part)).map_err(failed)?;
    }
    // The kernel makes a new random uuid at every read.
    fs::copy("/proc/sys/kernel/random/uuid", home.join("boot_id")).map(drop).map_err(failed)
}

/// A guest of EC2 is known by a uuid that begins with `ec2`: "Detect whether a host is an EC2 instance" in the EC2 user guide.
fn platform_uuid(id: &InstanceId) -> String {
    let hash = short_hash(id.as_str().as_bytes(), 29);
    format!("ec2{}-{}-{}-{}-{}", &hash[..5], &hash[5..9], &hash[9..13], &hash[13..17], &hash[17..29])
}

/// `nvme0n1` is the root volume's.
fn free_node(devices: &[Device]) -> String {
    let taken = |node: &String| devices.iter().any(|device| device.node == *node);
    (1..).map(|n| format!("nvme{n}n1")).find(|node| !taken(node)).expect("the numbers do not end")
}
