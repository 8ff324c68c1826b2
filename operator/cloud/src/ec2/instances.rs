//! Start, stop, reboot and terminate: which states allow them, what protects from them, what they lead to.

use std::collections::BTreeSet;

use super::{
    ApiError, Ec2, HostEvent, Instance, InstanceStateChange, InstanceStateName, InstanceTypeInfo, PowerOff,
    RebootInstances, STANDARD_VCPUS, StartInstances, StateReason, StopInstances, TerminateInstances,
    calls::{action, sealed::Run},
    host::{Due, known},
    ids,
};

action!(StartInstances, mutating);
action!(StopInstances, mutating);
action!(RebootInstances, mutating);
action!(TerminateInstances, mutating);

impl Run for StartInstances {
    type Reply = Vec<InstanceStateChange>;

    fn run(&self, ec2: &mut Ec2) -> Result<Vec<InstanceStateChange>, ApiError> {
        let found = ec2.ordered(&self.instance_ids)?;
        for it in &found {
            match it.state {
                InstanceStateName::Pending | InstanceStateName::Running => {}
                InstanceStateName::Stopped => {
                    ec2.require_capacity(&it.zone, &it.instance_type)?;
                    if !it.block_devices.iter().any(|device| device.device_name == it.root_device_name) {
                        let message = format!("Instance '{}' does not have a volume attached at root", it.instance_id);
                        return Err(ApiError::new("IncorrectInstanceState", message));
                    }
                }
                _ => return Err(wrong_state(it, "started")),
            }
        }
        let stopped = found.iter().filter(|it| it.state == InstanceStateName::Stopped);
        ec2.require_vcpus(stopped.map(|it| it.instance_type.as_str()))?;
        Ok(ec2.change(&self.instance_ids, |ec2, id| {
            if ec2.instances.get(id).is_some_and(|it| it.state == InstanceStateName::Stopped) {
                let instance = known(ec2.instances.get_mut(id));
                instance.launch_time = ec2.now;
                instance.state_reason = None;
                instance.state_transition_reason.clear();
                ec2.begin_boot(id);
            }
        }))
    }

    fn instances(&self) -> u32 {
        count(&self.instance_ids)
    }
}

impl Run for StopInstances {
    type Reply = Vec<InstanceStateChange>;

    fn run(&self, ec2: &mut Ec2) -> Result<Vec<InstanceStateChange>, ApiError> {
        let found = ec2.ordered(&self.instance_ids)?;
        if self.hibernate {
            let message = "Hibernation is not configured for the specified instances";
            return Err(ApiError::new("UnsupportedHibernationConfiguration", message));
        }
        for it in &found {
            if !matches!(
                it.state,
                InstanceStateName::Running | InstanceStateName::Stopping | InstanceStateName::Stopped
            ) {
                return Err(wrong_state(it, "stopped"));
            }
        }
        let power_off = power_off(self.force, self.skip_os_shutdown);
        ec2.change_unprotected(
            &self.instance_ids,
            "stopped",
            |it| (it.disable_api_stop && it.state == InstanceStateName::Running).then_some("disableApiStop"),
            |ec2, id| {
                ec2.begin_stop(id, power_off);
            },
        )
    }

    fn instances(&self) -> u32 {
        count(&self.instance_ids)
    }
}

impl Run for TerminateInstances {
    type Reply = Vec<InstanceStateChange>;

    fn run(&self, ec2: &mut Ec2) -> Result<Vec<InstanceStateChange>, ApiError> {
        ec2.ordered(&self.instance_ids)?;
        let power_off = power_off(self.force, self.skip_os_shutdown);
        ec2.change_unprotected(
            &self.instance_ids,
            "terminated",
            |it| match (it.disable_api_termination, it.disable_api_stop) {
                _ if is_ending(it) => None,
                (true, _) => Some("disableApiTermination"),
                // "Stop protection also protects your instance from accidental termination" ("Enable stop protection").
                (false, true) => Some("disableApiStop"),
                (false, false) => None,
            },
            |ec2, id| ec2.begin_termination(id, power_off),
        )
    }

    fn instances(&self) -> u32 {
        count(&self.instance_ids)
    }
}

