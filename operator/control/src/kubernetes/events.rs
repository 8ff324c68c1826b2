//! What a change of status tells, an event for each fact, and which events are one series. Pure.
//!
//! Facts are read off the status as it was written before, not off this process's memory: an operator that begins anew tells
//! nothing twice.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use drover_api::status::{MemberStatus, MySQLReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// One fact about a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// CamelCase, stable: part of the API.
    pub reason: String,
    pub message: String,
    /// Somebody may have to look at it.
    pub warning: bool,
}

/// The facts between two statuses, in the order in which a person would tell them.
pub fn facts(before: &MySQLReplicaSetStatus, after: &MySQLReplicaSetStatus) -> Vec<Fact> {
    let mut facts = Vec::new();
    let is_first = before.observed_generation < 0;
    let found: Vec<&str> = after.members.iter().filter_map(|row| row.instance.as_deref()).collect();
    if is_first && !found.is_empty() {
        facts.push(fact("Adopted", format!("{} machines were there already: {}", found.len(), found.join(", "))));
    }
    for row in &after.members {
        let known = before.members.iter().find(|known| known.slot == row.slot);
        about_member(known, row, is_first, &mut facts);
    }
    // Of a set that could not be looked at no slot is told.
    for gone in before.members.iter().filter(|_| !after.members.is_empty()) {
        if let (Some(instance), false) = (&gone.instance, after.members.iter().any(|row| row.slot == gone.slot)) {
            facts.push(fact("MachineRemoved", format!("{}: {instance} has ended, and the slot is no more", gone.slot)));
        }
    }
    for condition in &after.conditions {
        let known = before.conditions.iter().find(|known| known.type_ == condition.type_);
        facts.extend(about_condition(known, condition));
    }
    // Ready and Stalled often have one reason: it is told once.
    let mut seen = Vec::new();
    facts.retain(|fact| {
        let known = (fact.reason.clone(), fact.warning);
        let is_new = !seen.contains(&known) || fact.reason.starts_with("Machine") || fact.reason == "ReplicaJoined";
        seen.push(known);
        is_new
    });
    facts
}

fn about_member(known: Option<&MemberStatus>, row: &MemberStatus, is_first: bool, facts: &mut Vec<Fact>) {
    let slot = &row.slot;
    match (known.and_then(|known| known.instance.as_deref()), row.instance.as_deref()) {
        (None, Some(new)) if !is_first => facts.push(fact("MachineLaunching", format!("{slot}: {new}"))),
        (Some(old), Some(new)) if old != new => {
            facts.push(fact("MachineReplaced", format!("{slot}: {old} has ended, and {new} takes its place")));
        }
        // Mostly another takes its place a while later, and that is told as a launch.
        (Some(old), None) => facts.push(fact("MachineEnded", format!("{slot}: {old} has ended"))),
        _ => {}
    }
    let role = row.role.as_deref();
    if is_first || role == known.and_then(|known| known.role.as_deref()) {
        return;
    }
    match role {
        Some("primary") => facts.push(fact("PrimaryPromoted", format!("{slot} accepts writes"))),
        Some("replica" | "reader") => facts.push(fact("ReplicaJoined", format!("{slot} replicates"))),
        Some("fenced") => facts.push(warning("MachineFenced", format!("{slot} is kept closed"))),
        _ => {}
    }
}

fn about_condition(known: Option<&Condition>, condition: &Condition) -> Option<Fact> {
    if known.is_some_and(|known| (&known.status, &known.reason) == (&condition.status, &condition.reason)) {
        return None;
    }
    let is_bad = match (condition.type_.as_str(), condition.status.as_str()) {
        ("Stalled" | "PrimaryLost", "True") => true,
        // A set that is being made was never available: that is no news to be alarmed by.
        ("Available" | "QuorumHeld" | "ReplicationHealthy", "False") => {
            known.is_some_and(|known| known.status == "True")
        }
        // A user that is being made or changed is there in a moment; anything else waits for a person.
        ("ClientsReady", "False") => condition.reason != "ClientsAwaited",
        _ => false,
    };
    let is_news = is_bad || !matches!((condition.type_.as_str(), condition.status.as_str()), (_, "False" | "Unknown"));
    let message = condition.message.clone();
    // That they are there as before is known anew whenever their primary is heard again.
    if condition.type_ == "ClientsReady" && condition.status == "True" && known.is_none() {
        return None;
    }
    // What is awaited is told as Reconciling, which Ready only repeats.
    (is_news || condition.type_ == "Ready").then(|| match is_bad {
        true => warning(&condition.reason, message),
        false => fact(&condition.reason, message),
    })
}

fn fact(reason: &str, message: String) -> Fact {
    Fact { reason: reason.to_owned(), message, warning: false }
}

fn warning(reason: &str, message: String) -> Fact {
    Fact { warning: true, ..fact(reason, message) }
}

/// What is to be done with a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A new event of this name.
    New(String),
    /// The event of this name was seen that often now.
    Again(String, i32),
    /// This object has told too much lately.
    Dropped,
}

/// Which events were told lately: the same fact of one object is one event with a count, and no object floods its namespace.
#[derive(Debug, Default)]
pub struct Told {
    events: BTreeMap<(String, Fact), Event>,
    spent: BTreeMap<String, VecDeque<Duration>>,
}

#[derive(Debug)]
struct Event {
    name: String,
    count: i32,
    last: Duration,
}

/// A fact that comes back within this time is the same event (client-go's series: six minutes).
const SERIES: Duration = Duration::from_secs(360);
/// New events of one object within an hour. A set of 105 slots tells two of each while it is made.
const NEW_MAX: usize = 300;
const HOUR: Duration = Duration::from_secs(3600);

impl Told {
    /// `at` is monotonic; `uid` and `name` are the object's.
    pub fn tell(&mut self, uid: &str, name: &str, fact: &Fact, at: Duration) -> Telling {
        self.events.retain(|_, event| at.saturating_sub(event.last) < SERIES);
        let key = (uid.to_owned(), fact.clone());
        if let Some(event) = self.events.get_mut(&key) {
            (event.count, event.last) = (event.count + 1, at);
            return Telling::Again(event.name.clone(), event.count);
        }
        self.spent.retain(|_, spent| spent.back().is_some_and(|last| at.saturating_sub(*last) < HOUR));
        let spent = self.spent.entry(uid.to_owned()).or_default();
        spent.retain(|earlier| at.saturating_sub(*earlier) < HOUR);
        if spent.len() >= NEW_MAX {
            return Telling::Dropped;
        }
        spent.push_back(at);
        // Like client-go's: the object's name, and something that no other event of it has.
        let event = format!("{name}.{:x}{:03x}", at.as_nanos(), spent.len());
        self.events.insert(key, Event { name: event.clone(), count: 1, last: at });
        Telling::New(event)
    }
}
