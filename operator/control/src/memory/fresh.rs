//! Our own recent writes, laid over lists that do not show them yet (law 6): EC2's lists are eventually consistent, and a
//! list may be older than what we just did. Nothing is believed without a list for longer than [`BELIEVED`].

use std::{collections::BTreeMap, time::Duration};

use drover_api::{InstanceId, VolumeId, launch::DATA_DEVICE, tags::Tags};
use drover_cloud::{
    machines::{Machine, MachineState},
    volumes::{Attachment, AttachmentState, Volume, VolumeState},
};

/// EC2 shows a new machine to a list after seconds to minutes (EC2 documentation, "Eventual consistency").
pub const BELIEVED: Duration = Duration::from_secs(300);

/// What we saw in answers to our own calls. All times are monotonic.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    machines: BTreeMap<InstanceId, At<Machine>>,
    ended: BTreeMap<InstanceId, At<()>>,
    /// By key; `None` is a tag that was taken away.
    tagged: BTreeMap<InstanceId, At<BTreeMap<String, Option<String>>>>,
    volumes: BTreeMap<VolumeId, At<Volume>>,
    attached: BTreeMap<VolumeId, At<InstanceId>>,
    kept: BTreeMap<VolumeId, At<()>>,
    deleted: BTreeMap<VolumeId, At<Volume>>,
}

#[derive(Clone, Debug)]
struct At<T> {
    at: Duration,
    value: T,
}

// === impl Fresh ===

impl Fresh {
    /// Launched, or found by id or by token.
    pub fn machine(&mut self, machine: Machine, at: Duration) {
        self.machines.insert(machine.id.clone(), At { at, value: machine });
    }

    /// TerminateInstances was answered.
    pub fn ended(&mut self, id: &InstanceId, at: Duration) {
        self.ended.insert(id.clone(), At { at, value: () });
    }

    /// CreateTags was answered.
    pub fn tagged(&mut self, id: &InstanceId, tags: &Tags, at: Duration) {
        self.retagged(id, tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))), at);
    }

    /// DeleteTags was answered.
    pub fn untagged(&mut self, id: &InstanceId, key: String, at: Duration) {
        self.retagged(id, [(key, None)], at);
    }

    fn retagged(&mut self, id: &InstanceId, tags: impl IntoIterator<Item = (String, Option<String>)>, at: Duration) {
        let known = self.tagged.entry(id.clone()).or_insert(At { at, value: BTreeMap::new() });
        known.at = at;
        known.value.extend(tags);
    }

    /// Created, or found by id.
    pub fn volume(&mut self, volume: Volume, at: Duration) {
        self.volumes.insert(volume.id.clone(), At { at, value: volume });
    }

    /// AttachVolume was answered.
    pub fn attached(&mut self, volume: &VolumeId, instance: &InstanceId, at: Duration) {
        let value = instance.clone();
        self.attached.insert(volume.clone(), At { at, value });
    }

    /// ModifyInstanceAttribute was answered: the volume is not deleted together with its machine.
    pub fn kept(&mut self, volume: &VolumeId, at: Duration) {
        self.kept.insert(volume.clone(), At { at, value: () });
    }

    /// DeleteVolume was answered, for a volume that looked like this. Once a later list does not show it, it is deleted: that
    /// is the one case in which absence from a list is an end, because EC2 confirmed it before.
    pub fn deleted(&mut self, mut volume: Volume, at: Duration) {
        volume.state = VolumeState::Deleting;
        volume.attachment = None;
        self.deleted.insert(volume.id.clone(), At { at, value: volume });
    }

    /// Something of ours is not shown yet: worth another list before the interval ends.
    pub fn awaits_machines(&self) -> bool {
        !self.machines.is_empty() || !self.ended.is_empty() || !self.tagged.is_empty()
    }

    pub fn awaits_volumes(&self) -> bool {
        let unseen = !self.volumes.is_empty() || !self.attached.is_empty() || !self.kept.is_empty();
        unseen || self.deleted.values().any(ending)
    }

    /// A complete machine list that began at `began` ended. Forgets what it shows, and what is older than [`BELIEVED`].
    pub fn machines_listed(&mut self, listed: &BTreeMap<InstanceId, Machine>, began: Duration) {
        let old = |at: Duration| began.saturating_sub(at) > BELIEVED;
        let shows = |id: &InstanceId, at: Duration| began >= at && listed.contains_key(id);
        self.machines.retain(|id, seen| !old(seen.at) && !shows(id, seen.at));
        self.ended.retain(|id, seen| {
            let over = listed.get(id).is_some_and(|machine| machine.state >= MachineState::ShuttingDown);
            !old(seen.at) && !over
        });
        self.tagged.retain(|id, seen| {
            let shown =
                |machine: &Machine| seen.value.iter().all(|(key, value)| machine.tags.get(key) == value.as_ref());
            !(old(seen.at) || began >= seen.at && listed.get(id).is_some_and(shown))
        });
    }

    /// The same for volumes.
    pub fn volumes_listed(&mut self, listed: &BTreeMap<VolumeId, Volume>, began: Duration) {
        let old = |at: Duration| began.saturating_sub(at) > BELIEVED;
        self.volumes.retain(|id, seen| !(old(seen.at) || began >= seen.at && listed.contains_key(id)));
        self.attached.retain(|id, seen| {
            let shown = |volume: &Volume| volume.attachment.as_ref().is_some_and(|a| a.instance == seen.value);
            !old(seen.at) && !listed.get(id).is_some_and(shown)
        });
        self.kept.retain(|id, seen| {
            let shown =
                |volume: &Volume| volume.attachment.as_ref().is_none_or(|a| a.delete_on_termination != Some(true));
            !(old(seen.at) || began >= seen.at && listed.get(id).is_none_or(shown))
        });
        self.deleted.retain(|_, seen| !old(seen.at));
        for (id, seen) in &mut self.deleted {
            if began >= seen.at && !listed.contains_key(id) {
                seen.value.state = VolumeState::Deleted;
            }
        }
    }

    /// The last list, as it would look if it showed everything of ours.
    pub fn over_machines(&self, listed: &BTreeMap<InstanceId, Machine>) -> BTreeMap<InstanceId, Machine> {
        let mut machines = listed.clone();
        for (id, seen) in &self.machines {
            let shown = machines.get(id).map(|machine| machine.state);
            // A machine's states only go forward here: Drover stops none and starts none.
            if shown.is_none_or(|state| state <= seen.value.state) {
                machines.insert(id.clone(), seen.value.clone());
            }
        }
        for id in self.ended.keys() {
            if let Some(machine) = machines.get_mut(id) {
                machine.state = machine.state.max(MachineState::ShuttingDown);
            }
        }
        for (id, seen) in &self.tagged {
            if let Some(machine) = machines.get_mut(id) {
                for (key, value) in &seen.value {
                    match value {
                        Some(value) => machine.tags.insert(key.clone(), value.clone()),
                        None => machine.tags.remove(key),
                    };
                }
            }
        }
        machines
    }

    pub fn over_volumes(&self, listed: &BTreeMap<VolumeId, Volume>) -> BTreeMap<VolumeId, Volume> {
        let mut volumes = listed.clone();
        for (id, seen) in &self.volumes {
            volumes.entry(id.clone()).or_insert_with(|| seen.value.clone());
        }
        for (id, seen) in &self.attached {
            if let Some(volume) = volumes.get_mut(id)
                && volume.attachment.is_none()
            {
                volume.state = VolumeState::InUse;
                volume.attachment = Some(Attachment {
                    instance: seen.value.clone(),
                    state: AttachmentState::Attaching,
                    device: DATA_DEVICE.to_owned(),
                    delete_on_termination: None,
                });
            }
        }
        for id in self.kept.keys() {
            if let Some(attachment) = volumes.get_mut(id).and_then(|volume| volume.attachment.as_mut()) {
                attachment.delete_on_termination = Some(false);
            }
        }
        volumes.extend(self.deleted.iter().map(|(id, seen)| (id.clone(), seen.value.clone())));
        volumes
    }
}

