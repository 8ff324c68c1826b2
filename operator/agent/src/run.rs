//! The loop: events in, one step at a time, effects out. Whatever takes time runs beside it and comes back as an event.

use std::{collections::BTreeMap, ffi::OsString, io, sync::Arc, time::Duration};

use drover_api::{
    BuildId, Millis, Realm,
    bucket::RealmKeys,
    records::Bundle,
    tags::Identity,
    wire::{BuildOrder, BuildReport, OrdersReply},
};
use drover_cloud::Objects;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use crate::{
    durable::{self, Durable, DurableError},
    edge,
    hands::{
        Hands,
        command::finish,
        mysqld::{self, MysqldError},
        paths::Paths,
        volume,
    },
    identity::{self, IdentityError},
    serve::{self, Asked, ServeError, Told},
    state::{Effect, Event, Me, State},
    update::{self, Trial, UpdateError},
};

/// What the command line says; everything else the machine learns.
#[derive(Clone, Debug)]
pub struct Config {
    pub realm: Realm,
    /// The operator's part of the bucket: empty, or ending with `/`.
    pub prefix: String,
    /// [`identity::IMDS`], or a stand-in.
    pub imds: String,
    pub paths: Paths,
    /// The arguments of this process, without its name: a new build is started with the same.
    pub arguments: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Mysqld(#[from] MysqldError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("the agent's directory could not be made: {0}")]
    Home(#[source] io::Error),
    #[error("signals could not be heard: {0}")]
    Signals(#[source] io::Error),
    #[error("the new build could not be started: {0}")]
    Become(#[source] io::Error),
}

const TICK: Duration = Duration::from_secs(1);
/// The record is small; a disk that takes longer has stalled.
const PERSIST: Duration = Duration::from_secs(10);
const PERSIST_AGAIN: Duration = Duration::from_secs(1);
const SYSTEMCTL: Duration = Duration::from_secs(3);
const SYSTEMCTL_TRIES: u32 = 5;
const SYSTEMCTL_AGAIN: Duration = Duration::from_millis(500);
/// What systemctl(1) answers where it knows.
const SYSTEM_STATES: [&str; 6] = ["initializing", "starting", "running", "degraded", "maintenance", "stopping"];
/// One task, two observations, a marker, three heartbeats, one end of mysqld, and room for what was late.
const EVENTS_MAX: usize = 64;
/// Orders and builds under way; one operator sends one at a time.
const ASKED_MAX: usize = 8;

/// Runs until the unit is stopped or the host goes down.
pub async fn run<O: Objects + 'static>(config: Config, objects: O) -> Result<(), AgentError> {
    // Two crates here could bring a provider; the first to say so wins, and it is always this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    // Heard from here on: a host may go down while a build that was just taken still looks around.
    let mut ends = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut goes_down = false;
    let build = update::running_build()?;
    let Some(trial) = update::begin_trial(&config.paths.bin, &build)? else {
        return match come_up(begin(config, objects, build, None), &mut ends, &mut goes_down).await? {
            Some(agent) => agent.turn(ends, goes_down).await,
            None => Ok(()),
        };
    };
    let (bin, arguments) = (config.paths.bin.clone(), config.arguments.clone());
    let until = edge::now().plus(update::TRIAL);
    let begins = begin(config, objects, build, Some((trial, until)));
    match tokio::time::timeout(update::TRIAL, come_up(begins, &mut ends, &mut goes_down)).await {
        Ok(Ok(Some(agent))) => agent.turn(ends, goes_down).await,
        Ok(Ok(None)) => Ok(()),
        // The build before would not be told of it.
        _ if goes_down => Ok(()),
        failed => {
            tracing::error!(failed = ?failed.map(|begun| begun.err()), "this build does not come up and is sent back");
            update::send_back(&bin)?;
            Err(AgentError::Become(update::become_current(&bin, &arguments)))
        }
    }
}

/// Begins. A signal that comes meanwhile ends it, or says that the host goes down: the first thing that the agent is told then.
async fn come_up<O>(
    begins: impl Future<Output = Result<Agent<O>, AgentError>>,
    ends: &mut Signal,
    goes_down: &mut bool,
) -> Result<Option<Agent<O>>, AgentError> {
    let mut begins = std::pin::pin!(begins);
    loop {
        tokio::select! {
            agent = &mut begins => return agent.map(Some),
            _ = ends.recv() => match host_goes_down().await {
                true => *goes_down = true,
                false => return Ok(None),
            },
        }
    }
}

/// A build, and how fetching it ended.
type Fetched = (BuildId, Result<(), UpdateError>);

struct Agent<O> {
    config: Config,
    keys: RealmKeys,
    state: State,
    hands: Arc<Hands<O>>,
    events: mpsc::Receiver<Event>,
    asked: mpsc::Receiver<Asked>,
    told: watch::Sender<Arc<Told>>,
    /// What came of the one build that is being fetched.
    built: (mpsc::Sender<Fetched>, mpsc::Receiver<Fetched>),
    /// A write of the record that the disk has not finished in time.
    writing: Option<JoinHandle<Result<(), DurableError>>>,
    replies: BTreeMap<u64, oneshot::Sender<Result<OrdersReply, String>>>,
    next_reply: u64,
    beats: usize,
    /// What this build has to show, and until when.
    trial: Option<(Trial, Millis)>,
}

/// Finds out who this machine is, and listens.
async fn begin<O: Objects + 'static>(
    config: Config,
    objects: O,
    build: BuildId,
    trial: Option<(Trial, Millis)>,
) -> Result<Agent<O>, AgentError> {
    let started = edge::wall();
    make_home(&config.paths).map_err(AgentError::Home)?;
    let identity = identity::identify(&config.imds, &config.realm).await?;
    tracing::info!(set = %identity.key, slot = %identity.slot, %build, "this machine is known");
    let keys = RealmKeys::new(&config.prefix, &config.realm);
    let bundle = bundle(&config.paths, &objects, &keys, &identity).await?;
    mysqld::write_certificates(&config.paths, &bundle)?;
    let me = Me {
        incarnation: identity.incarnation.clone(),
        slot: identity.slot,
        build,
        started,
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(AgentError::Home)?
            .trim()
            .to_owned(),
        installed: mysqld::installed_version().await?,
    };
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let (asking, asked) = mpsc::channel(ASKED_MAX);
    let register = keys.set(&identity.key).of(&identity.incarnation).register();
    let hands = Arc::new(Hands::new(config.paths.clone(), me.slot, register, Arc::new(objects), sender));
    let mut state = State::new(me);
    state.wall_is(edge::now(), edge::wall());
    state.storage(edge::now(), None);
    if let Some(build) = update::sent_back(&config.paths.bin) {
        state.build_is(edge::now(), BuildReport::SentBack { build });
    }
    let (told, listeners) = watch::channel(Arc::new(tell(&state)));
    serve::serve(&bundle, listeners, asking).await?;
    let (replies, built, writing) = (BTreeMap::new(), mpsc::channel(1), None);
    Ok(Agent {
        config,
        keys,
        state,
        hands,
        events,
        asked,
        told,
        built,
        writing,
        replies,
        next_reply: 0,
        beats: 0,
        trial,
    })
}

fn make_home(paths: &Paths) -> io::Result<()> {
    // mysqld passes through to its own files; everything of ours is closed by its own mode.
    for directory in [&paths.home, &paths.mysqld()] {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    }
    Ok(())
}

/// The bundle never changes in a machine's life, so one that was read before serves when the bucket cannot be reached.
async fn bundle<O: Objects>(
    paths: &Paths,
    objects: &O,
    keys: &RealmKeys,
    identity: &Identity,
) -> Result<Bundle, AgentError> {
    let name = format!("bundle-{}-{}.json", identity.incarnation, identity.slot);
    if let Ok(text) = std::fs::read(paths.home.join(&name))
        && let Ok(bundle) = serde_json::from_slice(&text)
    {
        return Ok(bundle);
    }
    let bundle = identity::bundle(objects, keys, identity).await;
    let json = serde_json::to_vec(&bundle).map_err(|error| AgentError::Home(error.into()))?;
    durable::write_file(&paths.home, &name, &json, 0o600).map_err(AgentError::Home)?;
    Ok(bundle)
}

impl<O: Objects + 'static> Agent<O> {
    async fn turn(mut self, mut ends: Signal, goes_down: bool) -> Result<(), AgentError> {
        if goes_down && self.deliver(Event::HostShutdown).await {
            return Ok(());
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                // The signal first: a build that was fetched would not be told of it.
                biased;
                _ = ends.recv() => if host_goes_down().await { Event::HostShutdown } else { Event::Stop },
                Some(event) = self.events.recv() => event,
                Some((build, fetched)) = self.built.1.recv() => match fetched {
                    Ok(()) => match self.state.stays() {
                        // It may have begun since the build was ordered; whoever did orders it again.
                        Some(why) => {
                            self.build_is(BuildReport::Failed { build, why: why.to_owned() });
                            continue;
                        }
                        None => return self.become_build(&build),
                    },
                    Err(error) => {
                        self.build_failed(build, &error);
                        continue;
                    }
                },
                Some(asked) = self.asked.recv() => match self.take(asked) {
                    Some(event) => event,
                    None => continue,
                },
                _ = tick.tick() => {
                    self.state.wall_is(edge::now(), edge::wall());
                    Event::Tick
                }
            };
            if self.deliver(event).await {
                return Ok(());
            }
            self.judge_trial()?;
        }
    }

