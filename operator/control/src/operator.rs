//! The operator: one pass is observe, plan, act, report. There are no timers, no spawned tasks and no clocks in here, so that
//! the same code runs under a real loop and in a simulator with virtual time. A crash is dropping it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_api::{InstanceId, Realm, ResourceKey, bucket::RealmKeys, requests::Request};
use drover_cloud::{Machines, Objects, Volumes};
use drover_plan::{
    Observed, Plan, Planned,
    observed::{Intent, Sources},
};
use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::{
    act::{ActError, Done, Hands},
    agents::{Agents, Endpoint},
    connections::{self, Connections},
    edge::{Clock, Entropy},
    lock::{Challenger, Holding, Lease, state::outranked_by},
    memory::{Memory, Sends},
    observe::{Bucket, Pace},
    passwords::Passwords,
    publish::Binary,
    report,
    snapshot::{Failed, Lock, Snapshot},
};

/// What an operator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    pub realm: Realm,
    /// The operator's part of the bucket, empty or ending with `/`.
    pub prefix: String,
    /// For people: host, process id, start.
    pub holder: String,
    /// How long a challenger waits. At least twice the deadline, or there is no time to act between renewals.
    pub lease: Duration,
    /// The longest that any call of the cloud or of the agents takes, by their own deadlines.
    pub deadline: Duration,
    pub pace: Pace,
    /// Machines of the realm beyond which none is launched.
    pub machines_max: Option<u32>,
    /// What machines are launched with; constant per realm.
    pub user_data: String,
    /// What new machines run, one for each architecture; those that are not here stay in `bin/current` as they are.
    pub binaries: Vec<Binary>,
    /// Who decides: `drover_plan::plan`.
    pub plan: fn(&Observed) -> Plan,
}

/// One operator process, over any cloud and any agents.
pub struct Operator<C, A> {
    pub(crate) cloud: Arc<C>,
    pub(crate) agents: Arc<A>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) config: Config,
    pub(crate) keys: RealmKeys,
    pub(crate) lease: Arc<Lease>,
    pub(crate) intents: BTreeMap<ResourceKey, Intent>,
    pub(crate) sources: Sources,
    /// Asked for by people, as long as they wait.
    pub(crate) deletions: BTreeSet<ResourceKey>,
    /// Recorded by the source of intents.
    pub(crate) recorded_deletions: BTreeSet<ResourceKey>,
    /// What people ask for through the socket.
    pub(crate) asked: BTreeMap<ResourceKey, Vec<Request>>,
    pub(crate) passwords: Passwords,
    pub(crate) problems: Problems,
    pub(crate) endpoints: BTreeMap<InstanceId, Endpoint>,
    pub(crate) memory: Memory,
    seq: AtomicU64,
    passes: u64,
    snapshot: watch::Sender<Arc<Snapshot>>,
    connections: watch::Sender<Arc<BTreeMap<ResourceKey, Connections>>>,
}

/// What a source of manifests could not read, a line each: told at once, also while a pass is under way.
#[derive(Clone, Debug)]
pub struct Problems {
    lines: Arc<Mutex<Vec<String>>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

/// How a pass went.
#[derive(Debug)]
pub struct PassOutcome {
    pub holding: Holding,
    /// What the pass decided; `None` where another holds the lock and nothing was looked at.
    pub plan: Option<Plan>,
    /// What was done, by kind of action.
    pub done: BTreeMap<&'static str, usize>,
    pub failed: Vec<Failed>,
}

/// Sets that are acted on at the same time: enough to launch a realm within minutes, few enough that their calls stay within
/// the local rate lanes.
const SETS_MAX: usize = 8;

// === impl Operator ===

impl<C: Machines + Volumes + Objects, A: Agents> Operator<C, A> {
    pub fn new(
        cloud: Arc<C>,
        agents: Arc<A>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        config: Config,
    ) -> Self {
        let keys = RealmKeys::new(&config.prefix, &config.realm);
        let us = Challenger { process: entropy.write_id(), holder: config.holder.clone(), lease: config.lease };
        let lease = Arc::new(Lease::new(&keys, us));
        let (snapshot, _) = watch::channel(Arc::new(Snapshot::empty(config.realm.clone())));
        let problems = Problems { lines: Arc::default(), snapshot: snapshot.clone() };
        Self {
            cloud,
            agents,
            clock,
            entropy,
            config,
            keys,
            lease,
            intents: BTreeMap::new(),
            sources: Sources::NotAsked,
            deletions: BTreeSet::new(),
            recorded_deletions: BTreeSet::new(),
            asked: BTreeMap::new(),
            passwords: Passwords::new(),
            problems,
            endpoints: BTreeMap::new(),
            memory: Memory::default(),
            seq: AtomicU64::new(0),
            passes: 0,
            snapshot,
            connections: watch::Sender::default(),
        }
    }

