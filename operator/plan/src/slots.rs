//! One slot: its record, its machine, its data volume. Every step is one compare-and-set or one idempotent call, and any
//! prefix of the steps may have run.

use drover_api::{
    Slot,
    defaults::ResolvedSet,
    launch::LaunchRequest,
    records::SlotRecord,
    tags::{self, Role},
};

use crate::{
    actions::Action,
    launches,
    observed::{Catalog, CatalogSubnet, FailureKind, Machine, Phase, Seen, VolumePhase},
    pace::{self, Changed},
    pending::{self, Next},
    placement::{self, Place},
    rebuild,
    spec::spec_hash,
    view::{Out, Standing, View, differs},
    volumes,
};

/// Fills a wanted slot.
pub fn fill(view: &View<'_>, set: &ResolvedSet, slot: Slot, out: &mut Out) {
    // Register and CA are there, so the bucket is the right one: a bundle that was lost is made again, by the same CA.
    if !view.records.bundles.contains(&slot) {
        let action = Action::CreateBundle { incarnation: view.incarnation().clone(), slot };
        out.act(slot, action, "a machine fetches its certificate before it can talk to anyone");
    }
    let Some(record) = view.record(slot) else {
        return begin(view, set, slot, out);
    };
    if record.retired {
        if has_ended(view, slot) {
            return launch_anew(view, set, slot, record, out);
        }
        out.wait(slot, "SlotEnding", "the slot's last machine and volume are still being ended");
        return end(view, slot, out);
    }
    match &record.instance {
        None if record.launch.is_some() => await_launch(view, set, slot, record, out),
        None if !slot.is_member() && (record.volume.is_some() || record.volume_request.is_some()) => {
            // A read replica's volume goes with its machine; only then the slot is filled again.
            volumes::end(view, slot, record, out);
        }
        None => match returned(view, slot, record) {
            Some(machine) => adopt(view, slot, record, machine, out),
            None => launch_anew(view, set, slot, record, out),
        },
        Some(id) => match view.machine(id) {
            Standing::Listed(machine) => keep(view, set, slot, record, machine, out),
            Standing::Gone => {
                let early_ends = pace::after(view, record);
                let cleared = SlotRecord { instance: None, launch: None, early_ends, ..record.clone() };
                put(view, slot, cleared, Some(record), format!("{id} is gone"), out);
            }
            Standing::AskById => {
                out.act(slot, Action::LookUpMachine { instance: id.clone() }, format!("lists no longer show {id}"))
            }
            Standing::Unknown => {
                out.wait(slot, "MachineUnknown", format!("{id} is not shown by EC2; unknown is not gone"))
            }
        },
    }
    retire_strays(view, slot, record, out);
    volumes::tell_strays(view, slot, record, out);
}

/// Ends a slot that is not wanted: what may be pending is settled first, then its machine, then its volume.
pub fn end(view: &View<'_>, slot: Slot, out: &mut Out) {
    let Some(record) = view.record(slot) else {
        let record = rebuild::with_tagged(view, slot, rebuild::ending(view));
        return put(view, slot, record, None, "the slot's record was lost; what carries its tags is to be ended", out);
    };
    if !record.retired {
        let retired = SlotRecord { retired: true, early_ends: None, ..record.clone() };
        return put(view, slot, retired, Some(record), "the slot is not wanted any more", out);
    }
    retire_strays(view, slot, record, out);
    if is_settled(record) && shows_any(view, slot) {
        let found = rebuild::with_tagged(view, slot, record.clone());
        return put(view, slot, found, Some(record), "something of the slot showed up after it had ended", out);
    }
    match (&record.instance, &record.launch) {
        (None, Some(request)) => {
            if let Some(machine) = launched(view, slot, record) {
                let known = SlotRecord { instance: Some(machine.id.clone()), ..record.clone() };
                return put(view, slot, known, Some(record), format!("{} was launched for it", machine.id), out);
            }
            match pending::launch(view.observed, &request.token, false) {
                Next::Send { why } => {
                    let why = format!("settles the launch so that it can be ended by id: {why}");
                    out.act(slot, Action::Launch { slot, request: Box::new(request.clone()) }, why);
                }
                Next::Look => {
                    out.act(slot, Action::FindByToken { token: request.token.clone() }, "its outcome is not known")
                }
                Next::Wait { reason, message } => out.wait(slot, reason, message),
                Next::Refused { .. } | Next::Unsent => {
                    let dropped = SlotRecord { launch: None, ..record.clone() };
                    put(view, slot, dropped, Some(record), "the launch came to nothing", out);
                }
            }
        }
        (Some(id), _) => match view.machine(id) {
            Standing::Listed(machine) => end_unheld(machine, "the slot is not wanted any more", out),
            Standing::Gone => {
                let cleared = SlotRecord { instance: None, launch: None, ..record.clone() };
                put(view, slot, cleared, Some(record), format!("{id} has ended"), out);
            }
            Standing::AskById => {
                out.act(slot, Action::LookUpMachine { instance: id.clone() }, format!("lists no longer show {id}"))
            }
            Standing::Unknown => out.wait(slot, "MachineUnknown", format!("{id} is not shown by EC2")),
        },
        (None, None) => volumes::end(view, slot, record, out),
    }
}

