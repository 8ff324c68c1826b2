//! One slot's data volume: made in its machine's zone, attached, and deleted only with its slot. A member's outlives its
//! machines (law 4); a read replica's goes with its machine.

use drover_api::{
    Slot,
    defaults::ResolvedSet,
    launch::VolumeRequest,
    records::{RegisterState, SlotRecord},
    set::VolumeType,
    tags,
    wire::VolumeReport,
};

use crate::{
    actions::Action,
    launches,
    observed::{FailureKind, Machine, Phase, Volume, VolumePhase},
    pending::{self, Next},
    slots::{self, put},
    view::{Out, Standing, View},
};

/// What EC2 gives a gp3 volume where nothing is asked ("Amazon EBS General Purpose SSD volumes").
const GP3_IOPS: u32 = 3_000;
const GP3_MIBPS: u32 = 125;

/// The data volume of a machine that is there: made, attached, noted as formatted.
pub fn give(view: &View<'_>, set: &ResolvedSet, slot: Slot, record: &SlotRecord, machine: &Machine, out: &mut Out) {
    match (&record.volume, &record.volume_request) {
        (None, None) => {
            let attempt = record.volume_attempt + 1;
            let request = launches::volume_request(view, set, slot, attempt, machine.zone.clone());
            let why = format!("{} needs its data volume in {}", machine.id, machine.zone);
            let next = SlotRecord { volume_attempt: attempt, volume_request: Some(request), ..record.clone() };
            put(view, slot, next, Some(record), why, out);
        }
        (None, Some(request)) => match created(view, slot, record) {
            Some(volume) => {
                let known = SlotRecord { volume: Some(volume.id.clone()), ..record.clone() };
                put(view, slot, known, Some(record), format!("{} was created for it", volume.id), out);
            }
            None => await_volume(view, set, slot, record, request, out),
        },
        (Some(id), _) => match view.volume(id) {
            Standing::Listed(volume) => hold_volume(view, slot, record, machine, volume, out),
            // Its agent has the lost one mounted and takes no other; a machine on a new volume takes its place.
            Standing::Gone if !leads(view, slot) => {
                slots::end_unheld(machine, &format!("its data volume {id} is gone"), out)
            }
            Standing::Gone => lose(view, slot, record, out),
            Standing::AskById => {
                out.act(slot, Action::LookUpVolume { volume: id.clone() }, format!("lists no longer show {id}"))
            }
            Standing::Unknown => out.wait(slot, "VolumeUnknown", format!("{id} is not shown by EC2")),
        },
    }
}

fn await_volume(
    view: &View<'_>,
    set: &ResolvedSet,
    slot: Slot,
    record: &SlotRecord,
    request: &VolumeRequest,
    out: &mut Out,
) {
    let wanted = launches::volume_request(view, set, slot, record.volume_attempt, request.zone.clone()) == *request;
    match pending::volume(view.observed, &request.token, wanted) {
        Next::Send { why } => out.act(slot, Action::CreateVolume { slot, request: Box::new(request.clone()) }, why),
        // Volumes have no look-up by token.
        Next::Look => {}
        Next::Wait { reason, message } if reason == "PermissionDenied" => out.stall(slot, reason, message),
        Next::Wait { reason, message } => out.wait(slot, reason, message),
        Next::Refused { kind: FailureKind::Invalid, message } if wanted => {
            out.stall(
                slot,
                "VolumeRefused",
                format!("change spec.machine.dataVolume: EC2 refuses the volume: {message}"),
            );
        }
        Next::Refused { message, .. } => {
            let cleared = SlotRecord { volume_request: None, ..record.clone() };
            put(view, slot, cleared, Some(record), format!("the volume was refused: {message}"), out);
        }
        Next::Unsent => {
            let cleared = SlotRecord { volume_request: None, ..record.clone() };
            put(
                view,
                slot,
                cleared,
                Some(record),
                "what was recorded is not what is wanted now, and was never sent",
                out,
            );
        }
    }
}

fn created<'a>(view: &View<'a>, slot: Slot, record: &SlotRecord) -> Option<&'a Volume> {
    view.volumes.get(&slot)?.iter().copied().find(|volume| volume.attempt == record.volume_attempt)
}

