//! Who leads and who votes: the register's next step. Bootstrap, the re-opening of a set of one, and the return of a voter
//! with another life. Failover is not here: a set of three or five whose leader died stays closed.

use std::time::Duration;

use drover_api::{
    Claim, Epoch, GtidSet, Slot,
    records::{CatchUp, LastActive, Register, RegisterState, SlotRecord, Voter},
    tags::Role,
    wire::{LeaderPhase, Promise, Report, RunningRole, ServerReport, ThreadReport, VolumeReport},
};

use crate::{
    actions::Action,
    observed::Phase,
    orders, slots,
    view::{Out, Standing, View, voter},
};

/// The register of a set that has never had one: epoch 1, FENCING, and m0 is to lead first.
pub fn first_register(view: &View<'_>) -> Register {
    Register {
        write_id: view.life.write_id.clone(),
        version: 1,
        epoch: Epoch(1),
        state: RegisterState::Fencing,
        claim: Claim::new(format!("bootstrap-{}", view.incarnation())).expect("an incarnation is letters and digits"),
        leader: Slot::Member(0),
        voters: Vec::new(),
        joining: None,
        joint_since: None,
        withdrawing: false,
        k: view.life.members / 2,
        base: None,
        opened: false,
        marker: 1,
        last_active: None,
    }
}

/// Why the leader of an ACTIVE epoch cannot lead any more, where that is known; a silent machine is not known to be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub how: String,
    /// What it led with is there no more: nothing re-opens on it.
    pub data_gone: bool,
}

/// The leader died, by its own agent's word, or its machine or its data ended, or what its machine has is not what the register
/// names.
pub fn lost(view: &View<'_>, register: &Register) -> Option<Lost> {
    if register.state != RegisterState::Active {
        return None;
    }
    let slot = register.leader;
    let volume = view.record(slot).and_then(|record| record.volume.as_ref());
    if let Some(id) = volume.filter(|id| matches!(view.volume(id), Standing::Gone)) {
        return Some(Lost { how: format!("its data volume {id} is gone"), data_gone: true });
    }
    if let Some(report) = view.report(slot) {
        return died(report, register);
    }
    let record = view.record(slot)?;
    match (&record.instance, view.filling(slot)) {
        (Some(id), Some(machine)) if machine.phase > Phase::Running => {
            Some(Lost { how: format!("its machine {id} is {}", machine.phase), data_gone: false })
        }
        (Some(id), _) if matches!(view.machine(id), Standing::Gone) => {
            Some(Lost { how: "its machine is gone".into(), data_gone: false })
        }
        // A machine that replaces the leader's: mysqld ended with the old one.
        (None, _) => Some(Lost { how: "its machine is gone".into(), data_gone: false }),
        (Some(_), _) => None,
    }
}

fn died(report: &Report, register: &Register) -> Option<Lost> {
    let lost = |how: String| Some(Lost { how, data_gone: false });
    match (&report.mysql.server, &report.volume) {
        (ServerReport::Died { epoch, how, .. }, _) if *epoch == register.epoch => lost(how.clone()),
        (ServerReport::Running(_), VolumeReport::Foreign { .. }) => None,
        (_, VolumeReport::Foreign { found }) => lost(format!("its data volume holds {found}")),
        // What was acknowledged may be missing in another life; its agent does not open it in this epoch.
        (_, VolumeReport::Mounted(voting)) if !register.voters.contains(&voter(register.leader, voting)) => {
            lost("its data volume came back as another life".into())
        }
        _ => None,
    }
}

/// The same, for people. Between the end of the leader's machine and the word of the one that replaces it nothing is certain
/// enough to act on; but that machine never led, and so never got the tag of a primary.
pub fn lost_or_replaced(view: &View<'_>, register: &Register) -> Option<Lost> {
    lost(view, register).or_else(|| {
        let machine = view.filling(register.leader)?;
        let is_mounted = view.voting(register.leader).is_some();
        let led = machine.role == Some((Role::Primary, register.epoch));
        (register.state == RegisterState::Active && register.opened && !is_mounted && !led).then(|| Lost {
            how: format!("its machine was replaced by {}, which has not led", machine.id),
            data_gone: false,
        })
    })
}

