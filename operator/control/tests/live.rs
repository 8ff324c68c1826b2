//! Agents over mTLS, on loopback addresses: a machine is known by its leaf, and the operator by its own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_api::{
    BuildId, Incarnation, InstanceId, Millis, ResourceKey, Slot, WriteId,
    records::CaRecord,
    wire::{AGENT_PORT, BuildOrder, DataReport, MysqlReport, OPERATOR_NAME, Report, ServerReport, VolumeReport},
};
use drover_control::{
    AgentError, Agents, Clock, Endpoint, certificates,
    edge::SystemClock,
    live::{AskedAgents, LiveAgents},
};
use futures::FutureExt;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

fn incarnation() -> Incarnation {
    Incarnation::new("k3j9x2m4").expect("an incarnation")
}

fn authority() -> Arc<CaRecord> {
    let write_id = WriteId::new("write-id-1").expect("a write id");
    Arc::new(certificates::authority(&incarnation(), SystemClock.now(), write_id, "00".repeat(32)).expect("a root"))
}

fn endpoint(address: Ipv4Addr, slot: Slot, ca: &Arc<CaRecord>) -> Endpoint {
    Endpoint {
        instance: InstanceId::new("i-1").expect("an instance"),
        address,
        key: ResourceKey { namespace: "default".parse().expect("valid"), name: "orders".parse().expect("valid") },
        incarnation: incarnation(),
        slot,
        ca: Arc::clone(ca),
    }
}

/// With every report the clock goes on; `boot` is what changes seldom.
fn report(seq: u64, boot: u64) -> Report {
    Report {
        seq,
        started: Millis(1),
        build: BuildId::new("ab".repeat(32)).expect("a build"),
        incarnation: incarnation(),
        slot: Slot::Member(1),
        boot_id: format!("boot {boot}"),
        clock: Millis(seq),
        accepted: None,
        promised: None,
        volume: VolumeReport::Waiting,
        mysql: MysqlReport {
            data: DataReport::Unknown,
            server: ServerReport::Stopped,
            installed: None,
            restarted: None,
            restart_failed: None,
            asked: false,
        },
        ordered_build: None,
        problems: vec![],
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A server with the leaf of `slot` that answers every request with the next report, of this boot.
async fn serve(address: Ipv4Addr, slot: Slot, ca: &CaRecord, boot: Arc<AtomicU64>) -> JoinHandle<()> {
    let served = AtomicU64::new(0);
    let write_id = WriteId::new("write-id-2").expect("a write id");
    let bundle = certificates::bundle(ca, slot, &incarnation(), SystemClock.now(), write_id).expect("a leaf");
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&bundle.ca_pem)).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(vec![certificate(&bundle.certificate_pem)], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(SocketAddr::from((address, AGENT_PORT))).await.expect("a loopback port");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let name = rustls::pki_types::ServerName::try_from(OPERATOR_NAME).expect("a name");
            let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned()).expect("a leaf");
            let leaf = rustls::server::ParsedCertificate::try_from(&leaf).expect("a certificate");
            rustls::client::verify_server_name(&leaf, &name).expect("the operator's own name");
            let mut asked = [0; 4096];
            while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                let seq = served.fetch_add(1, Ordering::SeqCst) + 1;
                let body = serde_json::to_string(&report(seq, boot.load(Ordering::SeqCst))).expect("JSON");
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    })
}

async fn ask(endpoint: &Endpoint) -> Result<u64, String> {
    let endpoints = BTreeMap::from([(endpoint.instance.clone(), endpoint.clone())]);
    let mut reports = AskedAgents::new(Arc::new(SystemClock)).reports(&endpoints, 0).await;
    let agent = reports.remove(&endpoint.instance).expect("asked for");
    agent.report.map(|report| report.seq).ok_or_else(|| agent.unreachable.unwrap_or_default())
}

#[tokio::test]
async fn an_agent_is_known_by_the_leaf_of_its_slot_and_its_sets_root() {
    let (ca, address) = (authority(), Ipv4Addr::new(127, 77, 0, 1));
    let server = serve(address, Slot::Member(1), &ca, Arc::default()).await;
    assert_eq!(ask(&endpoint(address, Slot::Member(1), &ca)).await, Ok(1));
    let other_slot = ask(&endpoint(address, Slot::Member(2), &ca)).await.expect_err("another slot's machine");
    assert!(other_slot.contains("certificate"), "{other_slot}");
    let other_set = ask(&endpoint(address, Slot::Member(1), &authority())).await.expect_err("another set's machine");
    assert!(other_set.contains("certificate"), "{other_set}");
    let nobody = ask(&endpoint(Ipv4Addr::new(127, 77, 0, 2), Slot::Member(1), &ca)).await.expect_err("nobody there");
    assert!(nobody.contains("does not answer"), "{nobody}");
    server.abort();
}