    /// What is wanted, whole; and what a source could not read, a line each. What is or may be declared is not to be deleted any more.
    pub fn declare(&mut self, intents: BTreeMap<ResourceKey, Intent>, problems: Vec<String>) {
        self.intents = intents;
        self.sources = Sources::Read;
        self.problems.tell(problems);
        let mut asked = std::mem::take(&mut self.deletions);
        asked.retain(|key| self.stays(key).is_none());
        self.deletions = asked;
    }

    /// Sets whose end is recorded where they were declared: whole, in place of what was recorded before.
    pub fn end_for_good(&mut self, recorded: BTreeSet<ResourceKey>) {
        self.recorded_deletions = recorded;
    }

    /// The passwords that declared users name, whole: one that is not there has not been read yet.
    pub fn learn_passwords(&mut self, passwords: Passwords) {
        self.passwords = passwords;
    }

    /// How applications connect, by the latest pass that looked. Not for whoever reads the snapshots: it has passwords.
    pub fn connections(&self) -> watch::Receiver<Arc<BTreeMap<ResourceKey, Connections>>> {
        self.connections.subscribe()
    }

    /// The latest report, and every one after it.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// For whoever reads manifests while a pass takes long.
    pub fn problems(&self) -> Problems {
        self.problems.clone()
    }

    /// To be kept by the run loop while a pass takes long.
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }

    /// Observe, plan, act, report: once.
    pub async fn pass(&mut self) -> PassOutcome {
        self.passes += 1;
        let kept = self.lease.keep(&*self.cloud, &*self.clock, &*self.entropy).await;
        let fence = match &kept {
            Ok(Holding::Us { fence, .. }) => *fence,
            Ok(holding) => return self.stand_by(holding.clone(), None),
            // A lease that was granted before lasts on; the gate knows until when.
            Err(error) => match self.lease.holding() {
                Holding::Us { fence, .. } => fence,
                holding => return self.stand_by(holding, Some(error.to_string())),
            },
        };
        if self.memory.fence != Some(fence) {
            // Another held the lock in between, and wrote: nothing that was read before is known any more.
            // What it did with our requests is not known either: they count as possibly sent.
            self.forget_records();
            self.memory.sends = Sends::default();
            if !self.config.binaries.is_empty() {
                let waiting = vec!["BinaryUploading: the agents' binaries go to the bucket first".to_owned()];
                let lock = Lock { holder: self.config.holder.clone(), fence, ours: true, error: None };
                self.not_looked(lock, waiting);
                let permit = || self.lease.permits(fence, self.clock.monotonic(), self.config.deadline);
                for binary in &self.config.binaries {
                    if let Err(error) = binary.publish(&*self.cloud, &self.keys, permit).await {
                        return self.stand_by(self.lease.holding(), Some(error.to_string()));
                    }
                }
            }
            self.memory.fence = Some(fence);
        }
        let observed = self.observe(fence).await;
        let taken = observed.agents.values().filter_map(|agent| agent.live()?.accepted.as_ref());
        if let Some(theirs) = outranked_by(taken, fence, self.seq.load(Ordering::Relaxed)) {
            self.lease.doubt(theirs);
            let error = format!(
                "agents have taken orders under fencing number {theirs} from another operator, and this one has {fence}: the lock is read again, and raised where nobody else holds it"
            );
            return self.stand_by(Holding::Unknown, Some(error));
        }
        let plan = (self.config.plan)(&observed);
        let (done, failed) = self.act(&plan, fence).await;
        self.deletions_made_durable();
        let lock = Lock {
            holder: self.config.holder.clone(),
            fence,
            ours: true,
            error: kept.err().map(|error| error.to_string()),
        };
        self.publish(&observed, &plan, &failed, lock);
        PassOutcome { holding: self.lease.holding(), plan: Some(plan), done, failed }
    }

    /// Observes and plans without the lock and without any effect: what `drover plan` prints.
    pub async fn look(&mut self) -> (Observed, Plan, Arc<Snapshot>) {
        self.forget_records();
        let observed = self.observe(0).await;
        let plan = (self.config.plan)(&observed);
        let lock = Lock { holder: String::new(), fence: 0, ours: false, error: None };
        self.publish(&observed, &plan, &[], lock);
        let snapshot = self.snapshot.borrow().clone();
        (observed, plan, snapshot)
    }

    /// Gives the lock up: the last thing a graceful end does.
    pub async fn release(&self) -> Result<(), crate::lock::LockError> {
        self.lease.release(&*self.cloud, &*self.clock, &*self.entropy).await
    }