/// The slot has ended: its record says so, and nothing shows otherwise.
pub fn has_ended(view: &View<'_>, slot: Slot) -> bool {
    view.record(slot).is_none_or(|record| record.retired && is_settled(record)) && !shows_any(view, slot)
}

/// By its record, nothing of the slot is left in the cloud, and nothing may come.
fn is_settled(record: &SlotRecord) -> bool {
    record.instance.is_none() && record.launch.is_none() && record.volume.is_none() && record.volume_request.is_none()
}

/// A machine or volume of the slot is there, whatever its record says.
fn shows_any(view: &View<'_>, slot: Slot) -> bool {
    let mut machines = view.machines.get(&slot).into_iter().flatten();
    let mut volumes = view.volumes.get(&slot).into_iter().flatten();
    machines.any(|machine| machine.phase != Phase::Terminated)
        || volumes.any(|volume| volume.phase != VolumePhase::Deleted)
}

/// No record: rebuilt from what carries the slot's tags, or made.
fn begin(view: &View<'_>, set: &ResolvedSet, slot: Slot, out: &mut Out) {
    if let Some(record) = rebuild::from_tags(view, set, slot) {
        return put(view, slot, record, None, "the slot's record was lost; its machine and volume carry its tags", out);
    }
    launch_anew(view, set, slot, &rebuild::blank(view, set), out);
}

fn launch_anew(view: &View<'_>, set: &ResolvedSet, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let bound = match &record.volume {
        Some(id) => match view.volume(id) {
            Standing::Listed(volume) if volume.phase == VolumePhase::Error => {
                return volumes::stall_failed(view, slot, record, volume, out);
            }
            Standing::Listed(volume) => Some(volume.zone.clone()),
            Standing::Gone => return volumes::lose(view, slot, record, out),
            Standing::AskById => {
                return out.act(
                    slot,
                    Action::LookUpVolume { volume: id.clone() },
                    format!("lists no longer show {id}"),
                );
            }
            Standing::Unknown => return out.wait(slot, "VolumeUnknown", format!("{id} is not shown by EC2")),
        },
        None => record.volume_request.as_ref().map(|request| request.zone.clone()),
    };
    let changed = if differs(&record.spec, &spec_hash(set)) { Changed::Yes } else { Changed::No };
    if pace::holds_back(view, slot, record, changed, out) {
        return;
    }
    if out.room == Some(0) {
        let max = view.observed.operator.machines_max.unwrap_or_default();
        let message = format!(
            "the realm has its {max} machines: end some, or raise limits.maxMachines of the operator's configuration"
        );
        return out.wait(slot, "MachineLimit", message);
    }
    let catalog: &Catalog = match view.observed.catalogs.get(view.key) {
        Some(Seen::Known(catalog)) => catalog,
        Some(Seen::Unknown { why }) => return out.wait(slot, "CatalogUnknown", why.clone()),
        None => {
            return out.wait(slot, "CatalogUnknown", "the image, subnets and security groups are being looked up");
        }
    };
    let place = match placement::choose(view, catalog, set, slot, bound.as_ref(), &out.placed) {
        Ok(place) => place,
        Err(no) if no.reason == placement::NO_TYPES => {
            return out.stall(slot, no.reason, format!("change spec.machine.instanceTypes: {}", no.message));
        }
        Err(no) => return out.wait(slot, no.reason, no.message),
    };
    out.placed.insert(slot, place.zone.clone());
    let attempt = record.attempt + 1;
    match launches::launch_request(view, set, catalog, slot, attempt, place) {
        Ok(request) => {
            let why =
                format!("{slot} has no machine: attempt {attempt}, {} in {}", request.instance_type, request.zone);
            let next = SlotRecord {
                attempt,
                launch: Some(request),
                instance: None,
                spec: spec_hash(set),
                mysql: launches::mysql_order(view, set),
                retired: false,
                ..record.clone()
            };
            out.room = out.room.map(|room| room - 1);
            put(view, slot, next, view.record(slot), why, out);
        }
        Err((reason, message)) => out.stall(slot, reason, message),
    }
}

