//! Requests as S3 clients send them, and what they are answered.

use jiff::Timestamp;

use super::*;
use crate::{
    keys::{Key, SessionToken},
    lost::LostReply,
    policy::SetScope,
    testing::{client, send},
};

const OPERATOR: (&str, &str, Option<&str>) = ("AKIA", "secret", None);
const MACHINE: (&str, &str, Option<&str>) = ("ASIA", "session", Some("token"));

struct Server {
    url: String,
    client: reqwest::Client,
    keys: Keys,
    calls: Calls,
    lost: LostReplies,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (keys, calls, lost) = (Keys::new("AKIA", "secret"), Calls::default(), LostReplies::default());
        let objects = Objects::open(dir.path(), "bucket").unwrap();
        let clock = ServiceClock::default();
        let endpoint = Endpoint::new(objects, "bucket", keys.clone(), clock, calls.clone(), lost.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let _stop = stop;
            let answer = move |request, _| {
                let endpoint = endpoint.clone();
                async move { endpoint.answer(request).await }
            };
            crate::serve::serve(listener, stopped, answer).await;
        });
        Self { url, client: client(), keys, calls, lost, _dir: dir }
    }

    async fn call(
        &self,
        key: (&str, &str, Option<&str>),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> reqwest::Result<(u16, String, String)> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.as_bytes().to_vec()).unwrap();
        let (status, headers, body) = send(&self.client, "s3", key, request).await?;
        let etag = headers.get("etag").map_or_else(String::new, |etag| etag.to_str().unwrap().into());
        Ok((status, etag, body))
    }
}

#[tokio::test]
async fn of_64_writers_of_one_version_one_wins() {
    let server = Server::start().await;
    let put = async |condition: (&str, &str), body: &str| {
        server.call(OPERATOR, "PUT", "/bucket/realms/r/lock.json", &[condition], body).await.unwrap()
    };
    let race = async |condition: (&str, &str), round: &str| {
        let bodies: Vec<String> = (0..64).map(|n| format!("{round}{n}")).collect();
        let results = futures::future::join_all(bodies.iter().map(|body| put(condition, body))).await;
        let won: Vec<usize> = (0..64).filter(|n| results[*n].0 == 200).collect();
        assert!(results.iter().all(|result| matches!(result.0, 200 | 412)), "{results:?}");
        assert_eq!(won.len(), 1, "{results:?}");
        let (status, etag, body) = server.call(OPERATOR, "GET", "/bucket/realms/r/lock.json", &[], "").await.unwrap();
        assert_eq!((status, &etag, &body), (200, &results[won[0]].1, &bodies[won[0]]));
        etag
    };
    let etag = race(("if-none-match", "*"), "create").await;
    race(("if-match", &etag), "swap").await;
    let (status, _, body) = put(("if-match", &etag), "late").await;
    assert!(status == 412 && body.contains("<Code>PreconditionFailed</Code>"), "{status} {body}");
}

#[tokio::test]
async fn errors_are_those_of_s3() {
    let server = Server::start().await;
    for (method, path, headers, expected) in [
        ("PUT", "/bucket/none", &[("if-match", "\"0123\"")][..], (404, "NoSuchKey")),
        ("GET", "/bucket/none", &[], (404, "NoSuchKey")),
        ("GET", "/nobucket/none", &[], (404, "NoSuchBucket")),
        ("PUT", "/nobucket/none", &[], (404, "NoSuchBucket")),
        ("PUT", "/bucket/a//b", &[], (501, "NotImplemented")),
        ("PUT", "/bucket/k", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], (400, "BadDigest")),
    ] {
        let (status, _, body) = server.call(OPERATOR, method, path, headers, "x").await.unwrap();
        let named = body.contains(expected.1) && body.contains("<Message>");
        assert!((status, true) == (expected.0, named), "{method} {path}: {status} {body}");
    }
    let wrong = server.call(("AKIA", "wrong", None), "GET", "/bucket/none", &[], "").await.unwrap();
    assert!(wrong.0 == 403 && wrong.2.contains("SignatureDoesNotMatch"), "{wrong:?}");
    let unknown = server.call(("AKIB", "secret", None), "GET", "/bucket/none", &[], "").await.unwrap();
    assert!(unknown.0 == 403 && unknown.2.contains("InvalidAccessKeyId"), "{unknown:?}");
    server.keys.set_operator_revoked(true);
    for (method, changes) in [("GET", false), ("PUT", true)] {
        assert_eq!(server.call(OPERATOR, method, "/bucket/none", &[], "").await.unwrap().0, 403);
        let logged = server.calls.since(0).calls.pop().unwrap();
        assert_eq!((logged.action.as_str(), logged.mutating), ("Refused", changes), "{method}");
    }
}