/// The register's next step, at most one.
pub fn advance(view: &View<'_>, out: &mut Out) {
    let Some(register) = view.register() else { return };
    match register.state {
        RegisterState::Fencing => activate(view, register, out),
        RegisterState::Active => {
            if !view.records.journal.contains(&register.epoch) {
                let action = Action::PutJournal {
                    incarnation: view.incarnation().clone(),
                    register: Box::new(register.clone()),
                };
                out.act(None, action, format!("{:?} is active", register.epoch));
            } else if let Some(lost) = lost(view, register) {
                claim_alone(view, register, &lost, out);
            } else if !register.opened {
                open(view, register, out);
            } else if register.joining.is_some() {
                complete_or_take_back(view, register, out);
            } else {
                readmit(view, register, out);
            }
        }
    }
}

/// FENCING -> ACTIVE, once the node that is to lead runs closed in this very epoch and every voter is known.
fn activate(view: &View<'_>, register: &Register, out: &mut Out) {
    let mut voters = Vec::new();
    for slot in view.member_slots() {
        match view.voting(slot) {
            Some(voting) => voters.push(voter(slot, voting)),
            None => out.wait(slot, "VoterUnknown", "its data volume is not mounted yet"),
        }
    }
    if voters.len() < usize::from(view.life.members) {
        return;
    }
    let Some(executed) = closed_leader(view, register) else {
        return out.wait(register.leader, "LeaderStarting", format!("mysqld is to run closed in {:?}", register.epoch));
    };
    if let Some(lacking) = lacking(register, executed) {
        let leader = register.leader;
        let message = format!(
            "restore the newest data of {leader}, or the set from a backup: its volume has gone back to an older state and \
             lacks {lacking}, which {leader} held when it was last activated"
        );
        return out.stall(leader, "DataOlder", message);
    }
    let next = Register {
        version: register.version + 1,
        state: RegisterState::Active,
        voters,
        joining: None,
        base: Some(executed.clone()),
        opened: false,
        marker: 1,
        ..register.clone()
    };
    put(view, register, next, format!("{} runs closed with {} transactions", register.leader, executed.count()), out);
}

/// What the last ACTIVE epoch began with, and this data does not hold: then it is not the data that led, whoever it says it
/// is, and what was acknowledged since is not there either.
fn lacking(register: &Register, executed: &GtidSet) -> Option<GtidSet> {
    let lacking = register.last_active.as_ref()?.base.minus(executed);
    (!lacking.is_empty()).then_some(lacking)
}

/// What the leader holds, when it runs closed with this epoch promised.
fn closed_leader<'a>(view: &View<'a>, register: &Register) -> Option<&'a GtidSet> {
    let report = view.report(register.leader)?;
    let promised = Promise { epoch: register.epoch, claim: register.claim.clone() };
    let running = view.running(register.leader)?;
    match &running.role {
        RunningRole::Leader { epoch, phase: LeaderPhase::Closed, .. }
            if *epoch == register.epoch && report.promised == Some(promised) =>
        {
            Some(&running.executed)
        }
        _ => None,
    }
}

/// k voters of the register follow the leader and acknowledge: the register says so before the order to open is given.
fn open(view: &View<'_>, register: &Register, out: &mut Out) {
    if closed_leader(view, register).is_none() {
        return out.wait(register.leader, "LeaderStarting", format!("mysqld is to run closed in {:?}", register.epoch));
    }
    let acknowledging = register.voters.iter().filter(|voter| acknowledges(view, register, voter)).count();
    let k = usize::from(register.k);
    let may = |slot| slot != register.leader && orders::may_vote(view, register, slot);
    if view.member_slots().filter(|slot| may(*slot)).count() < k {
        return claim(view, register, "too few of the registered voters are left to open with", out);
    }
    if acknowledging < k {
        let message =
            format!("{acknowledging} of {} acknowledging members are there; clients are let in with them", register.k);
        return out.wait(register.leader, "QuorumAwaited", message);
    }
    let next = Register { version: register.version + 1, opened: true, ..register.clone() };
    put(
        view,
        register,
        next,
        format!("{acknowledging} members acknowledge; {} may let clients in", register.leader),
        out,
    );
}

/// A voter that follows the leader and acknowledges, in the very life that the register knows.
pub fn acknowledges(view: &View<'_>, register: &Register, registered: &Voter) -> bool {
    let slot = registered.slot;
    let same = view.voting(slot).is_some_and(|voting| voter(slot, voting) == *registered);
    let follows = view.running(slot).is_some_and(|running| {
        matches!(
            &running.role,
            RunningRole::Replica { source: Some(source), receiving: ThreadReport::Running, acknowledges: true, .. }
                if *source == register.leader
        )
    });
    slot != register.leader && same && follows
}

