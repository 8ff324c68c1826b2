//! The agent's API. For the operator over mutual TLS: both sides prove themselves by certificates of the set's own CA, and
//! only the one that is named as the operator is heard. For load balancers in the clear: two yes-or-no answers, read-only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use drover_api::{
    records::Bundle,
    wire::{AGENT_PORT, BuildOrder, HEALTH_PORT, OPERATOR_NAME, Orders, OrdersReply, POLL_MAX, Report},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::{edge, state::Health};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("port {port} could not be listened on: {source}")]
    Listen { port: u16, source: std::io::Error },
    #[error("the bundle's certificate or key is not usable: {0}")]
    Bundle(String),
}

/// What both sides are told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Or why there is none yet.
    pub report: Result<Report, String>,
    /// What is heard with a lower one is refused.
    pub fence: u64,
    pub health: Health,
}

/// What the operator asks of the loop; the answer comes back by the sender.
#[derive(Debug)]
pub enum Asked {
    Orders(Box<Orders>, oneshot::Sender<Result<OrdersReply, String>>),
    /// The fence of a poll that is higher than any before.
    Fence(u64, oneshot::Sender<Result<OrdersReply, String>>),
    Build(BuildOrder, oneshot::Sender<Result<(), String>>),
}

#[derive(Clone, Debug)]
struct Api {
    told: watch::Receiver<Arc<Told>>,
    asked: mpsc::Sender<Asked>,
}

/// Orders hold at most 200 settings of 1 KiB and 105 accounts.
const BODY_MAX: usize = 1 << 20;
/// The operator needs two; a second one, and people, a few more.
const CONNECTIONS_MAX: usize = 32;
/// Peers that have not proven themselves yet; they share no place with those that have.
const HANDSHAKES_MAX: usize = 16;
const HEALTH_CONNECTIONS_MAX: usize = 128;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A load balancer's question, from its first byte to our answer.
const HEALTH: Duration = Duration::from_secs(5);
/// A connection that says nothing between requests is closed after this.
const HEADERS: Duration = Duration::from_secs(60);
/// Everything is answered at once, but for a disk that stalls under the record.
const ANSWER: Duration = Duration::from_secs(30);
/// How far a replica may be behind where `/replica` is asked without `lag`.
const LAG_DEFAULT: Duration = Duration::from_secs(10);

/// Listens on both ports. Returns once both are bound; what it serves runs until the process ends.
pub async fn serve(
    bundle: &Bundle,
    told: watch::Receiver<Arc<Told>>,
    asked: mpsc::Sender<Asked>,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(bundle)?));
    let health = Router::new().route("/primary", get(primary)).route("/replica", get(replica)).with_state(told.clone());
    let api = Router::new()
        .route("/v1/report", get(report))
        .route("/v1/orders", put(orders))
        .route("/v1/build", put(build))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Api { told, asked });
    let (agent, plain) = (listen(AGENT_PORT).await?, listen(HEALTH_PORT).await?);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(accept(agent, HANDSHAKES_MAX, move |stream, handshake| {
        operator(stream, acceptor.clone(), api.clone(), handshake, places.clone())
    }));
    tokio::spawn(accept(plain, HEALTH_CONNECTIONS_MAX, move |stream, place| {
        let health = health.clone();
        async move {
            let _place = place;
            if tokio::time::timeout(HEALTH, speak(TokioIo::new(stream), health)).await.is_err() {
                tracing::debug!("a load balancer's connection was closed");
            }
        }
    }));
    Ok(())
}

async fn listen(port: u16) -> Result<TcpListener, ServeError> {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { port, source })
}

/// At most so many at once, each until `answer` gives up the place it is handed.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    most: usize,
    answer: impl Fn(TcpStream, OwnedSemaphorePermit) -> F + Send + 'static,
) {
    let room = Arc::new(Semaphore::new(most));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, place))),
            // Out of file descriptors, or a peer that left early.
            Err(error) => {
                tracing::debug!(%error, "accept");
                edge::pause(Duration::from_millis(100)).await;
            }
        }
    }
}

