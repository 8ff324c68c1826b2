//! Between the model of the account and the machines: does what the model orders, reports what came of it, and breaks
//! machines on demand.
//!
//! Orders for one machine are done one after the other. Only a power-off "at once" goes past what is under way, because a
//! graceful stop that hangs is ended by it. After a restart of drover-local every machine is dead: what ran is reported as
//! a lost host (EC2's status checks fail, the state stays `running`), and what the model still waits for is ordered again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drover_api::{InstanceId, InvalidName, VolumeId};
use drover_cloud::ec2::{Ec2, HostEvent as Order, InstanceStateName, PowerOff, StateReason};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cloud::{Cloud, StateError, Wait},
    fault::{Fault, Way},
    images::Images,
    keys::Keys,
    machine::{self, Cut, Direction, Hypervisor, MachineSpec, Stop, Subnet},
    query::private_dns_name,
};

/// Orders that wait for one machine: more than the model makes while a boot takes its 20 seconds at most.
const LANE_MAX: usize = 256;
/// How often a detachment is tried again while the volume is mounted.
const DETACH_RETRY: Duration = Duration::from_secs(1);
/// The model is asked at least this often what is due.
const IDLE: Duration = Duration::from_secs(5);

/// The machines, or their absence: without them the model moves its states by itself.
#[derive(Debug, Clone)]
pub struct Host {
    cloud: Cloud,
    keys: Keys,
    hypervisor: Option<Hypervisor>,
    images: Arc<Images>,
    /// The faults of machines that are set now.
    faults: Arc<Mutex<Vec<Fault>>>,
}

