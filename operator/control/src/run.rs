//! The loop around the passes: something changed, or the interval ended, so there is another pass. Here are the timers, the
//! signals and the tasks that a pass has none of.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use drover_api::defaults::Defaults;
use drover_cloud::{Machines, Objects, Volumes};
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use crate::{
    agents::Agents,
    deletions::Deletions,
    directory::{Directory, Scan},
    edge::{Clock, Entropy, SystemClock, SystemEntropy},
    live::LiveAgents,
    lock::{Holding, Lease},
    operator::{Config, Operator, PassOutcome},
    passwords::{self, Passwords},
    snapshot::Snapshot,
    socket::{self, Command, SocketError},
    watching::{self, Watching},
};

/// What the running operator is told.
#[derive(Debug)]
pub struct Running {
    pub operator: Config,
    /// A directory of manifests.
    pub manifests: PathBuf,
    /// A directory of the passwords that manifests name.
    pub secrets: Option<PathBuf>,
    pub defaults: Defaults,
    /// Holds the socket and nothing that matters.
    pub state: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot read the manifests of {path}: {source}: give a directory that exists with --manifests")]
    Manifests { path: PathBuf, source: std::io::Error },
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Between passes when nothing changes. What is old by then is looked at again at its own pace.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// While something is awaited: failed actions are tried again, lists are due sooner, and how far somebody has caught up is
/// looked at, which wakes nobody.
const INTERVAL_BUSY: Duration = Duration::from_secs(1);
/// Between the end of a pass and the next, whatever happens: what changed meanwhile is seen together.
const GAP: Duration = Duration::from_millis(250);
/// The lease is looked at this often in its length: it is renewed at a third, and a lost reply leaves time for two more tries.
const KEEPS_PER_LEASE: u32 = 6;
/// Commands that wait for the loop; each is answered within a pass.
const COMMANDS_MAX: usize = 16;

/// Runs until a signal. The lock is given up at the end.
pub async fn run<C>(cloud: Arc<C>, running: Running) -> Result<(), RunError>
where
    C: Machines + Volumes + Objects + 'static,
{
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
    let mut stop = Stop::new()?;
    let path = socket::path(&running.state);
    let listener = socket::bind(&path).await?;
    let wake = Arc::new(Notify::new());
    let agents = Arc::new(LiveAgents::new(Arc::clone(&clock), Arc::clone(&wake), running.operator.deadline));
    let pace = running.operator.lease / KEEPS_PER_LEASE;
    let mut operator =
        Operator::new(Arc::clone(&cloud), agents, Arc::clone(&clock), Arc::clone(&entropy), running.operator);
    let (commands, mut asked) = mpsc::channel(COMMANDS_MAX);
    let (scans, mut scanned) = mpsc::channel(1);
    let tasks = [
        Task(tokio::spawn(serve(listener, operator.snapshots(), commands))),
        Task(tokio::spawn(keep(operator.lease(), cloud, clock, entropy, pace))),
        Task(tokio::spawn(watch(running.manifests.clone(), running.secrets.clone(), scans))),
    ];
    let mut source = Source {
        path: running.manifests,
        secrets: running.secrets,
        defaults: running.defaults,
        directory: Directory::default(),
        passwords: Passwords::new(),
    };
    source.first_scan(&mut operator).await?;
    let mut deletions = Deletions::default();
    let mut holding = Holding::Unknown;
    loop {
        // Once more before acting: who went away since the last pass does not want it any more.
        deletions.answer(&mut operator, &holding);
        let (outcome, read) = source.read_during(&mut operator, &mut scanned).await;
        holding = outcome.holding.clone();
        deletions.answer(&mut operator, &holding);
        let interval = match (outcome.done.is_empty() && read == Read::Nothing, is_busy(&outcome)) {
            (false, _) => Duration::ZERO,
            (true, true) => INTERVAL_BUSY,
            (true, false) => INTERVAL,
        };
        tokio::select! {
            () = stop.signalled() => break,
            () = pause(GAP) => {}
        }
        tokio::select! {
            biased;
            () = stop.signalled() => break,
            Some(command) = asked.recv() => {
                // A manifest that was just put there counts, although nobody has told of it yet.
                let scan = watching::scanned(&source.path).await;
                source.take(&mut operator, scan).await;
                deletions.take(&mut operator, &holding, command);
            }
            Some(scan) = scanned.recv() => source.take(&mut operator, scan).await,
            () = wake.notified() => {}
            () = pause(interval) => {}
        }
    }
    drop(tasks);
    if let Err(error) = operator.release().await {
        tracing::warn!(%error, "the lock could not be given up: the next operator waits for its lease to end");
    }
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, "the socket is left behind");
    }
    Ok(())
}

