//! What each machine is to be, whole, as numbered orders.

use drover_api::{
    Slot,
    records::{Register, RegisterState, Voter},
    secrets::{AccountKind, SetSecret},
    wire::{Account, LeaderOrder, ReplicaOrder, RoleOrder, RunningRole, Source, ThreadReport, VolumeOrder, Wanted},
};

use crate::{
    actions::Action,
    clients,
    leadership::{Joint, joint_state},
    observed::Phase,
    requests,
    view::{Out, Standing, View, voter},
};

/// Sends orders to every wanted machine whose agent has not accepted exactly these.
pub fn give(view: &View<'_>, out: &mut Out) {
    let Some(register) = view.register() else { return };
    for slot in view.serving_slots() {
        let Some(machine) = view.filling(slot).filter(|machine| machine.phase == Phase::Running && !machine.held)
        else {
            continue;
        };
        let Some(report) = view.report(slot) else {
            let silent = view.observed.agents.get(&machine.id).and_then(|agent| agent.unreachable.clone());
            let message = silent.unwrap_or_else(|| "it has not been heard yet".into());
            out.wait(slot, "AgentAwaited", format!("the agent of {}: {message}", machine.id));
            continue;
        };
        if let Some(problem) = report.problems.iter().find(|problem| problem.reason.needs_a_person()) {
            out.stall(slot, &problem.reason.to_string(), format!("look at {}: {}", machine.id, problem.message));
        }
        match wanted(view, register, slot) {
            Ok(wanted) => {
                let accepted = report.accepted.as_ref();
                let same = accepted.is_some_and(|accepted| accepted.digest == wanted.digest());
                // What is asked for once is given again as long as it is wanted and not done.
                if !same || (wanted.asks() && !report.mysql.asked) {
                    let action = Action::Order {
                        slot,
                        instance: machine.id.clone(),
                        epoch: register.epoch,
                        claim: register.claim.clone(),
                        wanted: Box::new(wanted),
                    };
                    out.act(slot, action, "its orders have changed");
                }
            }
            Err((reason, message)) => out.wait(slot, reason, message),
        }
    }
}

/// A slot's agent has taken exactly what it is to be by the present register. That it has done so is another matter.
pub fn is_accepted(view: &View<'_>, register: &Register, slot: Slot) -> bool {
    let Ok(wanted) = wanted(view, register, slot) else {
        return false;
    };
    let accepted = view.report(slot).and_then(|report| report.accepted.as_ref());
    accepted.is_some_and(|accepted| accepted.digest == wanted.digest())
}

