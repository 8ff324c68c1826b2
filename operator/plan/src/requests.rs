//! What people ask for once: each request becomes actions until it is so, and then an answer.

use std::collections::BTreeSet;

use drover_api::{
    Slot,
    clients::ClientsReport,
    records::{Register, RegisterState},
    requests::{Asks, Request},
    status::Handled,
    tags,
    wire::{LeaderPhase, RunningRole, ThreadReport},
};

use crate::{
    actions::Action,
    clients,
    leadership::acknowledges,
    observed::{Machine, Phase},
    view::{Out, View},
};

/// Works on every request, and leaves the answers of those that are over.
pub fn answer(view: &View<'_>, out: &mut Out) -> Vec<(String, Handled)> {
    view.requests.iter().filter_map(|request| Some(request.answered(one(view, request, out)?))).collect()
}

/// The answer, or `None` while it is worked on.
fn one(view: &View<'_>, request: &Request, out: &mut Out) -> Option<String> {
    let asks = match &request.asks {
        Ok(asks) => asks,
        Err(why) => return Some(format!("refused: {why}")),
    };
    if view.set.is_some_and(|set| set.paused) {
        return Some("refused: nothing is changed while spec.paused is true".to_owned());
    }
    match asks {
        Asks::Hold(slots) => tagged(view, request, slots, true, out),
        Asks::Release(slots) => tagged(view, request, slots, false, out),
        Asks::Restart(slots) => restarted(view, request, slots, out),
        Asks::DropUsers(names) => dropped(view, &USERS, names, out),
        Asks::DropDatabases(names) => dropped(view, &DATABASES, names, out),
    }
}

fn tagged(view: &View<'_>, request: &Request, slots: &[Slot], held: bool, out: &mut Out) -> Option<String> {
    let machines = match machines(view, slots) {
        Ok(machines) => machines,
        Err(refused) => return Some(refused),
    };
    let others: Vec<_> = machines.iter().filter(|(_, machine)| machine.held != held).collect();
    for (slot, machine) in &others {
        let instance = machine.id.clone();
        let why = format!("{} was asked for, by request {}", request.verb, request.token);
        out.act(*slot, if held { Action::Hold { instance } } else { Action::Release { instance } }, why);
    }
    let word = if held { "carry" } else { "do not carry" };
    others.is_empty().then(|| format!("done: {} {word} {}", told(&machines), tags::HOLD))
}

/// The machines that a person means by slots, or the refusal.
fn machines<'a>(view: &View<'a>, slots: &[Slot]) -> Result<Vec<(Slot, &'a Machine)>, String> {
    let standing = |slot: Slot| view.filling(slot).filter(|machine| machine.phase < Phase::ShuttingDown);
    let found = slots.iter().map(|slot| Ok((*slot, standing(*slot).ok_or(*slot)?)));
    found.collect::<Result<_, Slot>>().map_err(|slot| format!("refused: there is no machine in {slot}"))
}

fn told(machines: &[(Slot, &Machine)]) -> String {
    let told: Vec<String> = machines.iter().map(|(slot, machine)| format!("{slot} ({})", machine.id)).collect();
    told.join(", ")
}

fn restarted(view: &View<'_>, request: &Request, slots: &[Slot], out: &mut Out) -> Option<String> {
    let machines = match restartable(view, slots) {
        Ok(machines) => machines,
        Err(refused) => return Some(refused),
    };
    let register = view.register()?;
    let Some(slot) = next(view, register, &request.token, &machines) else {
        return Some(format!("done: mysqld of {} has begun anew", told(&machines)));
    };
    match in_the_way(view, register, slot) {
        _ if has_restarted(view, slot, &request.token) => {
            out.wait(slot, "Restarting", "mysqld has begun anew, and is to serve before the next one is restarted");
        }
        None => out.wait(slot, "Restarting", format!("mysqld is restarted, as request {} asks", request.token)),
        Some(why) => out.wait(slot, "RestartAwaited", format!("it is restarted when {why}")),
    }
    None
}

/// The token of the restart that a slot's machine is to do now. One at a time, and only where commits go on meanwhile, or at once
/// afterwards: a primary alone among its acknowledgers would not even close.
pub fn restart<'a>(view: &View<'a>, register: &Register, slot: Slot) -> Option<&'a str> {
    let asked = view.requests.iter().find_map(|request| match &request.asks {
        Ok(Asks::Restart(slots)) => Some((request, restartable(view, slots).ok()?)),
        _ => None,
    });
    let (request, machines) = asked?;
    let is_next = next(view, register, &request.token, &machines) == Some(slot);
    let is_due = is_next && !has_restarted(view, slot, &request.token) && in_the_way(view, register, slot).is_none();
    is_due.then_some(request.token.as_str())
}