/// A set of one whose mysqld or machine died claims the next epoch for its own volume: it alone holds everything. So does
/// any set that never let a client in: nothing was acknowledged to anyone.
fn claim_alone(view: &View<'_>, register: &Register, lost: &Lost, out: &mut Out) {
    if !lost.data_gone && (view.life.members == 1 || !register.opened) {
        claim(view, register, &format!("{}: {}; it re-opens on its own volume", register.leader, lost.how), out);
    }
}

/// The next epoch, for the same leader.
fn claim(view: &View<'_>, register: &Register, why: &str, out: &mut Out) {
    let epoch = register.epoch.next();
    let base = register.base.clone().unwrap_or_default();
    let last_active = LastActive {
        epoch: register.epoch,
        leader: register.leader,
        voters: register.voters.clone(),
        k: register.k,
        base,
    };
    let next = Register {
        version: register.version + 1,
        epoch,
        state: RegisterState::Fencing,
        claim: Claim::new(format!("reopen-{epoch}")).expect("digits and letters"),
        joining: None,
        joint_since: None,
        withdrawing: false,
        base: None,
        opened: false,
        last_active: Some(last_active),
        ..register.clone()
    };
    put(view, register, next, why.to_owned(), out);
}

/// A member that came back in another life, or on a new volume, is a learner until it has what the leader had then; the
/// joint register is written only when the leader has shut the old life out.
fn readmit(view: &View<'_>, register: &Register, out: &mut Out) {
    // Each register begins with another slot: one that joins, is given up and comes back does not stand before the others for
    // ever.
    let members = u64::from(view.life.members.max(1));
    let mut slots: Vec<Slot> = view.member_slots().collect();
    slots.rotate_left(usize::try_from(register.version % members).unwrap_or(0));
    for slot in slots.into_iter().filter(|slot| *slot != register.leader) {
        let (Some(record), Some(voting)) = (view.record(slot), view.voting(slot)) else {
            continue;
        };
        let returned = voter(slot, voting);
        if register.voters.contains(&returned) {
            continue;
        }
        let Some(leader) = view.running(register.leader) else {
            out.wait(slot, "LeaderSilent", "it came back and has to catch up with a leader that is not heard");
            continue;
        };
        match &record.catch_up {
            Some(catch_up) if catch_up.voter == returned => {
                let caught_up = view.running(slot).is_some_and(|running| running.executed.contains(&catch_up.target));
                if !caught_up {
                    out.wait(
                        slot,
                        "CatchingUp",
                        "it came back, and acknowledges again when it has what the leader had then",
                    );
                } else if !is_shut_out(view, register, slot) {
                    out.wait(slot, "ShuttingOut", "the leader still has to shut out the life that ended");
                } else {
                    return put(view, register, joint(view, register, &returned), format!("{slot} has caught up"), out);
                }
            }
            _ => {
                let catch_up = Some(CatchUp { voter: returned, target: leader.executed.clone() });
                let next = SlotRecord { catch_up, ..record.clone() };
                slots::put(view, slot, next, Some(record), format!("it came back as life {}", voting.life), out);
            }
        }
    }
}

/// The leader says that it has dropped the account of the life that ended and seen its connections gone, and the new life
/// follows it by an account that was made only after that.
fn is_shut_out(view: &View<'_>, register: &Register, slot: Slot) -> bool {
    let follows = view.running(slot).is_some_and(|running| {
        matches!(&running.role, RunningRole::Replica { source: Some(source), receiving: ThreadReport::Running, .. }
            if *source == register.leader)
    });
    follows && orders::is_accepted(view, register, slot) && has_made_accounts(view, register)
}

/// The leader has the accounts of the present register, and nobody else is connected to it as a replica.
fn has_made_accounts(view: &View<'_>, register: &Register) -> bool {
    let made = view
        .running(register.leader)
        .is_some_and(|running| matches!(running.role, RunningRole::Leader { accounts_made: true, .. }));
    made && orders::is_accepted(view, register, register.leader)
}

fn joint(view: &View<'_>, register: &Register, returned: &Voter) -> Register {
    let others = register.voters.iter().filter(|voter| voter.slot != returned.slot).cloned();
    let mut joining: Vec<Voter> = others.chain([returned.clone()]).collect();
    joining.sort_by_key(|voter| voter.slot);
    let (joining, joint_since) = (Some(joining), Some(view.now()));
    Register { version: register.version + 1, joining, joint_since, ..register.clone() }
}

