//! Agents over mTLS: one client and one long poll per machine. A machine is known by its leaf, which names the slot and is
//! signed by the set's own root; its address is only where to find it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_api::{
    InstanceId, Millis,
    wire::{self, AGENT_PORT, BuildOrder, Orders, OrdersReply, POLL_MAX, Report},
};
use drover_plan::observed::Agent;
use futures::{StreamExt, stream};
use reqwest::{Client, RequestBuilder, Response};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    agents::{AgentError, Agents, Endpoint},
    certificates::{self, CLIENT_LIFE},
    edge::Clock,
};

/// Agents that are listened to: what they say comes by itself, and wakes whoever waits.
pub struct LiveAgents {
    clock: Arc<dyn Clock>,
    /// Told whenever a report says something new, or an agent was lost or found.
    wake: Arc<Notify>,
    /// For an order: what a lease permits.
    answer_max: Duration,
    fence: Arc<AtomicU64>,
    /// One per running machine of the realm.
    listeners: Mutex<BTreeMap<InstanceId, Listener>>,
}

/// Agents that are asked once, when somebody wants to know: for commands that end.
pub struct AskedAgents {
    clock: Arc<dyn Clock>,
}

struct Listener {
    endpoint: Endpoint,
    heard: Arc<Mutex<Agent>>,
    task: JoinHandle<()>,
}

/// A client for one machine, as long as its certificate is young.
struct Connection {
    endpoint: Endpoint,
    client: Client,
    made: Millis,
}

/// A machine in the same region answers a handshake within milliseconds; this is for one that is busy booting.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// For an order: the agent makes it durable (one fsync) before it answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// On top of [`POLL_MAX`], which the agent keeps itself.
const POLL_GRACE: Duration = Duration::from_secs(5);
/// Between two attempts to reach an agent that does not answer: a booting machine is found within this time.
const AGAIN: Duration = Duration::from_secs(1);
/// Agents that are asked at the same time by a command.
const ASKED_MAX: usize = 32;
/// More of an agent's answer than this is not read: a report of a set with long GTID histories has tens of kilobytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

// === impl LiveAgents ===

impl LiveAgents {
    /// No order takes longer than `deadline`, which is what a lease permits.
    pub fn new(clock: Arc<dyn Clock>, wake: Arc<Notify>, deadline: Duration) -> Self {
        let fence = Arc::new(AtomicU64::new(0));
        Self { clock, wake, answer_max: deadline.min(ANSWER_MAX), fence, listeners: Mutex::new(BTreeMap::new()) }
    }

    fn listen(&self, endpoint: &Endpoint) -> Listener {
        let heard = Arc::new(Mutex::new(not_asked()));
        let poll = Poll {
            endpoint: endpoint.clone(),
            clock: Arc::clone(&self.clock),
            wake: Arc::clone(&self.wake),
            fence: Arc::clone(&self.fence),
            heard: Arc::clone(&heard),
        };
        Listener { endpoint: endpoint.clone(), heard, task: tokio::spawn(poll.forever()) }
    }
}

impl Agents for LiveAgents {
    async fn reports(&self, endpoints: &BTreeMap<InstanceId, Endpoint>, fence: u64) -> BTreeMap<InstanceId, Agent> {
        let mut listeners = locked(&self.listeners);
        if self.fence.swap(fence, Ordering::Relaxed) != fence {
            // A poll under way would leave its agent open to whoever held the lock in between.
            listeners.clear();
        }
        listeners.retain(|id, listener| endpoints.get(id) == Some(&listener.endpoint));
        for (id, endpoint) in endpoints {
            listeners.entry(id.clone()).or_insert_with(|| self.listen(endpoint));
        }
        listeners.iter().map(|(id, listener)| (id.clone(), locked(&listener.heard).clone())).collect()
    }

    async fn order(&self, endpoint: &Endpoint, orders: &Orders) -> Result<OrdersReply, AgentError> {
        Connection::new(endpoint, self.clock.now())?.order(orders, self.answer_max).await
    }

    async fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> Result<(), AgentError> {
        Connection::new(endpoint, self.clock.now())?.upgrade(order, self.answer_max).await
    }
}

impl std::fmt::Debug for LiveAgents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LiveAgents({} listened to)", locked(&self.listeners).len())
    }
}

// === impl AskedAgents ===

impl AskedAgents {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    async fn ask(&self, endpoint: &Endpoint) -> Agent {
        let asked = match Connection::new(endpoint, self.clock.now()) {
            Ok(connection) => connection.report(None, 0, ANSWER_MAX).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(report) => Agent { report: Some(report), heard: Some(self.clock.now()), unreachable: None },
            Err(error) => Agent { report: None, heard: None, unreachable: Some(error.to_string()) },
        }
    }
}

impl Agents for AskedAgents {
    async fn reports(&self, endpoints: &BTreeMap<InstanceId, Endpoint>, _fence: u64) -> BTreeMap<InstanceId, Agent> {
        stream::iter(endpoints.values().cloned())
            .map(|endpoint| async move { (endpoint.instance.clone(), self.ask(&endpoint).await) })
            .buffer_unordered(ASKED_MAX)
            .collect()
            .await
    }

