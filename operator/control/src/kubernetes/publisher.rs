//! Publishes what the passes found: finalizers, status, Services, events. It runs beside them, so that a slow API server slows
//! no decision; what it writes is decided by [`super::desired`] from the latest snapshot and the resources as they are now.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use drover_api::ResourceKey;
use drover_plan::SetReport;
use futures::{StreamExt, stream};

use super::{
    Passes,
    built::Built,
    desired::{self, Services, Word, Write},
    events::{self, Fact, Told},
    hands::{Hands, WriteError},
    perform::{Outcome, companion, name_of, perform},
    readers::Readers,
    resource::Resource,
    secrets::SecretObject,
    status,
    store::Store,
};
use crate::{Clock, Connections, Snapshot, memory::Backoff};

/// One process's publisher.
pub struct Publisher {
    hands: Hands,
    store: Arc<Store>,
    passes: Passes,
    clock: Arc<dyn Clock>,
    /// How long the realm must be another's before every resource says so: a predecessor's lease ends within it.
    patience: Duration,
    held_by_other_since: Option<Duration>,
    told: Told,
    /// When a set was first reported to this process.
    reported: BTreeMap<ResourceKey, Duration>,
    /// Since when a set that was ready is not, for what is mostly over soon.
    hiccups: BTreeMap<ResourceKey, Duration>,
    readers: Readers,
    built: Built,
    /// When a status was written last.
    statuses: BTreeMap<ResourceKey, Duration>,
    /// What Secrets were written, and when: they are not watched.
    secrets: BTreeMap<(ResourceKey, String), (SecretObject, Duration)>,
    /// A deletion is another matter than what failed before it: a resource that is let go waits for nothing.
    backoff: Backoff<(ResourceKey, bool)>,
}

/// Resources that are written at the same time.
const WRITES_MAX: usize = 8;
/// A status in which nothing but words has changed is written at most this often.
const WORDS_EVERY: Duration = Duration::from_secs(10);
/// An agent that can be reached is heard within a second or two of an operator's beginning.
const SETTLING: Duration = Duration::from_secs(15);
/// As long as that a machine that was ready may be silent, or connect anew, and its set's status says nothing of it: what the planner
/// allows a follower before readers are sent elsewhere.
const HICCUP: Duration = Duration::from_secs(10);
/// What waits for its time, or failed, is looked at again this often.
const AGAIN: Duration = Duration::from_secs(1);
/// A Secret that somebody deleted is there again within this time.
const SECRETS_EVERY: Duration = Duration::from_secs(300);

// === impl Publisher ===

impl Publisher {
    pub fn new(hands: Hands, store: Arc<Store>, passes: Passes, clock: Arc<dyn Clock>, lease: Duration) -> Self {
        Self {
            hands,
            store,
            passes,
            clock,
            patience: lease * 2,
            held_by_other_since: None,
            told: Told::default(),
            reported: BTreeMap::new(),
            hiccups: BTreeMap::new(),
            readers: Readers::default(),
            built: Built::default(),
            statuses: BTreeMap::new(),
            secrets: BTreeMap::new(),
            backoff: Backoff::default(),
        }
    }

    /// Publishes until dropped.
    pub async fn run(mut self) {
        loop {
            let is_done = self.publish().await;
            tokio::select! {
                changed = self.passes.snapshots.changed() => if changed.is_err() { return },
                changed = self.passes.connections.changed() => if changed.is_err() { return },
                () = self.store.touched() => {}
                () = pause(AGAIN), if !is_done => {}
            }
        }
    }

