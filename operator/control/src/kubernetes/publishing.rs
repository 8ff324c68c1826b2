//! A publisher against an API server of a few lines: how much is written when nothing has changed, and what is mended.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode};
use drover_api::{
    Realm, ResourceName,
    conditions::{Condition, ConditionType},
    tags::Role,
};
use drover_plan::SetReport;
use kube::{Config, core::DynamicObject, runtime::watcher::Event};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use super::{
    Passes,
    client::client,
    hands::Hands,
    perform::SERVICE,
    publisher::Publisher,
    store::Store,
    tests::{object, ready, shop},
};
use crate::{Snapshot, edge::tests::At, metrics::Metrics, task::Task};

#[derive(Clone, Default)]
struct Seen {
    calls: Arc<Mutex<Vec<String>>>,
    /// The reasons of the events.
    told: Arc<Mutex<Vec<String>>>,
    /// Somebody else has an object of this name.
    taken: Arc<Mutex<Option<&'static str>>>,
    crowd: Arc<Crowd>,
}

/// Requests that are being answered: now, and at most so far. Until `wanted` were there at once nobody is answered.
#[derive(Default)]
struct Crowd {
    wanted: AtomicU64,
    now: AtomicU64,
    most: AtomicU64,
}

impl Crowd {
    async fn gathers(&self) {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while self.most.load(Ordering::SeqCst) < self.wanted.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        // Whoever else is on the way arrives.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Keeps no objects: a write is answered with what was written, a look with 404 unless the name is taken.
async fn answer(State(seen): State<Seen>, request: axum::extract::Request) -> (StatusCode, Json<Value>) {
    if seen.crowd.wanted.load(Ordering::SeqCst) > 0 {
        seen.crowd.gathers().await;
    }
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let version = {
        let mut calls = seen.calls.lock().expect("not poisoned");
        calls.push(format!("{method} {}", path.split("namespaces/default/").last().unwrap_or_default()));
        calls.len()
    };
    if method == "GET" {
        let taken = *seen.taken.lock().expect("not poisoned");
        if let Some(name) = taken.filter(|name| path.ends_with(&format!("/services/{name}"))) {
            let theirs = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": { "name": name } });
            return (StatusCode::OK, Json(theirs));
        }
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404 });
        return (StatusCode::NOT_FOUND, Json(status));
    }
    let mut object: Value = serde_json::from_slice(&body).expect("JSON");
    if let Some(reason) = object["reason"].as_str() {
        seen.told.lock().expect("not poisoned").push(reason.to_owned());
    }
    object["metadata"]["resourceVersion"] = json!(format!("w{version}"));
    if path.ends_with("/status") {
        let mut whole = serde_json::to_value(shop()).expect("JSON");
        (whole["status"], whole["metadata"]["resourceVersion"]) =
            (object["status"].clone(), object["metadata"]["resourceVersion"].clone());
        object = whole;
    }
    (StatusCode::OK, Json(object))
}

struct Bench {
    publisher: Publisher,
    store: Arc<Store>,
    clock: Arc<At>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    _connections: watch::Sender<Arc<std::collections::BTreeMap<drover_api::ResourceKey, crate::Connections>>>,
    seen: Seen,
    _server: Task,
}

impl Bench {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Seen::default();
        let app = Router::new().fallback(answer).with_state(seen.clone());
        let server = Task(tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") }));
        let client = client(Config::new(url.parse().expect("a URL")), &Arc::new(Metrics::default())).expect("a client");
        let store = Arc::new(Store::new(&[None]));
        for event in [Event::Init, Event::InitApply(shop()), Event::InitDone] {
            store.absorb(&None, event);
        }
        let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::empty(Realm::new("test").expect("a realm"))));
        let connections = watch::Sender::default();
        let passes = Passes { snapshots: receiver, connections: connections.subscribe() };
        let clock = Arc::new(At::default());
        let (hands, at) = (Hands::new(client, "test".into()), Arc::clone(&clock));
        let publisher = Publisher::new(hands, Arc::clone(&store), passes, at, Duration::from_secs(15));
        Self { publisher, store, clock, snapshots, _connections: connections, seen, _server: server }
    }

    /// A pass says this, a second after the last. What was written, as method and what of the namespace, events aside.
    async fn pass(&mut self, report: SetReport) -> Vec<String> {
        self.clock.0.fetch_add(1, Ordering::SeqCst);
        let mut snapshot = Snapshot::empty(Realm::new("test").expect("a realm"));
        snapshot.sets = vec![report];
        self.snapshots.send_replace(Arc::new(snapshot));
        assert!(self.publisher.publish().await, "something is left to be written");
        self.written()
    }

    fn written(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.seen.calls.lock().expect("not poisoned"));
        calls.into_iter().filter(|line| line.starts_with("PATCH") && !line.contains(" events/")).collect()
    }

    async fn is_ready(&mut self) {
        assert_eq!(self.pass(ready()).await.len(), 5, "the status, two Services and two slices");
        for _ in 0..20 {
            assert_eq!(self.pass(ready()).await, Vec::<String>::new());
        }
    }
}