/// The machines that are meant, or the refusal. Without slots, all.
fn restartable<'a>(view: &View<'a>, slots: &[Slot]) -> Result<Vec<(Slot, &'a Machine)>, String> {
    let machines = if slots.is_empty() { machines(view, &view.wanted_slots()) } else { machines(view, slots) }?;
    match machines.iter().find(|(_, machine)| machine.held) {
        Some((slot, held)) => Err(format!("refused: {slot} ({}) carries {}: release it first", held.id, tags::HOLD)),
        None => Ok(machines),
    }
}

/// The first that is not restarted and does not serve yet: read replicas, then members, and the primary last.
fn next(view: &View<'_>, register: &Register, token: &str, machines: &[(Slot, &Machine)]) -> Option<Slot> {
    let slots = machines.iter().map(|(slot, _)| *slot);
    let left = slots.filter(|slot| !has_restarted(view, *slot, token) || !serves(view, register, *slot));
    left.min_by_key(|slot| (*slot == register.leader, slot.is_member(), *slot))
}

fn has_restarted(view: &View<'_>, slot: Slot, token: &str) -> bool {
    view.report(slot).is_some_and(|report| report.mysql.restarted.as_deref() == Some(token))
}

fn serves(view: &View<'_>, register: &Register, slot: Slot) -> bool {
    view.running(slot).is_some_and(|running| match &running.role {
        RunningRole::Leader { phase, .. } => *phase == LeaderPhase::Open && slot == register.leader,
        RunningRole::Replica { receiving: ThreadReport::Running, applying: ThreadReport::Running, .. } => true,
        RunningRole::Replica { .. } | RunningRole::Closed => false,
    })
}

/// Why a slot's mysqld cannot be restarted now, where it cannot.
fn in_the_way(view: &View<'_>, register: &Register, slot: Slot) -> Option<String> {
    if register.state != RegisterState::Active || !register.opened || register.joining.is_some() {
        return Some("the primary is open and every voter is settled".to_owned());
    }
    if slot != register.leader && !serves(view, register, register.leader) {
        return Some(format!("the primary {} is open and heard", register.leader));
    }
    let others = register.voters.iter().filter(|voter| voter.slot != slot);
    let acknowledging = others.filter(|voter| acknowledges(view, register, voter)).count();
    (acknowledging < usize::from(register.k))
        .then(|| format!("{} other members acknowledge; {acknowledging} do", register.k))
}

/// Users or databases, as far as dropping them goes.
struct Kind {
    word: &'static str,
    field: &'static str,
    is_declared: fn(&View<'_>, &str) -> bool,
    is_made: fn(&ClientsReport, &str) -> bool,
}

const USERS: Kind = Kind {
    word: "user",
    field: "spec.mysql.users",
    is_declared: |view, name| view.set.is_some_and(|set| set.users.contains_key(name)),
    is_made: |made, name| made.users.contains_key(name),
};

const DATABASES: Kind = Kind {
    word: "database",
    field: "spec.mysql.databases",
    is_declared: |view, name| view.set.is_some_and(|set| set.databases.contains_key(name)),
    is_made: |made, name| made.databases.contains(name),
};

fn dropped(view: &View<'_>, kind: &Kind, names: &[String], out: &mut Out) -> Option<String> {
    let word = kind.word;
    if let Some(name) = names.iter().find(|name| (kind.is_declared)(view, name)) {
        return Some(format!("refused: {word} {name} is declared: take it out of {} first", kind.field));
    }
    let Some(made) = clients::made(view) else {
        out.wait(None, "DropAwaited", format!("{word}s are dropped when the primary is open and heard"));
        return None;
    };
    let left: Vec<&str> = names.iter().map(String::as_str).filter(|name| (kind.is_made)(made, name)).collect();
    if left.is_empty() {
        return Some(format!("done: there is no {word} of Drover's called {} in MySQL", names.join(" or ")));
    }
    out.wait(None, "Dropping", format!("{word} {} is dropped, as it was asked for", left.join(", ")));
    None
}

/// The users and databases that are to be dropped now: asked for, and declared by nobody.
pub fn drops(view: &View<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut users, mut databases) = (BTreeSet::new(), BTreeSet::new());
    let undeclared = |kind: &Kind, names: &[String]| -> Vec<String> {
        let is_declared = names.iter().any(|name| (kind.is_declared)(view, name));
        if is_declared { Vec::new() } else { names.to_vec() }
    };
    for request in view.requests {
        match &request.asks {
            Ok(Asks::DropUsers(names)) => users.extend(undeclared(&USERS, names)),
            Ok(Asks::DropDatabases(names)) => databases.extend(undeclared(&DATABASES, names)),
            Ok(Asks::Hold(_) | Asks::Release(_) | Asks::Restart(_)) | Err(_) => {}
        }
    }
    (users, databases)
}
