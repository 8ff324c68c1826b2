//! Where everything lies in the bucket: the only home of object keys. One bucket and prefix per realm.

use crate::{BuildId, Epoch, Incarnation, Realm, ResourceKey, Slot, tags};

/// An object's key within the bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Keys of what belongs to a realm as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmKeys {
    prefix: String,
}

/// Keys of what belongs to one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetKeys {
    prefix: String,
}

/// Keys of what belongs to one incarnation of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationKeys {
    prefix: String,
}

// === impl ObjectKey ===

impl ObjectKey {
    /// A key from its text; keys that we make ourselves come from the types of this module.
    pub fn raw(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl RealmKeys ===

impl RealmKeys {
    /// `prefix` is the operator's own part of the bucket, empty or ending with `/`.
    pub fn new(prefix: &str, realm: &Realm) -> Self {
        Self {
            prefix: format!("{prefix}realms/{realm}/"),
        }
    }

    pub fn lock(&self) -> ObjectKey {
        ObjectKey(format!("{}lock.json", self.prefix))
    }

    /// What one new machines take: `{"<architecture>": "<sha256>"}`.
    pub fn current(&self) -> ObjectKey {
        ObjectKey(format!("{}bin/current", self.prefix))
    }

    pub fn binary(&self, build: &BuildId) -> ObjectKey {
        ObjectKey(format!("{}bin/{build}/drover", self.prefix))
    }

    /// Everything of every set: to find sets that have records but no resource.
    pub fn sets_prefix(&self) -> String {
        format!("{}{}/", self.prefix, tags::KIND_REPLICA_SET)
    }

    pub fn set(&self, key: &ResourceKey) -> SetKeys {
        SetKeys {
            prefix: format!("{}{}/{}/", self.sets_prefix(), key.namespace, key.name),
        }
    }
}

// === impl SetKeys ===

impl SetKeys {
    pub fn incarnation(&self) -> ObjectKey {
        ObjectKey(format!("{}incarnation.json", self.prefix))
    }

    pub fn of(&self, incarnation: &Incarnation) -> IncarnationKeys {
        IncarnationKeys {
            prefix: format!("{}{incarnation}/", self.prefix),
        }
    }
}

// === impl IncarnationKeys ===

impl IncarnationKeys {
    /// Everything of this incarnation.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn register(&self) -> ObjectKey {
        ObjectKey(format!("{}register.json", self.prefix))
    }

    pub fn journal(&self, epoch: Epoch) -> ObjectKey {
        ObjectKey(format!("{}journal/{epoch}.json", self.prefix))
    }

    /// The set's CA key and secret: the operator only.
    pub fn ca(&self) -> ObjectKey {
        ObjectKey(format!("{}ca.json", self.prefix))
    }

    pub fn slots_prefix(&self) -> String {
        format!("{}slots/", self.prefix)
    }

    pub fn slot(&self, slot: Slot) -> ObjectKey {
        ObjectKey(format!("{}slots/{slot}.json", self.prefix))
    }

    pub fn bundle(&self, slot: Slot) -> ObjectKey {
        ObjectKey(format!("{}slots/{slot}/bundle.json", self.prefix))
    }
}