/// `handshake` is given up when the peer has proven who it is, or has not; only the operator gets one of the `places`.
async fn operator(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    api: Router,
    handshake: OwnedSemaphorePermit,
    places: Arc<Semaphore>,
) {
    let greeted = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    drop(handshake);
    match greeted {
        Ok(Ok(stream)) if is_operator(stream.get_ref().1.peer_certificates()) => match places.try_acquire_owned() {
            Ok(_place) => speak(TokioIo::new(stream), api).await,
            Err(_) => tracing::warn!("the operator has {CONNECTIONS_MAX} connections and gets no more"),
        },
        Ok(Ok(_)) => tracing::warn!("a certificate of this set that is not the operator's was refused"),
        Ok(Err(error)) => tracing::debug!(%error, "handshake"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn speak<I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(io: I, router: Router) {
    let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    if let Err(error) = server.serve_connection(io, TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "connection");
    }
}

/// The set's CA vouches for machines too, so the name decides.
fn is_operator(chain: Option<&[CertificateDer<'_>]>) -> bool {
    let name = ServerName::try_from(OPERATOR_NAME).expect("the operator's name is a host name");
    chain
        .and_then(|chain| ParsedCertificate::try_from(chain.first()?).ok())
        .is_some_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

fn tls(bundle: &Bundle) -> Result<ServerConfig, ServeError> {
    let wrong = |error: &dyn std::fmt::Display| ServeError::Bundle(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| wrong(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle.certificate_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.as_bytes()).map_err(|error| wrong(&error))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.map_err(|error| wrong(&error))?, key)
        .map_err(|error| wrong(&error))
}

#[derive(Deserialize)]
struct Poll {
    after: Option<u64>,
    fence: Option<u64>,
}

async fn report(Shared(mut api): Shared<Api>, Query(Poll { after, fence }): Query<Poll>) -> Response {
    let known = api.told.borrow().fence;
    if let Some(fence) = fence.filter(|fence| *fence > known)
        && let Err((_, message)) = ask(&api, StatusCode::INSUFFICIENT_STORAGE, |reply| Asked::Fence(fence, reply)).await
    {
        // The report itself says what is wrong with the disk; the next poll tries again.
        tracing::warn!(fence, message, "a higher fence could not be kept");
    }
    // A number that is not the present one is of an earlier report, or of an earlier agent. That there is no report yet is
    // said at once.
    let news = |told: &Arc<Told>| match (&told.report, after) {
        (Ok(report), Some(after)) => report.seq != after,
        (Ok(_), None) | (Err(_), _) => true,
    };
    // Too long without news is an answer too.
    drop(tokio::time::timeout(POLL_MAX, api.told.wait_for(news)).await);
    let told = api.told.borrow().report.clone();
    match told {
        Ok(report) => Json(report).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn orders(Shared(api): Shared<Api>, Json(orders): Json<Orders>) -> Response {
    match ask(&api, StatusCode::INSUFFICIENT_STORAGE, |reply| Asked::Orders(Box::new(orders), reply)).await {
        Ok(reply) => Json(reply).into_response(),
        Err((status, message)) => (status, message).into_response(),
    }
}

async fn build(Shared(api): Shared<Api>, Json(order): Json<BuildOrder>) -> Response {
    match ask(&api, StatusCode::CONFLICT, |reply| Asked::Build(order, reply)).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err((status, message)) => (status, message).into_response(),
    }
}

/// `refused`: the status under which a refusal goes out.
async fn ask<T>(
    api: &Api,
    refused: StatusCode,
    asked: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Asked,
) -> Result<T, (StatusCode, String)> {
    let (reply, answer) = oneshot::channel();
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "the agent is busy".to_owned());
    api.asked.try_send(asked(reply)).map_err(|_| busy())?;
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => answer.map_err(|message| (refused, message)),
        _ => Err(busy()),
    }
}

async fn primary(Shared(told): Shared<watch::Receiver<Arc<Told>>>) -> (StatusCode, &'static str) {
    answer(told.borrow().health.primary(edge::now()))
}

#[derive(Deserialize)]
struct Lag {
    lag: Option<String>,
}

async fn replica(
    Shared(told): Shared<watch::Receiver<Arc<Told>>>,
    Query(Lag { lag }): Query<Lag>,
) -> (StatusCode, &'static str) {
    match lag.map_or(Some(LAG_DEFAULT), |text| read_duration(&text)) {
        Some(lag) => answer(told.borrow().health.replica(edge::now(), lag)),
        None => (StatusCode::BAD_REQUEST, "lag is a number with s or ms, such as 2s\n"),
    }
}

fn answer(health: Result<(), &'static str>) -> (StatusCode, &'static str) {
    match health {
        Ok(()) => (StatusCode::OK, "yes"),
        Err(word) => (StatusCode::SERVICE_UNAVAILABLE, word),
    }
}

fn read_duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(digits) => digits.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests;
