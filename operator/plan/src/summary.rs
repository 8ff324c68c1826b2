//! How a set is, in words, rows and conditions: from what was observed and decided in the same pass.

use std::collections::BTreeMap;

use drover_api::{
    ResourceKey, Slot, Zone,
    conditions::{Condition, ConditionType},
    records::{IncarnationState, Register, RegisterState},
    tags::{self, Role},
    wire::{DataReport, LeaderPhase, RunningRole, ServerReport, ThreadReport, VolumeReport},
};

use crate::{
    actions::Waiting,
    clients,
    endpoints::{Endpoints, endpoints},
    health,
    leadership::{self, Lost},
    observed::{Observed, Phase, Seen},
    publish,
    report::{FLEET_UNKNOWN, MemberReport, RECORDS_UNKNOWN, SetReport},
    set::Wish,
    spec::spec_hash,
    view::{Out, Standing, View, differs},
    volumes,
};

pub fn report(observed: &Observed, key: &ResourceKey, wish: Wish<'_>, out: &Out) -> SetReport {
    let records = observed.records.get(key).and_then(Seen::known);
    let life = records.and_then(|records| records.incarnation.as_ref());
    let set = match wish {
        Wish::Keep { set, .. } => Some(set),
        Wish::Broken { .. } | Wish::Delete | Wish::Unclaimed | Wish::Unknown => None,
    };
    let view = records.zip(life).map(|(records, life)| View::new(observed, key, set, records, life));
    let members = view.as_ref().map(rows).unwrap_or_default();
    let register = view.as_ref().and_then(View::register);
    let lost = view
        .as_ref()
        .zip(register)
        .filter(|(view, register)| view.life.members > 1 && register.opened)
        .and_then(|(view, register)| leadership::lost_or_replaced(view, register));
    let silent = view
        .as_ref()
        .zip(register)
        .filter(|(view, register)| register.opened && view.report(register.leader).is_none())
        .map(|(_, register)| register.leader);
    let primary = members.iter().find(|row| row.role == Some(Role::Primary)).map(|row| row.slot);
    let ready = !members.is_empty() && members.iter().all(|row| row.ready) && lost.is_none() && out.stalled.is_empty();
    // Of a set that is being deleted, or is, nobody is to restore anything.
    let told = lost.as_ref().filter(|_| life.is_some_and(|life| life.state == IncarnationState::Live));
    let state = State { out, members: &members, lost: told, register, primary, silent, ready, wish };
    let slots: Vec<Slot> = members.iter().map(|row| row.slot).collect();
    let is_known = state.unknown().is_none();
    let served = view.as_ref().zip(register).filter(|_| is_known);
    // A list of EC2's that lags does not show whom clients are sent to: what was said of that stays.
    let shown = served.filter(|(view, register)| !is_unshown(view, register.leader));
    let endpoints = shown.map(|(view, register)| endpoints(view, register, &slots, lost.is_some()));
    let is_open = match &endpoints {
        Some(Endpoints { primary, .. }) => !primary.is_empty(),
        None => register.is_some_and(|register| register.opened),
    };
    let mut conditions = state.conditions(view.as_ref());
    conditions.extend(
        served.map(|(view, register)| health::conditions(view, register, &members, is_open)).into_iter().flatten(),
    );
    conditions.extend(served.and_then(|(view, register)| clients::condition(view, register)));
    let leader = served.and_then(|(view, register)| view.running(register.leader));
    let mut awaiting: Vec<String> = out.stalled.iter().chain(&out.waiting).map(line).collect();
    awaiting.extend(view.as_ref().and_then(crowded));
    let (users, kept_users, kept_databases) = view.as_ref().map(clients::reports).unwrap_or_default();
    SetReport {
        key: key.clone(),
        generation: wish.generation(),
        verdict: state.verdict(key, life.map(|life| life.state)),
        ready,
        primary,
        epoch: register.map(|register| register.epoch),
        conditions,
        endpoints,
        version: leader.map(|leader| leader.version.clone()),
        handled: out.handled.iter().cloned().collect(),
        awaiting,
        members,
        users,
        kept_users,
        kept_databases,
    }
}

struct State<'a> {
    out: &'a Out,
    members: &'a [MemberReport],
    lost: Option<&'a Lost>,
    register: Option<&'a Register>,
    primary: Option<Slot>,
    /// Whom clients were let in to, as far as is known, while its agent is not heard.
    silent: Option<Slot>,
    ready: bool,
    wish: Wish<'a>,
}

