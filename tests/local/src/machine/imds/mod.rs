//! The instance metadata service, one for each machine, on 169.254.169.254 in the machine's own namespace: IMDSv2 as EC2 documents it.
//!
//! Source: "Use the Instance Metadata Service to access instance metadata" in the EC2 user guide.

mod token;
mod tree;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use drover_api::InstanceId;
use percent_encoding::percent_decode_str;
use tokio::task::JoinHandle;

use self::token::Tokens;
use self::tree::Found;
use super::network::METADATA;
use super::spec::{Metadata, MetadataView};

const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The versions that answer, all with the same content: the ones cloud-init and the SDKs ask for.
const VERSIONS: [&str; 5] = ["2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest"];

/// Serves until the task is aborted.
#[derive(Debug)]
pub(super) struct Service {
    task: JoinHandle<()>,
}

struct Shared {
    instance: InstanceId,
    metadata: Arc<dyn Metadata>,
    hop_limit: u8,
    tokens: Tokens,
}

impl Service {
    /// Listens inside the namespace at `netns`, and serves from this one. `hop_limit` is HttpPutResponseHopLimit: at 1 a token never
    /// reaches a container inside the machine, which is a hop further away. The request of a container is known by its source address.
    pub(super) async fn open(
        netns: &Path,
        hop_limit: u8,
        instance: InstanceId,
        metadata: Arc<dyn Metadata>,
    ) -> io::Result<Service> {
        let listener = listen_inside(netns).await?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared { instance, metadata, hop_limit, tokens: Tokens::new() });
        let router =
            Router::new().fallback(answer).with_state(shared).into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "a metadata service ended");
            }
        });
        Ok(Service { task })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket belongs to the namespace it was made in, for ever; a thread that has changed its own does only that.
async fn listen_inside(netns: &Path) -> io::Result<TcpListener> {
    let netns = File::open(netns)?;
    let (made, socket) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("metadata socket".into()).spawn(move || {
        let listen = || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let listener = TcpListener::bind(SocketAddrV4::new(METADATA, 80))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        // The receiver is gone only when the boot was given up.
        drop(made.send(listen()));
    })?;
    socket.await.map_err(|_| io::Error::other("the thread that makes the socket ended"))?
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let Some(view) = shared.metadata.view(&shared.instance) else { return StatusCode::NOT_FOUND.into_response() };
    if path == "/latest/api/token" {
        if shared.hop_limit == 1 && !is_own(&view, from.ip()) {
            // The answer that does not arrive: EC2's is dropped on its way, and the client waits for as long as it likes.
            return std::future::pending().await;
        }
        return grant(&shared.tokens, &parts.method, &parts.headers);
    }
    match parts.headers.get(TOKEN_HEADER) {
        Some(token) if !shared.tokens.accepts(token.as_bytes()) => return StatusCode::UNAUTHORIZED.into_response(),
        None if view.tokens_required => return StatusCode::UNAUTHORIZED.into_response(),
        Some(_) | None => {}
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    read(&view, &path)
}

/// A request that the machine itself sent, by whichever of its addresses.
fn is_own(view: &MetadataView, from: IpAddr) -> bool {
    from == METADATA || from == view.private_ip || view.secondary_ips.iter().any(|address| from == *address)
}

/// PUT /latest/api/token. A request that a proxy passed on is refused: it may come from outside.
fn grant(tokens: &Tokens, method: &Method, headers: &HeaderMap) -> Response {
    if method != Method::PUT {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if headers.contains_key("x-forwarded-for") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let seconds = headers.get(TTL_HEADER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match seconds.filter(|seconds| token::SECONDS.contains(seconds)) {
        Some(seconds) => ([(TTL_HEADER, seconds.to_string())], tokens.grant(seconds)).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn read(view: &MetadataView, path: &str) -> Response {
    let text = |body: String| ([(header::CONTENT_TYPE, "text/plain")], body).into_response();
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return text(VERSIONS.join("\n"));
    }
    let (version, path) = path.split_once('/').unwrap_or((path, ""));
    if !VERSIONS.contains(&version) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if path.trim_end_matches('/') == "user-data" {
        return match &view.user_data {
            Some(data) => ([(header::CONTENT_TYPE, "application/octet-stream")], data.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    match tree::find(&tree::leaves(view), path) {
        Found::Leaf(body) | Found::Listing(body) => text(body),
        Found::Nothing => StatusCode::NOT_FOUND.into_response(),
    }
}
