//! From a set's report to the status that its resource should have. Pure.

use std::collections::BTreeSet;

use drover_api::{
    Millis, Slot,
    conditions::ConditionType,
    set::GROUP,
    status::{MemberStatus, MySQLReplicaSetStatus},
    tags::Role,
    wire::MYSQL_PORT,
};
use drover_plan::{SetReport, report::MemberReport};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    resource::Resource,
    services::{self, For},
};

/// Another operator acts for the realm: nothing is known here, and nothing is done.
pub const HELD_BY_OTHER: &str = "RealmHeldByOther";

/// What the status should be by this report. Of a set that could not be looked at only the conditions say so; what was known
/// of it stays.
pub fn of_report(resource: &Resource, report: &SetReport, now: Millis) -> MySQLReplicaSetStatus {
    let generation = if report.generation > 0 { report.generation } else { resource.generation };
    let conditions = report.conditions.iter().map(|condition| {
        let word = match (condition.kind, report.is_known(), condition.status) {
            (ConditionType::Ready, false, _) => "Unknown",
            (_, _, true) => "True",
            (_, _, false) => "False",
        };
        (format!("{:?}", condition.kind), word, condition.reason.clone(), condition.message.clone())
    });
    let conditions = conditions.map(|told| dated(resource, told, generation, now)).collect();
    let before = resource.status.as_ref().clone();
    let status = MySQLReplicaSetStatus { observed_generation: generation, conditions, ..before };
    if report.is_known() { described(status, resource, report) } else { status }
}

/// What the status should be while the realm is another operator's.
pub fn held_by_other(resource: &Resource, holder: &str, now: Millis) -> MySQLReplicaSetStatus {
    let message = format!("nothing is done here as long as another operator holds the realm: {holder}");
    let told = [("Ready", "Unknown"), ("Reconciling", "True")].map(|(kind, word)| {
        dated(resource, (kind.to_owned(), word, HELD_BY_OTHER.to_owned(), message.clone()), resource.generation, now)
    });
    let before = resource.status.as_ref().clone();
    MySQLReplicaSetStatus { observed_generation: resource.generation, conditions: told.into(), ..before }
}

/// A process that has just begun has not heard everybody yet: of machines that were ready it knows nothing, which is no news.
pub fn is_premature(resource: &Resource, report: &SetReport) -> bool {
    let was_ready = |slot: &str| resource.status.members.iter().any(|known| known.slot == slot && known.ready);
    report.members.iter().any(|row| row.report_age_ms.is_none() && was_ready(&row.slot.to_string()))
}

/// Machines that were ready are not heard, or connect anew, or nobody could look, and nothing else is told: mostly it is over
/// within seconds. An agent becomes another build, a connection breaks, a list of EC2's lags, a follower reconnects.
pub fn is_hiccup(resource: &Resource, report: &SetReport) -> bool {
    let before = resource.status.as_ref();
    let told = |kind: ConditionType| {
        let name = format!("{kind:?}");
        before.conditions.iter().any(|known| known.type_ == name && known.status == "True")
    };
    let tells = |kind: ConditionType| report.condition(kind).is_some_and(|condition| condition.status);
    let is_news = [ConditionType::Stalled, ConditionType::PrimaryLost, ConditionType::Suspended]
        .into_iter()
        .any(|kind| told(kind) != tells(kind));
    let has_moved = report.primary.is_some_and(|slot| before.primary.as_ref() != Some(&slot.to_string()));
    let is_answer = report.handled.iter().any(|(verb, handled)| before.handled.get(verb) != Some(handled));
    if before.observed_generation != report.generation
        || is_news
        || has_moved
        || is_answer
        || !told(ConditionType::Ready)
    {
        return false;
    }
    if !report.is_known() {
        return true;
    }
    let known: Vec<(String, Option<String>)> =
        before.members.iter().map(|known| (known.slot.clone(), known.instance.clone())).collect();
    let rows = report.members.iter();
    let now: Vec<(String, Option<String>)> =
        rows.map(|row| (row.slot.to_string(), row.instance.as_ref().map(ToString::to_string))).collect();
    let is_back_soon = |row: &MemberReport| matches!(row.role, None | Some(Role::Joining));
    let mut fallen = report.members.iter().filter(|row| !row.ready).peekable();
    known == now && fallen.peek().is_some() && fallen.all(is_back_soon)
}

/// Something that a person or a program waits for is different. Words alone can wait, for they may change with every pass.
pub fn is_urgent(before: &MySQLReplicaSetStatus, after: &MySQLReplicaSetStatus) -> bool {
    let without_words = |status: &MySQLReplicaSetStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|condition| condition.message.clear());
        status
    };
    without_words(before) != without_words(after)
}

fn described(status: MySQLReplicaSetStatus, resource: &Resource, report: &SetReport) -> MySQLReplicaSetStatus {
    let rows = &report.members;
    let ready = rows.iter().filter(|row| row.ready).count();
    let readers = rows.iter().filter(|row| row.ready && matches!(row.slot, Slot::Reader(_))).count();
    let zones: BTreeSet<String> = rows.iter().filter_map(|row| row.zone.as_ref()).map(ToString::to_string).collect();
    let host = |of: For| format!("{}.{}.svc:{MYSQL_PORT}", services::name(&resource.key, of), resource.key.namespace);
    MySQLReplicaSetStatus {
        primary: rows.iter().find(|row| row.role == Some(Role::Primary)).map(|row| row.slot.to_string()),
        nodes: Some(format!("{ready}/{}", rows.len())),
        read_replicas: u16::try_from(readers).ok(),
        selector: Some(format!("{GROUP}/set={}", resource.key.name)),
        version: report.version.clone().or(status.version),
        endpoint: Some(host(For::Primary)),
        read_endpoint: Some(host(For::Replicas)),
        zones: (!zones.is_empty()).then(|| zones.into_iter().collect::<Vec<_>>().join(",")),
        members: rows.iter().map(|row| member(resource, row)).collect(),
        handled: status.handled.clone().into_iter().chain(report.handled.clone()).collect(),
        ..status
    }
}

/// A machine that is not heard now has the role that it was last heard in.
fn member(resource: &Resource, row: &MemberReport) -> MemberStatus {
    let (slot, instance) = (row.slot.to_string(), row.instance.as_ref().map(ToString::to_string));
    let known = resource.status.members.iter().find(|known| known.slot == slot && known.instance == instance);
    MemberStatus {
        slot,
        instance,
        zone: row.zone.as_ref().map(ToString::to_string),
        address: row.address.map(|address| address.to_string()),
        role: row.role.map(|role| role.to_string()).or_else(|| known?.role.clone()),
        ready: row.ready,
    }
}

type Told = (String, &'static str, String, String);

/// A condition whose status is what it was keeps the time at which it became so.
fn dated(resource: &Resource, (kind, word, reason, message): Told, generation: i64, now: Millis) -> Condition {
    let known = resource.status.conditions.iter().find(|known| known.type_ == kind && known.status == word);
    Condition {
        last_transition_time: known.map_or_else(|| time(now), |known| known.last_transition_time.clone()),
        type_: kind,
        status: word.to_owned(),
        reason,
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        observed_generation: Some(generation),
    }
}

/// What the schema of a condition allows (metav1.Condition).
const MESSAGE_CHARS_MAX: usize = 32_768;

/// Kubernetes' times have seconds.
fn time(now: Millis) -> Time {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}