impl State<'_> {
    fn verdict(&self, key: &ResourceKey, life: Option<IncarnationState>) -> String {
        let counted =
            format!("{}/{} machines ready", self.members.iter().filter(|row| row.ready).count(), self.members.len());
        match (self.wish, life) {
            (_, Some(IncarnationState::Deleting)) => {
                return format!("{key} is being deleted: {} slots are left", self.members.len());
            }
            (_, Some(IncarnationState::Dead)) if !matches!(self.wish, Wish::Keep { .. }) => {
                return format!("{key} is deleted");
            }
            (Wish::Unclaimed, _) if self.unknown().is_none() => {
                return format!("{key} is declared by nobody: its machines are left alone ({counted})");
            }
            _ => {}
        }
        if let Some(unknown) = self.unknown() {
            return format!("{key}: it is not known how it is: {}", line(unknown));
        }
        if let (Some(lost), Some(register)) = (self.lost, self.register) {
            let stalled = self.out.stalled.first().map(|stalled| format!("; {}", line(stalled))).unwrap_or_default();
            return format!(
                "{key} has lost its primary {}: {}. It stays closed, {counted}{stalled}",
                register.leader, lost.how
            );
        }
        if let Some(first) = self.out.stalled.first() {
            return format!("{key} is stalled: {}", first.message);
        }
        if self.is_paused() {
            return format!("{key} is paused: {counted}");
        }
        match (self.primary, self.silent) {
            (Some(primary), _) if self.ready => format!("{key} is ready: {primary} is primary, {counted}"),
            (Some(primary), _) => format!("{key} serves, {primary} is primary, {counted}{}", self.awaited()),
            (None, Some(silent)) => {
                format!("{key} is open, but its primary {silent} is not heard, {counted}{}", self.awaited())
            }
            (None, None) => format!("{key} is not open yet, {counted}{}", self.awaited()),
        }
    }

    /// Nothing is decided about it, so nothing is under way.
    fn is_left_alone(&self) -> bool {
        matches!(self.wish, Wish::Unclaimed | Wish::Unknown)
    }

    /// What kept the whole set from being looked at.
    fn unknown(&self) -> Option<&Waiting> {
        let reasons = [RECORDS_UNKNOWN, FLEET_UNKNOWN];
        self.out.waiting.iter().find(|waiting| waiting.slot.is_none() && reasons.contains(&waiting.reason.as_str()))
    }

    fn is_paused(&self) -> bool {
        matches!(self.wish, Wish::Keep { set, .. } if set.paused)
    }

    fn awaited(&self) -> String {
        match self.out.waiting.first() {
            Some(waiting) => format!("; {}", line(waiting)),
            None if self.is_left_alone() => String::new(),
            None => "; work goes on".into(),
        }
    }

    fn conditions(&self, view: Option<&View<'_>>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let mut add = |kind, status, reason: &str, message: String| {
            conditions.push(Condition::new(kind, status, reason, message))
        };
        let first = self.out.stalled.first().or_else(|| self.out.waiting.first());
        if self.ready {
            add(ConditionType::Ready, true, "Ready", "every machine serves in its role".into());
        } else if let Some(lost) = self.lost {
            add(ConditionType::Ready, false, "PrimaryLost", lost.how.clone());
        } else {
            let (reason, otherwise) = match self.is_left_alone() {
                true => ("NotReady", "not every machine serves in its role"),
                false => ("Progressing", "work goes on"),
            };
            let reason = first.map_or(reason, |waiting| waiting.reason.as_str());
            add(ConditionType::Ready, false, reason, first.map_or_else(|| otherwise.into(), line));
        }
        let lost = self.lost.zip(view).zip(self.register);
        let lost = lost.map(|((lost, view), register)| format!("{}; {}", lost.how, holdings(view, register)));
        if let Some(stalled) = self.out.stalled.first() {
            add(ConditionType::Stalled, true, &stalled.reason, line(stalled));
        } else if let Some(message) = &lost {
            let message = format!("restore the leader's machine by hand: {message}");
            add(ConditionType::Stalled, true, "PrimaryLost", message);
        } else if self.is_paused() || self.is_left_alone() {
            // Nothing is under way, whatever is awaited.
        } else if !self.ready || self.out.actions.iter().any(|planned| !planned.action.is_look_up()) {
            let next =
                self.out.actions.first().map_or_else(|| "work goes on".to_owned(), |planned| planned.why.clone());
            add(ConditionType::Reconciling, true, "Progressing", first.map_or(next, line));
        }
        if let Some(message) = lost {
            add(ConditionType::PrimaryLost, true, "PrimaryLost", message);
        }
        if let Some((reason, pending)) = view.and_then(|view| change_pending(view, self.wish)) {
            add(ConditionType::ChangePending, true, reason, pending);
        }
        if self.is_paused() {
            add(ConditionType::Suspended, true, "Paused", "spec.paused is true: nothing is changed".into());
        } else if let Some(held) = view.and_then(held) {
            add(ConditionType::Suspended, true, "MachinesHeld", held);
        }
        conditions
    }
}

