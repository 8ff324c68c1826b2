//! The operator's door for probes and scrapes, plain HTTP: `GET /live`, `GET /ready`, `GET /metrics`. A probe's answer says in
//! words what is pending, for whoever looks at a Pod that does not become ready.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    Clock, Snapshot,
    kubernetes::{
        election::{Election, Leader},
        store::Store,
    },
    metrics::Metrics,
};

/// What the probes look at. Parts come as the process gets on.
pub struct Health {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    store: Option<Arc<Store>>,
    election: Option<Arc<Election>>,
    snapshots: Option<watch::Receiver<Arc<Snapshot>>>,
    /// When the loop last began a pass, monotonic.
    turned: Option<Duration>,
}

/// One thing that readiness depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// What is pending, or `None`.
    pub pending: Option<String>,
}

/// Longer than this no pass takes that gets on: every call in it has a deadline, and each set makes a few in a row.
const TURN_MAX: Duration = Duration::from_secs(600);
/// Nothing is looked up for an answer.
const ASK_MAX: Duration = Duration::from_secs(5);

// === impl Health ===

impl Health {
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { clock, metrics, parts: Mutex::default() }
    }

    pub fn watches(&self, store: Arc<Store>, election: Arc<Election>) {
        let mut parts = self.parts();
        (parts.store, parts.election) = (Some(store), Some(election));
    }

    pub fn works(&self, snapshots: watch::Receiver<Arc<Snapshot>>) {
        self.parts().snapshots = Some(snapshots);
    }

    /// The loop begins another pass.
    pub fn turns(&self) {
        let now = self.clock.monotonic();
        self.parts().turned = Some(now);
    }

    /// Why this process should be killed, or `None`.
    pub fn stuck(&self) -> Option<String> {
        let turned = self.parts().turned?;
        let since = self.clock.monotonic().saturating_sub(turned);
        (since > TURN_MAX).then(|| format!("a pass has taken {} s", since.as_secs()))
    }

    /// What this process still waits for before it does its part, each on a line of its own.
    pub fn checks(&self) -> Vec<Check> {
        let parts = self.parts();
        let mut checks = Vec::new();
        if let Some(store) = &parts.store {
            let awaited = store.resources().awaited();
            let pending = (!awaited.is_empty()).then(|| {
                let failing = store.failing();
                let why = if failing.is_empty() { "they are being listed".to_owned() } else { failing.join("; ") };
                format!("resources of {} are not read yet: {why}", awaited.join(", "))
            });
            checks.push(Check { name: "resources", pending });
        }
        let leader = parts.election.as_ref().map(|election| election.leader());
        if let Some(leader) = &leader {
            let pending = match leader {
                Leader::Unknown { why } => Some(format!("it is not known who leads: {why}")),
                Leader::Us | Leader::Other(_) => None,
            };
            checks.push(Check { name: "election", pending });
        }
        // One that stands by looks at nothing.
        if !matches!(leader, Some(Leader::Other(_))) {
            let snapshot = parts.snapshots.as_ref().map(|snapshots| Arc::clone(&snapshots.borrow()));
            checks.push(Check { name: "realm", pending: realm(snapshot.as_deref()) });
        }
        checks
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}

/// Another operator that holds the realm is an answer: this one could not do more.
fn realm(snapshot: Option<&Snapshot>) -> Option<String> {
    let Some(snapshot) = snapshot else { return Some("the first pass has not begun".to_owned()) };
    let lock = &snapshot.lock;
    if snapshot.looked || (!lock.ours && !lock.holder.is_empty()) {
        return None;
    }
    let waiting = snapshot.waiting.first().cloned();
    Some(lock.error.clone().or(waiting).unwrap_or_else(|| "the realm's lock is being taken".to_owned()))
}

/// Asks an operator's door whether it is ready: its own words, and whether they say so.
///
/// # Errors
/// Where nobody answers.
pub async fn ask(host: &str, port: u16) -> Result<(bool, String), String> {
    let client = reqwest::Client::builder().no_proxy().timeout(ASK_MAX).build().map_err(|error| error.to_string())?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let answer = client.get(format!("http://{host}:{port}/ready")).send().await.map_err(|error| error.to_string())?;
    let is_ready = answer.status().is_success();
    Ok((is_ready, answer.text().await.map_err(|error| error.to_string())?))
}

/// Answers until dropped. Nothing but GET is answered.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    let routes = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "probes are not answered any more");
    }
}

async fn live(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.stuck() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
    }
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let checks = health.checks();
    let lines = checks.iter().map(|check| match &check.pending {
        None => format!("[+] {}\n", check.name),
        Some(why) => format!("[-] {}: {why}\n", check.name),
    });
    let status = match checks.iter().all(|check| check.pending.is_none()) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, lines.collect::<String>())
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", OPEN_METRICS)], health.metrics.text())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::edge::tests::At;

    #[tokio::test]
    async fn a_process_whose_pass_does_not_end_is_to_be_killed() {
        let clock = Arc::new(At::default());
        let health = Arc::new(Health::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::default()));
        let answer = async || live(State(Arc::clone(&health))).await.into_response().status();
        clock.0.store(TURN_MAX.as_secs() * 2, Ordering::SeqCst);
        assert_eq!(answer().await, StatusCode::OK, "no pass has begun: it may stand by");
        health.turns();
        clock.0.fetch_add(TURN_MAX.as_secs(), Ordering::SeqCst);
        assert_eq!(answer().await, StatusCode::OK);
        clock.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(answer().await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(health.stuck(), Some(format!("a pass has taken {} s", TURN_MAX.as_secs() + 1)));
        health.turns();
        assert_eq!(answer().await, StatusCode::OK);
    }
}