    async fn order(&self, endpoint: &Endpoint, orders: &Orders) -> Result<OrdersReply, AgentError> {
        Connection::new(endpoint, self.clock.now())?.order(orders, ANSWER_MAX).await
    }

    async fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> Result<(), AgentError> {
        Connection::new(endpoint, self.clock.now())?.upgrade(order, ANSWER_MAX).await
    }
}

impl std::fmt::Debug for AskedAgents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AskedAgents")
    }
}

// === impl Listener ===

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one listener's task needs.
struct Poll {
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    fence: Arc<AtomicU64>,
    heard: Arc<Mutex<Agent>>,
}

// === impl Poll ===

impl Poll {
    async fn forever(self) {
        let mut connection: Option<Connection> = None;
        // What was heard on this connection. An agent that begins anew breaks it, and counts from the start again.
        let mut seen: Option<u64> = None;
        loop {
            if connection.as_ref().is_none_or(|known| known.is_old(self.clock.now())) {
                connection = Connection::new(&self.endpoint, self.clock.now()).map_err(|error| self.lost(&error)).ok();
                seen = None;
            }
            let Some(known) = &connection else {
                pause(AGAIN).await;
                continue;
            };
            match known.report(seen, self.fence.load(Ordering::Relaxed), POLL_MAX + POLL_GRACE).await {
                Ok(report) => {
                    seen = Some(report.seq);
                    self.learn(report);
                }
                Err(error) => {
                    self.lost(&error);
                    connection = None;
                    pause(AGAIN).await;
                }
            }
        }
    }

    fn learn(&self, report: Report) {
        let mut heard = locked(&self.heard);
        // Positions and ages come with every agent's every report; they are read in the next pass, whenever that is.
        let is_news =
            heard.unreachable.is_some() || heard.report.as_ref().is_none_or(|old| old.steady() != report.steady());
        *heard = Agent { report: Some(report), heard: Some(self.clock.now()), unreachable: None };
        if is_news {
            self.wake.notify_one();
        }
    }

    fn lost(&self, error: &AgentError) {
        let mut heard = locked(&self.heard);
        if heard.unreachable.is_none() {
            self.wake.notify_one();
        }
        heard.unreachable = Some(error.to_string());
    }
}

// === impl Connection ===

impl Connection {
    fn new(endpoint: &Endpoint, now: Millis) -> Result<Self, AgentError> {
        let client = client(endpoint, now).map_err(|why| AgentError::Credentials { key: endpoint.key.clone(), why })?;
        Ok(Self { endpoint: endpoint.clone(), client, made: now })
    }

    fn is_old(&self, now: Millis) -> bool {
        now.since(self.made) > CLIENT_LIFE / 2
    }

    /// The report that is newer than `after`, or the latest at the end of the poll.
    async fn report(&self, after: Option<u64>, fence: u64, patience: Duration) -> Result<Report, AgentError> {
        let after = after.map(|after| format!("after={after}&")).unwrap_or_default();
        let request = self.client.get(self.url(&format!("report?{after}fence={fence}")));
        self.json(request.timeout(patience)).await
    }

    async fn order(&self, orders: &Orders, patience: Duration) -> Result<OrdersReply, AgentError> {
        self.json(self.client.put(self.url("orders")).json(orders).timeout(patience)).await
    }

    async fn upgrade(&self, order: &BuildOrder, patience: Duration) -> Result<(), AgentError> {
        self.send(self.client.put(self.url("build")).json(order).timeout(patience)).await.map(drop)
    }

    fn url(&self, path: &str) -> String {
        let name = wire::leaf_name(self.endpoint.slot, &self.endpoint.incarnation);
        format!("https://{name}:{AGENT_PORT}/v1/{path}")
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, AgentError> {
        let body = self.body(self.send(request).await?).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.unreachable(format!("its answer is not understood: {error}")))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, AgentError> {
        let response = request.send().await.map_err(|error| self.unreachable(reason(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = self.body(response).await?;
        Err(AgentError::Refused {
            address: self.endpoint.address,
            status,
            body: String::from_utf8_lossy(&body).chars().take(500).collect(),
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, AgentError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(reason(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(self.unreachable(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok(body)
    }

    fn unreachable(&self, why: String) -> AgentError {
        AgentError::Unreachable { address: self.endpoint.address, why }
    }
}

/// A client that reaches one machine only: its leaf's name resolves to its address, and only the set's root is trusted.
fn client(endpoint: &Endpoint, now: Millis) -> Result<Client, String> {
    let leaf = certificates::client(&endpoint.ca, now).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&endpoint.ca.certificate_pem)?).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&leaf.certificate_pem)?], key)
        .map_err(|error| error.to_string())?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve(
            &wire::leaf_name(endpoint.slot, &endpoint.incarnation),
            SocketAddr::from((endpoint.address, AGENT_PORT)),
        )
        .https_only(true)
        .no_proxy()
        .connect_timeout(CONNECT_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| reason(&error))
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())
}

/// The last cause: `reqwest` says only where it was.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

fn not_asked() -> Agent {
    Agent { report: None, heard: None, unreachable: Some("not heard from yet".into()) }
}

#[expect(clippy::disallowed_methods, reason = "the pace of reconnecting; nothing waits for it")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
