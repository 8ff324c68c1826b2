//! Says how things are: the snapshot of a pass, and each change of it once as an event, with a stable reason.

use std::collections::BTreeMap;

use drover_api::{ResourceKey, records::IncarnationState};
use drover_plan::{
    Observed, Plan, SetReport,
    observed::{SetRecords, Sources},
};

use crate::{
    snapshot::{Failed, Lock, Snapshot},
    words,
};

/// Something that changed between two passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub set: Option<ResourceKey>,
    /// CamelCase, stable.
    pub reason: String,
    pub message: String,
}

/// What was observed and done, for people and programs.
pub fn snapshot(observed: &Observed, plan: &Plan, failed: &[Failed]) -> Snapshot {
    let mut sets: Vec<SetReport> = plan.reports.values().cloned().collect();
    for report in &mut sets {
        let own = failed.iter().filter(|failed| failed.set == report.key);
        report.awaiting.extend(own.map(|failed| format!("{} failed: {}", failed.action, failed.error)));
    }
    let waiting = plan.waiting.iter().map(|waiting| format!("{}: {}", waiting.reason, waiting.message));
    let actions = plan.actions.iter().flat_map(|(key, planned)| planned.iter().map(move |planned| (key, planned)));
    let dead = |records: &SetRecords| {
        records.incarnation.as_ref().is_some_and(|record| record.state == IncarnationState::Dead)
    };
    let ended = observed.records.iter().filter(|(_, seen)| seen.known().is_some_and(dead));
    Snapshot {
        at: observed.now,
        looked: true,
        sources_read: observed.sources == Sources::Read,
        sets,
        ended: ended.map(|(key, _)| key.clone()).collect(),
        released: plan.ended.iter().cloned().collect(),
        unclaimed: plan.unclaimed.clone(),
        waiting: waiting.collect(),
        plan: actions.map(|(key, planned)| words::line(key, planned)).collect(),
        failed: failed.to_vec(),
        ..Snapshot::empty(observed.realm.clone())
    }
}

/// What changed for people between two snapshots. Numbers that move all the time (positions, lags, ages) are not events.
pub fn transitions(before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let old: BTreeMap<&ResourceKey, &SetReport> = before.sets.iter().map(|report| (&report.key, report)).collect();
    let mut events = Vec::new();
    for report in &after.sets {
        set_transitions(old.get(&report.key).copied(), report, &mut events);
    }
    for (reason, old, new) in [
        ("Unclaimed", &before.unclaimed, &after.unclaimed),
        ("Waiting", &before.waiting, &after.waiting),
        ("ManifestInvalid", &before.problems, &after.problems),
    ] {
        let fresh = new.iter().filter(|message| !old.contains(message));
        events.extend(fresh.map(|message| Event { set: None, reason: reason.into(), message: message.clone() }));
    }
    events
}

pub(crate) fn log_transitions(before: &Snapshot, after: &Snapshot) {
    log_lock(&before.lock, &after.lock);
    for Event { set, reason, message } in transitions(before, after) {
        let set = set.map(|set| set.to_string()).unwrap_or_default();
        tracing::info!(set, reason, "{message}");
    }
}

pub(crate) fn log_lock(before: &Lock, after: &Lock) {
    if before == after {
        return;
    }
    match (after.ours, &after.error) {
        (_, Some(error)) => tracing::warn!(reason = "LockUnknown", "{error}"),
        (true, None) => tracing::info!(reason = "LockHeld", fence = after.fence, "this operator acts"),
        (false, None) if after.holder.is_empty() => tracing::info!(reason = "LockUnknown", "nobody holds the lock yet"),
        (false, None) => tracing::info!(
            reason = "LockHeldByOther",
            fence = after.fence,
            "another operator acts, this one does nothing: {}",
            after.holder
        ),
    }
}

fn set_transitions(before: Option<&SetReport>, after: &SetReport, events: &mut Vec<Event>) {
    let mut event = |reason: &str, message: &str| {
        events.push(Event { set: Some(after.key.clone()), reason: reason.to_owned(), message: message.to_owned() });
    };
    for condition in &after.conditions {
        let known = before.and_then(|before| before.condition(condition.kind));
        if known.is_none_or(|known| known.status != condition.status || known.reason != condition.reason) {
            event(&condition.reason, &condition.message);
        }
    }
    for member in &after.members {
        let known = before.and_then(|before| before.members.iter().find(|known| known.slot == member.slot));
        if known.is_none_or(|known| known.role != member.role || known.instance != member.instance) {
            let instance = member.instance.as_ref().map_or("no machine", |id| id.as_str());
            let role = member.role.map_or("no role yet".to_owned(), |role| role.to_string());
            event("MemberChanged", &format!("{}: {instance}, {role}", member.slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use drover_api::{
        Realm, Slot,
        conditions::{Condition, ConditionType},
        tags::Role,
    };
    use drover_plan::report::MemberReport;

    use super::*;

    fn report(reason: &str, role: Role, position: &str) -> Snapshot {
        let member = MemberReport {
            slot: Slot::Member(0),
            instance: None,
            zone: None,
            address: None,
            role: Some(role),
            epoch: None,
            position: Some(position.into()),
            lag_ms: None,
            report_age_ms: None,
            state: String::new(),
            ready: false,
        };
        let set = SetReport {
            key: ResourceKey {
                namespace: "default".parse().expect("namespace"),
                name: "orders".parse().expect("name"),
            },
            generation: 1,
            verdict: String::new(),
            ready: false,
            primary: None,
            epoch: None,
            members: vec![member],
            conditions: vec![Condition::new(ConditionType::Ready, false, reason, "why")],
            endpoints: None,
            version: None,
            awaiting: vec![],
            handled: BTreeMap::new(),
            users: vec![],
            kept_users: vec![],
            kept_databases: vec![],
        };
        Snapshot { sets: vec![set], ..Snapshot::empty(Realm::new("r").expect("realm")) }
    }

    fn reasons(before: &Snapshot, after: &Snapshot) -> Vec<String> {
        transitions(before, after).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn a_change_is_told_once_and_a_moving_position_is_none() {
        let launching = report("Launching", Role::Joining, "a:1");
        let empty = Snapshot::empty(launching.realm.clone());
        assert_eq!(reasons(&empty, &launching), ["Launching", "MemberChanged"]);
        assert_eq!(reasons(&launching, &report("Launching", Role::Joining, "a:1-9")), Vec::<String>::new());
        assert_eq!(reasons(&launching, &report("Seeding", Role::Joining, "a:1")), ["Seeding"]);
        assert_eq!(reasons(&launching, &report("Launching", Role::Primary, "a:1")), ["MemberChanged"]);
    }

    #[test]
    fn a_broken_manifest_and_an_unclaimed_machine_are_told_once() {
        let before = report("Launching", Role::Joining, "a:1");
        let mut after = before.clone();
        after.problems = vec!["a.yaml:3:1: spec.members must be 1, 3 or 5".into()];
        after.unclaimed = vec!["i-1".into()];
        assert_eq!(reasons(&before, &after), ["Unclaimed", "ManifestInvalid"]);
        assert_eq!(reasons(&after, &after), Vec::<String>::new());
    }
}
