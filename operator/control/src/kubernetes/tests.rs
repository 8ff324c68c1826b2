//! What the API server shows goes in; what is wanted, written and told comes out.

use drover_api::{
    Millis, ResourceKey, Slot, Zone,
    conditions::{Condition, ConditionType},
    defaults::Terms,
    status::MySQLReplicaSetStatus,
    tags::Role,
};
use drover_plan::{Endpoint, Endpoints, SetReport, report::MemberReport};
use kube::{core::DynamicObject, runtime::watcher::Event};
use serde_json::{Value, json};

use super::{
    companions::{APPLIED, Companions},
    desired::{self, Services, Word, Write},
    events::{Fact, Telling, Told, facts},
    resource::{FINALIZER, Resource, key_of},
    resources::Resources,
    services::{self, For},
    status,
};
use crate::Connections;

const NOW: Millis = Millis(1_700_000_000_500);

pub(super) fn object(name: &str, change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "MySQLReplicaSet",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-of-{name}"), "generation": 1, "resourceVersion": "1",
            "finalizers": [FINALIZER],
        },
        "spec": { "version": "9.7", "members": 3, "readReplicas": 1 },
        "status": { "observedGeneration": -1 },
    });
    change(&mut object);
    serde_json::from_value(object).expect("an object")
}

pub(super) fn shop() -> DynamicObject {
    object("shop", |_| {})
}

fn resource(object: &DynamicObject) -> Resource {
    Resource::read(key_of(object).expect("a name"), object, None)
}

fn deleted(policy: &'static str) -> impl FnOnce(&mut Value) {
    move |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-25T10:00:00Z");
        object["spec"]["deletionPolicy"] = json!(policy);
    }
}

/// Resources after a complete list of one scope, all namespaces.
fn listed(objects: Vec<DynamicObject>) -> Resources {
    let mut resources = Resources::new([None]);
    resources.absorb(&None, Event::Init);
    for object in objects {
        resources.absorb(&None, Event::InitApply(object));
    }
    assert!(!resources.is_complete());
    assert!(resources.absorb(&None, Event::InitDone));
    resources
}

fn wanted(resources: &Resources) -> Vec<String> {
    resources.intents(&Terms::default()).into_keys().map(|key| key.name.to_string()).collect()
}

fn doomed(resources: &Resources) -> Vec<String> {
    resources.deletions().into_iter().map(|key| key.name.to_string()).collect()
}

fn key() -> ResourceKey {
    key_of(&shop()).expect("a name")
}

fn row(slot: Slot, role: Option<Role>) -> MemberReport {
    MemberReport {
        slot,
        instance: Some(format!("i-{slot}").parse().expect("an id")),
        zone: Some(Zone::new("z-a").expect("a zone")),
        address: Some([10, 0, 0, 1].into()),
        role,
        epoch: None,
        position: Some("uuid:1-77".into()),
        lag_ms: Some(12),
        report_age_ms: Some(5),
        state: String::new(),
        ready: matches!(role, Some(Role::Primary | Role::Replica | Role::Reader)),
    }
}

fn report(conditions: Vec<Condition>, members: Vec<MemberReport>) -> SetReport {
    let primary = members.iter().find(|row| row.role == Some(Role::Primary)).map(|row| row.slot);
    let endpoint = |slot| Endpoint { slot, address: [10, 0, 0, 1].into(), zone: None };
    let endpoints = Endpoints { primary: primary.map(endpoint).into_iter().collect(), replicas: vec![] };
    SetReport {
        key: key(),
        generation: 1,
        verdict: String::new(),
        ready: false,
        primary,
        epoch: None,
        members,
        conditions,
        endpoints: Some(endpoints),
        version: Some("9.7.4".into()),
        awaiting: vec![],
        handled: Default::default(),
        users: vec![],
        kept_users: vec![],
        kept_databases: vec![],
    }
}

pub(super) fn ready() -> SetReport {
    let all_ready = Condition::new(ConditionType::Ready, true, "Ready", "every machine serves in its role");
    let rows = vec![row(Slot::Member(0), Some(Role::Primary)), row(Slot::Reader(0), Some(Role::Reader))];
    report(vec![all_ready], rows)
}

