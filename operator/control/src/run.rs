//! The loop around the passes: something changed, or the interval ended, so there is another pass. Here are the timers, the
//! signals and the tasks that a pass has none of.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use drover_api::defaults::Terms;
use drover_cloud::{Machines, Objects, Volumes};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, oneshot, watch},
};

use crate::{
    agents::Agents,
    asks::Asks,
    deletions::Deletions,
    edge::{Clock, Entropy, SystemClock, SystemEntropy},
    health::{self, Health},
    kubernetes::{Cluster, Part, Passes},
    live::LiveAgents,
    lock::{Holding, Lease},
    metrics::Metrics,
    operator::{Config, Operator, PassOutcome},
    snapshot::Snapshot,
    socket::{self, Command, SocketError},
    source::{Manifests, Read, Source},
    task::Task,
};

/// What the running operator is told.
#[derive(Debug)]
pub struct Running {
    pub operator: Config,
    pub intents: Intents,
    pub terms: Terms,
    /// Holds the socket and nothing that matters.
    pub state: PathBuf,
    /// Where probes and scrapes are answered.
    pub listen: Option<SocketAddr>,
    pub metrics: Arc<Metrics>,
}

/// Where it is said what is wanted.
#[derive(Debug)]
pub enum Intents {
    /// A directory of manifests, and one of the passwords that they name.
    Directory {
        manifests: PathBuf,
        secrets: Option<PathBuf>,
    },
    Kubernetes(Box<Cluster>),
}

type Snapshots = watch::Receiver<Arc<Snapshot>>;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot read the manifests of {path}: {source}: give a directory that exists with --manifests")]
    Manifests { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on {address}: {source}: give an address of this machine and a free port with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
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

/// What the loop has around it: the host's clock and randomness, and the agents as they are reached over the network; a
/// simulation has its own.
pub struct Surroundings<A> {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// The agents; a word from one of them that matters wakes the loop.
    pub agents: Box<dyn FnOnce(Arc<Notify>) -> A + Send>,
}

/// Runs until a signal, or until another replica leads. The lock is given up at the end.
pub async fn run<C>(cloud: Arc<C>, running: Running) -> Result<(), RunError>
where
    C: Machines + Volumes + Objects + 'static,
{
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (listens, deadline) = (Arc::clone(&clock), running.operator.deadline);
    let agents = Box::new(move |wake| LiveAgents::new(listens, wake, deadline));
    run_in(Surroundings { clock, entropy: Arc::new(SystemEntropy::default()), agents }, cloud, running).await
}

/// The same in other surroundings.
pub async fn run_in<C, A>(surroundings: Surroundings<A>, cloud: Arc<C>, running: Running) -> Result<(), RunError>
where
    C: Machines + Volumes + Objects + 'static,
    A: Agents,
{
    let clock = Arc::clone(&surroundings.clock);
    let mut stop = Stop::new()?;
    let Running { operator, intents, terms, state, listen, metrics } = running;
    let health = Arc::new(Health::new(Arc::clone(&clock), Arc::clone(&metrics)));
    let _door = match listen {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
            Some(Task(tokio::spawn(health::serve(listener, Arc::clone(&health)))))
        }
    };
    match intents {
        Intents::Directory { manifests: path, secrets } => {
            let opened = Manifests::open(path.clone(), secrets, terms).await;
            let source = opened.map_err(|source| RunError::Manifests { path, source })?;
            let work = Work { cloud, surroundings, config: operator, source, state, health, metrics };
            work.until(stop.signalled(), |_| None).await
        }
        Intents::Kubernetes(cluster) => {
            let part = Part::begin(*cluster, Arc::clone(&clock));
            health.watches(Arc::clone(&part.store), Arc::clone(&part.election));
            let lease = part.election.name();
            metrics.leads(lease, false);
            tokio::select! {
                () = stop.signalled() => return Ok(()),
                () = part.election.win() => metrics.leads(lease, true),
            }
            let source = part.source(terms);
            let lease = operator.lease;
            let work = Work { cloud, surroundings, config: operator, source, state, health, metrics };
            // Renewed whatever a pass takes.
            let (lost, is_lost) = oneshot::channel();
            let election = Arc::clone(&part.election);
            let _renewed = Task(tokio::spawn(async move {
                let leader = election.keep().await;
                if lost.send(()).is_err() {
                    tracing::debug!(leader, "another replica leads, and this one ends already");
                }
            }));
            let ended = async {
                tokio::select! {
                    () = stop.signalled() => {}
                    _ = is_lost => {}
                }
            };
            let outcome = work.until(ended, |passes| Some(part.publish(passes, clock, lease))).await;
            part.election.resign().await;
            outcome
        }
    }
}