    async fn act(&mut self, plan: &Plan, fence: u64) -> (BTreeMap<&'static str, usize>, Vec<Failed>) {
        let began = self.clock.monotonic();
        let hands = Hands {
            cloud: &*self.cloud,
            agents: &*self.agents,
            clock: &*self.clock,
            entropy: &*self.entropy,
            lease: &self.lease,
            fence,
            deadline: self.config.deadline,
            keys: &self.keys,
            endpoints: &self.endpoints,
            seq: &self.seq,
        };
        let sets = &self.memory.sets;
        let backoff = &self.memory.backoff;
        let due = plan.actions.iter().filter_map(|(key, actions)| {
            let set = sets.get(key)?.as_ref().ok()?;
            let is_due = |planned: &&Planned| backoff.is_due(&(key.clone(), planned.slot), began);
            let actions: Vec<Planned> = actions.iter().filter(is_due).cloned().collect();
            (!actions.is_empty()).then(|| (key.clone(), set.clone(), actions))
        });
        let done: Vec<Done> = stream::iter(due.collect::<Vec<_>>())
            .map(|(key, set, actions)| hands.perform(key, set, actions))
            .buffer_unordered(SETS_MAX)
            .collect()
            .await;
        let mut counts = BTreeMap::new();
        let mut failures = Vec::new();
        for done in done {
            for planned in &done.done {
                *counts.entry(planned.action.kind()).or_default() += 1;
            }
            failures.extend(self.learn(done));
        }
        (counts, failures)
    }

    /// Takes in what one set's actions taught. All of it happened after the plan was made.
    fn learn(&mut self, done: Done) -> Vec<Failed> {
        let at = self.clock.monotonic();
        let now = self.clock.now();
        let memory = &mut self.memory;
        let got_on = done.got_on();
        for learned in done.learned {
            memory.learn(learned, at, now);
        }
        for slot in got_on {
            memory.backoff.succeeded(&(done.key.clone(), slot));
        }
        if done.failed.iter().any(|(_, error)| error.is_conflict()) {
            memory.sets.remove(&done.key);
        } else {
            memory.sets.insert(done.key.clone(), Ok(done.set));
        }
        let fail = |(planned, error): (Planned, ActError)| {
            let whose = (done.key.clone(), planned.slot);
            if !matches!(error, ActError::LeaseEnds) {
                memory.backoff.failed(&whose, at);
            }
            let again_ms = memory.backoff.wait(&whose, at).as_millis();
            tracing::warn!(set = %done.key, action = planned.action.kind(), %error, again_ms, "failed");
            Failed { set: done.key.clone(), action: planned.action.kind().to_owned(), error: error.to_string() }
        };
        done.failed.into_iter().map(fail).collect()
    }

    fn stand_by(&mut self, holding: Holding, error: Option<String>) -> PassOutcome {
        // Whoever asked is told to ask again: it must not happen unasked when the lock comes back.
        self.deletions.clear();
        let (holder, fence) = match &holding {
            Holding::Other { holder, fence } => (holder.clone(), *fence),
            Holding::Us { .. } | Holding::Unknown => (String::new(), 0),
        };
        let lock = Lock { holder, fence, ours: false, error };
        report::log_lock(&self.snapshot.borrow().lock, &lock);
        self.not_looked(lock, Vec::new());
        PassOutcome { holding, plan: None, done: BTreeMap::new(), failed: Vec::new() }
    }

    /// Says who acts, and that nothing was looked at.
    fn not_looked(&self, lock: Lock, waiting: Vec<String>) {
        self.snapshot.send_replace(Arc::new(Snapshot {
            lock,
            waiting,
            at: self.clock.now(),
            passes: self.passes,
            problems: self.problems.lines(),
            sources_read: self.sources == Sources::Read,
            ..Snapshot::empty(self.config.realm.clone())
        }));
    }

    fn publish(&mut self, observed: &Observed, plan: &Plan, failed: &[Failed], lock: Lock) {
        let mut snapshot = report::snapshot(observed, plan, failed);
        snapshot.lock = lock;
        snapshot.passes = self.passes;
        snapshot.problems = self.problems.lines();
        report::log_transitions(&self.snapshot.borrow(), &snapshot);
        self.snapshot.send_replace(Arc::new(snapshot));
        let connections = connections::of(observed, &self.memory.sets);
        self.connections.send_if_modified(|known| {
            let is_news = **known != connections;
            if is_news {
                *known = Arc::new(connections);
            }
            is_news
        });
    }

    fn forget_records(&mut self) {
        self.memory.sets.clear();
        self.memory.bucket = Bucket::default();
    }
}

// === impl Problems ===

impl Problems {
    /// What cannot be read from now on, in place of what could not before.
    pub fn tell(&self, lines: Vec<String>) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = lines.clone();
        self.snapshot.send_if_modified(|snapshot| {
            let has_changed = snapshot.problems != lines;
            if has_changed {
                let told = Arc::new(Snapshot { problems: lines, ..(**snapshot).clone() });
                report::log_transitions(snapshot, &told);
                *snapshot = told;
            }
            has_changed
        });
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<C, A> std::fmt::Debug for Operator<C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({}, pass {})", self.config.realm, self.passes)
    }
}