    fn take(&mut self, asked: Asked) -> Option<Event> {
        match asked {
            Asked::Orders(orders, reply) => {
                self.next_reply += 1;
                self.replies.insert(self.next_reply, reply);
                Some(Event::Orders { to: self.next_reply, orders })
            }
            Asked::Fence(fence, reply) => {
                self.next_reply += 1;
                self.replies.insert(self.next_reply, reply);
                Some(Event::Fence { to: self.next_reply, fence })
            }
            Asked::Build(order, reply) => {
                self.fetch_build(order, reply);
                None
            }
        }
    }

    /// One step and its effects. Answers whether the agent is to end.
    async fn deliver(&mut self, event: Event) -> bool {
        loop {
            let now = edge::now();
            let mut next = self.state.clone();
            let mut effects = next.step(now, event.clone());
            let record = match effects.first() {
                Some(Effect::Persist(_)) => effects.remove(0),
                _ => Effect::Exit,
            };
            let Effect::Persist(record) = record else {
                self.state = next;
                return self.perform(effects);
            };
            match self.persist(*record).await {
                Ok(()) => {
                    next.storage(now, None);
                    self.state = next;
                    return self.perform(effects);
                }
                Err(trouble) => {
                    tracing::error!(%trouble, "the record could not be written");
                    self.state.storage(now, Some(trouble.clone()));
                    self.publish();
                    if let Event::Orders { to, .. } | Event::Fence { to, .. } = &event {
                        self.answer(*to, Err(trouble));
                        return false;
                    }
                }
            }
            // What happened cannot be taken back; it is noted when the disk takes it.
            edge::pause(PERSIST_AGAIN).await;
        }
    }

