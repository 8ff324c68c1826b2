//! Which of several replicas in one cluster acts: by a Lease, so that the others need not look at the cloud. It is a
//! convenience: what keeps two operators apart is the realm's lock in the bucket, and a leader that cannot reach the API server
//! goes on acting by what it heard last, for sets need their operator most when things are down.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::hands::MANAGER;
use crate::Clock;

/// What an election is about.
#[derive(Clone, Debug)]
pub struct Ballot {
    pub namespace: String,
    /// The Lease's name: replicas of one installation share it.
    pub name: String,
    /// This process; no other may have it.
    pub identity: String,
    /// Whoever renews nothing for this long has lost it.
    pub duration: Duration,
}

/// Who leads, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    Unknown { why: String },
    Us,
    Other(String),
}

/// One replica's part in the election.
pub struct Election {
    ballot: Ballot,
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    leader: Mutex<Leader>,
}

/// A version of the Lease and since when it has been the latest, by our own clock: other machines' clocks are not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    version: String,
    since: Duration,
}

/// Renewed, and asked for, this often within its duration: two tries may be lost.
const TRIES_PER_LEASE: u32 = 5;

// === impl Election ===

impl Election {
    pub fn new(client: Client, ballot: Ballot, clock: Arc<dyn Clock>) -> Self {
        let api = Api::namespaced(client, &ballot.namespace);
        let leader = Mutex::new(Leader::Unknown { why: "the Lease was not read yet".to_owned() });
        Self { ballot, api, clock, leader }
    }

    /// The Lease's.
    pub fn name(&self) -> &str {
        &self.ballot.name
    }

    pub fn leader(&self) -> Leader {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Until this replica leads.
    pub async fn win(&self) {
        let mut seen = None;
        loop {
            let leader = self.try_once(&mut seen).await;
            self.note(leader.clone());
            if leader == Leader::Us {
                return;
            }
            pause(self.ballot.duration / TRIES_PER_LEASE).await;
        }
    }

    /// Renews until another leads, and answers who.
    pub async fn keep(&self) -> String {
        let mut seen = None;
        loop {
            pause(self.ballot.duration / TRIES_PER_LEASE).await;
            match self.try_once(&mut seen).await {
                Leader::Us => self.note(Leader::Us),
                Leader::Other(holder) => {
                    self.note(Leader::Other(holder.clone()));
                    return holder;
                }
                Leader::Unknown { why } => tracing::debug!(why, "the Lease is not renewed"),
            }
        }
    }

    /// Lets another replica lead at once.
    pub async fn resign(&self) {
        if self.leader() != Leader::Us {
            return;
        }
        let resigned = async {
            let mut lease = self.api.get(&self.ballot.name).await?;
            if holder(&lease) == Some(self.ballot.identity.as_str()) {
                let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.ballot.name, &params(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(self.ballot.duration / TRIES_PER_LEASE, resigned).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given up: it runs out by itself"),
            Err(_) => tracing::warn!("the Lease could not be given up in time: it runs out by itself"),
        }
    }

    /// Reads the Lease, and takes or renews it where that may be done.
    async fn try_once(&self, seen: &mut Option<Seen>) -> Leader {
        let limit = self.ballot.duration / TRIES_PER_LEASE;
        match tokio::time::timeout(limit, self.look(seen)).await {
            Ok(Ok(leader)) => leader,
            Ok(Err(error)) => Leader::Unknown { why: error.to_string() },
            Err(_) => Leader::Unknown { why: "the API server did not answer in time".to_owned() },
        }
    }

    async fn look(&self, seen: &mut Option<Seen>) -> kube::Result<Leader> {
        let Some(lease) = self.api.get_opt(&self.ballot.name).await? else {
            let fresh = self.claimed(Lease {
                metadata: ObjectMeta { name: Some(self.ballot.name.clone()), ..ObjectMeta::default() },
                ..Lease::default()
            });
            return self.written(self.api.create(&params(), &fresh).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let now = self.clock.monotonic();
        let since = match seen {
            Some(known) if known.version == version => known.since,
            _ => now,
        };
        *seen = Some(Seen { version, since });
        match holder(&lease) {
            Some(other) if other != self.ballot.identity && now.saturating_sub(since) < duration(&lease) => {
                Ok(Leader::Other(other.to_owned()))
            }
            _ => {
                let claimed = self.claimed(lease);
                self.written(self.api.replace(&self.ballot.name, &params(), &claimed).await)
            }
        }
    }

    /// A conflict is another replica that was faster.
    fn written(&self, answer: kube::Result<Lease>) -> kube::Result<Leader> {
        match answer {
            Ok(_) => Ok(Leader::Us),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Leader::Unknown { why: "another replica wrote the Lease meanwhile".to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn claimed(&self, mut lease: Lease) -> Lease {
        let now = i64::try_from(self.clock.now().0).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
        let now = MicroTime(now.unwrap_or(Timestamp::MAX));
        let is_ours = holder(&lease) == Some(self.ballot.identity.as_str());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if !is_ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.ballot.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.ballot.duration.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }

    fn note(&self, leader: Leader) {
        let mut known = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == leader {
            return;
        }
        match &leader {
            Leader::Us => tracing::info!(reason = "Leading", "this replica leads"),
            Leader::Other(holder) => tracing::info!(reason = "StandingBy", holder, "another replica leads"),
            Leader::Unknown { why } => tracing::warn!(reason = "LeaderUnknown", why, "it is not known who leads"),
        }
        *known = leader;
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Election({:?}, {:?})", self.ballot, self.leader())
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The holder's own word on how long it may be silent.
fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

#[expect(clippy::disallowed_methods, reason = "the pace of an election")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
