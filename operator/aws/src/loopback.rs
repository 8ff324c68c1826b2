//! A scripted HTTP server on the loopback interface: what the SDK really sends is recorded, and what a cloud can do to a
//! connection is done to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::Aws;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method and target, such as `PUT /bucket/key?x-id=PutObject`.
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What the server does once it has read a whole request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Closes the connection: the reply is lost.
    HangUp,
    /// Announces so many bytes, sends these, then closes.
    CutShort(usize, &'static str),
    /// Keeps the connection and says nothing.
    Silence,
}

/// Runs until dropped.
pub struct Loopback {
    pub url: String,
    requests: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

/// The n-th reply of the script, the last one for ever.
pub async fn serve(script: Vec<Reply>) -> Loopback {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let task = tokio::spawn(async move {
        // Connections are served in turn by tasks that end with this one.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            connections.spawn(converse(BufStream::new(stream), seen.clone(), script.clone()));
        }
    });
    Loopback { url, requests, task }
}

pub fn ok(body: &str) -> Reply {
    answer(200, body)
}

pub fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer { status, headers: vec![], body: body.into() }
}

/// An error as EC2's Query protocol says it.
pub fn ec2_error(status: u16, code: &str, message: &str) -> Reply {
    answer(
        status,
        &format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
        ),
    )
}

/// An error as S3 says it.
pub fn s3_error(status: u16, code: &str) -> Reply {
    answer(status, &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

/// An error as the AWS JSON protocol says it, which is Service Quotas'.
pub fn json_error(status: u16, code: &str) -> Reply {
    answer(status, &format!("{{\"__type\":\"{code}\",\"Message\":\"no\"}}"))
}

impl Loopback {
    /// Static credentials and this endpoint; nothing is read from the environment.
    pub fn connect(&self) -> Aws {
        self.connect_within(Duration::MAX)
    }

    pub fn connect_within(&self, deadline_max: Duration) -> Aws {
        Aws::new(&config().endpoint_url(&self.url).build(), deadline_max).expect("a Region is set")
    }

    pub fn requests(&self) -> Vec<Received> {
        self.requests.lock().expect("no panic while recording").clone()
    }
}

pub fn config() -> aws_types::sdk_config::Builder {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Received {
    /// The fields of a Query request.
    pub fn form(&self) -> BTreeMap<String, String> {
        let body = std::str::from_utf8(&self.body).expect("a form is text");
        let decode = |text: &str| percent_decode_str(text).decode_utf8().expect("utf-8").into_owned();
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (decode(key), decode(value))).collect()
    }
}

async fn converse(mut stream: BufStream<TcpStream>, seen: Arc<Mutex<Vec<Received>>>, script: Vec<Reply>) {
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut seen = seen.lock().expect("no panic while recording");
            seen.push(request);
            seen.len() - 1
        };
        let reply = script.get(number).or(script.last()).expect("a script has a reply");
        match reply {
            Reply::Answer { status, headers, body } => {
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                if stream.write_all((head + body).as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Reply::CutShort(announced, body) => {
                let head = format!("HTTP/1.1 200 -\r\ncontent-length: {}\r\netag: \"x\"\r\n\r\n", announced);
                stream.write_all((head + body).as_bytes()).await.expect("a client that listens");
                stream.flush().await.expect("a client that listens");
                return;
            }
            Reply::HangUp => return,
            Reply::Silence => std::future::pending().await,
        }
    }
}

/// A request with a `content-length` or without a body, which is all that the SDK sends; `None` at the end.
async fn read(stream: &mut BufStream<TcpStream>) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.lines();
    let line = lines.next().expect("a request line").trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { line, headers, body })
}