/// Something is awaited: worth another pass soon.
fn is_busy(outcome: &PassOutcome) -> bool {
    let Some(plan) = &outcome.plan else {
        return false;
    };
    !plan.is_quiet() || !outcome.failed.is_empty() || plan.reports.values().any(|report| !report.ready)
}

/// The manifests of a directory, and what they declare.
struct Source {
    path: PathBuf,
    secrets: Option<PathBuf>,
    defaults: Defaults,
    directory: Directory,
    /// As they were last read.
    passwords: Passwords,
}

/// What was read while a pass was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Nothing,
    /// Something else than before: worth a pass at once.
    Changes,
}

impl Source {
    /// One pass. What changes in the directory meanwhile is read, and told of where it cannot be; it is wanted from the next
    /// pass on.
    async fn read_during<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        scanned: &mut mpsc::Receiver<io::Result<Scan>>,
    ) -> (PassOutcome, Read) {
        let (mut read, mut latest) = (Read::Nothing, None);
        let told = operator.problems();
        let outcome = {
            let pass = operator.pass();
            tokio::pin!(pass);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut pass => break outcome,
                    Some(scan) = scanned.recv() => {
                        let (has_changed, problems) = self.absorb(scan);
                        told.tell(problems.clone());
                        latest = Some(problems);
                        if has_changed {
                            read = Read::Changes;
                        }
                    }
                }
            }
        };
        if let Some(problems) = latest
            && self.declare(operator, problems).await
        {
            read = Read::Changes;
        }
        (outcome, read)
    }

    /// The first scan must succeed: a directory that is not there is a mistake, and not "nothing is wanted".
    async fn first_scan<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
    ) -> Result<(), RunError> {
        let scan =
            watching::scan(&self.path).map_err(|source| RunError::Manifests { path: self.path.clone(), source })?;
        self.take(operator, Ok(scan)).await;
        Ok(())
    }

    async fn take<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        scan: io::Result<Scan>,
    ) {
        let (_, problems) = self.absorb(scan);
        self.declare(operator, problems).await;
    }

    /// Tells the operator what is wanted, with the passwords as they are now. Answers whether one of those has changed.
    async fn declare<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        problems: Vec<String>,
    ) -> bool {
        let intents = self.directory.intents(&self.defaults);
        let passwords = passwords::read(self.secrets.as_deref(), intents.values()).await;
        operator.declare(intents, problems);
        operator.learn_passwords(passwords.clone());
        std::mem::replace(&mut self.passwords, passwords.clone()) != passwords
    }

    /// A later scan that fails leaves everything in force, and says so. Answers whether anything changed, and what cannot be
    /// read.
    fn absorb(&mut self, scan: io::Result<Scan>) -> (bool, Vec<String>) {
        let (has_changed, failed) = match scan {
            Ok(scan) => (self.directory.absorb(scan), None),
            Err(error) => {
                (false, Some(format!("{}: cannot be read, what it said stays: {error}", self.path.display())))
            }
        };
        (has_changed, failed.into_iter().chain(self.directory.problems()).collect())
    }
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Renews the lease while a pass takes long; a pass itself does it too.
async fn keep<C: Objects>(
    lease: Arc<Lease>,
    cloud: Arc<C>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pace: Duration,
) {
    loop {
        pause(pace).await;
        if let Err(error) = lease.keep(&*cloud, &*clock, &*entropy).await {
            tracing::debug!(%error, "the lease is not renewed");
        }
    }
}

/// A change below the directory of secrets is told by a scan of the manifests too: passwords are read with what names them.
async fn watch(manifests: PathBuf, secrets: Option<PathBuf>, scans: mpsc::Sender<io::Result<Scan>>) {
    let mut watching = Watching::new(manifests);
    let mut secrets = secrets.map(Watching::of_tree);
    loop {
        tokio::select! {
            () = watching.changed() => {}
            () = changed(secrets.as_mut()) => {}
        }
        let scan = watching::scanned(watching.directory()).await;
        if scans.send(scan).await.is_err() {
            return;
        }
    }
}

async fn changed(watching: Option<&mut Watching>) {
    match watching {
        Some(watching) => watching.changed().await,
        None => std::future::pending().await,
    }
}

async fn serve(
    listener: UnixListener,
    snapshots: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
) {
    if let Err(error) = socket::serve(listener, snapshots, commands).await {
        tracing::error!(%error, "the socket answers no more");
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self, RunError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(RunError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(RunError::Signals)?,
        })
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of the loop; everything it waits for besides is a condition")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