/// A joint register is completed when the joiner acknowledges and a later marker is acknowledged. When the joiner is lost it
/// is taken back: first that is written down, then the joiner is shut out at the leader, and when a marker that was asked for
/// after that is acknowledged, which only the voters that were can have done, they alone are left (PROTOCOL.md section 6).
fn complete_or_take_back(view: &View<'_>, register: &Register, out: &mut Out) {
    let Some(joining) = &register.joining else { return };
    // Markers asked for from now on have numbers of their own: none that is acknowledged already proves what comes next.
    let turn = |withdrawing: bool| Register {
        version: register.version + 1,
        withdrawing,
        joint_since: Some(view.now()),
        marker: register.marker + 1,
        ..register.clone()
    };
    let (voters, why) = match (register.withdrawing, joint_state(view, register, joining)) {
        (false, Joint::Acknowledging) => (joining, "the returned voter acknowledges"),
        (false, Joint::Lost(slot, how)) => {
            return put(view, register, turn(true), format!("{slot} {how}: it is shut out again"), out);
        }
        (false, Joint::Awaited(slot)) => {
            return out.wait(slot, "JoinerAwaited", "its acknowledgements are switched on");
        }
        // Too few of the others are left to prove anything without it, and it is back.
        (true, Joint::Awaited(slot)) if view.voting(slot).is_some() && !would_do_without(view, register, slot) => {
            return put(view, register, turn(false), format!("{slot} is back, and needed"), out);
        }
        (true, _) => (&register.voters, "who was joining was lost, and is shut out"),
    };
    let needed = orders::marker(view, register);
    let marked = view.running(register.leader).is_some_and(|running| {
        matches!(running.role, RunningRole::Leader { epoch, marker: Some(marker), .. }
            if epoch == register.epoch && marker >= needed)
    });
    if !marked || !has_made_accounts(view, register) {
        let message = "a write acknowledged by the voters that are to be left has to prove them";
        return out.wait(register.leader, "MarkerAwaited", message);
    }
    let next = Register {
        version: register.version + 1,
        voters: voters.clone(),
        joining: None,
        joint_since: None,
        withdrawing: false,
        marker: needed,
        ..register.clone()
    };
    put(view, register, next, format!("{why}, and a marker was acknowledged"), out);
}

/// How far the joiners of a joint register are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    Acknowledging,
    /// Not to be waited for, and how that came.
    Lost(Slot, &'static str),
    Awaited(Slot),
}

/// Acknowledgements are switched on within seconds, and a machine reboots within a minute or two, into another life. Nobody
/// else can be admitted while one is joining, so that a voter lost meanwhile would stay lost.
const JOINER_PATIENCE: Duration = Duration::from_secs(60);

pub fn joint_state(view: &View<'_>, register: &Register, joining: &[Voter]) -> Joint {
    for joiner in joining.iter().filter(|joiner| !register.voters.contains(joiner)) {
        let slot = joiner.slot;
        match view.voting(slot) {
            Some(voting) if voter(slot, voting) != *joiner => return Joint::Lost(slot, "came back in another life"),
            Some(_) if acknowledges(view, register, joiner) => {}
            _ if !would_do_without(view, register, slot) => return Joint::Awaited(slot),
            _ if is_gone(view, slot) => return Joint::Lost(slot, "lost its machine"),
            _ if register.joint_since.is_none_or(|since| view.now().since(since) >= JOINER_PATIENCE) => {
                return Joint::Lost(slot, "has not acknowledged for a minute");
            }
            _ => return Joint::Awaited(slot),
        }
    }
    Joint::Acknowledging
}

/// Enough of the voters that were acknowledge now to prove that nothing hangs on the slot that joins: otherwise giving it up
/// would wait for them, and it may be back before they are.
fn would_do_without(view: &View<'_>, register: &Register, joiner: Slot) -> bool {
    let others = register.voters.iter().filter(|voter| voter.slot != joiner);
    others.filter(|voter| acknowledges(view, register, voter)).count() >= usize::from(register.k)
}

/// Its machine has ended or is ending; one that EC2 does not show is not known to be gone.
fn is_gone(view: &View<'_>, slot: Slot) -> bool {
    let machine = view.filling(slot);
    view.record(slot).is_some_and(|record| record.instance.is_none())
        || machine.is_some_and(|machine| machine.phase > Phase::Running)
}

fn put(view: &View<'_>, was: &Register, next: Register, why: String, out: &mut Out) {
    let incarnation = view.incarnation().clone();
    let expected = Some(was.write_id.clone());
    out.act(None, Action::PutRegister { incarnation, register: Box::new(next), expected }, why);
}