fn await_launch(view: &View<'_>, set: &ResolvedSet, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let Some(request) = &record.launch else { return };
    if let Some(machine) = launched(view, slot, record) {
        let known = SlotRecord { instance: Some(machine.id.clone()), ..record.clone() };
        return put(view, slot, known, Some(record), format!("{} was launched for it", machine.id), out);
    }
    let wanted = is_still_asked(view, set, slot, record, request);
    let next = match returned(view, slot, record) {
        None => pending::launch(view.observed, &request.token, wanted),
        // Nothing is launched into a slot that shows a machine, although it was recorded.
        Some(machine) => match pending::came_to_nothing(view.observed, &request.token) {
            Ok(()) => return adopt(view, slot, record, machine, out),
            Err(next) => next,
        },
    };
    match next {
        Next::Send { why } => out.act(slot, Action::Launch { slot, request: Box::new(request.clone()) }, why),
        Next::Look => out.act(slot, Action::FindByToken { token: request.token.clone() }, "its outcome is not known"),
        Next::Wait { reason, message } if reason == "PermissionDenied" => out.stall(slot, reason, message),
        Next::Wait { reason, message } if reason == pending::NO_PROFILE => {
            out.stall(slot, reason, format!("change spec.machine.instanceProfile, or make that profile: {message}"));
        }
        Next::Wait { reason, message } => out.wait(slot, reason, message),
        Next::Unsent => {
            let cleared = SlotRecord { launch: None, ..record.clone() };
            put(
                view,
                slot,
                cleared,
                Some(record),
                "what was recorded is not what is wanted now, and was never sent",
                out,
            );
        }
        Next::Refused { kind: FailureKind::Invalid, message } if wanted => {
            out.stall(slot, "LaunchRefused", format!("change spec.machine: EC2 refuses the launch: {message}"));
        }
        Next::Refused { kind, message } => {
            let early_ends = match kind {
                FailureKind::TokenSpent => pace::after_unseen(view, record, &message),
                _ => record.early_ends.clone(),
            };
            let cleared = SlotRecord { launch: None, early_ends, ..record.clone() };
            put(view, slot, cleared, Some(record), format!("attempt {} was refused: {message}", record.attempt), out);
        }
    }
}

/// The spec and what its selectors resolve to would lead to this very request again.
fn is_still_asked(
    view: &View<'_>,
    set: &ResolvedSet,
    slot: Slot,
    record: &SlotRecord,
    request: &LaunchRequest,
) -> bool {
    if differs(&record.spec, &spec_hash(set)) {
        return false;
    }
    // What cannot be resolved now says nothing against what was.
    let Some(Seen::Known(catalog)) = view.observed.catalogs.get(view.key) else { return true };
    let Ok(subnets) = &catalog.subnets else { return true };
    let subnet = subnets.iter().find(|subnet| subnet.id == request.subnet);
    let place = |subnet: &CatalogSubnet| Place {
        instance_type: request.instance_type.clone(),
        zone: request.zone.clone(),
        subnet: subnet.id.clone(),
    };
    subnet.is_some_and(|subnet| {
        launches::launch_request(view, set, catalog, slot, record.attempt, place(subnet))
            .map_or(true, |now| now == *request)
    })
}

/// The machine that this attempt brought, in whatever state: matched by token, and by attempt where EC2 no longer tells it.
fn launched<'a>(view: &View<'a>, slot: Slot, record: &SlotRecord) -> Option<&'a Machine> {
    let token = record.launch.as_ref().map(|request| &request.token);
    let machines = view.machines.get(&slot)?;
    machines.iter().copied().find(|machine| match (&machine.token, token) {
        (Some(machine), Some(token)) => machine == token,
        (None, _) | (_, None) => machine.attempt == record.attempt,
    })
}

