//! The operator's own door: a unix socket that serves JSON to `drover status` and `drover delete`. Whoever may
//! open the socket may ask; its directory is the owner's alone.
//!
//! `GET /v1/status` answers a [`Snapshot`]; `POST /v1/delete` takes a [`DeleteRequest`] and answers once the end of the set is
//! written down.

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
use drover_api::{Namespace, ResourceKey, ResourceName};
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

/// What the socket answers when it refuses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

/// Something that a person asked of the running operator.
#[derive(Debug)]
pub enum Command {
    Delete { key: ResourceKey, reply: oneshot::Sender<Result<(), String>> },
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
        .with_state(Door { snapshots, commands });
    axum::serve(listener, routes).await
}

async fn status(State(door): State<Door>) -> Json<Snapshot> {
    Json(door.snapshots.borrow().as_ref().clone())
}

async fn delete(State(door): State<Door>, Json(request): Json<DeleteRequest>) -> Response {
    let (reply, answer) = oneshot::channel();
    let key = ResourceKey { namespace: request.namespace, name: request.name };
    let refuse = |status: StatusCode, error: String| (status, Json(Refusal { error })).into_response();
    if door.commands.try_send(Command::Delete { key, reply }).is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the operator is busy or ending: try again".into());
    }
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(Ok(Ok(()))) => StatusCode::ACCEPTED.into_response(),
        Ok(Ok(Err(error))) => refuse(StatusCode::CONFLICT, error),
        Ok(Err(_)) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the operator is ending: ask again".into()),
        Err(_) => refuse(
            StatusCode::GATEWAY_TIMEOUT,
            "the deletion is not written down yet: see `drover status`, and ask again".into(),
        ),
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
    let silent = |why: String| SocketError::Silent { path: path.to_owned(), why };
    let request = client(path)?.post("http://drover/v1/delete").json(request).timeout(ANSWER_MAX + STATUS_MAX);
    let response = request.send().await.map_err(|error| silent(innermost(&error)))?;
    if response.status().is_success() {
        return Ok(());
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
