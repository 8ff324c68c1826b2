//! Where everything lies in the bucket: the only home of object keys. One bucket and prefix per realm.

use crate::{BuildId, Epoch, Incarnation, Realm, ResourceKey, Slot, tags};

/// An object's key within the bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// A set of keys, in the words of IAM: `*` stands for anything, slashes and nothing at all too, and every other character for
/// itself (IAM User Guide, "Resource"). No name of ours has a `*` or `?` in it; an installation's prefix may not have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern(String);

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

/// What an object of one incarnation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Register,
    Journal(Epoch),
    Ca,
    Slot(Slot),
    Bundle(Slot),
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

// === impl KeyPattern ===

impl KeyPattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, key: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| key.strip_prefix(first)) else { return false };
        let mut last = None;
        for piece in pieces {
            // The earliest place of each piece leaves the most for those after it; the last must be at the end.
            if let Some(before) = last.replace(piece) {
                let Some((_, after)) = rest.split_once(before) else { return false };
                rest = after;
            }
        }
        last.map_or(rest.is_empty(), |last| rest.ends_with(last))
    }
}

// === impl RealmKeys ===

impl RealmKeys {
    /// `prefix` is the operator's own part of the bucket, empty or ending with `/`.
    pub fn new(prefix: &str, realm: &Realm) -> Self {
        Self { prefix: format!("{prefix}realms/{realm}/") }
    }

    /// Everything of this realm.
    pub fn prefix(&self) -> &str {
        &self.prefix
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

    /// Where `drover doctor` tries out conditional writes. It says nothing.
    pub fn doctor(&self) -> ObjectKey {
        ObjectKey(format!("{}doctor.json", self.prefix))
    }

    /// Everything of this realm, as the operator reads and writes it.
    pub fn all(&self) -> KeyPattern {
        KeyPattern(format!("{}*", self.prefix))
    }

    /// What the machines of a set read: binaries, and of every life of the set the register and the bundles. Not what lies
    /// beside them: CA keys, slots, journals. This is the one list that instance profiles are granted by, here and on AWS.
    pub fn read_by_machines(&self, set: &ResourceKey) -> [KeyPattern; 3] {
        let set = self.set(set).prefix;
        [format!("{}bin/*", self.prefix), format!("{set}*/register.json"), format!("{set}*/slots/*/bundle.json")]
            .map(KeyPattern)
    }

    /// Everything of every set: to find sets that have records but no resource.
    pub fn sets_prefix(&self) -> String {
        format!("{}{}/", self.prefix, tags::KIND_REPLICA_SET)
    }

    /// Whose object this is; `None` for what lies elsewhere, or under no valid name.
    pub fn resource_of(&self, object: &ObjectKey) -> Option<ResourceKey> {
        let mut parts = object.as_str().strip_prefix(&self.sets_prefix())?.splitn(3, '/');
        let (namespace, name, _) = (parts.next()?, parts.next()?, parts.next()?);
        Some(ResourceKey { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
    }

    pub fn set(&self, key: &ResourceKey) -> SetKeys {
        SetKeys { prefix: format!("{}{}/{}/", self.sets_prefix(), key.namespace, key.name) }
    }
}

// === impl SetKeys ===

impl SetKeys {
    /// Everything of every life of this set.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn incarnation(&self) -> ObjectKey {
        ObjectKey(format!("{}incarnation.json", self.prefix))
    }

    pub fn of(&self, incarnation: &Incarnation) -> IncarnationKeys {
        IncarnationKeys { prefix: format!("{}{incarnation}/", self.prefix) }
    }
}

// === impl IncarnationKeys ===

impl IncarnationKeys {
    /// What an object of this incarnation is; `None` for what is not known to this build.
    pub fn part(&self, object: &ObjectKey) -> Option<Part> {
        let rest = object.as_str().strip_prefix(&self.prefix)?;
        let between = |prefix: &str, suffix: &str| rest.strip_prefix(prefix)?.strip_suffix(suffix);
        match rest {
            "register.json" => Some(Part::Register),
            "ca.json" => Some(Part::Ca),
            _ => None
                .or_else(|| Some(Part::Journal(Epoch(between("journal/", ".json")?.parse().ok()?))))
                .or_else(|| Some(Part::Bundle(between("slots/", "/bundle.json")?.parse().ok()?)))
                .or_else(|| Some(Part::Slot(between("slots/", ".json")?.parse().ok()?))),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_as_what_they_were_made_for() {
        let realm = RealmKeys::new("prod/", &Realm::new("r").expect("realm"));
        let key = ResourceKey { namespace: "shop".parse().expect("namespace"), name: "orders".parse().expect("name") };
        let set = realm.set(&key);
        let keys = set.of(&Incarnation::new("k3j9x2m4").expect("incarnation"));
        let slot = Slot::Reader(3);
        for (object, part) in [
            (keys.register(), Part::Register),
            (keys.ca(), Part::Ca),
            (keys.journal(Epoch(12)), Part::Journal(Epoch(12))),
            (keys.slot(slot), Part::Slot(slot)),
            (keys.bundle(slot), Part::Bundle(slot)),
        ] {
            assert_eq!(keys.part(&object), Some(part), "{object}");
            assert_eq!(realm.resource_of(&object), Some(key.clone()), "{object}");
        }
        assert_eq!(realm.resource_of(&set.incarnation()), Some(key));
        assert_eq!(keys.part(&set.incarnation()), None);
        for other in [realm.lock(), realm.current(), ObjectKey::raw("prod/realms/r/mysqlreplicaset/shop")] {
            assert_eq!(realm.resource_of(&other), None, "{other}");
        }
        assert_eq!(keys.part(&ObjectKey::raw(format!("{}slots/x9.json", keys.prefix()))), None);
    }

    #[test]
    fn a_pattern_matches_as_iam_does() {
        for (pattern, key, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "a/b/c", true),
            ("a*", "ba", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", true),
            ("a/*/c", "a/c", false),
            ("a/*/c", "a/b/c/d", false),
            ("a/*/s/*/c", "a/1/s/m0/c", true),
            ("a/*/s/*/c", "a/s/s/c", false),
            ("a/*/s/*/c", "a/1/s/c", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
        ] {
            assert_eq!(KeyPattern(pattern.into()).matches(key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn machines_read_what_agents_ask_for_and_nothing_beside_it() {
        let realm = RealmKeys::new("x/", &Realm::new("r").expect("realm"));
        let key =
            |name: &str| ResourceKey { namespace: "shop".parse().expect("valid"), name: name.parse().expect("valid") };
        let (ours, other) = (realm.set(&key("orders")), realm.set(&key("orders2")));
        let life = Incarnation::new("k3j9x2m4").expect("incarnation");
        let (of, slot) = (ours.of(&life), Slot::Member(0));
        let build = BuildId::new("0".repeat(64)).expect("build");
        for (object, expected) in [
            (realm.current(), true),
            (realm.binary(&build), true),
            (of.register(), true),
            (of.bundle(slot), true),
            (of.ca(), false),
            (of.slot(slot), false),
            (of.journal(Epoch(1)), false),
            (ours.incarnation(), false),
            (realm.lock(), false),
            (realm.doctor(), false),
            (other.of(&life).register(), false),
            (other.of(&life).bundle(slot), false),
        ] {
            let reads = realm.read_by_machines(&key("orders")).iter().any(|pattern| pattern.matches(object.as_str()));
            assert_eq!(reads, expected, "{object}");
            assert!(realm.all().matches(object.as_str()), "{object}");
        }
    }
}