fn launching() -> SetReport {
    let not_yet = Condition::new(ConditionType::Ready, false, "AgentAwaited", "m0: booting");
    let working = Condition::new(ConditionType::Reconciling, true, "Progressing", "m0: booting");
    report(vec![not_yet, working], vec![row(Slot::Member(0), None)])
}

/// The resource after `report` was written on it.
fn written(report: &SetReport) -> Resource {
    let before = resource(&shop());
    let status = status::of_report(&before, report, NOW);
    Resource { status: status.into(), ..before }
}

/// What a process that knows nothing of its Services writes.
fn writes(resource: &Resource, word: Word<'_>, connections: Option<&Connections>, now: Millis) -> Vec<Write> {
    desired::writes(resource, word, Services::Unsure, connections, now)
}

fn kinds(writes: &[Write]) -> Vec<&'static str> {
    let kind = |write: &Write| match write {
        Write::Hold => "hold",
        Write::Release => "release",
        Write::Status(_) => "status",
        Write::Service(_) => "service",
        Write::Slice(_) => "slice",
        Write::Secret(_) => "secret",
    };
    writes.iter().map(kind).collect()
}

#[test]
fn nothing_is_wanted_before_a_list_is_complete_or_our_finalizer_is_on_it() {
    let bare = object("bare", |object| object["metadata"]["finalizers"] = json!([]));
    let resources = listed(vec![shop(), bare.clone()]);
    assert!(resources.is_complete());
    assert_eq!(wanted(&resources), ["shop"]);
    assert_eq!(kinds(&writes(&resource(&bare), Word::Nothing, None, NOW)), ["hold"]);
    assert_eq!(kinds(&writes(&resource(&shop()), Word::Nothing, None, NOW)), Vec::<&str>::new());
}

#[test]
fn one_malformed_object_stops_no_other_and_is_a_set_that_cannot_be_used() {
    let broken = object("broken", |object| object["spec"] = json!({ "members": "three", "version": 7 }));
    let unnamed = object(&"x".repeat(41), |_| {});
    let resources = listed(vec![broken, shop(), unnamed]);
    assert_eq!(wanted(&resources), ["broken", "shop"]);
    let intents = resources.intents(&Terms::default());
    let told: Vec<String> =
        intents.values().filter_map(|intent| intent.set.as_ref().err()).map(ToString::to_string).collect();
    assert!(told[0].contains("spec.members") && told[0].contains("spec.version"), "{told:?}");
    assert!(resources.problems()[0].starts_with("default/xxx"), "{:?}", resources.problems());
}

#[test]
fn what_a_list_does_not_show_stays_until_the_list_is_complete() {
    let mut resources = listed(vec![shop(), object("till", |_| {})]);
    resources.absorb(&None, Event::Init);
    resources.absorb(&None, Event::InitApply(shop()));
    assert_eq!(wanted(&resources), ["shop", "till"]);
    assert!(resources.absorb(&None, Event::InitDone));
    assert_eq!(wanted(&resources), ["shop"]);
    resources.absorb(&None, Event::Delete(shop()));
    assert_eq!((wanted(&resources).len(), resources.is_complete()), (0, true));
}

#[test]
fn our_own_writes_are_no_news_for_who_plans() {
    let mut resources = listed(vec![shop()]);
    let touched = object("shop", |object| {
        object["metadata"]["resourceVersion"] = json!("2");
        object["status"]["nodes"] = json!("1/4");
    });
    assert!(!resources.absorb(&None, Event::Apply(touched)));
    let scaled = object("shop", |object| {
        object["metadata"]["generation"] = json!(2);
        object["spec"]["readReplicas"] = json!(5);
    });
    assert!(resources.absorb(&None, Event::Apply(scaled)));
}

