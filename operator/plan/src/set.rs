//! One set from end to end: may anything be done at all, then its slots, its leadership, its orders, its tags.

use drover_api::{
    Incarnation, ResourceKey,
    defaults::{ResolvedSet, Unresolved},
    records::{IncarnationRecord, IncarnationState},
};

use crate::{
    actions::{Action, Planned},
    clients, leadership,
    observed::{Observed, Phase, Seen},
    orders, publish,
    report::{FLEET_UNKNOWN, RECORDS_UNKNOWN, SetReport},
    requests, slots, summary,
    view::{Out, View},
};

/// What is wanted of a set, as far as the rest of a decision goes.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    Keep {
        set: &'a ResolvedSet,
        generation: i64,
    },
    /// The manifest is there and cannot be used.
    Broken {
        why: &'a Unresolved,
        generation: i64,
    },
    Delete,
    /// Nobody declares it: left alone (law 2).
    Unclaimed,
    /// Nobody was asked whether it is declared: left alone, too.
    Unknown,
}

/// Decides one set. `room` is how many machines may be launched; what is left of it comes back.
pub fn plan_set(
    observed: &Observed,
    key: &ResourceKey,
    wish: Wish<'_>,
    room: Option<usize>,
) -> (Vec<Planned>, SetReport, Option<usize>) {
    let mut out = Out { room, ..Out::default() };
    decide(observed, key, wish, &mut out);
    let paused = matches!(wish, Wish::Keep { set, .. } if set.paused);
    let report = summary::report(observed, key, wish, &out);
    if paused { (Vec::new(), report, room) } else { (out.actions, report, out.room) }
}

fn decide(observed: &Observed, key: &ResourceKey, wish: Wish<'_>, out: &mut Out) {
    let records = match observed.records.get(key) {
        Some(Seen::Known(records)) => records,
        Some(Seen::Unknown { why }) => return out.wait(None, RECORDS_UNKNOWN, why.clone()),
        None => return out.wait(None, RECORDS_UNKNOWN, "the bucket has not been read yet"),
    };
    if observed.fleet.machines_listed.is_none() || observed.fleet.volumes_listed.is_none() {
        let why = observed.fleet.failing.clone().unwrap_or_else(|| "EC2 has not been asked yet".into());
        return out.wait(None, FLEET_UNKNOWN, why);
    }
    if let Wish::Broken { why, .. } = wish {
        out.stall(None, "InvalidSpec", why.to_string());
    }
    let Some(life) = &records.incarnation else {
        return begin(observed, key, wish, out);
    };
    if let Some(stranger) = stranger(observed, key, life) {
        let message = format!(
            "check the bucket: {stranger} belongs to another incarnation of {key} than {} in the bucket",
            life.incarnation
        );
        return out.stall(None, "OtherIncarnation", message);
    }
    match (life.state, wish) {
        (IncarnationState::Dead, Wish::Keep { set, .. }) => {
            let record = IncarnationRecord { write_id: life.write_id.clone(), ..born(observed, key, set) };
            let expected = Some(life.write_id.clone());
            out.act(None, Action::PutIncarnation { record, expected }, "its namesake is dead; this is a new one");
        }
        (IncarnationState::Live, Wish::Delete) => {
            let record = IncarnationRecord { state: IncarnationState::Deleting, ..life.clone() };
            out.act(
                None,
                Action::PutIncarnation { record, expected: Some(life.write_id.clone()) },
                "its deletion was asked for",
            );
        }
        (IncarnationState::Deleting, _) => end(&View::new(observed, key, None, records, life), out),
        (IncarnationState::Live, Wish::Keep { set, .. }) => {
            let view = View::new(observed, key, Some(set), records, life);
            out.handled = requests::answer(&view, out);
            keep(&view, set, out)
        }
        (IncarnationState::Live, Wish::Broken { .. } | Wish::Unclaimed | Wish::Unknown)
        | (IncarnationState::Dead, Wish::Broken { .. } | Wish::Unclaimed | Wish::Unknown | Wish::Delete) => {}
    }
}

/// A set that is declared, lives, and whose records are known.
pub fn kept<'a>(observed: &'a Observed, key: &'a ResourceKey) -> Option<View<'a>> {
    let set = observed.intents.get(key)?.set.as_ref().ok()?;
    let records = observed.records.get(key)?.known()?;
    let life = records.incarnation.as_ref().filter(|life| life.state == IncarnationState::Live)?;
    Some(View::new(observed, key, Some(set), records, life))
}

/// No incarnation: a new set, or a lost or wrong bucket. Any machine or volume with its name tells which.
fn begin(observed: &Observed, key: &ResourceKey, wish: Wish<'_>, out: &mut Out) {
    let named = named(observed, key);
    match wish {
        _ if !named.is_empty() => {
            let message = format!(
                "restore the bucket, or point the operator at the right one: {} carry the tags of {key}, and the bucket knows nothing of it",
                named.join(", ")
            );
            out.stall(None, "RegisterLost", message);
        }
        Wish::Keep { set, .. } => {
            let record = born(observed, key, set);
            out.act(None, Action::PutIncarnation { record, expected: None }, "a new set");
        }
        Wish::Broken { .. } | Wish::Delete | Wish::Unclaimed | Wish::Unknown => {}
    }
}

