//! The border to whatever runs the machines: what a host must do, what it reports, and, where there is none, the automatic
//! host that lets every transition happen after its time.
//!
//! Every order follows from the state, so a host that lost its own memory gets what is still open from
//! [`Ec2::unfinished`]. Reports that no longer fit the state (a boot of an instance that is being terminated) do nothing.

use drover_api::Millis;
use serde::{Deserialize, Serialize};

use super::{
    AttachmentState, AutoRecovery, Ec2, Hosting, Instance, InstanceStateName, PowerOff, ShutdownBehavior, StateReason,
    VolumeState,
};

/// What a host has to do, or should know. In the order in which it became true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostEvent {
    /// Power it on, with the volumes in its `block_devices`; make those that do not exist yet. Report `instance_booted`.
    Boot { instance_id: String },
    /// Report `instance_powered_off` when it is off. May be repeated with a harder `power_off`.
    Stop { instance_id: String, power_off: PowerOff },
    /// As [`HostEvent::Stop`], for good.
    Terminate { instance_id: String, power_off: PowerOff },
    /// Nothing to report.
    Reboot { instance_id: String },
    /// Report `volume_created`.
    CreateVolume { volume_id: String },
    /// Report `volume_deleted`. Comes for root volumes too.
    DeleteVolume { volume_id: String },
    /// Report `volume_attached`; with the instance stopped, at once.
    AttachVolume { volume_id: String, instance_id: String, device: String },
    /// Report `volume_detached` when the device is not in use any more; at once when `forced`.
    DetachVolume { volume_id: String, instance_id: String, forced: bool },
    /// A secondary private address is now on interface `to` and no longer on `from`.
    AddressMoved { address: String, from: Option<String>, to: Option<String> },
    /// The interface's security groups are now exactly these.
    GroupsReplaced { network_interface_id: String, groups: Vec<String> },
    /// For information.
    StateChanged { instance_id: String, state: InstanceStateName },
}

/// What happens by itself at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Due {
    Booted { instance_id: String, turn: u64 },
    PoweredOff { instance_id: String, turn: u64 },
    Recovered { instance_id: String, turn: u64 },
    VolumeCreated(String),
    VolumeDeleted(String),
    VolumeAttached(String),
    VolumeDetached(String),
    AddressMoved { address: String, to: String },
    ForgetTags(String),
    Forget(String),
}

impl Ec2 {
    /// Lets time pass until `now` and hands out what a host must do since it was last asked.
    pub fn advance(&mut self, now: Millis) -> Vec<HostEvent> {
        self.settle(now);
        std::mem::take(&mut self.outbox)
    }

    /// When something will next happen by itself.
    pub fn next_due(&self) -> Option<Millis> {
        self.due.keys().next().copied()
    }

    /// Every order whose report is still awaited, for a host that starts anew beside a model that was kept.
    pub fn unfinished(&self) -> Vec<HostEvent> {
        let instances = self.instances.values().filter_map(|it| {
            let instance_id = it.instance_id.clone();
            let power_off = it.power_off.unwrap_or(PowerOff::Graceful);
            match it.state {
                InstanceStateName::Pending => Some(HostEvent::Boot { instance_id }),
                InstanceStateName::Stopping => Some(HostEvent::Stop { instance_id, power_off }),
                InstanceStateName::ShuttingDown => Some(HostEvent::Terminate { instance_id, power_off }),
                InstanceStateName::Running | InstanceStateName::Stopped | InstanceStateName::Terminated => None,
            }
        });
        let volumes = self.volumes.values().filter_map(|volume| {
            let volume_id = volume.volume_id.clone();
            match (volume.state, &volume.attachment) {
                (VolumeState::Creating, _) => Some(HostEvent::CreateVolume { volume_id }),
                (VolumeState::Deleting, _) => Some(HostEvent::DeleteVolume { volume_id }),
                (_, Some(at)) if at.state == AttachmentState::Attaching && !self.is_pending(&at.instance_id) => {
                    let (instance_id, device) = (at.instance_id.clone(), at.device.clone());
                    Some(HostEvent::AttachVolume { volume_id, instance_id, device })
                }
                (_, Some(at)) if at.state == AttachmentState::Detaching => {
                    let (instance_id, forced) = (at.instance_id.clone(), at.forced);
                    Some(HostEvent::DetachVolume { volume_id, instance_id, forced })
                }
                _ => None,
            }
        });
        volumes.chain(instances).collect()
    }

