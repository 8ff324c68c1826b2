//! What follows from the roles: tags that publish them, and agents that become the operator's build one at a time.

use drover_api::{
    Epoch, Slot,
    records::Register,
    tags::{Role, role_tags},
    wire::{DataReport, LeaderPhase, Report, RunningRole, ServerReport, ThreadReport, VolumeReport},
};

use crate::{
    actions::Action,
    observed::Phase,
    view::{Out, View},
};

/// What a slot does now by its own word; `None` while it cannot be asked: then its tag stays as it is.
pub fn role(view: &View<'_>, register: &Register, slot: Slot) -> Option<Role> {
    let report = view.report(slot)?;
    Some(match &report.mysql.server {
        ServerReport::Died { .. } => Role::Fenced,
        ServerReport::Running(running) => match &running.role {
            RunningRole::Leader { phase: LeaderPhase::Open, epoch, .. } if *epoch == register.epoch => Role::Primary,
            RunningRole::Replica {
                receiving: ThreadReport::Running,
                applying: ThreadReport::Running,
                acknowledges,
                ..
            } => match (slot.is_member(), acknowledges) {
                (true, true) => Role::Replica,
                (true, false) => Role::Joining,
                (false, _) => Role::Reader,
            },
            RunningRole::Leader { .. } | RunningRole::Replica { .. } | RunningRole::Closed => Role::Joining,
        },
        ServerReport::Stopped | ServerReport::Starting => Role::Joining,
    })
}

/// Tags publish what is, after the fact. A receiver that reconnects for a moment does not take the tag back.
pub fn tags(view: &View<'_>, out: &mut Out) {
    let Some(register) = view.register() else { return };
    for slot in view.serving_slots() {
        let Some(machine) = view.filling(slot).filter(|machine| machine.phase == Phase::Running && !machine.held)
        else {
            continue;
        };
        let Some(role) = role(view, register, slot) else {
            continue;
        };
        let published = machine.role.unwrap_or((Role::Joining, Epoch(0)));
        let settled =
            matches!(published.0, Role::Primary | Role::Replica | Role::Reader) && published.1 == register.epoch;
        let epoch = if role == Role::Joining { published.1 } else { register.epoch };
        if published != (role, epoch) && !(role == Role::Joining && settled) {
            let tags = role_tags(role, epoch.max(published.1));
            out.act(slot, Action::Tag { instance: machine.id.clone(), tags }, format!("{slot} is {role} in {epoch:?}"));
        }
    }
}

/// The next agent that is to become the operator's build: read replicas first, the leader last, one at a time, and only
/// while every agent of the set answers, so that a bad build stops at the first machine.
pub fn upgrade(view: &View<'_>, out: &mut Out) {
    let Some(register) = view.register() else { return };
    let mut slots = view.serving_slots();
    slots.sort_by_key(|slot| (*slot == register.leader, slot.is_member(), *slot));
    let mut next = None;
    for slot in slots {
        let Some(machine) = view.filling(slot) else { return };
        let Some(report) = view.report(slot) else { return };
        let build =
            machine.architecture.as_ref().and_then(|architecture| view.observed.operator.builds.get(architecture));
        let Some(build) = build.filter(|build| **build != report.build) else {
            continue;
        };
        if report.sent_back.as_ref() == Some(build) {
            let message = format!(
                "look at the agent's journal on {}: {slot} tried build {build} and went back; no agent is ordered to become it",
                machine.id
            );
            return out.stall(slot, "BuildRejected", message);
        }
        if next.is_none() && !machine.held && !is_making(report) {
            next = Some((slot, machine, build));
        }
    }
    if let Some((slot, machine, build)) = next {
        let action = Action::Upgrade { slot, instance: machine.id.clone(), build: build.clone() };
        out.act(slot, action, "its agent is of another build; mysqld goes on");
    }
}

/// An agent that makes a file system or data refuses to become another: it would begin anew.
fn is_making(report: &Report) -> bool {
    matches!(report.volume, VolumeReport::Formatting)
        || matches!(report.mysql.data, DataReport::Initialising | DataReport::Seeding { .. })
}