    /// Writes everything that is due. Answers whether nothing is left.
    pub(super) async fn publish(&mut self) -> bool {
        let snapshot = Arc::clone(&self.passes.snapshots.borrow_and_update());
        let connections = Arc::clone(&self.passes.connections.borrow_and_update());
        let resources: Vec<Arc<Resource>> = self.store.resources().all().values().cloned().collect();
        self.forget(&resources);
        let at = self.clock.monotonic();
        self.note_holder(&snapshot, at);
        let settled: Vec<Cow<'_, SetReport>> = snapshot.sets.iter().map(|set| self.readers.settled(set, at)).collect();
        let reports: BTreeMap<&ResourceKey, &SetReport> = settled.iter().map(|set| (&set.key, set.as_ref())).collect();
        let mut later = false;
        let mut due = Vec::new();
        for resource in resources {
            if reports.contains_key(&resource.key) {
                self.reported.entry(resource.key.clone()).or_insert(at);
            }
            let word = self.word(&resource, &snapshot, &reports, at);
            let writes = self.writes(&resource, word, connections.get(&resource.key));
            let (now, is_waiting) = self.due(&resource, writes, at);
            later |= is_waiting;
            if !now.is_empty() {
                due.push((resource, now));
            }
        }
        let outcomes: Vec<Outcome> = stream::iter(due)
            .map(|(resource, writes)| perform(&self.hands, &self.store, resource, writes))
            .buffer_unordered(WRITES_MAX)
            .collect()
            .await;
        for outcome in outcomes {
            later |= outcome.failed.is_some();
            self.learn(outcome).await;
        }
        !later
    }

    /// What is to be written. Services that are known to hold what they should are not built again to find that out.
    fn writes(&mut self, resource: &Resource, word: Word<'_>, connections: Option<&Connections>) -> Vec<Write> {
        let now = self.clock.now();
        let (Word::Report(report) | Word::Hiccup(report)) = word else {
            return desired::writes(resource, word, Services::Unsure, connections, now);
        };
        let endpoints = report.endpoints.as_ref();
        let services = self.built.of(resource, endpoints, &self.store.companions());
        let writes = desired::writes(resource, word, services, connections, now);
        if services == Services::Unsure && !resource.deleting {
            self.built.note(resource, endpoints, &writes);
        }
        writes
    }