#[test]
fn retain_is_let_go_at_once_and_delete_when_everything_was_seen_to_end() {
    let retained = object("shop", deleted("Retain"));
    let resources = listed(vec![retained.clone()]);
    assert_eq!((wanted(&resources).len(), doomed(&resources).len()), (0, 0));
    assert_eq!(kinds(&writes(&resource(&retained), Word::Nothing, None, NOW)), ["release"]);

    let ended = object("shop", deleted("Delete"));
    let resources = listed(vec![ended.clone()]);
    assert_eq!((wanted(&resources).len(), doomed(&resources)), (0, vec!["shop".to_owned()]));
    let ended = resource(&ended);
    assert_eq!(kinds(&writes(&ended, Word::Nothing, None, NOW)), Vec::<&str>::new());
    assert_eq!(kinds(&writes(&ended, Word::Report(&launching()), None, NOW)), ["status"], "no Service is made for it");
    assert_eq!(kinds(&writes(&ended, Word::Ended, None, NOW)), ["release"]);
    let released = Resource { held: false, ..ended };
    assert_eq!(kinds(&writes(&released, Word::Ended, None, NOW)), Vec::<&str>::new());
}

#[test]
fn a_deletion_waits_for_a_pause_and_counts_where_the_rest_of_a_spec_is_not_understood() {
    let paused = object("shop", |object| {
        deleted("Delete")(object);
        object["spec"]["paused"] = json!(true);
    });
    let broken = object("till", |object| {
        deleted("Delete")(object);
        object["spec"]["members"] = json!("three");
    });
    let resources = listed(vec![paused, broken]);
    assert_eq!((wanted(&resources), doomed(&resources)), (vec!["shop".to_owned()], vec!["till".to_owned()]));
}

#[test]
fn a_status_says_what_was_observed_and_nothing_that_moves_all_the_time() {
    let status = written(&ready()).status;
    assert_eq!(
        (status.primary.as_deref(), status.nodes.as_deref(), status.read_replicas, status.observed_generation),
        (Some("m0"), Some("2/2"), Some(1), 1)
    );
    assert_eq!(status.selector.as_deref(), Some("drover.dev/set=shop"));
    assert_eq!(status.endpoint.as_deref(), Some("shop-primary.default.svc:3306"));
    let json = serde_json::to_string(&*status).expect("JSON");
    assert!(!json.contains("1-77") && !json.contains("lag"), "{json}");
    let condition = &status.conditions[0];
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Ready", "True"));
    assert_eq!(condition.observed_generation, Some(1));
    let mut moved = ready();
    moved.members[0].position = Some("uuid:1-99".into());
    moved.members[0].lag_ms = Some(900);
    let writes = writes(&written(&ready()), Word::Report(&moved), None, Millis(NOW.0 + 60_000));
    assert!(!kinds(&writes).contains(&"status"), "{writes:?}");
}

#[test]
fn a_condition_keeps_its_time_as_long_as_it_is_what_it_was() {
    let later = Millis(NOW.0 + 60_000);
    let mut other_words = launching();
    other_words.conditions[0].message = "m0: starting MySQL".into();
    let before = written(&launching());
    let after = status::of_report(&before, &other_words, later);
    assert_eq!(after.conditions[0].last_transition_time, before.status.conditions[0].last_transition_time);
    assert!(!status::is_urgent(&before.status, &after) && *before.status != after);
    let done = status::of_report(&before, &ready(), later);
    assert_ne!(done.conditions[0].last_transition_time, before.status.conditions[0].last_transition_time);
    assert!(status::is_urgent(&before.status, &done));
}

#[test]
fn what_could_not_be_looked_at_is_unknown_and_the_rest_stays() {
    let before = written(&ready());
    let unknown = Condition::new(ConditionType::Ready, false, "FleetUnknown", "EC2 does not answer");
    let unknown = SetReport { endpoints: None, ..report(vec![unknown], vec![]) };
    let after = status::of_report(&before, &unknown, NOW);
    assert_eq!((after.conditions[0].status.as_str(), after.primary.as_deref()), ("Unknown", Some("m0")));
    assert_eq!(kinds(&writes(&before, Word::Report(&unknown), None, NOW)), ["status", "service", "service"]);
    let held = status::held_by_other(&before, "host-b pid 7", NOW);
    assert!(held.conditions.iter().all(|condition| condition.message.contains("host-b pid 7")));
    assert_eq!(held.nodes.as_deref(), Some("2/2"));
}

