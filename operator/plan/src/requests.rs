//! What people ask for once: each request becomes actions until it is so, and then an answer.

use std::collections::BTreeSet;

use drover_api::{
    Slot,
    clients::ClientsReport,
    records::{Register, RegisterState},
    requests::{Asks, Request},
    status::Handled,
    tags,
    wire::{DataReport, LeaderPhase, RunningRole, ThreadReport},
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
    let is_for_agents = matches!(asks, Asks::Restart(_) | Asks::DropUsers(_) | Asks::DropDatabases(_));
    let answer = match asks {
        _ if is_paused(view) => Some("refused: nothing is changed while spec.paused is true".to_owned()),
        Asks::Hold(slots) => tagged(view, request, slots, true, out),
        Asks::Release(slots) => tagged(view, request, slots, false, out),
        Asks::Restart(slots) => restarted(view, request, slots, out),
        Asks::DropUsers(names) => dropped(view, &USERS, names, out),
        Asks::DropDatabases(names) => dropped(view, &DATABASES, names, out),
    }?;
    // "No" is said when nothing of it can happen any more.
    let obliged = view.serving_slots().into_iter().find(|slot| view.report(*slot).is_some_and(|it| it.mysql.asked));
    if let Some(slot) = obliged.filter(|_| is_for_agents && answer.starts_with("refused")) {
        out.wait(slot, "Withdrawing", "what was asked for is taken back, which is within half a minute");
        return None;
    }
    Some(answer)
}

fn is_paused(view: &View<'_>) -> bool {
    view.set.is_some_and(|set| set.paused)
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
    let found = slots.iter().map(|slot| Ok((*slot, standing(view, *slot).ok_or(*slot)?)));
    found.collect::<Result<_, Slot>>().map_err(|slot| format!("refused: there is no machine in {slot}"))
}

fn standing<'a>(view: &View<'a>, slot: Slot) -> Option<&'a Machine> {
    view.filling(slot).filter(|machine| machine.phase < Phase::ShuttingDown)
}

fn told(machines: &[(Slot, &Machine)]) -> String {
    let told: Vec<String> = machines.iter().map(|(slot, machine)| format!("{slot} ({})", machine.id)).collect();
    told.join(", ")
}

fn restarted(view: &View<'_>, request: &Request, slots: &[Slot], out: &mut Out) -> Option<String> {
    let machines = match restartable(view, slots) {
        Ok(machines) => machines,
        Err(refused) => return Some(format!("{refused}{}", so_far(view, &request.token))),
    };
    let register = view.register()?;
    if let Some(slot) = failed(view, &request.token, &machines) {
        return Some(format!(
            "failed: {slot} cannot be closed, for a commit or a rollback does not end: ask again when it has{}",
            so_far(view, &request.token)
        ));
    }
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

/// The one that could not be closed.
fn failed(view: &View<'_>, token: &str, machines: &[(Slot, &Machine)]) -> Option<Slot> {
    let has_failed =
        |slot: &Slot| view.report(*slot).is_some_and(|it| it.mysql.restart_failed.as_deref() == Some(token));
    machines.iter().map(|(slot, _)| *slot).find(has_failed)
}

/// What a restart that goes no further has done.
fn so_far(view: &View<'_>, token: &str) -> String {
    let done: Vec<String> = view
        .serving_slots()
        .into_iter()
        .filter(|slot| has_restarted(view, *slot, token))
        .map(|slot| slot.to_string())
        .collect();
    if done.is_empty() { String::new() } else { format!("; {} have begun anew", done.join(", ")) }
}

/// The token of the restart that a slot's machine is to do now. One at a time, and only where commits go on meanwhile, or at once
/// afterwards: a primary alone among its acknowledgers would not even close.
pub fn restart<'a>(view: &View<'a>, register: &Register, slot: Slot) -> Option<&'a str> {
    let asked = view.requests.iter().find_map(|request| match &request.asks {
        Ok(Asks::Restart(slots)) if !is_paused(view) => Some((request, restartable(view, slots).ok()?)),
        _ => None,
    });
    let (request, machines) = asked?;
    if failed(view, &request.token, &machines).is_some() {
        return None;
    }
    let is_next = next(view, register, &request.token, &machines) == Some(slot);
    let is_due = is_next && !has_restarted(view, slot, &request.token) && in_the_way(view, register, slot).is_none();
    is_due.then_some(request.token.as_str())
}

/// The machines that are meant, or the refusal. Without slots, all that are there.
fn restartable<'a>(view: &View<'a>, slots: &[Slot]) -> Result<Vec<(Slot, &'a Machine)>, String> {
    let there = || view.serving_slots().into_iter().filter(|slot| standing(view, *slot).is_some()).collect();
    let slots: Vec<Slot> = if slots.is_empty() { there() } else { slots.to_vec() };
    let machines = machines(view, &slots)?;
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
    let copies = |other: &Slot| {
        view.report(*other)
            .is_some_and(|it| matches!(it.mysql.data, DataReport::Seeding { donor, .. } if donor == slot))
    };
    if let Some(other) = view.serving_slots().into_iter().find(copies) {
        return Some(format!("{other} has copied its data"));
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
    /// Whether what is not made is known.
    is_known: fn(&ClientsReport) -> bool,
}

const USERS: Kind = Kind {
    word: "user",
    field: "spec.mysql.users",
    is_declared: |view, name| view.set.is_some_and(|set| set.users.contains_key(name)),
    is_made: |made, name| made.users.contains_key(name),
    is_known: |_| true,
};

const DATABASES: Kind = Kind {
    word: "database",
    field: "spec.mysql.databases",
    is_declared: |view, name| view.set.is_some_and(|set| set.databases.contains_key(name)),
    is_made: |made, name| made.databases.contains(name),
    is_known: |made| made.databases_known,
};

fn dropped(view: &View<'_>, kind: &Kind, names: &[String], out: &mut Out) -> Option<String> {
    let word = kind.word;
    if let Some(name) = names.iter().find(|name| (kind.is_declared)(view, name)) {
        return Some(format!("refused: {word} {name} is declared: take it out of {} first", kind.field));
    }
    let leader = view.register().and_then(|register| Some((register.leader, view.filling(register.leader)?)));
    if let Some((slot, machine)) = leader.filter(|(_, machine)| machine.held) {
        return Some(format!("refused: {slot} ({}) carries {}: release it first", machine.id, tags::HOLD));
    }
    let Some(made) = clients::made(view).filter(|made| (kind.is_known)(made)) else {
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

/// The users and databases that are to be dropped now: asked for, declared by nobody, and there as far as is known.
pub fn drops(view: &View<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut users, mut databases) = (BTreeSet::new(), BTreeSet::new());
    let Some(made) = clients::made(view).filter(|_| !is_paused(view)) else {
        return (users, databases);
    };
    let due = |kind: &Kind, names: &[String]| -> Vec<String> {
        if names.iter().any(|name| (kind.is_declared)(view, name)) {
            return Vec::new();
        }
        let may_be_there = |name: &&String| !(kind.is_known)(made) || (kind.is_made)(made, name);
        names.iter().filter(may_be_there).cloned().collect()
    };
    for request in view.requests {
        match &request.asks {
            Ok(Asks::DropUsers(names)) => users.extend(due(&USERS, names)),
            Ok(Asks::DropDatabases(names)) => databases.extend(due(&DATABASES, names)),
            Ok(Asks::Hold(_) | Asks::Release(_) | Asks::Restart(_)) | Err(_) => {}
        }
    }
    (users, databases)
}
