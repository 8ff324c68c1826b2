//! Over real sockets and real certificates.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::*;

struct Authority(Issuer<'static, KeyPair>, String);

fn authority() -> Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("signed").pem();
    Authority(Issuer::new(params, key), pem)
}

fn leaf(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, &authority.0).expect("signed").pem(), key.serialize_pem())
}

/// An agent of this set's, with so much room. Its address.
async fn agent(server: &Authority, handshakes: usize, places: usize) -> SocketAddr {
    let (certificate_pem, key_pem) = leaf(server, "m0.k3j9x2m4.drover.internal");
    let bundle = Bundle {
        write_id: drover_api::WriteId::new("write-0001").expect("valid"),
        ca_pem: server.1.clone(),
        certificate_pem,
        key_pem,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::new(tls(&bundle).expect("usable")));
    let api = Router::new().route("/v1/report", get(|| async { "heard" }));
    let places = Arc::new(Semaphore::new(places));
    tokio::spawn(accept(listener, handshakes, move |stream, handshake| {
        operator(stream, acceptor.clone(), api.clone(), handshake, places.clone())
    }));
    address
}

type Connection = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(
    address: SocketAddr,
    server: &Authority,
    client: &Authority,
    name: &str,
) -> std::io::Result<Connection> {
    let (certificate, key) = leaf(client, name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.1.as_bytes()).expect("pem")).expect("added");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("pem")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("pem");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("usable");
    let stream = TcpStream::connect(address).await.expect("connected");
    let host = ServerName::try_from("m0.k3j9x2m4.drover.internal").expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(host, stream).await
}

/// Whether it is answered, within a bound.
async fn is_answered(stream: &mut Connection) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = b"GET /v1/report HTTP/1.1\r\nhost: m0\r\n\r\n";
    let mut reply = Vec::new();
    let spoken = async {
        stream.write_all(request).await?;
        while !reply.ends_with(b"heard") {
            if stream.read_buf(&mut reply).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(30), spoken).await.is_ok_and(|spoken| spoken.is_ok())
}

/// Whether a client with this certificate is heard, over a real handshake.
async fn is_heard(server: &Authority, client: &Authority, name: &str) -> bool {
    let address = agent(server, 1, 1).await;
    match connect(address, server, client, name).await {
        Ok(mut stream) => is_answered(&mut stream).await,
        Err(_) => false,
    }
}

#[tokio::test]
async fn only_the_operator_of_this_set_is_heard() {
    let (ours, theirs) = (authority(), authority());
    assert!(is_heard(&ours, &ours, OPERATOR_NAME).await);
    assert!(!is_heard(&ours, &ours, "m1.k3j9x2m4.drover.internal").await, "another machine of the set");
    assert!(!is_heard(&ours, &theirs, OPERATOR_NAME).await, "another set's operator");
}

#[tokio::test]
async fn a_poll_with_a_higher_fence_is_answered_only_when_that_was_kept() {
    let mut state = crate::state::State::new(crate::state::Me {
        incarnation: "k3j9x2m4".parse().expect("valid"),
        slot: drover_api::Slot::Member(0),
        build: "a".repeat(64).parse().expect("valid"),
        started: drover_api::Millis(1),
        boot_id: "boot-1".into(),
        installed: None,
    });
    state.storage(drover_api::Millis(1), None);
    let told = |fence| {
        let (report, health) = (state.report().cloned(), state.health(drover_api::Millis(1)));
        Arc::new(Told { report, fence, health })
    };
    let (tell, listener) = watch::channel(told(3));
    let (asking, mut asked) = mpsc::channel(1);
    let api = Api { told: listener, asked: asking };
    let poll = |fence| report(Shared(api.clone()), Query(Poll { after: None, fence }));
    for fence in [None, Some(0), Some(3)] {
        drop(poll(fence).await);
        assert!(asked.try_recv().is_err(), "{fence:?} is no news");
    }
    let polled = tokio::spawn(poll(Some(4)));
    let Asked::Fence(4, reply) = asked.recv().await.expect("asked") else { panic!("something else was asked") };
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!polled.is_finished(), "answered before it was kept");
    tell.send_replace(told(4));
    reply.send(Ok(OrdersReply::Accepted)).expect("awaited");
    drop(polled.await.expect("answered"));
}

#[tokio::test]
async fn who_has_not_proven_itself_takes_no_place_of_the_operator() {
    let ours = authority();
    let address = agent(&ours, 2, 2).await;
    // One says nothing, and stays.
    let _silent = TcpStream::connect(address).await.expect("connected");
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut connection = connect(address, &ours, &ours, OPERATOR_NAME).await.expect("greeted");
        assert!(is_answered(&mut connection).await);
        connections.push(connection);
    }
    let mut one_too_many = connect(address, &ours, &ours, OPERATOR_NAME).await.expect("greeted");
    assert!(!is_answered(&mut one_too_many).await, "more than its places");
    assert!(is_answered(&mut connections[0]).await, "who has a place keeps it");
}

#[test]
fn a_lag_has_a_unit_or_is_in_seconds() {
    let read = |text| read_duration(text).map(|lag| lag.as_millis());
    assert_eq!(["2s", "500ms", "3"].map(read), [Some(2000), Some(500), Some(3000)]);
    assert_eq!(["", "s", "-1s", "2m", "1.5s"].map(read), [None; 5]);
}

#[tokio::test]
async fn before_the_first_look_there_is_no_report_and_that_is_said_at_once() {
    let health = Health { at: edge::now(), role: crate::state::HealthRole::Neither("looking around") };
    let unlooked = Told { report: Err("the agent has not looked around yet".into()), fence: 0, health: health.clone() };
    let (tell, told) = watch::channel(Arc::new(unlooked));
    let (asking, _asked) = mpsc::channel(1);
    let api = Api { told, asked: asking };
    for after in [None, Some(7)] {
        let answer = report(Shared(api.clone()), Query(Poll { after, fence: None })).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.expect("a body");
        assert_eq!(body, "the agent has not looked around yet");
    }
    let mut state = crate::state::State::new(crate::state::tests::me());
    state.step(edge::now(), crate::state::Event::Tick);
    let around = crate::state::Outcome::Around { server: None, mounted: None, hint: None };
    state.step(edge::now(), crate::state::Event::Done(around));
    tell.send_replace(Arc::new(Told { report: state.report().cloned(), fence: 0, health }));
    let answer = report(Shared(api), Query(Poll { after: None, fence: None })).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