#[test]
fn a_process_that_has_just_begun_takes_nothing_back_and_a_silent_machine_keeps_its_role() {
    let before = written(&ready());
    let mut unheard = launching();
    unheard.members = ready().members;
    for row in &mut unheard.members {
        (row.role, row.ready, row.report_age_ms) = (None, false, None);
    }
    assert!(status::is_premature(&before, &unheard) && !status::is_premature(&before, &ready()));
    assert!(!status::is_premature(&resource(&shop()), &unheard), "nobody was ready before");
    let after = status::of_report(&before, &unheard, NOW);
    assert_eq!(after.members[1].role.as_deref(), Some("reader"));
    assert!(!told(&before.status, &after).contains(&"ReplicaJoined".to_owned()));
    assert!(!told(&after, &before.status).contains(&"ReplicaJoined".to_owned()));
}

#[test]
fn a_moment_without_a_word_from_a_machine_is_no_news_and_everything_else_is() {
    let check = |expected: bool, change: fn(&mut SetReport)| {
        let mut changed = ready();
        changed.conditions = launching().conditions;
        (changed.members[1].role, changed.members[1].ready) = (None, false);
        change(&mut changed);
        assert_eq!(status::is_hiccup(&written(&ready()), &changed), expected, "{changed:?}");
    };
    check(true, |_| {});
    check(true, |report| report.members[1].role = Some(Role::Joining));
    check(true, |report| {
        report.primary = None;
        (report.members[0].role, report.members[0].ready) = (None, false);
    });
    check(true, |report| {
        let unknown = Condition::new(ConditionType::Ready, false, "FleetUnknown", "EC2 does not answer");
        (report.conditions, report.members) = (vec![unknown], vec![]);
    });
    check(false, |report| *report = ready());
    check(false, |report| report.generation = 2);
    check(false, |report| report.members[1].role = Some(Role::Fenced));
    check(false, |report| report.members[1].instance = Some("i-new".parse().expect("an id")));
    check(false, |report| report.members.truncate(1));
    check(false, |report| report.primary = Some(Slot::Member(1)));
    for kind in [ConditionType::Stalled, ConditionType::PrimaryLost, ConditionType::Suspended] {
        let mut changed = launching();
        changed.conditions.push(Condition::new(kind, true, "Reason", ""));
        assert!(!status::is_hiccup(&written(&ready()), &changed), "{kind:?}");
    }
    assert!(!status::is_hiccup(&written(&launching()), &launching()), "it was never ready");
}

