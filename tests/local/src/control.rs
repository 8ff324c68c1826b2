//! The socket in the directory: how the other commands ask a running `drover-local up`. One request and one answer a
//! connection, each one JSON document.

use std::{io, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::{
    calls::Since, fault::Fault, home::Endpoints, machine::RoleCredentials, serve::pause_before_accepting_again,
};

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    Calls {
        since: u64,
    },
    Machines,
    /// Where a client finds the cloud, and as whom.
    Endpoints,
    /// A session of a machine's role; with a duration one of its own.
    RoleCredentials {
        instance: String,
        seconds: Option<u32>,
    },
    Set(Fault),
    Clear(Fault),
    ClearAll,
    Faults,
    /// End, as by SIGTERM.
    End,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    Done,
    Calls(Since),
    Machines(Vec<MachineLine>),
    Endpoints(Endpoints),
    Faults(Vec<Fault>),
    RoleCredentials(RoleCredentials),
    /// A whole sentence for people.
    Refused(String),
}

/// One machine, as `drover-local machines` prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineLine {
    pub id: String,
    pub name: String,
    pub state: String,
    pub zone: String,
    pub address: String,
    pub volumes: Vec<String>,
    pub host_lost: bool,
}

/// The longest request: a fault has a few short names in it.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Requests served at once.
const CONNECTIONS_MAX: usize = 32;
/// How long a client may take to send its request, and to take its answer.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// The running cloud could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("nothing is up in this directory ({path}: {source}); start it with `drover-local up`")]
    NotUp { path: String, source: io::Error },
    #[error("the running drover-local did not answer: {0}")]
    Io(#[from] io::Error),
    #[error("the running drover-local answered something else: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Asks the cloud that is up. The caller bounds the time.
pub async fn ask(socket: &Path, ask: &Ask) -> Result<Told, AskError> {
    let connected = UnixStream::connect(socket).await;
    let mut stream = connected.map_err(|source| AskError::NotUp { path: socket.display().to_string(), source })?;
    stream.write_all(&serde_json::to_vec(ask)?).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Answers requests until it is dropped.
pub async fn listen<A, F>(listener: UnixListener, answer: A)
where
    A: Fn(Ask) -> F + Clone + Send + 'static,
    F: Future<Output = Told> + Send + 'static,
{
    let slots = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let slot = std::sync::Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the socket could not be accepted");
                pause_before_accepting_again().await;
                continue;
            }
        };
        let answer = answer.clone();
        connections.spawn(async move {
            let _slot = slot;
            if let Err(error) = serve(stream, answer).await {
                tracing::debug!(%error, "a connection to the socket ended early");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<A, F>(mut stream: UnixStream, answer: A) -> io::Result<()>
where
    A: Fn(Ask) -> F,
    F: Future<Output = Told>,
{
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(REQUEST_BYTES_MAX);
    tokio::time::timeout(TRANSFER_TIMEOUT, limited.read_to_end(&mut request)).await??;
    let told = match serde_json::from_slice(&request) {
        Ok(ask) => answer(ask).await,
        Err(error) => Told::Refused(format!("this is no request: {error}")),
    };
    tokio::time::timeout(TRANSFER_TIMEOUT, stream.write_all(&serde_json::to_vec(&told)?)).await?
}
