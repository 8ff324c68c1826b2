//! What a plan leads to, as far as that can be told beforehand: each action is taken to succeed at once, and the next plan is
//! made of that. It ends where an agent's word is needed. For people only: nothing of it is ever executed.

use std::collections::BTreeMap;

use drover_api::{
    ClientToken, InstanceId, ResourceKey, Slot,
    launch::{LaunchRequest, VolumeRequest},
    records::SlotRecord,
    secrets::SetSecret,
    tags::{self, SpecHash, TagVerdict},
};
use drover_plan::{
    Action, Observed, Plan, Planned,
    observed::{Machine, Phase, Seen, SetRecords, Volume, VolumePhase, VolumeShape},
};

/// A set's life from nothing to the first word of its agents takes about ten plans.
const ROUNDS_MAX: usize = 32;

/// What the ids of machines and volumes begin with that are not there yet.
const NEW_MACHINE: &str = "i-new";
const NEW_VOLUME: &str = "vol-new";

/// All actions, by set, in the order in which they would be done.
pub fn forecast(observed: &Observed, plan: fn(&Observed) -> Plan) -> BTreeMap<ResourceKey, Vec<Planned>> {
    let mut world = observed.clone();
    let mut told: BTreeMap<ResourceKey, Vec<Planned>> = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        let mut is_over = true;
        for (key, actions) in plan(&world).actions {
            let told = told.entry(key.clone()).or_default();
            for planned in actions {
                // What the world would not answer is asked for again and again: said once.
                if told.iter().any(|known| known.action == planned.action) {
                    continue;
                }
                is_over = false;
                succeed(&mut world, &key, &planned.action);
                told.push(Planned { why: reason(told, &planned), ..planned });
            }
        }
        if is_over {
            break;
        }
    }
    for actions in told.values_mut() {
        actions.retain(|planned| !is_understood(&planned.action));
    }
    told.retain(|_, actions| !actions.is_empty());
    told
}

/// A launch is done because it is recorded; a person wants to know why it was recorded.
fn reason(told: &[Planned], planned: &Planned) -> String {
    let (Action::Launch { slot, .. } | Action::CreateVolume { slot, .. }) = &planned.action else {
        return planned.why.clone();
    };
    let recorded = told.iter().rev().find(|known| {
        matches!(&known.action, Action::PutSlot { slot: of, record, .. }
            if of == slot && tokens(record).any(|token| requests(&planned.action, token)))
    });
    recorded.map_or_else(|| planned.why.clone(), |recorded| recorded.why.clone())
}

fn tokens(record: &SlotRecord) -> impl Iterator<Item = &ClientToken> {
    let machine = record.launch.as_ref().map(|request| &request.token);
    machine.into_iter().chain(record.volume_request.as_ref().map(|request| &request.token))
}

fn requests(action: &Action, token: &ClientToken) -> bool {
    match action {
        Action::Launch { request, .. } => request.token == *token,
        Action::CreateVolume { request, .. } => request.token == *token,
        _ => false,
    }
}

/// That a new volume is attached goes without saying, and its id would be an invention.
fn is_understood(action: &Action) -> bool {
    matches!(action, Action::Attach { volume, .. } if volume.as_str().starts_with(NEW_VOLUME))
}