fn ending(seen: &At<Volume>) -> bool {
    seen.value.state == VolumeState::Deleting
}

#[cfg(test)]
mod tests {
    use drover_api::{ImageId, Millis, Zone};

    use super::*;

    fn id(n: u8) -> InstanceId {
        InstanceId::new(format!("i-{n}")).expect("instance")
    }

    fn machine(n: u8, state: MachineState) -> Machine {
        Machine {
            id: id(n),
            state,
            state_reason: None,
            zone: Zone::new("a").expect("zone"),
            subnet: None,
            private_ip: None,
            instance_type: "m7i.large".into(),
            image: ImageId::new("ami-1").expect("image"),
            token: None,
            launched: Millis(0),
            tags: Tags::new(),
            volumes: vec![],
        }
    }

    fn volume() -> Volume {
        Volume {
            id: VolumeId::new("vol-1").expect("volume"),
            state: VolumeState::Available,
            zone: Zone::new("a").expect("zone"),
            size_gib: 1,
            volume_type: "gp3".into(),
            iops: Some(3_000),
            throughput_mibps: Some(125),
            created: Millis(0),
            tags: Tags::new(),
            attachment: None,
        }
    }

    fn list(machines: &[Machine]) -> BTreeMap<InstanceId, Machine> {
        machines.iter().map(|m| (m.id.clone(), m.clone())).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn states(fresh: &Fresh, listed: &[Machine]) -> Vec<MachineState> {
        fresh.over_machines(&list(listed)).values().map(|m| m.state).collect()
    }

    #[test]
    fn a_launched_machine_is_there_until_a_list_shows_it() {
        let mut fresh = Fresh::default();
        fresh.machine(machine(1, MachineState::Pending), at(10));
        fresh.machines_listed(&list(&[]), at(20));
        assert_eq!(states(&fresh, &[]), [MachineState::Pending]);
        assert!(fresh.awaits_machines());
        fresh.machines_listed(&list(&[machine(1, MachineState::Running)]), at(30));
        assert!(!fresh.awaits_machines());
        assert_eq!(states(&fresh, &[]), []);
    }

    #[test]
    fn nothing_is_believed_without_a_list_for_ever() {
        let mut fresh = Fresh::default();
        fresh.machine(machine(1, MachineState::Pending), at(10));
        fresh.tagged(&id(1), &Tags::from([("k".into(), "v".into())]), at(10));
        fresh.ended(&id(1), at(10));
        fresh.machines_listed(&list(&[]), at(310));
        assert!(fresh.awaits_machines());
        fresh.machines_listed(&list(&[]), at(311));
        assert!(!fresh.awaits_machines());
    }

    #[test]
    fn a_list_that_began_before_our_call_does_not_undo_it() {
        let mut fresh = Fresh::default();
        fresh.tagged(&id(1), &Tags::from([("drover:role".into(), "primary".into())]), at(10));
        fresh.machine(machine(1, MachineState::Terminated), at(10));
        let before = machine(1, MachineState::Running);
        fresh.machines_listed(&list(std::slice::from_ref(&before)), at(9));
        let over = fresh.over_machines(&list(&[before]));
        assert_eq!(over[&id(1)].state, MachineState::Terminated);
        assert_eq!(over[&id(1)].tags["drover:role"], "primary");
    }

    #[test]
    fn a_terminated_machine_is_shutting_down_although_a_list_says_running() {
        let mut fresh = Fresh::default();
        fresh.ended(&id(1), at(10));
        let running = machine(1, MachineState::Running);
        fresh.machines_listed(&list(std::slice::from_ref(&running)), at(20));
        assert_eq!(states(&fresh, &[running]), [MachineState::ShuttingDown]);
        let over = machine(1, MachineState::Terminated);
        fresh.machines_listed(&list(std::slice::from_ref(&over)), at(30));
        assert!(!fresh.awaits_machines());
        assert_eq!(states(&fresh, &[over]), [MachineState::Terminated]);
    }

    #[test]
    fn a_person_who_changes_a_tag_after_us_is_seen() {
        let mut fresh = Fresh::default();
        let ours = Tags::from([("drover:role".into(), "primary".into())]);
        fresh.tagged(&id(1), &ours, at(10));
        let mut shown = machine(1, MachineState::Running);
        shown.tags = ours;
        fresh.machines_listed(&list(std::slice::from_ref(&shown)), at(20));
        shown.tags.insert("drover:role".into(), "replica".into());
        assert_eq!(fresh.over_machines(&list(&[shown]))[&id(1)].tags["drover:role"], "replica");
    }

    #[test]
    fn a_kept_volume_is_kept_until_a_list_that_began_later_says_so() {
        let attachment = |delete| Attachment {
            instance: id(1),
            state: AttachmentState::Attached,
            device: DATA_DEVICE.into(),
            delete_on_termination: Some(delete),
        };
        let volume = |delete| Volume { attachment: Some(attachment(delete)), ..volume() };
        let listed = |delete| BTreeMap::from([(volume(delete).id, volume(delete))]);
        let told = |fresh: &Fresh| {
            let over = fresh.over_volumes(&listed(true));
            over.into_values().next().and_then(|volume| volume.attachment?.delete_on_termination)
        };
        let mut fresh = Fresh::default();
        fresh.kept(&volume(true).id, at(10));
        fresh.volumes_listed(&listed(true), at(20));
        assert_eq!((told(&fresh), fresh.awaits_volumes()), (Some(false), true));
        fresh.volumes_listed(&listed(false), at(30));
        assert_eq!((told(&fresh), fresh.awaits_volumes()), (Some(true), false), "a later change is seen");
    }

    #[test]
    fn an_attached_volume_is_attaching_until_a_list_shows_it() {
        let volume = volume();
        let listed = BTreeMap::from([(volume.id.clone(), volume.clone())]);
        let mut fresh = Fresh::default();
        fresh.attached(&volume.id, &id(1), at(10));
        fresh.volumes_listed(&listed, at(20));
        let over = fresh.over_volumes(&listed);
        assert_eq!(over[&volume.id].attachment.as_ref().map(|a| a.instance.clone()), Some(id(1)));
        fresh.deleted(volume.clone(), at(21));
        assert_eq!(fresh.over_volumes(&listed)[&volume.id].state, VolumeState::Deleting);
        fresh.volumes_listed(&BTreeMap::new(), at(20));
        assert!(fresh.deleted.values().any(ending), "a list that began before the deletion says nothing about it");
        fresh.volumes_listed(&BTreeMap::new(), at(30));
        assert_eq!(fresh.over_volumes(&BTreeMap::new())[&volume.id].state, VolumeState::Deleted);
        fresh.volumes_listed(&BTreeMap::new(), at(400));
        assert_eq!(fresh.over_volumes(&BTreeMap::new()), BTreeMap::new());
    }
}