/// The machines that are a person's.
fn held(view: &View<'_>) -> Option<String> {
    let held = view.known_slots().into_iter().filter_map(|slot| Some((slot, view.filling(slot)?)));
    let held = held.filter(|(_, machine)| machine.held).map(|(slot, machine)| format!("{slot} ({})", machine.id));
    let held: Vec<String> = held.collect();
    (!held.is_empty()).then(|| format!("left alone, for they carry {}: {}", tags::HOLD, held.join(", ")))
}

fn line(waiting: &Waiting) -> String {
    match waiting.slot {
        Some(slot) => format!("{slot}: {}", waiting.message),
        None => waiting.message.clone(),
    }
}

/// A slot's machine is on no list, and it is not sure that it is gone.
fn is_unshown(view: &View<'_>, slot: Slot) -> bool {
    let instance = view.record(slot).and_then(|record| record.instance.as_ref());
    instance.is_some_and(|id| matches!(view.machine(id), Standing::Unknown | Standing::AskById))
}

/// A zone that alone takes a majority of the members along when it is lost: worth a word as long as it is so.
fn crowded(view: &View<'_>) -> Option<String> {
    let mut standing: BTreeMap<Zone, Vec<Slot>> = BTreeMap::new();
    for slot in view.member_slots() {
        if let Some(zone) = view.zone_of(slot) {
            standing.entry(zone).or_default().push(slot);
        }
    }
    let all = usize::from(view.life.members);
    let (zone, slots) = standing.into_iter().find(|(_, slots)| all > 1 && slots.len() * 2 > all)?;
    let slots: Vec<String> = slots.iter().map(Slot::to_string).collect();
    Some(format!(
        "{} of {all} members stand in {zone} ({}): the set is lost with that zone",
        slots.len(),
        slots.join(", ")
    ))
}

/// What is on which member, for a person who has to decide after the leader died.
fn holdings(view: &View<'_>, register: &Register) -> String {
    let mut words = Vec::new();
    for slot in view.member_slots().filter(|slot| *slot != register.leader) {
        words.push(match view.running(slot) {
            Some(running) => {
                let received = match &running.role {
                    RunningRole::Replica { received, .. } => running.executed.union(received),
                    RunningRole::Closed | RunningRole::Leader { .. } => running.executed.clone(),
                };
                format!("{slot} holds {received}")
            }
            None => format!("{slot} cannot be asked"),
        });
    }
    words.join(", ")
}

/// Reason and message: what of the present wish has not reached every slot.
fn change_pending(view: &View<'_>, wish: Wish<'_>) -> Option<(&'static str, String)> {
    let Wish::Keep { set, .. } = wish else { return None };
    let now = spec_hash(set);
    let wanted = view.wanted_slots();
    let is_old = |slot: &&Slot| {
        view.record(**slot).is_some_and(|record| record.instance.is_some() && differs(&record.spec, &now))
    };
    let old: Vec<String> = wanted.iter().filter(is_old).map(Slot::to_string).collect();
    let kept = wanted.iter().filter_map(|slot| Some(format!("{slot}'s is {}", volumes::difference(view, set, *slot)?)));
    let kept: Vec<String> = kept.collect();
    let machines = (!old.is_empty()).then(|| {
        format!("{} were launched with other settings; only new machines get the present ones", old.join(", "))
    });
    let volumes =
        (!kept.is_empty()).then(|| format!("data volumes that exist are kept as they are: {}", kept.join("; ")));
    let reason = if machines.is_some() { "NewMachinesOnly" } else { "VolumesKept" };
    let message: Vec<String> = machines.into_iter().chain(volumes).collect();
    (!message.is_empty()).then(|| (reason, message.join("; ")))
}