impl<A> std::fmt::Debug for Surroundings<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// What passes are made of.
struct Work<C, A, S> {
    cloud: Arc<C>,
    surroundings: Surroundings<A>,
    config: Config,
    source: S,
    state: PathBuf,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl<C, A, S> Work<C, A, S>
where
    C: Machines + Volumes + Objects + 'static,
    A: Agents,
    S: Source,
{
    /// Pass after pass until `end`; what `publish` makes runs beside them. The lock is given up at the end.
    async fn until<T>(
        self,
        end: impl Future<Output = T>,
        publish: impl FnOnce(Passes) -> Option<Task>,
    ) -> Result<(), RunError> {
        let Self { cloud, surroundings, config, mut source, state, health, metrics } = self;
        let Surroundings { clock, entropy, agents } = surroundings;
        let path = socket::path(&state);
        let listener = socket::bind(&path).await?;
        let wake = Arc::new(Notify::new());
        let agents = Arc::new(agents(Arc::clone(&wake)));
        let pace = config.lease / KEEPS_PER_LEASE;
        let mut operator = Operator::new(Arc::clone(&cloud), agents, Arc::clone(&clock), Arc::clone(&entropy), config);
        health.works(operator.snapshots());
        let (commands, mut asked) = mpsc::channel(COMMANDS_MAX);
        let tasks = (
            Task(tokio::spawn(serve(listener, operator.snapshots(), commands))),
            Task(tokio::spawn(keep(operator.lease(), cloud, Arc::clone(&clock), entropy, pace))),
            publish(Passes { snapshots: operator.snapshots(), connections: operator.connections() }),
        );
        declare(&mut operator, &source);
        let (mut deletions, mut asks) = (Deletions::default(), Asks::default());
        let mut holding = Holding::Unknown;
        tokio::pin!(end);
        loop {
            // Once more before acting: who went away since the last pass does not want it any more.
            deletions.answer(&mut operator, &holding);
            health.turns();
            let began = clock.monotonic();
            let (outcome, read) = read_during(&mut source, &mut operator).await;
            metrics.passed(&outcome, clock.monotonic().saturating_sub(began));
            metrics.shows(&operator.snapshots().borrow());
            holding = outcome.holding.clone();
            asks.answer(&mut operator, &outcome);
            deletions.answer(&mut operator, &holding);
            let interval = match (outcome.done.is_empty() && read == Read::Nothing, is_busy(&outcome)) {
                (false, _) => Duration::ZERO,
                (true, true) => INTERVAL_BUSY,
                (true, false) => INTERVAL,
            };
            tokio::select! {
                _ = &mut end => break,
                () = pause(GAP) => {}
            }
            tokio::select! {
                biased;
                _ = &mut end => break,
                Some(command) = asked.recv() => {
                    // A manifest that was just put there counts, although nobody has told of it yet.
                    source.refresh().await;
                    declare(&mut operator, &source);
                    match command {
                        Command::Delete { key, reply } => deletions.take(&mut operator, &holding, (key, reply)),
                        Command::Ask { key, request, reply } => {
                            asks.take(&mut operator, &holding, (key, request, reply));
                        }
                    }
                }
                _ = source.changed() => declare(&mut operator, &source),
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
}

/// One pass. What changes in the source meanwhile is read, and told of where it cannot be; it is wanted from the next pass on.
async fn read_during<C: Machines + Volumes + Objects, A: Agents>(
    source: &mut impl Source,
    operator: &mut Operator<C, A>,
) -> (PassOutcome, Read) {
    let mut read = Read::Nothing;
    let told = operator.problems();
    let outcome = {
        let pass = operator.pass();
        tokio::pin!(pass);
        loop {
            tokio::select! {
                biased;
                outcome = &mut pass => break outcome,
                now = source.changed() => {
                    if let Some(wanted) = source.wanted() {
                        told.tell(wanted.problems);
                    }
                    if now == Read::Changes {
                        read = now;
                    }
                }
            }
        }
    };
    declare(operator, source);
    (outcome, read)
}

fn declare<C: Machines + Volumes + Objects, A: Agents>(operator: &mut Operator<C, A>, source: &impl Source) {
    if let Some(wanted) = source.wanted() {
        operator.end_for_good(wanted.deletions);
        operator.learn_passwords(wanted.passwords);
        operator.declare(wanted.intents, wanted.problems);
    }
}

/// Something is awaited: worth another pass soon.
fn is_busy(outcome: &PassOutcome) -> bool {
    let Some(plan) = &outcome.plan else {
        return false;
    };
    !plan.is_quiet() || !outcome.failed.is_empty() || plan.reports.values().any(|report| !report.ready)
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

async fn serve(listener: UnixListener, snapshots: Snapshots, commands: mpsc::Sender<Command>) {
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