fn hold_volume(view: &View<'_>, slot: Slot, record: &SlotRecord, machine: &Machine, volume: &Volume, out: &mut Out) {
    match (volume.phase, &volume.attached_to) {
        (VolumePhase::Error, _) => stall_failed(view, slot, record, volume, out),
        // A person may have detached it to look into it.
        (VolumePhase::Available, _) if machine.held => {
            let message = format!("{} carries {}: {} is not attached to it", machine.id, tags::HOLD, volume.id);
            out.wait(slot, "Held", message);
        }
        (VolumePhase::Available, _) if machine.phase == Phase::Running => {
            let action = Action::Attach { volume: volume.id.clone(), instance: machine.id.clone() };
            out.act(slot, action, format!("{} runs without its data volume", machine.id));
        }
        (VolumePhase::Attached | VolumePhase::Attaching, Some(holder)) if *holder == machine.id => {
            keep_on_termination(slot, machine, volume, out);
            note_formatted(view, slot, record, out);
        }
        (VolumePhase::Attached | VolumePhase::Attaching | VolumePhase::Detaching, Some(holder)) => {
            out.wait(slot, "VolumeElsewhere", format!("{} is still attached to {holder}", volume.id));
        }
        (phase, _) => {
            out.wait(slot, "VolumeNotReady", format!("{} is {phase}, {} is {}", volume.id, machine.id, machine.phase))
        }
    }
}

/// What EC2 sets at AttachVolume is not relied on (AWS.md, EBS: documents disagree), and anybody may change it: a member's data
/// outlives its machine, and a read replica's is deleted by us alone. Asked for only where EC2 says otherwise.
fn keep_on_termination(slot: Slot, machine: &Machine, volume: &Volume, out: &mut Out) {
    if let Some(device) = volume.deleted_with.clone().filter(|_| volume.phase == VolumePhase::Attached && !machine.held)
    {
        let action = Action::KeepVolume { volume: volume.id.clone(), instance: machine.id.clone(), device };
        out.act(slot, action, format!("EC2 would delete {} together with its machine", volume.id));
    }
}

/// From now on the volume is never formatted again.
fn note_formatted(view: &View<'_>, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let Some(report) = view.report(slot) else { return };
    let VolumeReport::Mounted(voting) = &report.volume else {
        return;
    };
    if record.formatted.is_none() {
        let noted = SlotRecord { formatted: Some(voting.voter_id.clone()), ..record.clone() };
        put(view, slot, noted, Some(record), format!("voter {} was minted on it", voting.voter_id), out);
    }
}

/// EC2 gave the volume up. Deleting it is a person's to decide: whatever may be left on it is no longer ours to judge.
pub fn stall_failed(view: &View<'_>, slot: Slot, record: &SlotRecord, volume: &Volume, out: &mut Out) {
    let id = &volume.id;
    let message = if leads(view, slot) {
        format!(
            "ask AWS to recover {id}, or restore the set from a backup: the data volume of its leader is in state error, and it is never replaced by an empty one"
        )
    } else if !slot.is_member() {
        format!(
            "terminate the machine of {slot}: EC2 says that its data volume {id} has failed (state error); both are then replaced"
        )
    } else if record.formatted.is_none() {
        format!(
            "delete {id}: EC2 could not make it (state error), nothing was ever on it, and another is then asked for"
        )
    } else {
        format!(
            "terminate the machine of {slot}, then delete {id} when nothing on it is needed: EC2 says that it has failed (state error); {slot} is then seeded anew"
        )
    };
    out.stall(slot, "VolumeFailed", message);
}

/// Volumes that carry the slot's tags and are not what its record names: somebody pays for them, and data may be on them.
pub fn tell_strays(view: &View<'_>, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let named = record.volume.as_ref().or_else(|| created(view, slot, record).map(|volume| &volume.id));
    for volume in view.volumes.get(&slot).into_iter().flatten() {
        if volume.phase.stays() && Some(&volume.id) != named {
            let whose = named.map_or_else(|| "no volume yet".to_owned(), ToString::to_string);
            let message = format!(
                "{} carries the tags of {slot}, whose record names {whose}; it is left alone: delete it when nothing on it is needed",
                volume.id
            );
            out.wait(slot, "SecondVolume", message);
        }
    }
}