#[tokio::test]
async fn a_listened_agent_wakes_the_operator_and_is_forgotten_when_it_is_not_named() {
    let (ca, address) = (authority(), Ipv4Addr::new(127, 77, 0, 3));
    let server = serve(address, Slot::Member(1), &ca, Arc::default()).await;
    let wake = Arc::new(Notify::new());
    let agents = LiveAgents::new(Arc::new(SystemClock), Arc::clone(&wake), Duration::from_secs(10));
    let endpoint = endpoint(address, Slot::Member(1), &ca);
    let endpoints = BTreeMap::from([(endpoint.instance.clone(), endpoint.clone())]);
    let first = agents.reports(&endpoints, 1).await;
    assert!(first[&endpoint.instance].live().is_none(), "heard before it was asked");
    tokio::time::timeout(Duration::from_secs(10), wake.notified()).await.expect("a report wakes");
    let heard = agents.reports(&endpoints, 1).await;
    assert!(heard[&endpoint.instance].live().is_some_and(|report| report.seq >= 1));
    assert!(agents.reports(&BTreeMap::new(), 1).await.is_empty());
    server.abort();
}

#[tokio::test]
async fn a_report_that_only_goes_on_wakes_nobody_and_is_there_for_the_next_pass() {
    let (ca, address) = (authority(), Ipv4Addr::new(127, 77, 0, 6));
    let boot = Arc::new(AtomicU64::new(1));
    let server = serve(address, Slot::Member(1), &ca, Arc::clone(&boot)).await;
    let wake = Arc::new(Notify::new());
    let agents = LiveAgents::new(Arc::new(SystemClock), Arc::clone(&wake), Duration::from_secs(10));
    let endpoint = endpoint(address, Slot::Member(1), &ca);
    let endpoints = BTreeMap::from([(endpoint.instance.clone(), endpoint.clone())]);
    agents.reports(&endpoints, 1).await;
    tokio::time::timeout(Duration::from_secs(10), wake.notified()).await.expect("the first report wakes");
    let heard = async |least: u64| {
        while agents.reports(&endpoints, 1).await[&endpoint.instance].live().is_none_or(|report| report.seq < least) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard(20)).await.expect("later reports are heard");
    assert!(wake.notified().now_or_never().is_none(), "woken by a clock");
    boot.store(2, Ordering::SeqCst);
    tokio::time::timeout(Duration::from_secs(10), wake.notified()).await.expect("a reboot wakes");
    server.abort();
}

#[tokio::test]
async fn an_order_to_nobody_fails_within_its_deadline() {
    let endpoint = endpoint(Ipv4Addr::new(127, 77, 0, 4), Slot::Member(1), &authority());
    let order = BuildOrder { fence: 1, build: BuildId::new("ab".repeat(32)).expect("a build") };
    let agents = AskedAgents::new(Arc::new(SystemClock));
    let sent = tokio::time::timeout(Duration::from_secs(10), agents.upgrade(&endpoint, &order))
        .await
        .expect("a deadline of its own");
    assert!(matches!(sent, Err(AgentError::Unreachable { .. })), "{sent:?}");
}

#[tokio::test]
async fn an_order_takes_no_longer_than_a_lease_permits() {
    let address = Ipv4Addr::new(127, 77, 0, 5);
    // Connections are taken, and nothing is ever said on them.
    let listener = TcpListener::bind(SocketAddr::from((address, AGENT_PORT))).await.expect("a loopback port");
    let agents = LiveAgents::new(Arc::new(SystemClock), Arc::default(), Duration::from_millis(500));
    let endpoint = endpoint(address, Slot::Member(1), &authority());
    let order = BuildOrder { fence: 1, build: BuildId::new("ab".repeat(32)).expect("a build") };
    let sent = tokio::time::timeout(Duration::from_secs(2), agents.upgrade(&endpoint, &order));
    let sent = sent.await.expect("it took longer than its deadline");
    assert!(matches!(sent, Err(AgentError::Unreachable { .. })), "{sent:?}");
    drop(listener);
}
