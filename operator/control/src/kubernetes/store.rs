//! What the watches see, shared by who plans and who publishes.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use drover_api::{
    clients::{Password, SecretRef},
    set::MySQLReplicaSet,
};
use drover_plan::observed::Seen;
use futures::StreamExt;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::{companions::Companions, resources::Resources, services::MANAGED_BY};
use crate::passwords::Passwords;

/// A namespace, or all of them.
pub type Scope = Option<String>;

/// Everything that is watched.
#[derive(Debug)]
pub struct Store {
    resources: Mutex<Resources>,
    companions: Mutex<Companions>,
    passwords: Mutex<Passwords>,
    /// Why a watch does not work now, by what it watches.
    failing: Mutex<BTreeMap<String, String>>,
    /// What is wanted may have changed: for the one who plans, and for the one who reads passwords.
    wanted: Notify,
    asked: Notify,
    /// Anything has changed, our own writes too: for the one who publishes.
    touched: Notify,
}

/// A watch that hears nothing for this long is made anew, so that an API server that went away without a word is noticed.
const WATCH_SECONDS: u32 = 60;

// === impl Store ===

impl Store {
    pub fn new(scopes: &[Scope]) -> Self {
        Self {
            resources: Mutex::new(Resources::new(scopes.iter().cloned())),
            companions: Mutex::default(),
            passwords: Mutex::default(),
            failing: Mutex::default(),
            wanted: Notify::new(),
            asked: Notify::new(),
            touched: Notify::new(),
        }
    }

    pub fn resources(&self) -> MutexGuard<'_, Resources> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn companions(&self) -> MutexGuard<'_, Companions> {
        self.companions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until what is wanted may have changed since the last call.
    pub async fn wanted_changed(&self) {
        self.wanted.notified().await;
    }

    /// The same, for the one who reads passwords.
    pub async fn asked_anew(&self) {
        self.asked.notified().await;
    }

    /// The passwords that declared users name, as they were last read.
    pub fn passwords(&self) -> MutexGuard<'_, Passwords> {
        self.passwords.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that cannot be read now stays what it was.
    pub fn learn_passwords(&self, read: Passwords) {
        let mut known = self.passwords();
        let kept = |(reference, seen): (SecretRef, Seen<Password>)| {
            let before = known
                .get(&reference)
                .filter(|before| matches!((before, &seen), (Seen::Known(_), Seen::Unknown { .. })));
            let seen = before.cloned().unwrap_or(seen);
            (reference, seen)
        };
        let read: Passwords = read.into_iter().map(kept).collect();
        if *known != read {
            *known = read;
            self.wanted.notify_one();
        }
    }

    /// Until anything has changed since the last call.
    pub async fn touched(&self) {
        self.touched.notified().await;
    }

    /// Why the API server is not heard, a line for each watch.
    pub fn failing(&self) -> Vec<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.iter().map(|(what, why)| format!("{what}: {why}")).collect()
    }

    /// Takes in what a watch, or the answer to a write, shows.
    pub fn absorb(&self, scope: &Scope, event: Event<DynamicObject>) {
        let wanted = self.resources().absorb(scope, event);
        self.touched.notify_one();
        if wanted {
            self.wanted.notify_one();
            self.asked.notify_one();
        }
    }

    /// Watches the resources of one scope for ever. They are read untyped, so that a malformed one stops nothing.
    pub async fn watch_resources(self: Arc<Self>, client: Client, scope: Scope) {
        let sets = ApiResource::erase::<MySQLReplicaSet>(&());
        let api: Api<DynamicObject> = match &scope {
            None => Api::all_with(client, &sets),
            Some(namespace) => Api::namespaced_with(client, namespace, &sets),
        };
        let what = told(&sets.plural, &scope);
        let mut events = watcher(api, config()).backoff(DefaultBackoff::default()).boxed();
        while let Some(event) = events.next().await {
            match self.heard(&what, event) {
                Some(event) => self.absorb(&scope, event),
                None => self.touched.notify_one(),
            }
        }
    }

    /// Watches what we wrote of one kind in one scope for ever, by its metadata.
    pub async fn watch_companions<K>(self: Arc<Self>, client: Client, kind: &'static str, scope: Scope)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = match &scope {
            None => Api::all(client),
            Some(namespace) => Api::namespaced(client, namespace),
        };
        let ours = config().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let what = told(kind, &scope);
        let mut events = watcher(api, ours).backoff(DefaultBackoff::default()).boxed();
        while let Some(event) = events.next().await {
            if let Some(event) = self.heard(&what, event)
                && self.companions().absorb(kind, &scope, event)
            {
                self.touched.notify_one();
            }
        }
    }

    /// Notes when a watch begins to fail, and when it is heard again.
    fn heard<T>(&self, what: &str, event: Result<T, watcher::Error>) -> Option<T> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) => {
                if failing.remove(what).is_some() {
                    tracing::info!(what, "the API server is heard again");
                }
                Some(event)
            }
            Err(error) => {
                let why = error.to_string();
                if failing.insert(what.to_owned(), why.clone()).is_none() {
                    tracing::warn!(what, why, "the API server is not heard: what it said last stays in force");
                }
                None
            }
        }
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

fn told(what: &str, scope: &Scope) -> String {
    format!("{what} of {}", scope.as_deref().unwrap_or("all namespaces"))
}