/// One connection, spoken to by hand.
struct Wire<'a> {
    server: &'a Server,
    stream: tokio::io::BufReader<tokio::net::TcpStream>,
}

impl<'a> Wire<'a> {
    async fn open(server: &'a Server) -> Self {
        let stream = tokio::net::TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        Self { server, stream: tokio::io::BufReader::new(stream) }
    }

    async fn send(&mut self, bytes: &[u8]) {
        tokio::io::AsyncWriteExt::write_all(&mut self.stream, bytes).await.unwrap();
    }

    /// The head of a signed request; its body is left to be sent.
    async fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).unwrap();
        let signed = crate::testing::signed("s3", OPERATOR, request, clock::now().into());
        let host = signed.uri().authority().unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in signed.headers() {
            head += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        self.send(format!("{head}\r\n").as_bytes()).await;
    }

    /// The status of the next answer, which may be "100 Continue", and whether it says that the connection closes.
    async fn answer(&mut self) -> (u16, bool) {
        use tokio::io::{AsyncBufReadExt, AsyncReadExt};
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).await.unwrap(), 0, "closed after {head:?}");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            head.push(line);
        }
        self.stream.read_exact(&mut vec![0; length]).await.unwrap();
        (head[0].split(' ').nth(1).unwrap().parse().unwrap(), head.contains(&"connection: close".into()))
    }
}

#[tokio::test]
async fn a_connection_outlives_a_refused_write_or_says_that_it_does_not() {
    let server = Server::start().await;
    server.call(OPERATOR, "PUT", "/bucket/there", &[], "x").await.unwrap();
    let (small, large) = (vec![b'x'; 1 << 10], vec![b'x'; 2 << 20]);
    for (path, condition, refusal) in [
        ("/bucket/there", ("if-none-match", "*"), 412),
        ("/bucket/there", ("if-match", "\"0123\""), 412),
        ("/bucket/none", ("if-match", "\"0123\""), 404),
        ("/nobucket/none", ("if-none-match", "*"), 404),
        ("/bucket/a//b", ("if-none-match", "*"), 501),
    ] {
        let what = format!("{path} {condition:?}");
        let mut wire = Wire::open(&server).await;
        wire.head("PUT", path, &[condition, ("expect", "100-continue")], &small).await;
        assert_eq!(wire.answer().await, (100, false), "{what}");
        wire.send(&small).await;
        assert_eq!(wire.answer().await, (refusal, false), "{what}");

        wire.head("PUT", path, &[condition], &small).await;
        wire.send(&small).await;
        assert_eq!(wire.answer().await, (refusal, false), "{what}");

        wire.head("PUT", path, &[condition, ("expect", "100-continue")], &large).await;
        assert_eq!(wire.answer().await, (refusal, true), "{what}");
    }
}