fn silent() -> SetReport {
    let mut report = ready();
    (report.members[1].role, report.members[1].ready) = (None, false);
    report.conditions = vec![Condition::new(ConditionType::Ready, false, "AgentAwaited", "r0: no answer")];
    report
}

const STATUS: &str = "PATCH mysqlreplicasets/shop/status";

#[tokio::test]
async fn reports_that_vary_and_machines_that_are_silent_for_a_moment_write_nothing() {
    let mut bench = Bench::new().await;
    bench.is_ready().await;
    for n in 0..30 {
        let mut moved = ready();
        for row in &mut moved.members {
            (row.position, row.lag_ms, row.report_age_ms) = (Some(format!("uuid:1-{n}")), Some(n * 70), Some(n * 300));
        }
        moved.verdict = format!("verdict {n}");
        moved.awaiting = vec![format!("{n}")];
        assert_eq!(bench.pass(moved).await, Vec::<String>::new());
    }
    for _ in 0..3 {
        for _ in 0..9 {
            assert_eq!(bench.pass(silent()).await, Vec::<String>::new());
        }
        assert_eq!(bench.pass(ready()).await, Vec::<String>::new());
    }
    let mut reconnecting = silent();
    reconnecting.members[1].role = Some(Role::Joining);
    assert_eq!(bench.pass(reconnecting).await, Vec::<String>::new());
}

#[tokio::test]
async fn eight_resources_are_written_at_once_and_no_more() {
    let mut bench = Bench::new().await;
    let mut sets = Vec::new();
    for n in 0..30 {
        let name = format!("set-{n}");
        bench.store.absorb(&None, Event::Apply(object(&name, |_| {})));
        let mut set = ready();
        set.key.name = ResourceName::new(name).expect("a name");
        sets.push(set);
    }
    bench.seen.crowd.wanted.store(8, Ordering::SeqCst);
    let snapshot = Snapshot { sets, ..Snapshot::empty(Realm::new("test").expect("a realm")) };
    bench.snapshots.send_replace(Arc::new(snapshot));
    tokio::time::timeout(Duration::from_secs(60), bench.publisher.publish()).await.expect("eight at once");
    assert_eq!(bench.seen.crowd.most.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn a_machine_that_stays_silent_is_told_of_once_and_so_is_its_return() {
    let mut bench = Bench::new().await;
    bench.is_ready().await;
    let mut written = Vec::new();
    for _ in 0..30 {
        written.extend(bench.pass(silent()).await);
    }
    assert_eq!(written, [STATUS]);
    assert_eq!(bench.pass(ready()).await, [STATUS]);
}

#[tokio::test]
async fn clients_are_sent_elsewhere_also_while_the_status_says_nothing_yet() {
    let mut bench = Bench::new().await;
    bench.is_ready().await;
    let mut moved = silent();
    moved.endpoints.as_mut().expect("known").primary.clear();
    assert_eq!(bench.pass(moved).await, ["PATCH endpointslices/shop-primary"]);
}

#[tokio::test]
async fn what_somebody_takes_away_is_written_again_although_nothing_else_has_changed() {
    let mut bench = Bench::new().await;
    bench.is_ready().await;
    let mut taken = serde_json::to_value(shop()).expect("JSON");
    taken["metadata"]["name"] = json!("shop-primary");
    let taken: DynamicObject = serde_json::from_value(taken).expect("an object");
    assert!(bench.store.companions().absorb(SERVICE, &None, Event::Delete(taken)));
    assert_eq!(bench.pass(ready()).await, ["PATCH services/shop-primary"]);
    assert_eq!(bench.pass(ready()).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_left_alone_and_told_and_keeps_no_resource_from_being_let_go() {
    let mut bench = Bench::new().await;
    *bench.seen.taken.lock().expect("not poisoned") = Some("shop-primary");
    let mut snapshot = Snapshot::empty(Realm::new("test").expect("a realm"));
    snapshot.sets = vec![ready()];
    bench.snapshots.send_replace(Arc::new(snapshot));
    for _ in 0..60 {
        bench.clock.0.fetch_add(1, Ordering::SeqCst);
        assert!(!bench.publisher.publish().await, "the Service is not written");
    }
    let written = bench.written();
    assert!(written.contains(&STATUS.to_owned()) && !written.contains(&"PATCH services/shop-primary".to_owned()));
    assert!(bench.seen.told.lock().expect("not poisoned").contains(&"NameTaken".to_owned()));

    let mut deleted = shop();
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::from_second(1_700_000_000).expect("a time"),
    ));
    deleted.metadata.resource_version = Some("later".to_owned());
    bench.store.absorb(&None, Event::Apply(deleted));
    bench.publisher.publish().await;
    assert_eq!(bench.written(), ["PATCH mysqlreplicasets/shop"]);
}
