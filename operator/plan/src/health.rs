//! How a set serves, apart from whether it is all that is wanted: conditions that say what a person would page for.

use drover_api::{
    conditions::{Condition, ConditionType},
    records::Register,
    tags::Role,
    wire::RunningRole,
};

use crate::{report::MemberReport, view::View};

/// `Available`, `QuorumHeld` and `ReplicationHealthy`, as far as each is known and means something for the set.
pub fn conditions(view: &View<'_>, register: &Register, members: &[MemberReport], is_open: bool) -> Vec<Condition> {
    let mut conditions = vec![available(register, is_open)];
    conditions.extend(quorum(view, register));
    conditions.extend(replication(register, members));
    conditions
}

fn available(register: &Register, is_open: bool) -> Condition {
    match is_open {
        true => Condition::new(
            ConditionType::Available,
            true,
            "PrimaryOpen",
            format!("{} accepts clients", register.leader),
        ),
        false => Condition::new(
            ConditionType::Available,
            false,
            "PrimaryClosed",
            format!("{} does not accept clients", register.leader),
        ),
    }
}

/// Commits wait while it is not held. A set of one asks nobody, and a leader that is not heard says nothing.
fn quorum(view: &View<'_>, register: &Register) -> Option<Condition> {
    let k = usize::from(register.k);
    let RunningRole::Leader { acknowledgers, .. } = &view.running(register.leader)?.role else { return None };
    let held = acknowledgers.len();
    (k > 0).then(|| match held >= k {
        true => Condition::new(
            ConditionType::QuorumHeld,
            true,
            "Acknowledging",
            format!("{held} members acknowledge, and a commit needs {k}"),
        ),
        false => Condition::new(
            ConditionType::QuorumHeld,
            false,
            "AcknowledgersMissing",
            format!("commits wait: {held} members acknowledge, and a commit needs {k}"),
        ),
    })
}

fn replication(register: &Register, members: &[MemberReport]) -> Option<Condition> {
    let followers = || members.iter().filter(|row| row.slot != register.leader);
    let behind = followers().filter(|row| !matches!(row.role, Some(Role::Replica | Role::Reader)));
    let behind: Vec<String> = behind.map(|row| row.slot.to_string()).collect();
    (followers().count() > 0).then(|| match behind.is_empty() {
        true => Condition::new(ConditionType::ReplicationHealthy, true, "AllReplicating", "every follower replicates"),
        false => Condition::new(
            ConditionType::ReplicationHealthy,
            false,
            "NotReplicating",
            format!("not known to replicate: {}", behind.join(", ")),
        ),
    })
}