#[test]
fn services_follow_the_roles() {
    let shop = resource(&shop());
    let endpoints = ready().endpoints.expect("known");
    let primary = services::slice(&shop, For::Primary, &endpoints);
    assert_eq!(primary["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
    assert_eq!(primary["metadata"]["labels"]["kubernetes.io/service-name"], "shop-primary");
    assert_eq!(services::slice(&shop, For::Replicas, &endpoints)["endpoints"], json!([]));
    let service = services::service(&shop, For::Primary);
    assert_eq!((&service["spec"]["ports"][0]["port"], service["spec"].get("selector")), (&json!(3306), None));
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "uid-of-shop");
    // Other endpoints, another digest: the metadata alone says what was written.
    let moved = services::slice(&shop, For::Primary, &Endpoints::default());
    assert_ne!(moved["metadata"]["annotations"][APPLIED], primary["metadata"]["annotations"][APPLIED]);
}

#[test]
fn a_companion_is_written_again_when_somebody_else_wrote_or_deleted_it() {
    let shop = resource(&shop());
    let service = services::service(&shop, For::Primary);
    let name = ("Service", "default".to_owned(), "shop-primary".to_owned());
    let seen = |version: &str| -> DynamicObject {
        let mut object = service.clone();
        object["metadata"]["resourceVersion"] = json!(version);
        serde_json::from_value(object).expect("an object")
    };
    let mut companions = Companions::default();
    assert_eq!(companions.is_owned_by(&name, &shop.uid), None);
    companions.written(name.clone(), &shop.uid, &service, "5".into());
    assert!(companions.is_written(&name, &shop.uid, &service));
    assert!(!companions.absorb("Service", &None, Event::Apply(seen("5"))), "our own write comes back");
    assert!(companions.absorb("Service", &None, Event::Apply(seen("6"))), "another's");
    assert!(!companions.is_written(&name, &shop.uid, &service));
    companions.written(name.clone(), &shop.uid, &service, "7".into());
    assert!(companions.absorb("Service", &None, Event::Delete(seen("8"))));
    assert!(!companions.is_written(&name, &shop.uid, &service));
    // A process that begins anew finds it by its metadata, and writes nothing.
    let mut fresh = Companions::default();
    fresh.absorb::<DynamicObject>("Service", &None, Event::Init);
    fresh.absorb("Service", &None, Event::InitApply(seen("8")));
    fresh.absorb::<DynamicObject>("Service", &None, Event::InitDone);
    assert!(fresh.is_written(&name, &shop.uid, &service));
    assert_eq!(fresh.is_owned_by(&name, "another set's"), Some(false));
}

fn told(before: &MySQLReplicaSetStatus, after: &MySQLReplicaSetStatus) -> Vec<String> {
    facts(before, after).into_iter().map(|fact| fact.reason).collect()
}

#[test]
fn events_tell_the_story_once() {
    let new = written(&launching());
    let mut unlaunched = launching();
    unlaunched.members[0].instance = None;
    let first = written(&unlaunched);
    assert_eq!(told(&MySQLReplicaSetStatus::default(), &first.status), ["AgentAwaited", "Progressing"]);
    assert_eq!(told(&first.status, &new.status), ["MachineLaunching"]);
    let served = status::of_report(&new, &ready(), NOW);
    assert_eq!(told(&new.status, &served), ["PrimaryPromoted", "MachineLaunching", "ReplicaJoined", "Ready"]);
    assert_eq!(told(&served, &served), Vec::<String>::new());
    let mut replaced = ready();
    replaced.members[1].instance = Some("i-new".parse().expect("an id"));
    let replaced = status::of_report(&Resource { status: served.clone().into(), ..new }, &replaced, NOW);
    assert_eq!(told(&served, &replaced), ["MachineReplaced"]);
    let mut ended = served.clone();
    ended.members[1].instance = None;
    assert_eq!(told(&served, &ended), ["MachineEnded"]);
    let (mut fewer, mut unknown) = (served.clone(), served.clone());
    fewer.members.pop();
    assert_eq!(told(&served, &fewer), ["MachineRemoved"]);
    unknown.members.clear();
    assert_eq!(told(&served, &unknown), Vec::<String>::new());
}

#[test]
fn a_set_that_was_there_already_is_adopted_and_not_told_as_new() {
    let adopted = written(&ready());
    assert_eq!(told(&MySQLReplicaSetStatus::default(), &adopted.status), ["Adopted", "Ready"]);
}

#[test]
fn the_same_fact_is_one_event_with_a_count_and_no_object_floods() {
    use std::time::Duration;
    let fact = |n: usize| Fact { reason: "MachineReplaced".into(), message: format!("m{n}"), warning: false };
    let at = |seconds| Duration::from_secs(seconds);
    let mut all = Told::default();
    let Telling::New(name) = all.tell("uid", "shop", &fact(0), at(0)) else { panic!("a new event") };
    assert_eq!(all.tell("uid", "shop", &fact(0), at(300)), Telling::Again(name.clone(), 2));
    assert_eq!(all.tell("uid", "shop", &fact(0), at(600)), Telling::Again(name.clone(), 3));
    assert!(matches!(all.tell("uid", "shop", &fact(0), at(1000)), Telling::New(other) if other != name));
    let flood: Vec<Telling> = (1..400).map(|n| all.tell("uid", "shop", &fact(n), at(1001))).collect();
    assert!(flood.contains(&Telling::Dropped) && flood.iter().filter(|it| **it != Telling::Dropped).count() < 300);
    assert!(matches!(all.tell("other", "till", &fact(1), at(1001)), Telling::New(_)));
    assert!(matches!(all.tell("uid", "shop", &fact(1), at(5000)), Telling::New(_)));
}
