//! Everything that the API server says is wanted. Pure: a watch's events go in, intents and deletions come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drover_api::{
    ResourceKey,
    defaults::{Terms, Unresolved},
    set::DeletionPolicy,
};
use drover_plan::observed::Intent;
use kube::{core::DynamicObject, runtime::watcher::Event};

use super::{
    resource::{self, Resource},
    store::Scope,
};

/// The resources of every watched scope.
#[derive(Debug)]
pub struct Resources {
    scopes: BTreeMap<Scope, Listed>,
    all: BTreeMap<ResourceKey, Arc<Resource>>,
    /// Objects whose name no set can have, by namespace and name, and why not.
    unnamed: BTreeMap<(String, String), String>,
}

#[derive(Debug, Default)]
struct Listed {
    /// A complete list was seen once.
    listed: bool,
    /// What a list that is under way has shown so far.
    listing: Option<BTreeSet<ResourceKey>>,
}

// === impl Resources ===

impl Resources {
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let scopes = scopes.into_iter().map(|scope| (scope, Listed::default())).collect();
        Self { scopes, all: BTreeMap::new(), unnamed: BTreeMap::new() }
    }

    /// Takes in one event of a scope's watch, and answers whether what is wanted may have changed. What was known stays until a
    /// list that does not show it is complete.
    pub fn absorb(&mut self, scope: &Scope, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Init => {
                self.scope(scope).listing = Some(BTreeSet::new());
                self.unnamed.retain(|(namespace, _), _| !is_of(scope, namespace));
                false
            }
            Event::InitApply(object) => {
                let key = resource::key_of(&object);
                if let (Ok(key), Some(listing)) = (key, &mut self.scope(scope).listing) {
                    listing.insert(key);
                }
                self.apply(&object)
            }
            Event::InitDone => self.complete(scope),
            Event::Apply(object) => self.apply(&object),
            Event::Delete(object) => self.remove(&object),
        }
    }

    /// Every scope was listed once: what is not here is not there.
    pub fn is_complete(&self) -> bool {
        self.scopes.values().all(|scope| scope.listed)
    }

    /// Scopes that were not listed yet, for people.
    pub fn awaited(&self) -> Vec<String> {
        let awaited = self.scopes.iter().filter(|(_, scope)| !scope.listed);
        awaited.map(|(name, _)| name.clone().unwrap_or_else(|| "all namespaces".to_owned())).collect()
    }

    pub fn all(&self) -> &BTreeMap<ResourceKey, Arc<Resource>> {
        &self.all
    }

    /// What is wanted, with the operator's defaults filled in. A resource counts once our finalizer is on it, or its deletion
    /// could pass unseen.
    pub fn intents(&self, terms: &Terms) -> BTreeMap<ResourceKey, Intent> {
        let wanted = self.all.values().filter(|resource| is_wanted(resource));
        wanted.map(|resource| (resource.key.clone(), intent(resource, terms))).collect()
    }

    /// What is to be ended for good.
    pub fn deletions(&self) -> BTreeSet<ResourceKey> {
        self.all.values().filter(|resource| ends(resource)).map(|resource| resource.key.clone()).collect()
    }

    /// What cannot be used, a line each.
    pub fn problems(&self) -> Vec<String> {
        self.unnamed.iter().map(|((namespace, name), why)| format!("{namespace}/{name}: {why}")).collect()
    }

    fn scope(&mut self, scope: &Scope) -> &mut Listed {
        self.scopes.entry(scope.clone()).or_default()
    }

    fn apply(&mut self, object: &DynamicObject) -> bool {
        match resource::key_of(object) {
            Ok(key) => {
                let known = self.all.get(&key);
                let resource = Resource::read(key.clone(), object, known.map(Arc::as_ref));
                let has_changed = known.is_none_or(|known| resource.asks_anew(known));
                self.all.insert(key, Arc::new(resource));
                has_changed
            }
            Err(why) => self.unnamed.insert(name_of(object), why).is_none(),
        }
    }

    fn remove(&mut self, object: &DynamicObject) -> bool {
        match resource::key_of(object) {
            Ok(key) => self.all.remove(&key).is_some(),
            Err(_) => self.unnamed.remove(&name_of(object)).is_some(),
        }
    }

    fn complete(&mut self, scope: &Scope) -> bool {
        let state = self.scope(scope);
        let was_listed = std::mem::replace(&mut state.listed, true);
        let Some(shown) = state.listing.take() else { return false };
        let before = self.all.len();
        self.all.retain(|key, _| !is_of(scope, key.namespace.as_str()) || shown.contains(key));
        !was_listed || self.all.len() != before
    }
}

fn is_of(scope: &Scope, namespace: &str) -> bool {
    scope.as_ref().is_none_or(|scope| scope == namespace)
}

/// Whether a set is kept as its resource says. One whose deletion waits for `paused` is.
fn is_wanted(resource: &Resource) -> bool {
    resource.held && (!resource.deleting || (resource.policy == DeletionPolicy::Delete && is_paused(resource)))
}

/// Whether its machines and data are to end.
fn ends(resource: &Resource) -> bool {
    resource.held && resource.deleting && resource.policy == DeletionPolicy::Delete && !is_paused(resource)
}

fn is_paused(resource: &Resource) -> bool {
    resource.spec.as_ref().as_ref().is_ok_and(|spec| spec.paused)
}

fn intent(resource: &Resource, terms: &Terms) -> Intent {
    let set = match resource.spec.as_ref() {
        // An API server fills in the schema's defaults, so that which of them a person wrote is not known.
        Ok(spec) => terms.resolve(resource.key.clone(), spec, &[]),
        Err(why) => Err(Unresolved::Invalid(why.clone())),
    };
    Intent { set, generation: resource.generation, requests: resource.unanswered() }
}

/// Namespace and name.
fn name_of(object: &DynamicObject) -> (String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&object.metadata.namespace), text(&object.metadata.name))
}