/// What carries the set's name, in any state.
fn named(observed: &Observed, key: &ResourceKey) -> Vec<String> {
    let machines = observed.fleet.machines.values().filter(|machine| machine.key == *key);
    let volumes = observed.fleet.volumes.values().filter(|volume| volume.key == *key);
    machines.map(|machine| machine.id.to_string()).chain(volumes.map(|volume| volume.id.to_string())).collect()
}

fn born(observed: &Observed, key: &ResourceKey, set: &ResolvedSet) -> IncarnationRecord {
    let incarnation = observed.operator.minted.get(key).expect("a pass mints an incarnation for every intent").clone();
    IncarnationRecord {
        write_id: drover_api::WriteId::new("unwritten").expect("letters"),
        incarnation,
        state: IncarnationState::Live,
        members: set.members,
        version: set.version.clone(),
        created: observed.now,
    }
}

/// Something live with the set's name and another incarnation.
fn stranger(observed: &Observed, key: &ResourceKey, life: &IncarnationRecord) -> Option<String> {
    let other =
        |machine_key: &ResourceKey, incarnation: &Incarnation| machine_key == key && *incarnation != life.incarnation;
    let mut machines = observed.fleet.machines.values().filter(|machine| machine.phase < Phase::ShuttingDown);
    let mut volumes = observed.fleet.volumes.values().filter(|volume| volume.phase.stays());
    let machine =
        machines.find(|machine| other(&machine.key, &machine.incarnation)).map(|machine| machine.id.to_string());
    machine
        .or_else(|| volumes.find(|volume| other(&volume.key, &volume.incarnation)).map(|volume| volume.id.to_string()))
}

fn keep(view: &View<'_>, set: &ResolvedSet, out: &mut Out) {
    if set.members != view.life.members {
        let was = view.life.members;
        out.stall(
            None,
            "MembersImmutable",
            format!("set spec.members back to {was}: the number of members cannot be changed yet"),
        );
    }
    if set.version != view.life.version {
        let was = &view.life.version;
        out.stall(
            None,
            "VersionImmutable",
            format!("set spec.version back to {was:?}: the version cannot be changed yet"),
        );
    }
    if !found(view, out) {
        return;
    }
    let wanted = view.wanted_slots();
    for slot in &wanted {
        slots::fill(view, set, *slot, out);
    }
    for slot in view.known_slots() {
        if !wanted.contains(&slot) && !slots::has_ended(view, slot) {
            slots::end(view, slot, out);
        }
    }
    leadership::advance(view, out);
    // Orders and tags follow from the register that will be.
    if !out.actions.iter().any(|planned| matches!(planned.action, Action::PutRegister { .. })) {
        orders::give(view, out);
        publish::tags(view, out);
        publish::upgrade(view, out);
    }
    clients::tell(view, out);
}

/// The CA and the register are there, or may be made: only while nothing of this incarnation exists in any state.
fn found(view: &View<'_>, out: &mut Out) -> bool {
    let incarnation = view.incarnation().clone();
    let (secret, register) = (&view.records.secret, &view.records.register);
    if secret.is_some() && register.is_some() {
        return true;
    }
    if !view.machines.is_empty() || !view.volumes.is_empty() || !view.records.slots.is_empty() {
        let lost = if register.is_none() { "register.json" } else { "ca.json" };
        let message =
            format!("restore the bucket: {lost} of {} is missing while machines or slot records of it exist", view.key);
        out.stall(None, "RegisterLost", message);
        return false;
    }
    if secret.is_none() {
        out.act(
            None,
            Action::CreateCa { incarnation: incarnation.clone() },
            "machines prove themselves by a CA of their set",
        );
    }
    if register.is_none() {
        let register = Box::new(leadership::first_register(view));
        out.act(None, Action::PutRegister { incarnation, register, expected: None }, "m0 is to lead first");
    }
    false
}

/// DELETING: every slot is ended; DEAD once nothing is left and that was seen.
fn end(view: &View<'_>, out: &mut Out) {
    let mut left = 0;
    for slot in view.known_slots() {
        if !slots::has_ended(view, slot) {
            left += 1;
            slots::end(view, slot, out);
        }
    }
    if left == 0 {
        let record = IncarnationRecord { state: IncarnationState::Dead, ..view.life.clone() };
        let expected = Some(view.life.write_id.clone());
        out.act(
            None,
            Action::PutIncarnation { record, expected },
            "every machine was seen to end, and every volume to be deleted",
        );
    } else {
        out.wait(None, "Deleting", format!("{left} slots are still ending"));
    }
}

/// Nothing of a set is left that could end: its life was seen to end, or it never began.
pub fn has_ended(observed: &Observed, key: &ResourceKey) -> bool {
    let fleet = &observed.fleet;
    let is_listed = fleet.machines_listed.is_some() && fleet.volumes_listed.is_some();
    match observed.records.get(key).and_then(Seen::known).map(|records| &records.incarnation) {
        Some(Some(life)) => life.state == IncarnationState::Dead,
        Some(None) => is_listed && named(observed, key).is_empty(),
        None => false,
    }
}

impl Wish<'_> {
    pub fn generation(self) -> i64 {
        match self {
            Wish::Keep { generation, .. } | Wish::Broken { generation, .. } => generation,
            Wish::Delete | Wish::Unclaimed | Wish::Unknown => 0,
        }
    }
}
