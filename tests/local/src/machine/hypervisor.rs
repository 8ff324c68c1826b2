//! What stands for EC2's hosts: starts, stops and ends machines, and tells what they do by themselves.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use tokio::sync::mpsc;

use super::cgroups::Hierarchies;
use super::command;
use super::enter;
use super::host;
use super::names::{Names, device_link};
use super::network::Network;
use super::site::{Site, free_node};
use super::spec::{Config, Detach, Error, HostEvent, MachineSpec, Metadata, Output, Result, Stop, Swept};
use super::stall::Stalls;
use super::sweep;
use super::volumes::{self, Device, Volumes};

/// The machines of one drover-local. Cheap to clone. When the last clone is dropped, and when the process ends in any way, every machine is
/// killed at once; [`Hypervisor::close`] also removes what they stood on.
#[derive(Clone, Debug)]
pub struct Hypervisor {
    pub(super) site: Arc<Site>,
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
        host::check_dir(&dir)?;
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
            apart: tokio::sync::Mutex::default(),
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
        if !bay.devices.is_empty() {
            // An end that failed half the way left them.
            self.site.dismantle(&machine, &mut bay).await?;
        }
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

    /// Gives a running machine a secondary address; what had it before loses it first ([`Hypervisor::unassign_address`]). Inside it is
    /// configured at once, as the network agents of EC2's images do. At a boot the addresses are those that [`Metadata`] tells. After an
    /// error this and its reverse may be tried again.
    pub async fn assign_address(&self, id: &InstanceId, address: Ipv4Addr) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if !bay.secondary.contains(&address) && bay.live.is_some() {
            self.site.network.give(id, address, &self.site.running()).await?;
        }
        bay.secondary.insert(address);
        Ok(())
    }

    pub async fn unassign_address(&self, id: &InstanceId, address: Ipv4Addr) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.secondary.contains(&address) && bay.live.is_some() {
            self.site.network.take(id, address, &self.site.running()).await?;
        }
        bay.secondary.remove(&address);
        Ok(())
    }

    /// Lets a machine open no connections to another where the pair, from and to, is among these; every other pair may. Machines that do
    /// not run yet may be named, so that none is reached before its groups are known.
    pub async fn keep_apart(&self, pairs: BTreeSet<(InstanceId, InstanceId)>) -> Result<()> {
        let mut apart = self.site.apart.lock().await;
        if pairs != *apart {
            self.site.network.keep_apart(&pairs).await?;
            *apart = pairs;
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

    /// Attaches a volume: a running machine sees it at once, a stopped one when it boots. After an error it may be tried again.
    pub async fn attach(&self, volume: &VolumeId, id: &InstanceId) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        if bay.spec.volumes.contains(volume) {
            return Ok(());
        }
        if bay.live.is_some() {
            let device = match bay.devices.iter().find(|device| device.volume == *volume) {
                // Bound by an attempt that got no further: it hung in a frozen machine, for example.
                Some(device) => device.clone(),
                None => {
                    let device = self.site.volumes.bind(volume, &free_node(&bay.devices), id).await?;
                    bay.devices.push(device.clone());
                    device
                }
            };
            self.inside(id, volumes::SHOW, &device).await?;
        }
        bay.spec.volumes.push(volume.clone());
        Ok(())
    }

    /// Errors: [`Error::VolumeInUse`] while it is mounted inside, unless it is torn away: EC2's own detachment hangs there, in `busy`.
    pub async fn detach(&self, volume: &VolumeId, id: &InstanceId, how: Detach) -> Result<()> {
        let machine = self.site.machine(id)?;
        let mut bay = machine.bay.lock().await;
        let bound = bay.devices.iter().any(|device| device.volume == *volume);
        if !bay.spec.volumes.contains(volume) && !bound {
            return Err(Error::NotAttached { volume: volume.clone(), instance: id.clone() });
        }
        if let Some(index) = bay.devices.iter().position(|device| device.volume == *volume) {
            let device = bay.devices[index].clone();
            if how == Detach::Forced {
                self.tear_away(&device, id).await?;
            } else if volumes::busy(&device)? {
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
        let link = device_link(&device.volume);
        argv.extend(["sh", "-euc", script, "volume", &device.node, &minor, &link]);
        command::run(&argv, self.site.limits.command).await.map(drop)
    }
}