/// A machine could not be broken or mended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("this account runs without machines (--no-machines)")]
    NoMachines,
    #[error("there is no running instance {0}")]
    NoSuchInstance(String),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Host {
    pub fn new(cloud: Cloud, keys: Keys, hypervisor: Option<Hypervisor>, images: Images) -> Self {
        Self { cloud, keys, hypervisor, images: Arc::new(images), faults: Arc::default() }
    }

    /// Takes up a state that was kept: see the module's documentation. Without machines nothing was lost.
    pub fn resume(&self) -> Result<Vec<Order>, StateError> {
        if self.hypervisor.is_none() {
            return Ok(Vec::new());
        }
        self.cloud.change(|ec2, now| {
            let running = |ec2: &Ec2| {
                let running = ec2.instances().filter(|it| it.state == InstanceStateName::Running && !it.host_lost);
                running.map(|it| it.instance_id.clone()).collect::<Vec<_>>()
            };
            for id in running(ec2) {
                ec2.host_lost(now, &id);
            }
            ec2.unfinished()
        })
    }

    /// Does what the model orders until the future is dropped. `resumed` comes first.
    pub async fn run(self, resumed: Vec<Order>, mut events: Option<mpsc::Receiver<machine::HostEvent>>) {
        let mut lanes = Lanes { host: self.clone(), senders: HashMap::new(), tasks: JoinSet::new() };
        for order in resumed {
            lanes.dispatch(order).await;
        }
        loop {
            let event = async {
                match &mut events {
                    Some(events) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                waited = self.cloud.wait(IDLE) => match waited {
                    Ok(Wait::Orders(orders)) => {
                        for order in orders {
                            lanes.dispatch(order).await;
                        }
                    }
                    Ok(Wait::Nothing) => {}
                    Err(error) => tracing::error!(%error, "what became due is not on disk"),
                },
                event = event => match event {
                    Some(event) => self.report(event),
                    None => events = None,
                },
            }
            while lanes.tasks.try_join_next().is_some() {}
        }
    }

    fn report(&self, event: machine::HostEvent) {
        let changed = match event {
            machine::HostEvent::PoweredOff(id) => {
                self.cloud.change(|ec2, now| ec2.instance_powered_off(now, id.as_str()))
            }
            machine::HostEvent::Rebooted(id) => {
                tracing::info!(instance = %id, "rebooted from inside");
                Ok(())
            }
            machine::HostEvent::Died { id, reason } => {
                tracing::warn!(instance = %id, reason, "a machine died");
                self.cloud.change(|ec2, now| ec2.host_lost(now, id.as_str()))
            }
        };
        if let Err(error) = changed {
            tracing::error!(%error, "what a machine did is not on disk");
        }
    }

    /// The faults of machines that are set.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets a fault of a machine.
    pub async fn set(&self, fault: &Fault) -> Result<(), HostError> {
        if let Fault::Kill { instance } = fault {
            return self.kill(instance).await;
        }
        self.apply(fault, Switch::On).await?;
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if !faults.contains(fault) {
            faults.push(fault.clone());
        }
        Ok(())
    }

    /// Undoes a fault of a machine.
    pub async fn clear(&self, fault: &Fault) -> Result<(), HostError> {
        match self.apply(fault, Switch::Off).await {
            // What is gone took its fault with it.
            Ok(()) | Err(HostError::Machine(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_))) => {}
            Err(error) => return Err(error),
        }
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).retain(|set| set != fault);
        Ok(())
    }

    async fn kill(&self, instance: &str) -> Result<(), HostError> {
        let is_running =
            self.cloud.look(|ec2, _| ec2.instance(instance).is_some_and(|it| it.state == InstanceStateName::Running));
        if !is_running {
            return Err(HostError::NoSuchInstance(instance.into()));
        }
        if let Some(hypervisor) = &self.hypervisor {
            hypervisor.stop(&InstanceId::new(instance)?, Stop::Forced).await?;
        }
        Ok(self.cloud.change(|ec2, now| ec2.host_lost(now, instance))?)
    }

    async fn apply(&self, fault: &Fault, switch: Switch) -> Result<(), HostError> {
        let hypervisor = self.hypervisor.as_ref().ok_or(HostError::NoMachines)?;
        match (fault, switch) {
            (Fault::Freeze { instance }, Switch::On) => hypervisor.freeze(&InstanceId::new(instance)?)?,
            (Fault::Freeze { instance }, Switch::Off) => hypervisor.thaw(&InstanceId::new(instance)?)?,
            (Fault::Cut { instance, way, peer }, switch) => {
                let cut = Cut {
                    machine: InstanceId::new(instance)?,
                    direction: match way {
                        Way::In => Direction::Receive,
                        Way::Out => Direction::Send,
                        Way::Both => Direction::Both,
                    },
                    peer: peer.as_ref().map(InstanceId::new).transpose()?,
                };
                match switch {
                    Switch::On => hypervisor.cut(cut).await?,
                    Switch::Off => hypervisor.heal(&cut).await?,
                }
            }
            (Fault::FillDisk { volume }, Switch::On) => hypervisor.fill_volume(&VolumeId::new(volume)?).await?,
            (Fault::FillDisk { volume }, Switch::Off) => hypervisor.empty_volume(&VolumeId::new(volume)?).await?,
            (Fault::StallDisk { volume }, Switch::On) => hypervisor.stall_volume(&VolumeId::new(volume)?).await?,
            (Fault::StallDisk { volume }, Switch::Off) => hypervisor.resume_volume(&VolumeId::new(volume)?).await?,
            _ => unreachable!("only the faults of machines come here"),
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

/// One lane for each machine, and one for each volume's own making and ending.
struct Lanes {
    host: Host,
    senders: HashMap<String, mpsc::Sender<Order>>,
    tasks: JoinSet<()>,
}

impl Lanes {
    async fn dispatch(&mut self, order: Order) {
        tracing::debug!(?order, "ordered");
        let lane = match &order {
            Order::Boot { instance_id } | Order::Reboot { instance_id } => instance_id.clone(),
            Order::Stop { instance_id, power_off } | Order::Terminate { instance_id, power_off } => {
                if *power_off == PowerOff::AtOnce {
                    self.pull_the_plug(instance_id);
                }
                instance_id.clone()
            }
            Order::AttachVolume { instance_id, .. } => instance_id.clone(),
            Order::CreateVolume { volume_id } | Order::DeleteVolume { volume_id } => volume_id.clone(),
            Order::DetachVolume { volume_id, instance_id, .. } => {
                // Not in the machine's lane: a mounted volume keeps it waiting, and a stop must not wait behind it.
                let (host, volume_id, instance_id) = (self.host.clone(), volume_id.clone(), instance_id.clone());
                self.tasks.spawn(async move { host.detach(&volume_id, &instance_id).await });
                return;
            }
            Order::AddressMoved { address, .. } => address.clone(),
            Order::StateChanged { instance_id, state: InstanceStateName::Terminated } => {
                self.senders.remove(instance_id);
                self.host.keys.remove_machine(instance_id);
                self.host.cloud.look(|_, sessions| sessions.remove(instance_id));
                return;
            }
            // Security groups are kept and shown, and not enforced: machines of one account reach each other.
            Order::StateChanged { .. } | Order::GroupsReplaced { .. } => return,
        };
        if self.host.hypervisor.is_none() {
            return;
        }
        let is_last = matches!(order, Order::DeleteVolume { .. } | Order::AddressMoved { .. });
        let sender = self.senders.get(&lane).cloned().unwrap_or_else(|| self.open_lane(&lane));
        if sender.send(order).await.is_err() {
            tracing::error!(lane, "a lane ended early; its order is lost until the next start");
        }
        if is_last {
            self.senders.remove(&lane);
        }
    }

    fn open_lane(&mut self, lane: &str) -> mpsc::Sender<Order> {
        let (sender, mut orders) = mpsc::channel(LANE_MAX);
        let host = self.host.clone();
        self.tasks.spawn(async move {
            while let Some(order) = orders.recv().await {
                if let Err(error) = host.perform(&order).await {
                    tracing::error!(?order, %error, "an order could not be carried out");
                }
            }
        });
        self.senders.insert(lane.into(), sender.clone());
        sender
    }

    fn pull_the_plug(&mut self, instance_id: &str) {
        let (host, instance_id) = (self.host.clone(), instance_id.to_owned());
        self.tasks.spawn(async move {
            if let Some(hypervisor) = &host.hypervisor
                && let Ok(id) = InstanceId::new(instance_id)
                && let Err(error) = hypervisor.stop(&id, Stop::Forced).await
            {
                // The order in the lane tries again and reports.
                tracing::debug!(instance = %id, %error, "the plug was not pulled");
            }
        });
    }
}

impl Host {
    async fn perform(&self, order: &Order) -> Result<(), HostError> {
        let hypervisor = self.hypervisor.as_ref().ok_or(HostError::NoMachines)?;
        match order {
            Order::Boot { instance_id } => self.boot(hypervisor, instance_id).await,
            Order::Reboot { instance_id } => match hypervisor.reboot(&InstanceId::new(instance_id)?).await {
                Err(machine::Error::NotRunning(_) | machine::Error::NoSuchMachine(_)) => Ok(()),
                other => Ok(other?),
            },
            Order::Stop { instance_id, power_off } => {
                self.power_off(hypervisor, instance_id, *power_off).await?;
                Ok(self.cloud.change(|ec2, now| ec2.instance_powered_off(now, instance_id))?)
            }
            Order::Terminate { instance_id, power_off } => {
                self.power_off(hypervisor, instance_id, *power_off).await?;
                hypervisor.terminate(&InstanceId::new(instance_id)?).await?;
                Ok(self.cloud.change(|ec2, now| ec2.instance_powered_off(now, instance_id))?)
            }
            Order::CreateVolume { volume_id } => {
                self.create_volume(hypervisor, volume_id)?;
                Ok(self.cloud.change(|ec2, now| ec2.volume_created(now, volume_id))?)
            }
            Order::DeleteVolume { volume_id } => {
                match hypervisor.delete_volume(&VolumeId::new(volume_id)?) {
                    // A root volume is the machine's own directory, which went with it.
                    Ok(()) | Err(machine::Error::NoSuchVolume(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(self.cloud.change(|ec2, now| ec2.volume_deleted(now, volume_id))?)
            }
            Order::AttachVolume { volume_id, instance_id, .. } => {
                match hypervisor.attach(&VolumeId::new(volume_id)?, &InstanceId::new(instance_id)?).await {
                    // A machine that is off finds the volume when it boots.
                    Ok(()) | Err(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(self.cloud.change(|ec2, now| ec2.volume_attached(now, volume_id))?)
            }
            Order::AddressMoved { address, from, to } => {
                self.move_address(hypervisor, address, from.as_deref(), to.as_deref()).await
            }
            Order::DetachVolume { .. } | Order::GroupsReplaced { .. } | Order::StateChanged { .. } => Ok(()),
        }
    }

    async fn boot(&self, hypervisor: &Hypervisor, instance_id: &str) -> Result<(), HostError> {
        let Some((spec, is_first)) = self.cloud.look(|ec2, _| self.spec(ec2, instance_id)) else {
            return self.fail_boot(instance_id, "Server.InternalError", "the image cannot be started", Launch::First);
        };
        for volume in &spec.volumes {
            self.create_volume(hypervisor, volume.as_str())?;
        }
        match hypervisor.boot(&spec).await {
            Ok(()) | Err(machine::Error::AlreadyRunning(_)) => {
                Ok(self.cloud.change(|ec2, now| ec2.instance_booted(now, instance_id))?)
            }
            Err(error) => {
                tracing::error!(instance = instance_id, %error, "a machine did not boot");
                let code = match error {
                    machine::Error::Capacity(_) => "Server.InsufficientInstanceCapacity",
                    _ => "Server.InternalError",
                };
                self.fail_boot(instance_id, code, &error.to_string(), is_first)
            }
        }
    }

    /// A launch that fails ends terminated, a start that fails ends stopped (EC2 User Guide, "Instance terminates
    /// immediately" and "Troubleshoot launch issues").
    fn fail_boot(&self, instance_id: &str, code: &str, why: &str, launch: Launch) -> Result<(), HostError> {
        let reason = StateReason { code: code.into(), message: format!("{code}: {why}") };
        Ok(self.cloud.change(|ec2, now| match launch {
            Launch::First => ec2.instance_failed(now, instance_id, reason),
            Launch::Again => ec2.instance_powered_off(now, instance_id),
        })?)
    }

    async fn power_off(&self, hypervisor: &Hypervisor, instance_id: &str, how: PowerOff) -> Result<(), HostError> {
        let how = match how {
            PowerOff::AtOnce => Stop::Forced,
            // The hypervisor pulls the plug when a graceful stop takes too long, so the two are one.
            PowerOff::Graceful | PowerOff::GracefulThenForced => Stop::Graceful,
        };
        match hypervisor.stop(&InstanceId::new(instance_id)?, how).await {
            Ok(()) | Err(machine::Error::NoSuchMachine(_) | machine::Error::NotRunning(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn create_volume(&self, hypervisor: &Hypervisor, volume_id: &str) -> Result<(), HostError> {
        let volume = self.cloud.look(|ec2, _| ec2.volume(volume_id).map(|it| (it.size_gib, it.image_id.is_some())));
        match volume {
            Some((size_gib, false)) => {
                Ok(hypervisor.create_volume(&VolumeId::new(volume_id)?, u64::from(size_gib) << 30)?)
            }
            // A root volume is the machine's own directory.
            Some((_, true)) | None => Ok(()),
        }
    }

    /// Tries until the device is free, the machine is off, or nobody wants it any more.
    async fn detach(&self, volume_id: &str, instance_id: &str) {
        let Some(hypervisor) = &self.hypervisor else { return };
        let (Ok(volume), Ok(instance)) = (VolumeId::new(volume_id), InstanceId::new(instance_id)) else { return };
        let mut pause = tokio::time::interval(DETACH_RETRY);
        while self.is_detaching(volume_id, instance_id) {
            pause.tick().await;
            match hypervisor.detach(&volume, &instance).await {
                Err(machine::Error::VolumeInUse { .. }) => continue,
                Ok(()) | Err(machine::Error::NotAttached { .. } | machine::Error::NoSuchMachine(_)) => {}
                Err(error) => tracing::error!(%volume, %error, "a volume could not be detached"),
            }
            if let Err(error) = self.cloud.change(|ec2, now| ec2.volume_detached(now, volume_id)) {
                tracing::error!(%volume, %error, "a detachment is not on disk");
            }
            return;
        }
    }

    fn is_detaching(&self, volume_id: &str, instance_id: &str) -> bool {
        use drover_cloud::ec2::AttachmentState::Detaching;
        self.cloud.look(|ec2, _| {
            let attachment = ec2.volume(volume_id).and_then(|volume| volume.attachment.as_ref());
            attachment.is_some_and(|at| at.instance_id == instance_id && at.state == Detaching)
        })
    }

    async fn move_address(
        &self,
        hypervisor: &Hypervisor,
        address: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), HostError> {
        let Ok(address) = address.parse() else { return Ok(()) };
        let holder = |interface: Option<&str>| {
            let id =
                self.cloud.look(|ec2, _| Some(ec2.interface(interface?)?.attachment.as_ref()?.instance_id.clone()));
            id.and_then(|id| InstanceId::new(id).ok())
        };
        let off = |error: &machine::Error| matches!(error, machine::Error::NoSuchMachine(_));
        if let Some(id) = holder(from) {
            hypervisor
                .unassign_address(&id, address)
                .await
                .or_else(|error| if off(&error) { Ok(()) } else { Err(error) })?;
        }
        if let Some(id) = holder(to) {
            hypervisor
                .assign_address(&id, address)
                .await
                .or_else(|error| if off(&error) { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// What the hypervisor is asked for, and whether it is the machine's first boot. `None`: there is no such image.
    fn spec(&self, ec2: &Ec2, instance_id: &str) -> Option<(MachineSpec, Launch)> {
        let instance = ec2.instance(instance_id)?;
        let interface = ec2.interface(&instance.network_interface_id)?;
        let subnet = ec2.account().subnets.iter().find(|subnet| subnet.zone == instance.zone)?;
        let kind = ec2.account().instance_types.iter().find(|info| info.instance_type == instance.instance_type)?;
        let data = instance.block_devices.iter().filter(|device| device.device_name != instance.root_device_name);
        let spec = MachineSpec {
            id: InstanceId::new(instance_id).ok()?,
            image: self.images.find(ec2.image(&instance.image_id)?)?,
            private_ip: interface.primary_address().parse().ok()?,
            subnet: Subnet { address: subnet.cidr.base, prefix: subnet.cidr.prefix },
            mac: interface.mac_address.clone(),
            hostname: private_dns_name(interface.primary_address(), &instance.zone),
            memory_max: Some(u64::from(kind.memory_mib) << 20),
            metadata_hop_limit: instance.metadata_options.http_put_response_hop_limit,
            volumes: data.filter_map(|device| VolumeId::new(&device.volume_id).ok()).collect(),
        };
        let launch = if instance.launch_time == instance.created { Launch::First } else { Launch::Again };
        Some((spec, launch))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launch {
    First,
    Again,
}
