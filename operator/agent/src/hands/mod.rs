//! Hands: each effect of the state machine, performed. Nothing here decides; what went wrong goes back as an event.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use drover_api::{Epoch, Millis, Slot, VoterId, bucket::ObjectKey, problems::Reason, records::Register};
use drover_cloud::Objects;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::{
    edge,
    state::{Event, Failure, Minted, Mounted, Outcome, Task},
};

mod clients;
pub mod command;
mod mycnf;
pub mod mysqld;
mod observe;
pub mod paths;
mod seed;
mod sql;
pub mod volume;

use mysqld::{MysqldError, Watched};
use paths::{Paths, SOCKET};
use sql::{Logged, Session, SqlError};

/// From several connections, each with a row of its own: a lost acknowledgement holds one up only until another writes.
const HEARTBEAT_LANES: usize = 3;
/// Beats beside the lanes that may wait at once; each is for an acknowledger that connected while everything waited.
const NUDGES: usize = 8;
const REGISTER: Duration = Duration::from_secs(5);
const OBSERVATION: Duration = Duration::from_secs(8);
const LISTENS_AGAIN: Duration = Duration::from_millis(50);

/// Shared by everything that runs beside the loop.
#[derive(Debug)]
pub struct Hands<O> {
    pub paths: Paths,
    pub slot: Slot,
    pub register: ObjectKey,
    pub objects: Arc<O>,
    pub events: mpsc::Sender<Event>,
    watched: Mutex<Option<Watched>>,
    lanes: [Arc<Mutex<Lane>>; HEARTBEAT_LANES],
    nudges: Arc<Semaphore>,
}

/// A heartbeat's connection, kept while its mysqld lives.
#[derive(Debug, Default)]
struct Lane(Option<(String, Session)>);