fn rows(view: &View<'_>) -> Vec<MemberReport> {
    let mut slots = view.wanted_slots();
    for slot in view.known_slots() {
        if !slots.contains(&slot) && !crate::slots::has_ended(view, slot) {
            slots.push(slot);
        }
    }
    slots.into_iter().map(|slot| row(view, slot)).collect()
}

fn row(view: &View<'_>, slot: Slot) -> MemberReport {
    let machine = view.filling(slot);
    let agent = machine.and_then(|machine| view.observed.agents.get(&machine.id));
    let register = view.register();
    let role = register.and_then(|register| publish::role(view, register, slot));
    let running = view.running(slot);
    MemberReport {
        slot,
        instance: view.record(slot).and_then(|record| record.instance.clone()),
        zone: view.zone_of(slot),
        address: machine.and_then(|machine| machine.address),
        role,
        epoch: register.filter(|_| role.is_some()).map(|register| register.epoch),
        position: running.map(|running| running.executed.to_string()),
        lag_ms: running.and_then(|running| match running.role {
            RunningRole::Replica { lag_ms, .. } => lag_ms,
            RunningRole::Closed | RunningRole::Leader { .. } => None,
        }),
        report_age_ms: agent
            .and_then(|agent| agent.heard)
            .map(|heard| u64::try_from(view.now().since(heard).as_millis()).unwrap_or(u64::MAX)),
        state: state(view, slot),
        ready: match role {
            Some(Role::Primary | Role::Reader) => true,
            Some(Role::Replica) => {
                register.is_some_and(|register| register.state == RegisterState::Active && register.joining.is_none())
            }
            Some(Role::Joining | Role::Draining | Role::Fenced | Role::Retiring) | None => false,
        },
    }
}

/// What a slot is doing, in a few words.
fn state(view: &View<'_>, slot: Slot) -> String {
    let Some(record) = view.record(slot) else {
        return "to be launched".into();
    };
    let Some(id) = &record.instance else {
        return if record.launch.is_some() { "launching".into() } else { "awaiting a machine".into() };
    };
    let Some(machine) = view.filling(slot) else {
        return format!("{id} is not shown by EC2");
    };
    if record.retired {
        return "ending".into();
    }
    match machine.phase {
        Phase::Running => {}
        Phase::Pending => return "machine starting".into(),
        Phase::Stopping | Phase::Stopped | Phase::ShuttingDown | Phase::Terminated => {
            return format!("machine {}", machine.phase);
        }
    }
    let Some(agent) = view.observed.agents.get(&machine.id) else {
        return "booting (cloud-init)".into();
    };
    let Some(report) = &agent.report else {
        return "booting (cloud-init)".into();
    };
    if let Some(why) = &agent.unreachable {
        return format!("silent: {why}");
    }
    if let Some(problem) = report.problems.first() {
        return problem.message.clone();
    }
    match (&report.volume, &report.mysql.data, &report.mysql.server) {
        (VolumeReport::Foreign { found }, ..) => format!("its volume holds something else: {found}"),
        (VolumeReport::Waiting, ..) => "awaiting its data volume".into(),
        (VolumeReport::Formatting, ..) => "formatting its data volume".into(),
        (_, DataReport::Initialising, _) => "initialising MySQL".into(),
        (_, DataReport::Seeding { donor, .. }, _) => format!("copying from {donor}"),
        (.., ServerReport::Starting) => "starting MySQL".into(),
        (.., ServerReport::Stopped) => "MySQL is not running".into(),
        (.., ServerReport::Died { how, .. }) => format!("MySQL ended: {how}"),
        (.., ServerReport::Running(running)) => running_state(&running.role),
    }
}

fn running_state(role: &RunningRole) -> String {
    match role {
        RunningRole::Closed => "closed".into(),
        RunningRole::Leader { phase, acknowledgers, .. } => match phase {
            LeaderPhase::Closed => format!("closed, {} acknowledging", acknowledgers.len()),
            LeaderPhase::Marking => "proving its quorum".into(),
            LeaderPhase::Open => "open".into(),
        },
        RunningRole::Replica { receiving, applying, .. } => match (receiving, applying) {
            (ThreadReport::Running, ThreadReport::Running) => "replicating".into(),
            (ThreadReport::Failed { error }, _) | (_, ThreadReport::Failed { error }) => error.clone(),
            (ThreadReport::Connecting { error: Some(error) }, _)
            | (_, ThreadReport::Connecting { error: Some(error) }) => error.clone(),
            _ => "connecting".into(),
        },
    }
}
