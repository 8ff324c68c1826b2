//! Decisions. Everything that Drover decides about a fleet is decided here, from data to data: no I/O, no clock, no
//! environment, no randomness, no logging. `plan(&Observed) -> Plan` says what is to be done, what is awaited, and how the
//! sets are; executing a plan never decides anything (law 5).

use std::collections::BTreeSet;

use drover_api::{ResourceKey, records::IncarnationState};

pub mod actions;
mod clients;
pub mod endpoints;
mod health;
mod launches;
mod leadership;
pub mod observed;
mod orders;
mod pace;
mod pending;
mod placement;
mod publish;
mod rebuild;
pub mod report;
mod requests;
mod set;
mod slots;
mod spec;
mod summary;
mod view;
mod volumes;

pub use actions::{Action, Plan, Planned, Waiting};
pub use clients::{Connection, connections};
pub use endpoints::{Endpoint, Endpoints};
pub use observed::Observed;
pub use report::SetReport;
pub use spec::spec_hash;

use observed::{Intent, Phase, Seen, Sources, VolumePhase};
use set::Wish;

/// Decides the whole realm. A pure function: the same observation gives the same plan.
pub fn plan(observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut room = room(observed);
    for key in keys(observed) {
        let wish = wish(observed, key);
        let (actions, report, left) = set::plan_set(observed, key, wish, room);
        room = left;
        if matches!(wish, Wish::Unclaimed) {
            plan.unclaimed.extend(unclaimed(observed, key));
        }
        if !actions.is_empty() {
            plan.actions.insert(key.clone(), actions);
        }
        plan.reports.insert(key.clone(), report);
    }
    plan.ended = observed.deletions.iter().filter(|key| set::has_ended(observed, key)).cloned().collect();
    for hands_off in &observed.fleet.hands_off {
        plan.unclaimed.push(format!("{}: {}; hands off", hands_off.id, hands_off.reason));
    }
    if let Some(why) = &observed.fleet.failing {
        plan.waiting.push(Waiting { slot: None, reason: report::FLEET_UNKNOWN.into(), message: why.clone() });
    }
    plan
}

/// How many machines may be launched before the realm has as many as it may. A launch that is recorded counts as made.
fn room(observed: &Observed) -> Option<usize> {
    let max = usize::try_from(observed.operator.machines_max?).unwrap_or(usize::MAX);
    let machines = observed.fleet.machines.values().filter(|machine| machine.phase < Phase::ShuttingDown).count();
    let slots = observed.records.values().filter_map(Seen::known).flat_map(|records| records.slots.values());
    let awaited = slots.filter(|slot| slot.instance.is_none() && slot.launch.is_some()).count();
    Some(max.saturating_sub(machines + awaited))
}

/// Every set that anything names.
fn keys(observed: &Observed) -> BTreeSet<&ResourceKey> {
    let fleet = &observed.fleet;
    let machines =
        fleet.machines.values().filter(|machine| machine.phase != Phase::Terminated).map(|machine| &machine.key);
    let volumes =
        fleet.volumes.values().filter(|volume| volume.phase != VolumePhase::Deleted).map(|volume| &volume.key);
    let recorded = observed
        .records
        .iter()
        .filter(|(_, records)| !matches!(records, Seen::Known(records) if records.incarnation.is_none()));
    observed
        .intents
        .keys()
        .chain(&observed.deletions)
        .chain(recorded.map(|(key, _)| key))
        .chain(machines)
        .chain(volumes)
        .collect()
}

/// A declared set is kept, whatever else is asked: deleting what a manifest still declares would bring it back at once.
fn wish<'a>(observed: &'a Observed, key: &ResourceKey) -> Wish<'a> {
    match observed.intents.get(key) {
        Some(Intent { set: Ok(set), generation, .. }) => Wish::Keep { set, generation: *generation },
        Some(Intent { set: Err(why), generation, .. }) => Wish::Broken { why, generation: *generation },
        None if observed.deletions.contains(key) => Wish::Delete,
        None => match observed.sources {
            Sources::Read => Wish::Unclaimed,
            Sources::NotAsked => Wish::Unknown,
        },
    }
}

/// What lives on without anybody declaring it. A set whose end is under way is no news.
fn unclaimed(observed: &Observed, key: &ResourceKey) -> Vec<String> {
    let records = observed.records.get(key).and_then(Seen::known);
    let life = records.and_then(|records| records.incarnation.as_ref());
    if life.is_some_and(|life| life.state == IncarnationState::Deleting) {
        return Vec::new();
    }
    let fleet = &observed.fleet;
    let machines = fleet.machines.values().filter(|machine| machine.key == *key && machine.phase < Phase::ShuttingDown);
    let machines = machines.map(|machine| (machine.id.to_string(), machine.slot));
    let volumes = fleet
        .volumes
        .values()
        .filter(|volume| volume.key == *key && volume.phase.stays() && volume.attached_to.is_none());
    let volumes = volumes.map(|volume| (volume.id.to_string(), volume.slot));
    machines.chain(volumes).map(|(id, slot)| format!("{id} ({key} {slot}): no manifest declares {key}")).collect()
}