#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Volume(#[from] volume::VolumeError),
    #[error(transparent)]
    Mysqld(#[from] MysqldError),
    #[error(transparent)]
    Seed(#[from] seed::SeedError),
    #[error("the register could not be read: {0}")]
    Register(String),
}

impl<O: Objects + 'static> Hands<O> {
    pub fn new(paths: Paths, slot: Slot, register: ObjectKey, objects: Arc<O>, events: mpsc::Sender<Event>) -> Self {
        let (watched, nudges) = (Mutex::default(), Arc::new(Semaphore::new(NUDGES)));
        Self { paths, slot, register, objects, events, watched, lanes: Default::default(), nudges }
    }

    /// Performs one task and tells how it ended.
    pub async fn perform(self: Arc<Self>, task: Task) {
        let reason = reason(&task);
        let event = match self.attempt(task).await {
            Ok(outcome) => Event::Done(outcome),
            Err(error) => {
                tracing::warn!(%reason, %error, "failed");
                Event::Failed(Failure { reason, message: error.to_string() })
            }
        };
        self.tell(event).await;
    }

    pub async fn observe(self: Arc<Self>, ticket: u64) {
        let start = self.watched.lock().await.as_ref().map(|watched| watched.up.start.clone()).unwrap_or_default();
        let look = async {
            // A server that begins announces nothing when it listens.
            while !sql::listens(SOCKET) {
                edge::pause(LISTENS_AGAIN).await;
            }
            observe::observe(SOCKET, &start).await.map(Box::new).map_err(|error| error.to_string())
        };
        let result =
            tokio::time::timeout(OBSERVATION, look).await.unwrap_or_else(|_| Err("mysqld does not answer".into()));
        self.tell(Event::Observed { ticket, result }).await;
    }

    pub async fn write_marker(self: Arc<Self>, start: String, epoch: Epoch, n: u64) {
        let statement = format!(
            "INSERT INTO drover.marker (epoch, n, at) VALUES ({epoch}, {n}, NOW(6)) ON DUPLICATE KEY UPDATE at = NOW(6)"
        );
        let written = async { Session::open(SOCKET, Logged::Yes).await?.run_waiting(&statement).await };
        let event = match written.await {
            Ok(()) => Event::MarkerAcknowledged { start, epoch, n },
            Err(error) => Event::MarkerFailed { start, message: error.to_string() },
        };
        self.tell(event).await;
    }

    /// Writes a heartbeat from the first connection, beginning with `first`, that is not waiting itself.
    pub async fn write_heartbeat(self: Arc<Self>, start: String, epoch: Epoch, at: Millis, first: usize) {
        let free = (0..HEARTBEAT_LANES).map(|n| (first + n) % HEARTBEAT_LANES);
        for number in free {
            let Ok(mut lane) = self.lanes[number].clone().try_lock_owned() else { continue };
            // A beat that fails is no event: the next is due in a second, and its absence is what is looked at.
            if let Err(error) = lane.beat(&start, number, epoch, at).await {
                tracing::debug!(%error, "heartbeat");
                lane.0 = None;
                return;
            }
            drop(lane);
            return self.tell(Event::HeartbeatAcknowledged { start, at }).await;
        }
    }

    /// Writes a heartbeat from a connection of its own, in a row that hardly any wait holds: an agent that was killed leaves waits behind
    /// that hold the lanes' rows.
    pub async fn write_nudge(self: Arc<Self>, start: String, epoch: Epoch, at: Millis) {
        let Ok(_one) = self.nudges.clone().try_acquire_owned() else { return };
        let [random, ..] = edge::random_bytes();
        let row = HEARTBEAT_LANES + usize::from(random) % (usize::from(u8::MAX) - HEARTBEAT_LANES);
        match Lane::default().beat(&start, row, epoch, at).await {
            Ok(()) => self.tell(Event::HeartbeatAcknowledged { start, at }).await,
            Err(error) => tracing::debug!(%error, "heartbeat for who connected"),
        }
    }

    async fn attempt(&self, task: Task) -> Result<Outcome, TaskError> {
        let paths = &self.paths;
        match task {
            Task::LookAround => {
                mysqld::install_unit(paths).await?;
                let server = self.watch(mysqld::adopt().await?).await;
                let (hint, mounted) = volume::look_around(paths, minted()).await?;
                Ok(Outcome::Around { server, mounted: mounted.map(Box::new), hint })
            }
            Task::LookAtVolume(id) => Ok(Outcome::Volume(volume::look(&id).await?)),
            Task::Format(id) => volume::format(&id).await.map(plain).map_err(Into::into),
            Task::Mount(id) => {
                let mounted: Mounted = volume::mount(paths, &id, minted()).await?;
                Ok(Outcome::Mounted(Box::new(mounted)))
            }
            Task::Unmount => volume::unmount(paths).await.map(plain).map_err(Into::into),
            Task::Flush => volume::flush(paths).await.map(plain).map_err(Into::into),
            Task::Initialise { mysql, server_uuid, admin } => {
                seed::initialise(paths, &mysql, &server_uuid, &admin).await.map(plain).map_err(Into::into)
            }
            Task::Seed { mysql, donor, credential, server_uuid } => {
                seed::seed(paths, &mysql, &donor, &credential, &server_uuid).await.map(plain).map_err(Into::into)
            }
            Task::Start(mysql) => {
                let watched = mysqld::start(paths, self.slot, &mysql).await?;
                let up = self.watch(Some(watched)).await;
                up.map(Outcome::Started).ok_or(TaskError::Mysqld(MysqldError::NotWatched))
            }
            Task::Terminate => {
                let watched = self.watched.lock().await.clone();
                watched.ok_or(MysqldError::NotWatched)?.terminate().map(plain).map_err(Into::into)
            }
            Task::ReadRegister => self.read_register().await,
            task => self.attempt_sql(task).await.map_err(Into::into),
        }
    }

    async fn attempt_sql(&self, task: Task) -> Result<Outcome, SqlError> {
        let logged = match task {
            Task::Admin(_) | Task::Databases(_) | Task::DropDatabase(_) | Task::User(_) => Logged::Yes,
            _ => Logged::No,
        };
        let session = &mut Session::open(SOCKET, logged).await?;
        match task {
            Task::Close => return sql::close(session).await.map(|returned| Outcome::Closed { returned }),
            Task::Databases(ordered) => {
                return clients::make_databases(session, &ordered).await;
            }
            Task::DropDatabase(name) => {
                return Ok(clients::drop_database(session, &name).await.map_or_else(Outcome::Kept, plain));
            }
            Task::User(step) => {
                return Ok(clients::step(session, &step).await.map_or_else(Outcome::User, plain));
            }
            Task::Seal => sql::seal(session).await,
            Task::Accounts { accounts, clone, sealed } => sql::accounts(session, &accounts, &clone, sealed).await,
            Task::SemiSync { k } => sql::semi_sync(session, k).await,
            Task::Unseal => sql::unseal(session).await,
            Task::Admit | Task::Expose => sql::let_in(session).await,
            Task::Admin(credential) => sql::admin(session, &credential).await,
            Task::Discard => sql::discard(session).await,
            Task::Follow { source, credential, fresh } => {
                sql::follow(session, &self.paths, &source, &credential, fresh).await
            }
            Task::Acknowledge(on) => sql::acknowledge(session, on).await,
            Task::Apply => sql::apply(session).await,
            Task::Resume => sql::resume(session).await,
            other => Err(SqlError::Contradiction(format!("{other:?} is not done by SQL"))),
        }
        .map(plain)
    }

    async fn read_register(&self) -> Result<Outcome, TaskError> {
        let read = tokio::time::timeout(REGISTER, self.objects.get(&self.register)).await;
        let object = read
            .map_err(|_| TaskError::Register(format!("no answer within {} s", REGISTER.as_secs())))?
            .map_err(|error| TaskError::Register(error.to_string()))?;
        let Some(object) = object else { return Ok(Outcome::Register(None)) };
        let register: Register =
            serde_json::from_slice(&object.body).map_err(|error| TaskError::Register(error.to_string()))?;
        Ok(Outcome::Register(Some(Box::new(register))))
    }

    /// From now on its end is told.
    async fn watch(&self, watched: Option<Watched>) -> Option<crate::state::Up> {
        let found = watched.clone();
        *self.watched.lock().await = watched;
        let found = found?;
        let (up, events) = (found.up.clone(), self.events.clone());
        tokio::spawn(async move {
            let how = found.ended().await;
            let start = found.up.start;
            if events.send(Event::Ended { start, how }).await.is_err() {
                tracing::debug!("mysqld ended after the agent's loop did");
            }
        });
        Some(up)
    }

    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the loop has ended; what happened since is found by the next agent");
        }
    }
}

