//! A slot's record made anew: blank, or from what carries the slot's tags where the record was lost (law 3).

use std::collections::BTreeMap;

use drover_api::{Slot, defaults::ResolvedSet, records::SlotRecord, set::Durability, tags::SpecHash, wire::MysqlOrder};

use crate::{
    launches,
    observed::{Phase, VolumePhase},
    spec::spec_hash,
    view::View,
};

/// Of a slot that nothing was launched into yet.
pub fn blank(view: &View<'_>, set: &ResolvedSet) -> SlotRecord {
    SlotRecord { spec: spec_hash(set), mysql: launches::mysql_order(view, set), retired: false, ..ending(view) }
}

/// Of a slot that is only to be ended: nothing is launched by it, so what a launch would need is left out.
pub fn ending(view: &View<'_>) -> SlotRecord {
    SlotRecord {
        write_id: view.life.write_id.clone(),
        attempt: 0,
        launch: None,
        instance: None,
        volume_attempt: 0,
        volume_request: None,
        volume: None,
        formatted: None,
        spec: SpecHash(String::new()),
        mysql: MysqlOrder {
            version: view.life.version.clone(),
            settings: BTreeMap::new(),
            durability: Durability::Standard,
        },
        catch_up: None,
        retired: true,
        early_ends: None,
    }
}

pub fn from_tags(view: &View<'_>, set: &ResolvedSet, slot: Slot) -> Option<SlotRecord> {
    if !view.machines.contains_key(&slot) && !view.volumes.contains_key(&slot) {
        return None;
    }
    Some(with_tagged(view, slot, blank(view, set)))
}

/// Fills in what tags show; attempts only grow. Of several volumes the one that is in use was, else the one that can be used and
/// was asked for last; the others are reported. The machine with the slot's volume is the one with evidence, else the oldest live
/// one.
pub fn with_tagged(view: &View<'_>, slot: Slot, mut record: SlotRecord) -> SlotRecord {
    let machines = view.machines.get(&slot).map(Vec::as_slice).unwrap_or_default();
    let volumes = view.volumes.get(&slot).map(Vec::as_slice).unwrap_or_default();
    let volume = volumes.iter().filter(|volume| volume.phase != VolumePhase::Deleted).max_by_key(|volume| {
        (volume.attached_to.is_some(), volume.phase.stays() && volume.phase != VolumePhase::Error, volume.attempt)
    });
    let holder = volume.and_then(|volume| volume.attached_to.as_ref());
    let live = machines.iter().filter(|machine| machine.phase != Phase::Terminated);
    let machine = live.min_by_key(|machine| (Some(&machine.id) != holder, machine.launched));
    record.attempt = machines.iter().map(|machine| machine.attempt).fold(record.attempt, u32::max);
    record.volume_attempt = volumes.iter().map(|volume| volume.attempt).fold(record.volume_attempt, u32::max);
    if let Some(machine) = machine {
        record.instance = Some(machine.id.clone());
        record.spec = machine.spec.clone().unwrap_or(record.spec);
    }
    record.volume = volume.map(|volume| volume.id.clone());
    record
}
