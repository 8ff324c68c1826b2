//! The operator's own door: a unix socket that serves JSON to `drover status`, `drover delete` and the requests of people. Whoever
//! may open the socket may ask; its directory is the owner's alone.
//!
//! `GET /v1/status` answers a [`Snapshot`]; `POST /v1/delete` takes a [`DeleteRequest`] and answers once the end of the set is
//! written down; `POST /v1/request` takes an [`AskRequest`] and answers with what became of it.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use drover_api::{Namespace, ResourceKey, ResourceName, requests::Request};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
};

use crate::snapshot::Snapshot;

/// What `POST /v1/delete` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteRequest {
    pub namespace: Namespace,
    pub name: ResourceName,
}

/// What `POST /v1/request` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskRequest {
    pub namespace: Namespace,
    pub name: ResourceName,
    pub request: Request,
}

/// What the socket answers when it refuses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

/// Something that a person asked of the running operator.
#[derive(Debug)]
pub enum Command {
    Delete { key: ResourceKey, reply: oneshot::Sender<Result<(), String>> },
    Ask { key: ResourceKey, request: Request, reply: oneshot::Sender<Result<String, String>> },
}

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(
        "another operator of this machine listens on {path}: stop it, or give this one a state directory of its own"
    )]
    Taken { path: PathBuf },
    #[error(
        "cannot listen on {path}: {source}: name a directory that this user may make or write with --state or DROVER_STATE, to \
         `drover status` and `drover delete` too"
    )]
    Bind { path: PathBuf, source: io::Error },
    #[error("no operator answers on {path}: {why}")]
    Silent { path: PathBuf, why: String },
    #[error("{0}")]
    Refused(String),
}

/// How long a person waits for an answer; the operator's own passes take a fraction of it.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a person may wait for what is asked for once: a restart goes from machine to machine, half a minute for each.
pub const REQUEST_MAX: Duration = Duration::from_secs(15 * 60);
/// A status is made already when it is asked for.
const STATUS_MAX: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Door {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
}

/// The socket of a state directory.
pub fn path(state: &Path) -> PathBuf {
    state.join("drover.sock")
}

/// Opens the socket; one that a dead process left is replaced.
pub async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken { path: path.to_owned() });
    }
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers until dropped.
pub async fn serve(
    listener: UnixListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/delete", post(delete))
        .route("/v1/request", post(ask))
        .with_state(Door { snapshots, commands });
    axum::serve(listener, routes).await
}

async fn status(State(door): State<Door>) -> Json<Snapshot> {
    Json(door.snapshots.borrow().as_ref().clone())
}

async fn delete(State(door): State<Door>, Json(request): Json<DeleteRequest>) -> Response {
    let (reply, answer) = oneshot::channel();
    let key = ResourceKey { namespace: request.namespace, name: request.name };
    let late = "the deletion is not written down yet: see `drover status`, and ask again";
    match answered(&door, Command::Delete { key, reply }, answer, (ANSWER_MAX, late)).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => refusal,
    }
}

async fn ask(State(door): State<Door>, Json(asked): Json<AskRequest>) -> Response {
    let (reply, answer) = oneshot::channel();
    let key = ResourceKey { namespace: asked.namespace, name: asked.name };
    let late = "it is not done yet: see `drover status`, and ask again";
    match answered(&door, Command::Ask { key, request: asked.request, reply }, answer, (REQUEST_MAX, late)).await {
        Ok(outcome) => Json(outcome).into_response(),
        Err(refusal) => refusal,
    }
}

/// What the loop answers to a command, or the refusal to send.
async fn answered<T>(
    door: &Door,
    command: Command,
    answer: oneshot::Receiver<Result<T, String>>,
    (limit, late): (Duration, &str),
) -> Result<T, Response> {
    let refuse = |status: StatusCode, error: String| (status, Json(Refusal { error })).into_response();
    if door.commands.try_send(command).is_err() {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the operator is busy or ending: try again".into()));
    }
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(refuse(StatusCode::CONFLICT, error)),
        Ok(Err(_)) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the operator is ending: ask again".into())),
        Err(_) => Err(refuse(StatusCode::GATEWAY_TIMEOUT, late.to_owned())),
    }
}

/// Asks the operator that listens on `path` how things are.
pub async fn ask_status(path: &Path) -> Result<Snapshot, SocketError> {
    let silent = |why: String| SocketError::Silent { path: path.to_owned(), why };
    let request = client(path)?.get("http://drover/v1/status").timeout(STATUS_MAX);
    let response = request.send().await.map_err(|error| silent(innermost(&error)))?;
    response.json().await.map_err(|error| silent(innermost(&error)))
}

/// Asks the operator that listens on `path` to end a set. `Ok` means that it is written down.
pub async fn ask_delete(path: &Path, request: &DeleteRequest) -> Result<(), SocketError> {
    post_to(path, "delete", request, ANSWER_MAX).await.map(drop)
}

/// Asks the operator that listens on `path` for something once. Answers what became of it.
pub async fn ask_request(path: &Path, request: &AskRequest) -> Result<String, SocketError> {
    let response = post_to(path, "request", request, REQUEST_MAX).await?;
    response.json().await.map_err(|error| SocketError::Silent { path: path.to_owned(), why: innermost(&error) })
}

async fn post_to(
    path: &Path,
    route: &str,
    body: &impl Serialize,
    limit: Duration,
) -> Result<reqwest::Response, SocketError> {
    let silent = |why: String| SocketError::Silent { path: path.to_owned(), why };
    let request = client(path)?.post(format!("http://drover/v1/{route}")).json(body).timeout(limit + STATUS_MAX);
    let response = request.send().await.map_err(|error| silent(innermost(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let refusal: Refusal = response.json().await.map_err(|error| silent(innermost(&error)))?;
    Err(SocketError::Refused(refusal.error))
}

fn client(path: &Path) -> Result<reqwest::Client, SocketError> {
    let client = reqwest::Client::builder().unix_socket(path).no_proxy();
    client.build().map_err(|error| SocketError::Silent { path: path.to_owned(), why: innermost(&error) })
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_state_directory_that_cannot_be_made_is_told_with_what_to_name_instead() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("written");
        // Root may write anywhere, but makes no directory below a file either.
        let told = bind(&path(&file.join("drover"))).await.expect_err("no socket").to_string();
        assert!(told.starts_with("cannot listen on ") && told.contains("with --state or DROVER_STATE"), "{told}");
    }
}