/// The world as it would be after the action.
fn succeed(world: &mut Observed, key: &ResourceKey, action: &Action) {
    match action {
        Action::Launch { slot, request } => launched(world, *slot, request),
        Action::CreateVolume { slot, request } => created(world, *slot, request),
        Action::Attach { volume, instance } => {
            if let Some(volume) = world.fleet.volumes.get_mut(volume) {
                volume.phase = VolumePhase::Attached;
                volume.attached_to = Some(instance.clone());
            }
        }
        Action::KeepVolume { volume, .. } => {
            if let Some(volume) = world.fleet.volumes.get_mut(volume) {
                volume.deleted_with = None;
            }
        }
        Action::Terminate { instance } => {
            if let Some(machine) = world.fleet.machines.get_mut(instance) {
                machine.phase = Phase::Terminated;
            }
            for volume in
                world.fleet.volumes.values_mut().filter(|volume| volume.attached_to.as_ref() == Some(instance))
            {
                volume.attached_to = None;
                volume.phase = VolumePhase::Available;
            }
        }
        Action::DeleteVolume { volume } => {
            if let Some(volume) = world.fleet.volumes.get_mut(volume) {
                volume.phase = VolumePhase::Deleted;
            }
        }
        Action::Tag { instance, tags } => {
            if let Some(machine) = world.fleet.machines.get_mut(instance) {
                machine.role = tags::read_role(tags).or(machine.role);
            }
        }
        Action::Hold { instance } => hold(world, instance, true),
        Action::Release { instance } => hold(world, instance, false),
        Action::FindByToken { .. } | Action::LookUpMachine { .. } | Action::LookUpVolume { .. } => {}
        Action::Unprotect { .. } | Action::Order { .. } | Action::Upgrade { .. } => {}
        Action::PutIncarnation { .. }
        | Action::CreateCa { .. }
        | Action::PutRegister { .. }
        | Action::PutJournal { .. }
        | Action::CreateBundle { .. }
        | Action::PutSlot { .. } => {
            if let Seen::Known(records) = world.records.entry(key.clone()).or_insert(Seen::Known(SetRecords::default()))
            {
                written(records, action);
            }
        }
    }
}

fn hold(world: &mut Observed, instance: &InstanceId, held: bool) {
    if let Some(machine) = world.fleet.machines.get_mut(instance) {
        machine.held = held;
    }
}

fn written(records: &mut SetRecords, action: &Action) {
    match action {
        Action::PutIncarnation { record, .. } => {
            let known = records.incarnation.as_ref().map(|known| &known.incarnation);
            if known != Some(&record.incarnation) {
                *records = SetRecords::default();
            }
            records.incarnation = Some(record.clone());
        }
        Action::CreateCa { .. } => records.secret = Some(SetSecret("forecast".into())),
        Action::PutRegister { register, .. } => records.register = Some(register.as_ref().clone()),
        Action::PutJournal { register, .. } => {
            records.journal.insert(register.epoch);
        }
        Action::CreateBundle { slot, .. } => {
            records.bundles.insert(*slot);
        }
        Action::PutSlot { slot, record, .. } => {
            records.slots.insert(*slot, record.as_ref().clone());
        }
        _ => {}
    }
}

fn launched(world: &mut Observed, slot: Slot, request: &LaunchRequest) {
    let TagVerdict::Ours { identity, attempt } = tags::read(&world.realm, &request.tags) else {
        return;
    };
    let id = format!("{NEW_MACHINE}{}{slot}{attempt}", identity.incarnation).parse().expect("letters and digits");
    let machine = Machine {
        id,
        key: identity.key,
        incarnation: identity.incarnation,
        slot,
        attempt,
        token: Some(request.token.clone()),
        phase: Phase::Running,
        state_reason: None,
        zone: request.zone.clone(),
        address: None,
        architecture: None,
        spec: request.tags.get(tags::SPEC).cloned().map(SpecHash),
        role: tags::read_role(&request.tags),
        held: false,
        launched: world.now,
    };
    world.fleet.machines.insert(machine.id.clone(), machine);
}

fn created(world: &mut Observed, slot: Slot, request: &VolumeRequest) {
    let TagVerdict::Ours { identity, attempt } = tags::read(&world.realm, &request.tags) else {
        return;
    };
    let id = format!("{NEW_VOLUME}{}{slot}{attempt}", identity.incarnation).parse().expect("letters and digits");
    let volume = Volume {
        id,
        key: identity.key,
        incarnation: identity.incarnation,
        slot,
        attempt,
        zone: request.zone.clone(),
        shape: VolumeShape {
            size_gib: request.size_gib,
            volume_type: request.volume_type.clone(),
            iops: request.iops,
            throughput_mibps: request.throughput_mibps,
        },
        phase: VolumePhase::Available,
        attached_to: None,
        deleted_with: None,
    };
    world.fleet.volumes.insert(volume.id.clone(), volume);
}