    async fn persist(&mut self, record: Durable) -> Result<(), String> {
        let late = || format!("the volume took longer than {} s", PERSIST.as_secs());
        // One write at a time: two would share a temporary file, and the older could come out on top.
        if let Some(before) = &mut self.writing {
            let ended = tokio::time::timeout(PERSIST, before).await.map_err(|_| late())?;
            tracing::info!(?ended, "the volume has finished a write that was given up");
            self.writing = None;
        }
        let paths = self.config.paths.clone();
        let mut write = tokio::task::spawn_blocking(move || {
            durable::write(&paths.volume(), &record)?;
            if let Err(error) = volume::remember(&paths, &record.boot_id) {
                tracing::warn!(%error, "this machine cannot note that it used the volume");
            }
            Ok::<(), DurableError>(())
        });
        match tokio::time::timeout(PERSIST, &mut write).await {
            Ok(Ok(written)) => written.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                self.writing = Some(write);
                Err(late())
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) -> bool {
        self.publish();
        let mut ends = false;
        for effect in effects {
            let hands = self.hands.clone();
            let start = self.state.start().unwrap_or_default().to_owned();
            match effect {
                Effect::Persist(_) => {}
                Effect::Reply { to, reply } => self.answer(to, Ok(reply)),
                Effect::Do(task) => {
                    tracing::info!(?task, "begins");
                    tokio::spawn(hands.perform(task));
                }
                Effect::Observe { ticket } => drop(tokio::spawn(hands.observe(ticket))),
                Effect::Marker { epoch, n } => drop(tokio::spawn(hands.write_marker(start, epoch, n))),
                Effect::Heartbeat { epoch } => {
                    self.beats = self.beats.wrapping_add(1);
                    tokio::spawn(hands.write_heartbeat(start, epoch, edge::wall(), self.beats));
                }
                Effect::Nudge { epoch } => drop(tokio::spawn(hands.write_nudge(start, epoch, edge::wall()))),
                Effect::Exit => ends = true,
            }
        }
        ends
    }

    fn answer(&mut self, to: u64, answer: Result<OrdersReply, String>) {
        if let Some(reply) = self.replies.remove(&to)
            && reply.send(answer).is_err()
        {
            tracing::debug!("whoever sent an order did not wait for its answer");
        }
    }

    fn publish(&self) {
        self.told.send_if_modified(|told| {
            let next = tell(&self.state);
            let seq = |told: &Told| told.report.as_ref().map(|report| report.seq).map_err(Clone::clone);
            let news = seq(told) != seq(&next);
            *told = Arc::new(next);
            news
        });
    }

    /// The answer is given at once; what came of it is in the report.
    fn fetch_build(&mut self, order: BuildOrder, reply: oneshot::Sender<Result<(), String>>) {
        let begun = self.state.order_build(edge::now(), &order);
        self.publish();
        if reply.send(begun.clone().map(drop)).is_err() {
            tracing::debug!("whoever ordered a build did not wait for its answer");
        }
        if begun != Ok(true) {
            return;
        }
        let (objects, keys, bin) = (self.hands.objects.clone(), self.keys.clone(), self.config.paths.bin.clone());
        let built = self.built.0.clone();
        tokio::spawn(async move {
            let fetched = update::fetch(&bin, &*objects, &keys, &order.build).await;
            if built.send((order.build, fetched)).await.is_err() {
                tracing::debug!("a build was fetched after the agent's loop ended");
            }
        });
    }

    fn build_failed(&mut self, build: BuildId, error: &UpdateError) {
        tracing::warn!(%build, %error, "another build could not be taken");
        let report = match error {
            UpdateError::SentBack(_) => BuildReport::SentBack { build },
            error => BuildReport::Failed { build, why: error.to_string() },
        };
        self.build_is(report);
    }

    fn build_is(&mut self, report: BuildReport) {
        self.state.build_is(edge::now(), report);
        self.publish();
    }

    fn become_build(&self, build: &BuildId) -> Result<(), AgentError> {
        let bin = &self.config.paths.bin;
        tracing::info!(%build, "becomes another build");
        update::switch(bin, build, self.state.recorded_start())?;
        Err(AgentError::Become(update::become_current(bin, &self.config.arguments)))
    }

    fn judge_trial(&mut self) -> Result<(), AgentError> {
        let Some((trial, until)) = &self.trial else { return Ok(()) };
        let bin = &self.config.paths.bin;
        if self.state.is_settled(trial.mysqld.as_deref()) {
            self.trial = None;
            update::end_trial(bin)?;
        } else if edge::now() > *until && self.state.stays().is_none() {
            tracing::error!("this build did not find mysqld again and is sent back");
            update::send_back(bin)?;
            return Err(AgentError::Become(update::become_current(bin, &self.config.arguments)));
        }
        Ok(())
    }
}

fn tell(state: &State) -> Told {
    Told { report: state.report().cloned(), fence: state.fence(), health: state.health(edge::now()) }
}

/// systemd says so while it shuts the host down (systemctl(1), "is-system-running"); a stop of the unit alone leaves mysqld.
///
/// A host that goes down is busy, and what is taken for a stop of the unit leaves mysqld to SIGKILL: it is asked more than once.
async fn host_goes_down() -> bool {
    for _ in 0..SYSTEMCTL_TRIES {
        match finish("systemctl", &["is-system-running"], SYSTEMCTL).await {
            Ok(said) if SYSTEM_STATES.contains(&said.stdout.trim()) => return said.stdout.trim() == "stopping",
            Ok(said) => tracing::warn!(?said, "systemd does not say why this unit stops"),
            Err(error) => tracing::warn!(%error, "systemd does not say why this unit stops"),
        }
        edge::pause(SYSTEMCTL_AGAIN).await;
    }
    tracing::warn!("mysqld is left as it is");
    false
}