    /// What the latest pass has to say about a resource.
    fn word<'a>(
        &mut self,
        resource: &Resource,
        snapshot: &'a Snapshot,
        reports: &BTreeMap<&ResourceKey, &'a SetReport>,
        at: Duration,
    ) -> Word<'a> {
        if let Some(since) = self.held_by_other_since {
            return match at.saturating_sub(since) > self.patience {
                true => Word::HeldByOther { holder: &snapshot.lock.holder },
                false => Word::Nothing,
            };
        }
        if snapshot.released.contains(&resource.key) {
            return Word::Ended;
        }
        let began = self.reported.get(&resource.key).copied().unwrap_or(at);
        let is_settling = at.saturating_sub(began) < SETTLING;
        // Without a generation it is the report of a set that was not declared when the pass began.
        let report = reports.get(&resource.key).filter(|report| report.generation > 0 || resource.deleting);
        let report = report.filter(|report| !(is_settling && status::is_premature(resource, report)));
        let Some(report) = report else { return Word::Nothing };
        if !status::is_hiccup(resource, report) {
            self.hiccups.remove(&resource.key);
            return Word::Report(report);
        }
        let since = *self.hiccups.entry(resource.key.clone()).or_insert(at);
        if at.saturating_sub(since) < HICCUP { Word::Hiccup(report) } else { Word::Report(report) }
    }

    fn note_holder(&mut self, snapshot: &Snapshot, at: Duration) {
        let is_others = !snapshot.lock.ours && !snapshot.lock.holder.is_empty();
        self.held_by_other_since = is_others.then(|| self.held_by_other_since.unwrap_or(at));
    }

    /// Those writes that are to be made now, and whether others wait for their time.
    fn due(&self, resource: &Resource, writes: Vec<Write>, at: Duration) -> (Vec<Write>, bool) {
        let companions = self.store.companions();
        let is_written = |write: &Write| {
            if let Write::Secret(secret) = write {
                return self.is_secret_written(resource, secret, at);
            }
            companion(resource, write).is_some_and(|(name, object)| companions.is_written(&name, &resource.uid, object))
        };
        let wanted: Vec<Write> = writes.into_iter().filter(|write| !is_written(write)).collect();
        if !self.backoff.is_due(&matter(resource), at) {
            return (Vec::new(), !wanted.is_empty());
        }
        let count = wanted.len();
        let is_due = |write: &Write| match write {
            Write::Status(status) if !status::is_urgent(&resource.status, status) => {
                self.statuses.get(&resource.key).is_none_or(|last| at.saturating_sub(*last) >= WORDS_EVERY)
            }
            _ => true,
        };
        let now: Vec<Write> = wanted.into_iter().filter(is_due).collect();
        let is_waiting = now.len() < count;
        (now, is_waiting)
    }

    /// A Secret is looked at again now and then, for somebody may have deleted it.
    fn is_secret_written(&self, resource: &Resource, secret: &SecretObject, at: Duration) -> bool {
        let known = self.secrets.get(&(resource.key.clone(), name_of(&secret.0)));
        known.is_some_and(|(written, then)| written == secret && at.saturating_sub(*then) < SECRETS_EVERY)
    }

    async fn learn(&mut self, outcome: Outcome) {
        let at = self.clock.monotonic();
        let Outcome { resource, status, secrets, failed } = outcome;
        for secret in secrets {
            self.secrets.insert((resource.key.clone(), name_of(&secret.0)), (secret, at));
        }
        if let Some(status) = status {
            self.statuses.insert(resource.key.clone(), at);
            for fact in events::facts(&resource.status, &status) {
                self.tell(&resource, &fact).await;
            }
        }
        let matter = matter(&resource);
        let Some(error) = failed else { return self.backoff.succeeded(&matter) };
        self.backoff.failed(&matter, at);
        if let WriteError::Foreign { .. } = &error {
            let fact = Fact { reason: "NameTaken".to_owned(), message: error.to_string(), warning: true };
            self.tell(&resource, &fact).await;
        }
        if error.is_of_other_types() {
            let why = resource.spec.as_ref().as_ref().err().cloned().unwrap_or_else(|| error.to_string());
            let message = format!("delete it and apply it anew, for nothing can be written on it: {why}");
            self.tell(&resource, &Fact { reason: "InvalidSpec".to_owned(), message, warning: true }).await;
        }
        if error.is_over() || error.is_terminating() {
            tracing::debug!(set = %resource.key, %error, "not written: it has changed, or it ends");
        } else {
            let again_ms = self.backoff.wait(&matter, at).as_millis();
            tracing::warn!(set = %resource.key, %error, again_ms, "not written to the API server");
        }
    }

    /// Events come after the status that they tell of; one that cannot be told is lost, and the status says it all the same.
    async fn tell(&mut self, resource: &Resource, fact: &Fact) {
        let at = self.clock.monotonic();
        let telling = self.told.tell(&resource.uid, resource.key.name.as_str(), fact, at);
        if let Err(error) = self.hands.tell(resource, fact, &telling, self.clock.now()).await {
            tracing::debug!(set = %resource.key, reason = fact.reason, %error, "an event is lost");
        }
    }

    /// What is kept of resources that are gone.
    fn forget(&mut self, resources: &[Arc<Resource>]) {
        let is_there = |key: &ResourceKey| resources.binary_search_by(|resource| resource.key.cmp(key)).is_ok();
        self.reported.retain(|key, _| is_there(key));
        self.hiccups.retain(|key, _| is_there(key));
        self.readers.retain(is_there);
        self.built.retain(is_there);
        self.statuses.retain(|key, _| is_there(key));
        self.secrets.retain(|(key, _), _| is_there(key));
        self.backoff.retain(|(key, _)| is_there(key));
    }
}

fn matter(resource: &Resource) -> (ResourceKey, bool) {
    (resource.key.clone(), resource.deleting)
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of trying again; what it waits for besides is a condition")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
