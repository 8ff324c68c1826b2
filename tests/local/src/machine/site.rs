//! What operations on machines share: the steps of a boot and of its end, and what follows when a machine ends by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use drover_api::InstanceId;
use futures::future::BoxFuture;
use nix::fcntl::Flock;
use tokio::sync::mpsc;

use super::boot::{self, Boot, Ending, Running};
use super::cgroups::{Cgroup, Hierarchies};
use super::command;
use super::enter;
use super::imds;
use super::names::{Names, short_hash};
use super::network::Network;
use super::spec::{Cut, Error, HostEvent, Limits, MachineSpec, Metadata, Result};
use super::stall::Stalls;
use super::volumes::{Device, Volumes};

pub(super) struct Site {
    pub names: Names,
    pub limits: Limits,
    pub hierarchies: Hierarchies,
    pub network: Network,
    pub volumes: Volumes,
    pub stalls: Stalls,
    pub cuts: tokio::sync::Mutex<BTreeSet<Cut>>,
    /// What security groups keep apart: from and to.
    pub apart: tokio::sync::Mutex<BTreeSet<(InstanceId, InstanceId)>>,
    pub machines: Mutex<BTreeMap<InstanceId, Arc<Machine>>>,
    pub metadata: Arc<dyn Metadata>,
    pub events: mpsc::Sender<HostEvent>,
    /// Held for the life of this process: two that share a directory would sweep each other away.
    pub _lock: Flock<File>,
}

pub(super) struct Machine {
    pub id: InstanceId,
    /// PID 1 as the host sees it; 0 while the machine is off.
    pub pid: AtomicI32,
    /// Its end was asked for: no event then.
    pub ending: AtomicBool,
    pub bay: tokio::sync::Mutex<Bay>,
}

/// What only one operation at a time may change.
pub(super) struct Bay {
    pub spec: MachineSpec,
    pub secondary: BTreeSet<Ipv4Addr>,
    pub devices: Vec<Device>,
    pub live: Option<Live>,
    pub boots: u64,
}

pub(super) struct Live {
    running: Running,
    _service: imds::Service,
}

/// Often enough for a person who waits, and far from flooding a systemd that is shutting down.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Site {
    pub(super) fn cgroup_root(&self) -> Cgroup {
        self.hierarchies.cgroup(self.names.cgroup())
    }

    pub(super) fn cgroup(&self, id: &InstanceId) -> Cgroup {
        self.cgroup_root().child(id.as_str())
    }

    /// Nothing in these maps is half-changed by a panic.
    pub(super) fn machines(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<Machine>> {
        self.machines().values().cloned().collect()
    }

    pub(super) fn running(&self) -> Vec<InstanceId> {
        self.all()
            .iter()
            .filter(|machine| machine.pid.load(Ordering::SeqCst) != 0)
            .map(|machine| machine.id.clone())
            .collect()
    }

    pub(super) fn machine(&self, id: &InstanceId) -> Result<Arc<Machine>> {
        self.machines().get(id).cloned().ok_or_else(|| Error::NoSuchMachine(id.clone()))
    }

    pub(super) fn machine_for(&self, spec: &MachineSpec) -> Arc<Machine> {
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

    pub(super) async fn kill(&self, id: &InstanceId) -> Result<()> {
        let cgroup = self.cgroup(id);
        // First: a write that a stalled disk held back must not be acknowledged when the disk is let go.
        cgroup.signal_all();
        self.stalls.end(id, self.limits.command).await?;
        cgroup.kill(self.limits.command).await.map(drop)
    }

    /// Asks systemd to end by a signal and waits until the machine has ended or the patience has. A systemd that is only just starting does
    /// not hear signals yet, so it is asked again and again; one that is ending already takes no harm from that.
    pub(super) async fn ask_to_end(&self, bay: &Bay, signal: &str) -> Result<()> {
        let Some(live) = &bay.live else { return Ok(()) };
        let pid = live.running.pid.to_string();
        let mut ended = live.running.ended.clone();
        // The shell's own kill: real-time signals have no name in nix, and the program is in a package that a host may not have.
        let kill = ["bash", "-c", "kill -s \"$1\" \"$2\"", "kill", signal, &pid];
        let ask = async {
            loop {
                command::output(&kill, "", self.limits.command).await?;
                if tokio::time::timeout(ASK_AGAIN, ended.wait_for(Option::is_some)).await.is_ok() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(self.limits.graceful_stop, ask).await.unwrap_or_else(|_| {
            tracing::warn!(machine = %bay.spec.id, "it did not end within {:?} and is killed", self.limits.graceful_stop);
            Ok(())
        })
    }

    pub(super) async fn power_on(self: &Arc<Self>, machine: &Arc<Machine>, bay: &mut Bay) -> Result<()> {
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
        bay.secondary =
            self.metadata.view(&spec.id).map(|view| view.secondary_ips.into_iter().collect()).unwrap_or_default();
        self.network.plug(spec, &bay.secondary).await?;
        let cgroup = self.cgroup(&spec.id);
        cgroup.create(spec.memory_max, &[enter::PARENT, enter::MACHINE])?;
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
        let label = spec.hostname.split('.').next().unwrap_or_default();
        let boot = Boot {
            lower: spec.image.overlay().map_err(|reason| failed(reason.to_owned()))?,
            hosts: format!("{} {} {label}", spec.private_ip, spec.hostname),
            hostname: label.to_owned(),
            uuid: platform_uuid(&spec.id),
            namespace,
            parent_doors: cgroup.child(enter::PARENT).doors(),
            doors: cgroup.child(enter::MACHINE).doors(),
            devices: bay.devices.iter().map(Device::line).collect(),
            memory_kib: spec.memory_max.map(|bytes| bytes / 1024),
            home,
        };
        let begun = boot::start(boot).map_err(|error| failed(error.to_string()))?;
        let begun = tokio::time::timeout(self.limits.boot, begun)
            .await
            .map_err(|_| failed(format!("systemd did not run after {:?}", self.limits.boot)))?;
        let running = begun.map_err(|_| failed("its thread ended".into()))?.map_err(failed)?;
        Ok(Live { running, _service: service })
    }

    /// Removes everything a boot made, however far it came, and tells the first thing that could not be removed. It may be tried again.
    pub(super) async fn dismantle(&self, machine: &Machine, bay: &mut Bay) -> Result<()> {
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
            if let Err(error) = self.volumes.unbind(&device).await {
                bay.devices.push(device);
                outcome = outcome.and(Err(error));
            }
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
pub(super) fn free_node(devices: &[Device]) -> String {
    let taken = |node: &String| devices.iter().any(|device| device.node == *node);
    (1..).map(|n| format!("nvme{n}n1")).find(|node| !taken(node)).expect("the numbers do not end")
}