impl Run for RebootInstances {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        let mut running = Vec::new();
        for it in ec2.ordered(&self.instance_ids)? {
            match it.state {
                InstanceStateName::Running => running.push(it.instance_id.clone()),
                // "Requests to reboot terminated instances are ignored" (API reference of RebootInstances).
                InstanceStateName::Terminated => {}
                _ => return Err(wrong_state(it, "rebooted")),
            }
        }
        for instance_id in running {
            ec2.tell(HostEvent::Reboot { instance_id });
        }
        Ok(())
    }
}

/// Ending it again is no news, whatever protects it by now.
fn is_ending(instance: &Instance) -> bool {
    matches!(instance.state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
}

fn count(ids: &[String]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}

/// Force alone still tries a graceful shutdown first; SkipOsShutdown does not (API reference of StopInstances).
fn power_off(force: bool, skip_os_shutdown: bool) -> PowerOff {
    match (force, skip_os_shutdown) {
        (_, true) => PowerOff::AtOnce,
        (true, false) => PowerOff::GracefulThenForced,
        (false, false) => PowerOff::Graceful,
    }
}

fn wrong_state(instance: &Instance, verb: &str) -> ApiError {
    let message = format!("The instance '{}' is not in a state from which it can be {verb}.", instance.instance_id);
    ApiError::new("IncorrectInstanceState", message)
}

impl Ec2 {
    /// The instances of an order: at least one, and every id good, or nothing happens to any.
    fn ordered(&self, instance_ids: &[String]) -> Result<Vec<&Instance>, ApiError> {
        if instance_ids.is_empty() {
            return Err(ApiError::missing("InstanceId"));
        }
        if instance_ids.len() > 1000 {
            return Err(ApiError::value("At most 1000 instances can be named in one request"));
        }
        self.named_instances(instance_ids)
    }

    /// Does it to each instance and reports the states before and after, in the order of the request.
    fn change(&mut self, instance_ids: &[String], each: impl Fn(&mut Ec2, &str)) -> Vec<InstanceStateChange> {
        let mut seen = BTreeSet::new();
        let mut changes = Vec::new();
        for id in instance_ids.iter().filter(|id| seen.insert(id.as_str())) {
            let state = |ec2: &Ec2| ec2.instances.get(id).map(|it| it.state);
            let before = state(self);
            each(self, id);
            if let (Some(previous_state), Some(current_state)) = (before, state(self)) {
                changes.push(InstanceStateChange { instance_id: id.clone(), previous_state, current_state });
            }
        }
        changes
    }

    /// A protected instance keeps every instance of its zone as it is and makes the call fail; instances of other zones change
    /// nevertheless (API reference of TerminateInstances). `guard` names the attribute that protects an instance.
    fn change_unprotected(
        &mut self,
        instance_ids: &[String],
        verb: &str,
        guard: impl Fn(&Instance) -> Option<&'static str>,
        each: impl Fn(&mut Ec2, &str),
    ) -> Result<Vec<InstanceStateChange>, ApiError> {
        let named: Vec<&Instance> = instance_ids.iter().filter_map(|id| self.instances.get(id)).collect();
        let guarded: Vec<(&Instance, &str)> = named.iter().filter_map(|it| Some((*it, guard(it)?))).collect();
        let zones: BTreeSet<&str> = guarded.iter().map(|(it, _)| it.zone.as_str()).collect();
        let refusal = guarded.first().map(|(it, flag)| {
            let id = &it.instance_id;
            let message =
                format!("The instance '{id}' may not be {verb}. Modify its '{flag}' instance attribute and try again.");
            ApiError::new("OperationNotPermitted", message)
        });
        let free: Vec<String> =
            named.iter().filter(|it| !zones.contains(it.zone.as_str())).map(|it| it.instance_id.clone()).collect();
        let changes = self.change(&free, each);
        refusal.map_or(Ok(changes), Err)
    }

    /// Into pending, on whatever host there is.
    pub(super) fn begin_boot(&mut self, instance_id: &str) {
        let turn = self.enter(instance_id, InstanceStateName::Pending);
        let after = self.account.timings.boot;
        let instance_id = instance_id.to_owned();
        self.order(HostEvent::Boot { instance_id: instance_id.clone() }, after, Due::Booted { instance_id, turn });
    }

    /// Into stopping; from there only a harder way of powering off changes anything.
    fn begin_stop(&mut self, instance_id: &str, power_off: PowerOff) {
        let instance = known(self.instances.get_mut(instance_id));
        let harder = instance.state == InstanceStateName::Stopping && harder(instance.power_off, power_off);
        if instance.state != InstanceStateName::Running && !harder {
            return;
        }
        let after = self.user_ends(instance_id, power_off);
        let turn = self.enter(instance_id, InstanceStateName::Stopping);
        let instance_id = instance_id.to_owned();
        let event = HostEvent::Stop { instance_id: instance_id.clone(), power_off };
        self.order(event, after, Due::PoweredOff { instance_id, turn });
    }

    /// Into shutting-down, or at once into terminated where nothing runs.
    fn begin_termination(&mut self, instance_id: &str, power_off: PowerOff) {
        let instance = known(self.instances.get_mut(instance_id));
        let harder = harder(instance.power_off, power_off);
        match instance.state {
            InstanceStateName::Terminated => return,
            InstanceStateName::ShuttingDown if !harder => return,
            _ => {}
        }
        let stopped = instance.state == InstanceStateName::Stopped;
        let power_off = if stopped { PowerOff::AtOnce } else { power_off };
        let after = self.user_ends(instance_id, power_off);
        let turn = self.enter(instance_id, InstanceStateName::ShuttingDown);
        let instance_id = instance_id.to_owned();
        let event = HostEvent::Terminate { instance_id: instance_id.clone(), power_off };
        self.order(event, after, Due::PoweredOff { instance_id, turn });
    }

    /// Notes who ends it and how; answers how long the automatic host takes.
    fn user_ends(&mut self, instance_id: &str, power_off: PowerOff) -> std::time::Duration {
        let when = super::time(self.now);
        let instance = known(self.instances.get_mut(instance_id));
        instance.power_off = Some(power_off);
        let code = "Client.UserInitiatedShutdown";
        instance.state_reason =
            Some(StateReason { code: code.into(), message: format!("{code}: User initiated shutdown") });
        let when = when.replace('T', " ").split('.').next().unwrap_or_default().to_owned();
        instance.state_transition_reason = format!("User initiated ({when} GMT)");
        let timings = &self.account.timings;
        if power_off == PowerOff::AtOnce || instance.host_lost { timings.at_once } else { timings.graceful }
    }

    pub(super) fn type_info(&self, instance_type: &str) -> Option<&InstanceTypeInfo> {
        self.account.instance_types.iter().find(|it| it.instance_type == instance_type)
    }

    /// The quota of running vCPUs, with what is about to be started.
    pub(super) fn require_vcpus<'a>(&self, starting: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
        let Some(max) = self.quota(STANDARD_VCPUS) else {
            return Ok(());
        };
        let vcpus = |name: &str| self.type_info(name).map_or(0, |info| info.vcpus);
        let on = |it: &&Instance| !matches!(it.state, InstanceStateName::Stopped | InstanceStateName::Terminated);
        let used: u32 = self.instances.values().filter(on).map(|it| vcpus(&it.instance_type)).sum();
        let wanted: u32 = starting.map(vcpus).sum();
        if wanted > 0 && used + wanted > max {
            let message = format!("You have requested more vCPU capacity than your current vCPU limit of {max} allows");
            return Err(ApiError::new("VcpuLimitExceeded", message));
        }
        Ok(())
    }

    /// An instance that exists and is visible, for the attribute actions.
    pub(super) fn find_instance(&self, instance_id: &str) -> Result<&Instance, ApiError> {
        ids::INSTANCE.check(instance_id)?;
        let found = self.visible_instance(instance_id).ok_or_else(|| ids::INSTANCE.missing(&[instance_id]))?;
        self.require_zone(&found.zone)?;
        Ok(found)
    }
}

fn harder(current: Option<PowerOff>, wanted: PowerOff) -> bool {
    let rank = |it| match it {
        PowerOff::Graceful => 0,
        PowerOff::GracefulThenForced => 1,
        PowerOff::AtOnce => 2,
    };
    current.is_none_or(|current| rank(wanted) > rank(current))
}