/// A live machine of a slot that has none by its record, where its data volume can be attached. Nothing is launched into a
/// slot that shows a machine.
fn returned<'a>(view: &View<'a>, slot: Slot, record: &SlotRecord) -> Option<&'a Machine> {
    let zone = record.volume.as_ref().and_then(|id| view.observed.fleet.volumes.get(id)).map(|volume| &volume.zone);
    let zone = zone.or(record.volume_request.as_ref().map(|request| &request.zone));
    let live = view.machines.get(&slot)?.iter().copied().filter(|machine| machine.phase < Phase::ShuttingDown);
    live.filter(|machine| zone.is_none_or(|zone| *zone == machine.zone)).min_by_key(|machine| machine.launched)
}

fn adopt(view: &View<'_>, slot: Slot, record: &SlotRecord, machine: &Machine, out: &mut Out) {
    let attempt = record.attempt.max(machine.attempt);
    let known = SlotRecord { attempt, instance: Some(machine.id.clone()), launch: None, ..record.clone() };
    put(view, slot, known, Some(record), format!("{} showed up after it was given up", machine.id), out);
}

/// Ends a machine that no person has put a hand on.
pub fn end_unheld(machine: &Machine, why: &str, out: &mut Out) {
    if machine.held {
        out.wait(machine.slot, "Held", format!("{} carries {}: {why}", machine.id, tags::HOLD));
    } else {
        end_machine(machine, why, out);
    }
}

fn end_machine(machine: &Machine, why: &str, out: &mut Out) {
    if machine.phase < Phase::ShuttingDown {
        out.act(machine.slot, Action::Unprotect { instance: machine.id.clone() }, why);
        out.act(machine.slot, Action::Terminate { instance: machine.id.clone() }, why);
    } else {
        out.wait(machine.slot, "MachineEnding", format!("{} is ending", machine.id));
    }
}

/// Live machines with the slot's tags that its record does not name. One without a data volume holds nothing and cannot be
/// the primary: it is ended. Any other is only marked, for a person.
fn retire_strays(view: &View<'_>, slot: Slot, record: &SlotRecord, out: &mut Out) {
    let named = record.instance.clone().or_else(|| launched(view, slot, record).map(|machine| machine.id.clone()));
    for machine in view.machines.get(&slot).into_iter().flatten() {
        if machine.phase >= Phase::ShuttingDown
            || Some(&machine.id) == named.as_ref()
            || named.is_none()
            || machine.held
        {
            continue;
        }
        let holds_data = view
            .volumes
            .get(&slot)
            .into_iter()
            .flatten()
            .any(|volume| volume.attached_to.as_ref() == Some(&machine.id));
        if machine.role.is_none_or(|(role, _)| role != Role::Retiring) {
            let epoch = view.register().map_or(drover_api::Epoch(0), |register| register.epoch);
            let action = Action::Tag { instance: machine.id.clone(), tags: tags::role_tags(Role::Retiring, epoch) };
            out.act(slot, action, format!("a second machine of {slot}; its record names another"));
        }
        if holds_data {
            let message =
                format!("end {} by hand when sure: a second machine of {slot} that holds a data volume", machine.id);
            out.stall(slot, "SecondMachine", message);
        } else {
            end_machine(machine, "a second machine of its slot, without data", out);
        }
    }
}

/// Replaces a slot's record, once a pass: whatever else is to change about it comes after the first change is there.
pub fn put(
    view: &View<'_>,
    slot: Slot,
    record: SlotRecord,
    was: Option<&SlotRecord>,
    why: impl Into<String>,
    out: &mut Out,
) {
    if out.written.insert(slot) {
        let expected = was.map(|record| record.write_id.clone());
        let incarnation = view.incarnation().clone();
        out.act(slot, Action::PutSlot { incarnation, slot, record: Box::new(record), expected }, why);
    }
}

fn keep(view: &View<'_>, set: &ResolvedSet, slot: Slot, record: &SlotRecord, machine: &Machine, out: &mut Out) {
    match machine.phase {
        Phase::Pending | Phase::Running => {}
        Phase::Stopping | Phase::Stopped => {
            out.wait(
                slot,
                "MachineStopped",
                format!("{} is {}: start it, or terminate it to have it replaced", machine.id, machine.phase),
            );
            return;
        }
        Phase::ShuttingDown | Phase::Terminated => {
            out.wait(slot, "MachineEnding", format!("{} is ending; it is replaced once that is seen", machine.id));
            return;
        }
    }
    volumes::give(view, set, slot, record, machine, out);
}