/// How a member's volume differs from what is asked now, as "500 GiB instead of 1000 GiB". Whatever machine it has, it
/// keeps its volume, so that no new machine mends it; a read replica's volume is as its machine is.
pub fn difference(view: &View<'_>, set: &ResolvedSet, slot: Slot) -> Option<String> {
    let record = view.record(slot).filter(|_| slot.is_member())?;
    let found = view.observed.fleet.volumes.get(record.volume.as_ref()?).filter(|volume| volume.phase.stays())?;
    let (found, asked) = (&found.shape, &set.data_volume);
    let is_gp3 = asked.volume_type == VolumeType::Gp3;
    let same_type = found.volume_type == asked.volume_type.as_str();
    let iops = asked.iops.or(is_gp3.then_some(GP3_IOPS)).filter(|_| same_type);
    let throughput = asked.throughput_mibps.or(is_gp3.then_some(GP3_MIBPS)).filter(|_| same_type);
    let key =
        |key: &Option<String>| key.as_ref().map_or_else(|| "EBS's own key".to_owned(), |key| format!("key {key}"));
    // The list shows the key that an alias led to: what was asked for then is compared.
    let asked_then = record.volume_request.as_ref().map(|request| &request.kms_key_id);
    let differing = [
        (found.size_gib != asked.size_gib)
            .then(|| (format!("{} GiB", found.size_gib), format!("{} GiB", asked.size_gib))),
        (!same_type).then(|| (found.volume_type.clone(), asked.volume_type.as_str().to_owned())),
        unequal(found.iops, iops, "iops"),
        unequal(found.throughput_mibps, throughput, "MiB/s"),
        asked_then.filter(|then| **then != asked.kms_key_id).map(|then| (key(then), key(&asked.kms_key_id))),
    ];
    let (found, asked): (Vec<String>, Vec<String>) = differing.into_iter().flatten().unzip();
    (!found.is_empty()).then(|| format!("{} instead of {}", found.join(", "), asked.join(", ")))
}

fn unequal(found: Option<u32>, asked: Option<u32>, unit: &str) -> Option<(String, String)> {
    let words = |value: Option<u32>| format!("{} {unit}", value.map_or_else(|| "unknown".into(), |it| it.to_string()));
    asked.filter(|_| found != asked).map(|_| (words(found), words(asked)))
}

/// The data in a slot is what the set leads with, or led with last.
fn leads(view: &View<'_>, slot: Slot) -> bool {
    view.register().is_some_and(|register| {
        register.leader == slot && (register.state == RegisterState::Active || register.last_active.is_some())
    })
}

/// The data volume itself is gone. A leader's is never replaced by an empty one; any other slot is seeded anew.
pub fn lose(view: &View<'_>, slot: Slot, record: &SlotRecord, out: &mut Out) {
    if leads(view, slot) {
        let message = "restore the set from a backup: the data volume of its leader is gone, and it is never replaced by an empty one";
        return out.stall(slot, "PrimaryVolumeLost", message);
    }
    let cleared = SlotRecord { volume: None, volume_request: None, formatted: None, catch_up: None, ..record.clone() };
    put(view, slot, cleared, Some(record), "its data volume is gone; it is seeded anew", out);
}

pub fn end(view: &View<'_>, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let clear = |why: String, out: &mut Out| {
        let cleared =
            SlotRecord { volume: None, volume_request: None, formatted: None, catch_up: None, ..record.clone() };
        put(view, slot, cleared, Some(record), why, out);
    };
    match (&record.volume, &record.volume_request) {
        (None, None) => {}
        (None, Some(request)) => match created(view, slot, record) {
            Some(volume) => {
                let known = SlotRecord { volume: Some(volume.id.clone()), ..record.clone() };
                put(view, slot, known, Some(record), format!("{} was created for it", volume.id), out);
            }
            None => match pending::volume(view.observed, &request.token, false) {
                Next::Send { why } => {
                    let why = format!("settles the creation so that the volume can be deleted by id: {why}");
                    out.act(slot, Action::CreateVolume { slot, request: Box::new(request.clone()) }, why);
                }
                Next::Look => {}
                Next::Wait { reason, message } => out.wait(slot, reason, message),
                Next::Refused { .. } | Next::Unsent => clear("the volume came to nothing".into(), out),
            },
        },
        (Some(id), _) => match view.volume(id) {
            Standing::Listed(volume)
                if volume.phase == VolumePhase::Available || volume.phase == VolumePhase::Error =>
            {
                out.act(slot, Action::DeleteVolume { volume: id.clone() }, "its slot has ended");
            }
            Standing::Listed(volume) => out.wait(slot, "VolumeEnding", format!("{id} is {}", volume.phase)),
            Standing::Gone => clear(format!("{id} is deleted"), out),
            Standing::AskById => {
                out.act(slot, Action::LookUpVolume { volume: id.clone() }, format!("lists no longer show {id}"))
            }
            Standing::Unknown => out.wait(slot, "VolumeUnknown", format!("{id} is not shown by EC2")),
        },
    }
}