type NotYet = (&'static str, String);

fn wanted(view: &View<'_>, register: &Register, slot: Slot) -> Result<Wanted, NotYet> {
    let record = view.record(slot).ok_or_else(|| ("SlotUnknown", "it has no record".to_owned()))?;
    let secret =
        view.records.secret.as_ref().ok_or_else(|| ("SecretUnknown", "the set's secret is not known".to_owned()))?;
    let id = record.volume.clone().ok_or_else(|| ("VolumeAwaited", "its data volume is being made".to_owned()))?;
    match view.volume(&id) {
        Standing::Listed(volume) if volume.attached_to == record.instance => {}
        _ => return Err(("VolumeAwaited", format!("{id} is being attached"))),
    }
    // A leader's record may have been lost; what it leads with is never another volume.
    let leads = register.voters.iter().find(|voter| voter.slot == slot && slot == register.leader);
    let expected = record.formatted.clone().or_else(|| leads.map(|voter| voter.voter_id.clone()));
    let volume = VolumeOrder { id, new: expected.is_none(), expected };
    let role = match (slot == register.leader, register.state) {
        (true, _) => RoleOrder::Leader(leader(view, register, secret)),
        (false, RegisterState::Fencing) => RoleOrder::Closed,
        // In which life its volume comes back is not known yet: it may acknowledge only in the one that is registered.
        (false, RegisterState::Active) if slot.is_member() && view.voting(slot).is_none() => RoleOrder::Closed,
        (false, RegisterState::Active) => RoleOrder::Replica(replica(view, register, secret, slot)?),
    };
    let restart = requests::restart(view, register, slot).map(str::to_owned);
    Ok(Wanted {
        epoch: register.epoch,
        claim: register.claim.clone(),
        volume,
        mysql: record.mysql.clone(),
        role,
        restart,
    })
}

fn leader(view: &View<'_>, register: &Register, secret: &SetSecret) -> LeaderOrder {
    let followers = view.wanted_slots().into_iter().filter(|slot| *slot != register.leader);
    let active = register.state == RegisterState::Active;
    let accounts = followers.filter(|_| active).map(|slot| {
        let kind = if may_vote(view, register, slot) { AccountKind::Voter(slot) } else { AccountKind::Learner(slot) };
        Account { slot, credential: secret.credential(kind, register.epoch) }
    });
    LeaderOrder {
        initialise: !active && register.last_active.is_none(),
        k: register.k,
        accounts: accounts.collect(),
        open: active && register.opened,
        admin: secret.credential(AccountKind::Admin, register.epoch),
        clone: secret.credential(AccountKind::Clone, register.epoch),
        marker: marker(view, register),
        clients: clients::ordered(view, secret),
    }
}

/// The marker to ask for: the next one only when whom it has to prove is in place.
pub fn marker(view: &View<'_>, register: &Register) -> u64 {
    let Some(joining) = &register.joining else { return register.marker };
    match joint_state(view, register, joining) {
        _ if register.withdrawing => register.marker + 1,
        Joint::Acknowledging => register.marker + 1,
        Joint::Lost(..) | Joint::Awaited(_) => register.marker,
    }
}

fn replica(view: &View<'_>, register: &Register, secret: &SetSecret, slot: Slot) -> Result<ReplicaOrder, NotYet> {
    let not_yet = || ("LeaderAwaited", format!("the machine of {} is not there", register.leader));
    let source = source(view, register.leader).ok_or_else(not_yet)?;
    let votes = may_vote(view, register, slot);
    let kind = if votes { AccountKind::Voter(slot) } else { AccountKind::Learner(slot) };
    Ok(ReplicaOrder {
        donor: donor(view, register, slot, &source),
        source,
        clone: secret.credential(AccountKind::Clone, register.epoch),
        credential: secret.credential(kind, register.epoch),
        acknowledges: votes,
        life: registered_life(register, slot),
    })
}

/// A member whose present life the register names, in the set that is or the set that will be, and who is not being
/// shut out. A member that is not heard is still who it was when it was last heard: its account harms nobody while it
/// is away, and changing it for every silence would.
pub fn may_vote(view: &View<'_>, register: &Register, slot: Slot) -> bool {
    let voters: &[Voter] = register.joining.as_ref().unwrap_or(&register.voters);
    let Some(registered) = voters.iter().find(|voter| voter.slot == slot) else {
        return false;
    };
    if register.withdrawing && !register.voters.contains(registered) {
        return false;
    }
    let returned = || view.record(slot)?.catch_up.as_ref().map(|catch_up| catch_up.voter.clone());
    let present = view.voting(slot).map(|voting| voter(slot, voting)).or_else(returned);
    present.is_none_or(|present| present == *registered)
}

/// The life that the register knows in a slot; 0, which none is, where it knows none.
fn registered_life(register: &Register, slot: Slot) -> u64 {
    let voters = register.joining.as_ref().unwrap_or(&register.voters);
    voters.iter().find(|voter| voter.slot == slot).map_or(0, |voter| voter.life)
}

fn source(view: &View<'_>, slot: Slot) -> Option<Source> {
    let machine = view.filling(slot).filter(|machine| machine.phase == Phase::Running)?;
    Some(Source { slot, address: machine.address? })
}

/// Where a machine without data copies from: a voter that follows in good order, so that the primary is left alone, and
/// the leader where there is none. Only for a machine that has none: the choice would otherwise change its orders for ever.
fn donor(view: &View<'_>, register: &Register, slot: Slot, leader: &Source) -> Option<Source> {
    use drover_api::wire::DataReport;
    match view.report(slot)?.mysql.data {
        DataReport::Present => return None,
        DataReport::Seeding { donor, .. } => return source(view, donor),
        DataReport::Unknown | DataReport::Absent | DataReport::Initialising => {}
    }
    let in_order = |voter: &&Voter| {
        let running = view.running(voter.slot);
        voter.slot != slot
            && running.is_some_and(|running| {
                matches!(
                    &running.role,
                    RunningRole::Replica { receiving: ThreadReport::Running, applying: ThreadReport::Running, .. }
                )
            })
    };
    let seeding_from = |donor: Slot| {
        view.wanted_slots().into_iter().filter(move |other| {
            view.report(*other).is_some_and(
                |report| matches!(report.mysql.data, DataReport::Seeding { donor: from, .. } if from == donor),
            )
        })
    };
    let free =
        register.voters.iter().filter(in_order).min_by_key(|voter| (seeding_from(voter.slot).count(), voter.slot));
    match free {
        Some(voter) if register.opened => source(view, voter.slot),
        _ => Some(leader.clone()),
    }
}
