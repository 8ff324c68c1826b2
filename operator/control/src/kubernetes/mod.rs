//! The API server as the source of what is wanted, and as the place where people look. Watches fill a [`store`]; passes take
//! their intents from it ([`Cluster`]); a [`publisher`] writes finalizers, status, Services and events back. Of several replicas
//! the one that wins the [`election`] acts. Losing all of it loses nothing: what exists is in tags and bucket.

pub mod built;
pub mod client;
pub mod companions;
pub mod desired;
pub mod election;
pub mod events;
pub mod hands;
pub mod perform;
pub mod publisher;
pub mod readers;
pub mod resource;
pub mod resources;
pub mod secrets;
pub mod services;
pub mod status;
pub mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drover_api::{ResourceKey, defaults::Terms};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::Client;
use tokio::sync::watch;

use self::{
    election::{Ballot, Election},
    hands::Hands,
    perform::{SERVICE, SLICE},
    publisher::Publisher,
    store::{Scope, Store},
};
use crate::{
    Clock, Connections, Snapshot,
    source::{Read, Source, Wanted},
    task::Task,
};

/// An API server and what is to be watched there.
pub struct Cluster {
    pub client: Client,
    /// Empty means every namespace.
    pub namespaces: Vec<String>,
    pub ballot: Ballot,
}

/// One process's part in a cluster: its watches run from the beginning, whether it leads or not.
pub struct Part {
    client: Client,
    identity: String,
    pub store: Arc<Store>,
    pub election: Arc<Election>,
    _watches: Vec<Task>,
}

/// What passes say, for whoever publishes it.
#[derive(Clone, Debug)]
pub struct Passes {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub connections: watch::Receiver<Arc<BTreeMap<ResourceKey, Connections>>>,
}

/// The resources of an API server as a source of intents.
#[derive(Debug)]
pub struct Declared {
    store: Arc<Store>,
    terms: Terms,
}

// === impl Part ===

impl Part {
    /// Begins to watch.
    pub fn begin(cluster: Cluster, clock: Arc<dyn Clock>) -> Self {
        let Cluster { client, namespaces, ballot } = cluster;
        let scopes: Vec<Scope> =
            if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let store = Arc::new(Store::new(&scopes));
        let watch = |scope: &Scope| {
            let with = || (Arc::clone(&store), client.clone(), scope.clone());
            let ((a, client_a, scope_a), (b, client_b, scope_b), (c, client_c, scope_c)) = (with(), with(), with());
            [
                Task(tokio::spawn(a.watch_resources(client_a, scope_a))),
                Task(tokio::spawn(b.watch_companions::<Service>(client_b, SERVICE, scope_b))),
                Task(tokio::spawn(c.watch_companions::<EndpointSlice>(client_c, SLICE, scope_c))),
            ]
        };
        let passwords = Task(tokio::spawn(secrets::keep_passwords(Arc::clone(&store), client.clone())));
        let watches = scopes.iter().flat_map(watch).chain([passwords]).collect();
        let identity = ballot.identity.clone();
        let election = Arc::new(Election::new(client.clone(), ballot, clock));
        Self { client, identity, store, election, _watches: watches }
    }

    /// What is wanted, for the passes.
    pub fn source(&self, terms: Terms) -> Declared {
        Declared { store: Arc::clone(&self.store), terms }
    }

    /// Publishes what the passes say, until dropped.
    pub fn publish(&self, passes: Passes, clock: Arc<dyn Clock>, lease: Duration) -> Task {
        let hands = Hands::new(self.client.clone(), self.identity.clone());
        let publisher = Publisher::new(hands, Arc::clone(&self.store), passes, clock, lease);
        Task(tokio::spawn(publisher.run()))
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({})", self.identity)
    }
}

impl Source for Declared {
    async fn changed(&mut self) -> Read {
        self.store.wanted_changed().await;
        Read::Changes
    }

    /// The watch tells within milliseconds; there is nothing to ask for.
    async fn refresh(&mut self) {}

    fn wanted(&self) -> Option<Wanted> {
        let resources = self.store.resources();
        resources.is_complete().then(|| Wanted {
            intents: resources.intents(&self.terms),
            deletions: resources.deletions(),
            problems: resources.problems(),
            passwords: self.store.passwords().clone(),
        })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({:?}, {:?})", self.namespaces, self.ballot)
    }
}

#[cfg(test)]
mod publishing;
#[cfg(test)]
mod tests;