    /// The machine is up: pending becomes running.
    pub fn instance_booted(&mut self, now: Millis, instance_id: &str) {
        self.settle(now);
        self.booted(instance_id);
    }

    /// The machine is off: because it was told, or by itself, which InstanceInitiatedShutdownBehavior decides about.
    pub fn instance_powered_off(&mut self, now: Millis, instance_id: &str) {
        self.settle(now);
        self.powered_off(instance_id);
    }

    /// The machine could not be made: pending becomes terminated, with the reason (for example `Server.InternalError`).
    pub fn instance_failed(&mut self, now: Millis, instance_id: &str, reason: StateReason) {
        self.settle(now);
        if let Some(instance) = self.instances.get_mut(instance_id)
            && instance.state == InstanceStateName::Pending
        {
            instance.state_reason = Some(reason);
            self.finish_termination(instance_id);
        }
    }

    /// The hardware under a running machine is gone. Its state does not change; its status checks fail.
    pub fn host_lost(&mut self, now: Millis, instance_id: &str) {
        self.settle(now);
        let recovery = self.account.timings.auto_recovery;
        let Some(instance) = self.instances.get_mut(instance_id) else {
            return;
        };
        if instance.state != InstanceStateName::Running || instance.host_lost {
            return;
        }
        instance.host_lost = true;
        let (turn, recovers) = (instance.turn, instance.auto_recovery == AutoRecovery::Default);
        if let Some(after) = recovery.filter(|_| recovers) {
            self.schedule(after, Due::Recovered { instance_id: instance_id.into(), turn });
        }
    }

    pub fn volume_created(&mut self, now: Millis, volume_id: &str) {
        self.settle(now);
        self.created(volume_id);
    }

    pub fn volume_deleted(&mut self, now: Millis, volume_id: &str) {
        self.settle(now);
        self.deleted(volume_id);
    }

    pub fn volume_attached(&mut self, now: Millis, volume_id: &str) {
        self.settle(now);
        self.attached(volume_id);
    }

    pub fn volume_detached(&mut self, now: Millis, volume_id: &str) {
        self.settle(now);
        self.detached(volume_id);
    }