impl Lane {
    async fn beat(&mut self, start: &str, number: usize, epoch: Epoch, at: Millis) -> Result<(), SqlError> {
        if self.0.as_ref().is_none_or(|(of, _)| of != start) {
            self.0 = Some((start.to_owned(), Session::open(SOCKET, Logged::Yes).await?));
        }
        let statement = format!(
            "INSERT INTO drover.heartbeat (lane, epoch, at_ms) VALUES ({number}, {epoch}, {}) AS new \
             ON DUPLICATE KEY UPDATE epoch = new.epoch, at_ms = new.at_ms",
            at.0
        );
        match &mut self.0 {
            Some((_, session)) => session.run_waiting(&statement).await,
            None => Ok(()),
        }
    }
}

fn plain((): ()) -> Outcome {
    Outcome::Plain
}

fn minted() -> Minted {
    let hex = hex::encode(edge::random_bytes());
    let voter_id = VoterId::new(&hex[..16]).expect("16 hex digits are a voter id");
    let hex = hex::encode(edge::random_bytes());
    // Version 4, as mysqld accepts any UUID.
    let server_uuid = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    // 40 bits: two copies of a volume hardly ever draw the same, and a life that was raised often still fits into a number of
    // JSON that every reader takes (53 bits).
    let [a, b, c, d, e, ..] = edge::random_bytes();
    let life_step = NonZeroU64::new(u64::from_be_bytes([0, 0, 0, a, b, c, d, e])).unwrap_or(NonZeroU64::MIN);
    Minted { voter_id, server_uuid, life_step }
}

/// How a failure of this task is called in the report.
fn reason(task: &Task) -> Reason {
    match task {
        Task::LookAround => Reason::LookAroundFailed,
        Task::LookAtVolume(_) | Task::Format(_) | Task::Mount(_) | Task::Unmount | Task::Flush => Reason::VolumeFailed,
        Task::Initialise { .. } => Reason::InitialiseFailed,
        Task::Seed { .. } => Reason::SeedFailed,
        Task::Start(_) => Reason::StartFailed,
        Task::Close | Task::Seal | Task::Terminate => Reason::CloseFailed,
        Task::Accounts { .. } | Task::Admin(_) => Reason::AccountsFailed,
        Task::Databases(_) | Task::DropDatabase(_) => Reason::DatabaseFailed,
        Task::User(_) => Reason::UserFailed,
        Task::SemiSync { .. } | Task::Acknowledge(_) => Reason::SemiSyncFailed,
        Task::ReadRegister => Reason::RegisterUnreadable,
        Task::Unseal | Task::Admit | Task::Expose => Reason::OpenFailed,
        Task::Discard | Task::Apply | Task::Follow { .. } | Task::Resume => Reason::ReplicationFailed,
    }
}
