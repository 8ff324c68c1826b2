//! The Services and slices that go with resources, as far as their metadata says: whose they are, what was written last, and
//! whether somebody else has written since. Pure. With this nothing is read or written again when an operator begins anew.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ObjectMeta, runtime::watcher::Event};
use serde_json::Value;

use super::store::Scope;

/// Kind, namespace and name.
pub type Named = (&'static str, String, String);

/// On every companion: the digest of what we wrote.
pub const APPLIED: &str = "drover.dev/applied";

/// Every companion that the API server shows.
#[derive(Debug, Default)]
pub struct Companions {
    known: BTreeMap<Named, Companion>,
    listing: BTreeMap<(&'static str, Scope), BTreeMap<Named, Companion>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Companion {
    owners: Vec<String>,
    applied: Option<String>,
    version: String,
    /// Somebody else wrote it after us.
    touched: bool,
}

impl Companions {
    /// Takes in one event of a kind's watch. Answers whether something has to be written again.
    pub fn absorb<M: ResourceExt>(&mut self, kind: &'static str, scope: &Scope, event: Event<M>) -> bool {
        match event {
            Event::Init => {
                self.listing.insert((kind, scope.clone()), BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                let (name, companion) = self.seen(kind, object.meta());
                if let Some(listing) = self.listing.get_mut(&(kind, scope.clone())) {
                    listing.insert(name, companion);
                }
                false
            }
            Event::InitDone => {
                let listed = self.listing.remove(&(kind, scope.clone())).unwrap_or_default();
                let is_of_scope = |namespace: &str| scope.as_ref().is_none_or(|scope| scope == namespace);
                self.known.retain(|(known, namespace, _), _| *known != kind || !is_of_scope(namespace));
                self.known.extend(listed);
                true
            }
            Event::Apply(object) => {
                let (name, companion) = self.seen(kind, object.meta());
                let touched = companion.touched;
                self.known.insert(name, companion);
                touched
            }
            Event::Delete(object) => self.known.remove(&named(kind, object.meta())).is_some(),
        }
    }

    /// It is there, belongs to the resource of that uid, and holds what was to be written.
    pub fn is_written(&self, name: &Named, owner: &str, object: &Value) -> bool {
        applied(object).is_some_and(|digest| self.holds(name, owner, &digest))
    }

    /// The same of what has that digest.
    pub fn holds(&self, name: &Named, owner: &str, digest: &str) -> bool {
        self.known.get(name).is_some_and(|known| {
            let is_owned = known.owners.iter().any(|uid| uid == owner);
            !known.touched && is_owned && known.applied.as_deref() == Some(digest)
        })
    }

    /// Whether it is known to belong to the resource of that uid; `None` where no such object was seen.
    pub fn is_owned_by(&self, name: &Named, owner: &str) -> Option<bool> {
        self.known.get(name).map(|known| known.owners.iter().any(|uid| uid == owner))
    }

    /// We wrote it, and the API server calls that version so.
    pub fn written(&mut self, name: Named, owner: &str, object: &Value, version: String) {
        let owners = vec![owner.to_owned()];
        self.known.insert(name, Companion { owners, applied: applied(object), version, touched: false });
    }

    /// What the latest version means beside what was known.
    fn seen(&self, kind: &'static str, meta: &ObjectMeta) -> (Named, Companion) {
        let name = named(kind, meta);
        let version = meta.resource_version.clone().unwrap_or_default();
        let known = self.known.get(&name);
        let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
        let applied = meta.annotations.as_ref().and_then(|annotations| annotations.get(APPLIED).cloned());
        let touched = known.is_some_and(|known| known.version != version);
        (name, Companion { owners, applied, version, touched })
    }
}

/// What its annotation says was written.
pub fn applied(object: &Value) -> Option<String> {
    object["metadata"]["annotations"][APPLIED].as_str().map(str::to_owned)
}

fn named(kind: &'static str, meta: &ObjectMeta) -> Named {
    (kind, meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