#[tokio::test]
async fn a_machine_reads_its_own_and_no_more() {
    let server = Server::start().await;
    let tags = [
        ("drover:schema", "1"),
        ("drover:realm", "r"),
        ("drover:kind", "mysqlreplicaset"),
        ("drover:ns", "default"),
        ("drover:name", "orders"),
        ("drover:inc", "abc12345"),
        ("drover:slot", "m0"),
        ("drover:attempt", "1"),
    ];
    let set = SetScope::from_tags(&tags.map(|(key, value)| (key.into(), value.into())).into());
    server.keys.add(Key {
        access_key: MACHINE.0.into(),
        secret: MACHINE.1.into(),
        session: Some(SessionToken { token: "token".into(), expires: Timestamp::MAX }),
        principal: Principal::Machine { instance: "i-1".into(), set },
    });
    let own = "/bucket/realms/r/mysqlreplicaset/default/orders/abc12345";
    for path in ["/bucket/realms/r/bin/current", &format!("{own}/register.json"), &format!("{own}/ca.json")] {
        assert_eq!(server.call(OPERATOR, "PUT", path, &[], "x").await.unwrap().0, 200, "{path}");
    }
    for (key, method, path, expected) in [
        (MACHINE, "GET", "/bucket/realms/r/bin/current", 200),
        (MACHINE, "GET", &format!("{own}/register.json"), 200),
        (MACHINE, "PUT", &format!("{own}/register.json"), 403),
        (MACHINE, "GET", &format!("{own}/ca.json"), 403),
        (MACHINE, "GET", "/bucket?list-type=2", 403),
        (MACHINE, "DELETE", "/bucket/realms/r/bin/current", 403),
        ((MACHINE.0, MACHINE.1, Some("stolen")), "GET", "/bucket/realms/r/bin/current", 400),
        ((MACHINE.0, MACHINE.1, None), "GET", "/bucket/realms/r/bin/current", 400),
        // What is not there is 404 to those who may list, and to nobody else.
        (OPERATOR, "GET", "/bucket/realms/r/bin/none", 404),
        (MACHINE, "GET", "/bucket/realms/r/bin/none", 403),
        (MACHINE, "HEAD", "/bucket/realms/r/bin/none", 403),
    ] {
        let (status, _, body) = server.call(key, method, path, &[], "").await.unwrap();
        assert_eq!(status, expected, "{method} {path}: {body}");
    }
    let (_, _, body) = server.call(MACHINE, "GET", "/bucket/realms/r/bin/none", &[], "").await.unwrap();
    assert!(body.contains("<Code>AccessDenied</Code><Message>Access Denied</Message>"), "{body}");
    server.keys.remove_machine("i-1");
    assert_eq!(server.call(MACHINE, "GET", "/bucket/realms/r/bin/current", &[], "").await.unwrap().0, 403);
}

#[tokio::test]
async fn a_session_that_has_expired_is_refused_as_such() {
    let server = Server::start().await;
    let path = "/bucket/realms/r/bin/current";
    for (expires, refusal) in [(Timestamp::MAX, "AccessDenied"), (Timestamp::MIN, "ExpiredToken")] {
        server.keys.add(Key {
            access_key: MACHINE.0.into(),
            secret: MACHINE.1.into(),
            session: Some(SessionToken { token: "token".into(), expires }),
            principal: Principal::Machine { instance: "i-1".into(), set: None },
        });
        let (status, _, body) = server.call(MACHINE, "GET", path, &[], "").await.unwrap();
        assert!(body.contains(&format!("<Code>{refusal}</Code>")), "{expires}: {body}");
        assert_eq!(status, if refusal == "ExpiredToken" { 400 } else { 403 }, "{expires}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_an_applied_write_without_an_answer() {
    let server = Server::start().await;
    server.lost.lose(LostReply { action: Some("PutObject".into()), times: 1 });
    server.call(OPERATOR, "PUT", "/bucket/k", &[], "body").await.expect_err("the connection is closed");
    let (status, _, body) = server.call(OPERATOR, "GET", "/bucket/k", &[], "").await.unwrap();
    assert_eq!((status, body.as_str()), (200, "body"));
    let log: Vec<(String, bool, bool)> = server
        .calls
        .since(0)
        .calls
        .into_iter()
        .map(|call| (call.action.clone(), call.changed, call.reply_lost))
        .collect();
    assert_eq!(log, [("PutObject".into(), true, true), ("GetObject".into(), false, false)]);
}
