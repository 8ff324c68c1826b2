//! What a scrape sees: how the passes go in controller-runtime's words, how the sets are in ours. No label carries the name of a
//! set, a machine or a namespace: how many series there are does not grow with the fleet.

use std::time::Duration;

use drover_api::conditions::ConditionType;
use drover_cloud::Class;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{PassOutcome, Snapshot};

/// Every metric of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Reconcile, Counter>,
    errors: Family<Controller, Counter>,
    seconds: Family<Controller, Histogram, fn() -> Histogram>,
    leader: Family<Lease, Gauge>,
    lock: Gauge,
    actions: Family<Action, Counter>,
    sets: Family<State, Gauge>,
    members: Family<State, Gauge>,
    unclaimed: Gauge,
    calls: Family<Call, Counter>,
    call_seconds: Family<Service, Histogram, fn() -> Histogram>,
    requests: Family<Request, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    service: &'static str,
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: &'static str,
}

/// As client-go labels it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lease {
    name: String,
}

/// As client-go labels them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: String,
    method: String,
    host: String,
}

/// There is one controller: a pass is over the whole realm.
const CONTROLLER: &str = "mysqlreplicaset";

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        // 5 ms to 41 s.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 14));
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            leader: Family::default(),
            lock: Gauge::default(),
            actions: Family::default(),
            sets: Family::default(),
            members: Family::default(),
            unclaimed: Gauge::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds),
            requests: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let help = "Passes over the realm, by how they ended";
        registry.register("controller_runtime_reconcile", help, self.reconciles.clone());
        let help = "Passes in which an action failed";
        registry.register("controller_runtime_reconcile_errors", help, self.errors.clone());
        let help = "How long a pass over the realm takes, its actions included";
        registry.register("controller_runtime_reconcile_time_seconds", help, self.seconds.clone());
        let help = "Whether this replica leads its cluster";
        registry.register("leader_election_master_status", help, self.leader.clone());
        registry.register("drover_lock_held", "Whether this process holds the realm's lock", self.lock.clone());
        registry.register("drover_actions", "Actions of plans, by kind and how they ended", self.actions.clone());
        registry.register("drover_sets", "Replica sets that are wanted, by state", self.sets.clone());
        registry.register("drover_machines", "Slots of replica sets, by what is in them", self.members.clone());
        let help = "Machines and volumes of the realm that nobody declares";
        registry.register("drover_unclaimed", help, self.unclaimed.clone());
        let help = "Calls to EC2 and S3, by operation and how they ended";
        registry.register("drover_cloud_requests", help, self.calls.clone());
        let help = "How long calls to EC2 and S3 take, the wait for their rate lane included";
        registry.register("drover_cloud_request_seconds", help, self.call_seconds.clone());
        let help = "Requests to the API server, by status, method and host";
        registry.register("rest_client_requests", help, self.requests.clone());
    }

    /// A pass has ended.
    pub fn passed(&self, outcome: &PassOutcome, took: Duration) {
        let result = match (&outcome.plan, outcome.failed.is_empty()) {
            (None, _) => "standby",
            (Some(_), true) => "success",
            (Some(_), false) => "error",
        };
        self.reconciles.get_or_create(&Reconcile { controller: CONTROLLER, result }).inc();
        if result == "error" {
            self.errors.get_or_create(&Controller { controller: CONTROLLER }).inc();
        }
        self.seconds.get_or_create(&Controller { controller: CONTROLLER }).observe(took.as_secs_f64());
        for (kind, count) in &outcome.done {
            let count = u64::try_from(*count).unwrap_or(u64::MAX);
            self.actions.get_or_create(&Action { action: (*kind).to_owned(), result: "done" }).inc_by(count);
        }
        for failed in &outcome.failed {
            self.actions.get_or_create(&Action { action: failed.action.clone(), result: "failed" }).inc();
        }
    }

    /// What the latest pass reports. Of a realm that was not looked at nothing is known, and nothing is shown.
    pub fn shows(&self, snapshot: &Snapshot) {
        self.lock.set(i64::from(snapshot.lock.ours));
        self.unclaimed.set(i64::try_from(snapshot.unclaimed.len()).unwrap_or(i64::MAX));
        self.sets.clear();
        self.members.clear();
        for set in snapshot.sets.iter().filter(|set| set.generation > 0) {
            let is = |kind| set.condition(kind).is_some_and(|condition| condition.status);
            let states = [
                ("declared", true),
                ("ready", set.ready),
                ("available", is(ConditionType::Available)),
                ("reconciling", is(ConditionType::Reconciling)),
                ("stalled", is(ConditionType::Stalled)),
                ("suspended", is(ConditionType::Suspended)),
                ("primary_lost", is(ConditionType::PrimaryLost)),
            ];
            for (state, counts) in states {
                self.sets.get_or_create(&State { state: state.to_owned() }).inc_by(i64::from(counts));
            }
            for row in &set.members {
                let state = row.role.map_or_else(|| "unknown".to_owned(), |role| role.to_string());
                self.members.get_or_create(&State { state }).inc();
            }
        }
    }

    /// Whether this process leads by the Lease of that name.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.leader.get_or_create(&Lease { name: lease.to_owned() }).set(i64::from(leads));
    }

    /// A call to the cloud has ended, with an error of that class or well.
    pub fn called(&self, service: &'static str, operation: &'static str, failed: Option<Class>, took: Duration) {
        let result = failed.map_or("ok", word);
        self.calls.get_or_create(&Call { service, operation, result }).inc();
        self.call_seconds.get_or_create(&Service { service }).observe(took.as_secs_f64());
    }

    /// The API server at `host` has answered with that status; without one it has not answered.
    pub fn requested(&self, host: &str, method: &str, status: Option<u16>) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        self.requests.get_or_create(&Request { code, method: method.to_owned(), host: host.to_owned() }).inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes whatever is written to it");
        text
    }
}

/// What alerts compare with: a change here is a change there.
fn word(class: Class) -> &'static str {
    match class {
        Class::Throttled => "throttled",
        Class::Transient => "transient",
        Class::NotVisibleYet => "not_visible_yet",
        Class::NotFound => "not_found",
        Class::WrongState => "wrong_state",
        Class::Capacity => "capacity",
        Class::Quota => "quota",
        Class::TokenMismatch => "token_mismatch",
        Class::TokenSpent => "token_spent",
        Class::Protected => "protected",
        Class::Conflict => "conflict",
        Class::Denied => "denied",
        Class::Invalid => "invalid",
        Class::Crashed => "crashed",
    }
}