    /// Lets everything that is due until `now` happen, each at its own time.
    pub(super) fn settle(&mut self, now: Millis) {
        let target = self.now.max(now);
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= target) {
            self.now = self.now.max(*entry.key());
            for due in entry.remove() {
                self.happen(due);
            }
        }
        self.now = target;
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Booted { instance_id, turn } if self.is_turn(&instance_id, turn) => self.booted(&instance_id),
            Due::PoweredOff { instance_id, turn } if self.is_turn(&instance_id, turn) => {
                self.powered_off(&instance_id);
            }
            Due::Recovered { instance_id, turn } if self.is_turn(&instance_id, turn) => self.recovered(&instance_id),
            Due::Booted { .. } | Due::PoweredOff { .. } | Due::Recovered { .. } => {}
            Due::VolumeCreated(id) => self.created(&id),
            Due::VolumeDeleted(id) => self.deleted(&id),
            Due::VolumeAttached(id) => self.attached(&id),
            Due::VolumeDetached(id) => self.detached(&id),
            Due::AddressMoved { address, to } => self.move_address(&address, &to),
            Due::ForgetTags(id) => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.tags.clear();
                    instance.earlier_tags.clear();
                }
            }
            Due::Forget(id) => {
                self.instances.remove(&id);
            }
        }
    }

    pub(super) fn schedule(&mut self, after: std::time::Duration, due: Due) {
        self.due.entry(self.now.plus(after)).or_default().push(due);
    }

    /// Orders something of the host; the automatic host has it done after `after`.
    pub(super) fn order(&mut self, event: HostEvent, after: std::time::Duration, done: Due) {
        self.outbox.push(event);
        if self.account.hosting == Hosting::Automatic {
            self.schedule(after, done);
        }
    }

    pub(super) fn tell(&mut self, event: HostEvent) {
        self.outbox.push(event);
    }

    /// Changes an instance's state and says so.
    pub(super) fn enter(&mut self, instance_id: &str, state: InstanceStateName) -> u64 {
        let instance = known(self.instances.get_mut(instance_id));
        instance.state = state;
        instance.turn += 1;
        let turn = instance.turn;
        self.tell(HostEvent::StateChanged { instance_id: instance_id.into(), state });
        turn
    }

    fn booted(&mut self, instance_id: &str) {
        if !self.is_pending(instance_id) {
            return;
        }
        self.enter(instance_id, InstanceStateName::Running);
        let instance = known(self.instances.get_mut(instance_id));
        instance.running_since = Some(self.now);
        let volumes: Vec<String> = instance.block_devices.iter().map(|device| device.volume_id.clone()).collect();
        for volume_id in volumes {
            self.attached(&volume_id);
        }
    }

    fn recovered(&mut self, instance_id: &str) {
        let instance = known(self.instances.get_mut(instance_id));
        instance.host_lost = false;
        self.tell(HostEvent::Boot { instance_id: instance_id.into() });
    }

    fn powered_off(&mut self, instance_id: &str) {
        let Some(instance) = self.instances.get_mut(instance_id) else {
            return;
        };
        match (instance.state, instance.shutdown_behavior) {
            (InstanceStateName::Stopping, _) => self.finish_stop(instance_id),
            (InstanceStateName::ShuttingDown, _) => self.finish_termination(instance_id),
            (InstanceStateName::Pending | InstanceStateName::Running, behavior) => {
                let code = "Client.InstanceInitiatedShutdown";
                let message = format!("{code}: Instance initiated shutdown");
                instance.state_reason = Some(StateReason { code: code.into(), message });
                // DisableApiTermination guards the API only ("Enable termination protection").
                match behavior {
                    ShutdownBehavior::Stop => self.finish_stop(instance_id),
                    ShutdownBehavior::Terminate => self.finish_termination(instance_id),
                }
            }
            (InstanceStateName::Stopped | InstanceStateName::Terminated, _) => {}
        }
    }

    fn finish_stop(&mut self, instance_id: &str) {
        self.enter(instance_id, InstanceStateName::Stopped);
        let instance = known(self.instances.get_mut(instance_id));
        instance.power_off = None;
        instance.running_since = None;
        instance.host_lost = false;
        let volumes: Vec<String> = instance.block_devices.iter().map(|device| device.volume_id.clone()).collect();
        for volume_id in volumes {
            self.attached(&volume_id);
            self.detached(&volume_id);
        }
    }

    pub(super) fn finish_termination(&mut self, instance_id: &str) {
        self.enter(instance_id, InstanceStateName::Terminated);
        let instance = known(self.instances.get_mut(instance_id));
        instance.power_off = None;
        instance.running_since = None;
        let interface_id = instance.network_interface_id.clone();
        let devices = std::mem::take(&mut instance.block_devices);
        for device in devices {
            self.release_volume(&device.volume_id);
        }
        self.release_interface(&interface_id);
        let timings = self.account.timings.clone();
        self.schedule(timings.terminated_tags, Due::ForgetTags(instance_id.into()));
        self.schedule(timings.terminated_listed, Due::Forget(instance_id.into()));
    }

    pub(super) fn is_pending(&self, instance_id: &str) -> bool {
        self.instances.get(instance_id).is_some_and(|it| it.state == InstanceStateName::Pending)
    }

    fn is_turn(&self, instance_id: &str, turn: u64) -> bool {
        self.instances.get(instance_id).is_some_and(|it| it.turn == turn)
    }
}

/// For ids that the model itself handed on, or that the action looked up before.
pub(super) fn known(instance: Option<&mut Instance>) -> &mut Instance {
    instance.expect("an instance that was just looked up is there: only `Forget` removes one, and no action runs it")
}
