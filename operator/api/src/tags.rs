//! Ear tags. The only home of tag keys: who a machine or volume belongs to, and what it is for. Tags are the record of what
//! exists; they are never a lock and never a vote (law 7).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Epoch, Incarnation, Namespace, Realm, ResourceKey, ResourceName, Slot};

/// The only server-side filter of the fleet list.
pub const REALM: &str = "drover:realm";
pub const SCHEMA: &str = "drover:schema";
pub const KIND: &str = "drover:kind";
pub const NAMESPACE: &str = "drover:ns";
pub const NAME: &str = "drover:name";
pub const INCARNATION: &str = "drover:inc";
pub const SLOT: &str = "drover:slot";
pub const SPEC: &str = "drover:spec";
pub const ATTEMPT: &str = "drover:attempt";
pub const ROLE: &str = "drover:role";
pub const EPOCH: &str = "drover:epoch";
/// Set by a person: hands off this machine.
pub const HOLD: &str = "drover:hold";
/// On data volumes only, with the value `data`.
pub const VOLUME: &str = "drover:volume";
/// For people's eyes: written once, never read.
pub const DISPLAY_NAME: &str = "Name";

/// What nobody but the operator writes: every key of ours but `drover:hold`, which is people's.
pub const OPERATORS_OWN: [&str; 12] =
    [REALM, SCHEMA, KIND, NAMESPACE, NAME, INCARNATION, SLOT, SPEC, ATTEMPT, ROLE, EPOCH, VOLUME];
/// What of these changes in a machine's life: the others are given at creation and never again.
pub const PUBLISHED: [&str; 2] = [ROLE, EPOCH];

/// The one schema this build writes and understands; any other value means hands off.
pub const SCHEMA_VALUE: &str = "1";
/// `drover:kind` of a MySQLReplicaSet.
pub const KIND_REPLICA_SET: &str = "mysqlreplicaset";
pub const VOLUME_VALUE: &str = "data";

/// EC2's bounds (EC2 documentation, "Tag restrictions"): tags of one resource, characters of a key, of a value.
pub const TAGS_MAX: usize = 50;
pub const KEY_CHARS_MAX: usize = 128;
pub const VALUE_CHARS_MAX: usize = 256;
/// What Drover itself sets on a machine: the table's identity keys, role, epoch, hold and `Name`.
pub const OWN_TAGS_MAX: usize = 14;
/// What is left for the user's `machine.tags`.
pub const USER_TAGS_MAX: usize = TAGS_MAX - OWN_TAGS_MAX;

pub type Tags = BTreeMap<String, String>;

/// Whose a machine or volume is, and which place in it it fills. Never changes in its life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub realm: Realm,
    pub key: ResourceKey,
    pub incarnation: Incarnation,
    pub slot: Slot,
}

/// What a tagged thing turned out to be when its tags were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagVerdict {
    /// Ours, readable.
    Ours { identity: Identity, attempt: u32 },
    /// Carries a realm, but not in a form this build understands: hands off, and say so.
    HandsOff { reason: String },
}

/// `drover:role`, published after the fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Replica,
    Reader,
    Joining,
    Draining,
    Fenced,
    Retiring,
}

/// `<hash version>-<hash>` of the launch inputs. Unequal hash versions never mean drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecHash(pub String);

/// The tags of a machine at its launch.
pub fn machine_tags(identity: &Identity, attempt: u32, spec: &SpecHash, user: &Tags) -> Tags {
    let mut tags = user.clone();
    tags.extend(identity_tags(identity, attempt));
    tags.insert(SPEC.into(), spec.0.clone());
    tags.insert(ROLE.into(), Role::Joining.to_string());
    tags.insert(EPOCH.into(), "0".into());
    tags.insert(DISPLAY_NAME.into(), format!("{}-{}", identity.key.name, identity.slot));
    tags
}

/// The tags of a data volume at its creation.
pub fn volume_tags(identity: &Identity, attempt: u32, user: &Tags) -> Tags {
    let mut tags = user.clone();
    tags.extend(identity_tags(identity, attempt));
    tags.insert(VOLUME.into(), VOLUME_VALUE.into());
    tags.insert(DISPLAY_NAME.into(), format!("{}-{}-data", identity.key.name, identity.slot));
    tags
}

/// The tags that publish a role.
pub fn role_tags(role: Role, epoch: Epoch) -> Tags {
    Tags::from([(ROLE.to_owned(), role.to_string()), (EPOCH.to_owned(), epoch.to_string())])
}

/// Reads the tags of something that the list of `realm` returned.
pub fn read(realm: &Realm, tags: &Tags) -> TagVerdict {
    let hands_off = |reason: String| TagVerdict::HandsOff { reason };
    match tags.get(SCHEMA).map(String::as_str) {
        Some(SCHEMA_VALUE) => {}
        Some(other) => return hands_off(format!("{SCHEMA} is {other:?}, this build knows {SCHEMA_VALUE:?}")),
        None => return hands_off(format!("{SCHEMA} is missing")),
    }
    match read_identity(realm, tags) {
        Ok((identity, attempt)) => TagVerdict::Ours { identity, attempt },
        Err(reason) => hands_off(reason),
    }
}

/// The role and epoch that were last published on a machine, where both can be read.
pub fn read_role(tags: &Tags) -> Option<(Role, Epoch)> {
    let role = Role::parse(tags.get(ROLE)?)?;
    let epoch = tags.get(EPOCH)?.parse().ok()?;
    Some((role, Epoch(epoch)))
}

/// Why a user's tag cannot be set on our machines, or `None`. Tags are readable through instance metadata, so EC2 allows
/// only `[0-9a-zA-Z\-_+=,.@:]` in their keys (EC2 documentation, "Instance metadata tags").
pub fn refuse_user_tag(key: &str, value: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+=,.@:".contains(c);
    if key.to_ascii_lowercase().starts_with("aws:") || key.to_ascii_lowercase().starts_with("drover:") {
        Some(format!("key {key:?} begins with a reserved prefix (aws:, drover:)"))
    } else if key == DISPLAY_NAME {
        Some("key \"Name\" is written by Drover".into())
    } else if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.chars().all(allowed) {
        Some(format!("key {key:?} must be 1 to {KEY_CHARS_MAX} of letters, digits and -_+=,.@:"))
    } else if value.chars().count() > VALUE_CHARS_MAX {
        Some(format!("the value of {key:?} is longer than {VALUE_CHARS_MAX} characters"))
    } else {
        None
    }
}

// === impl Role ===

impl Role {
    fn parse(text: &str) -> Option<Role> {
        let all =
            [Role::Primary, Role::Replica, Role::Reader, Role::Joining, Role::Draining, Role::Fenced, Role::Retiring];
        all.into_iter().find(|role| role.to_string() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Reader => "reader",
            Role::Joining => "joining",
            Role::Draining => "draining",
            Role::Fenced => "fenced",
            Role::Retiring => "retiring",
        })
    }
}

fn identity_tags(identity: &Identity, attempt: u32) -> Tags {
    let pairs = [
        (REALM, identity.realm.to_string()),
        (SCHEMA, SCHEMA_VALUE.to_owned()),
        (KIND, KIND_REPLICA_SET.to_owned()),
        (NAMESPACE, identity.key.namespace.to_string()),
        (NAME, identity.key.name.to_string()),
        (INCARNATION, identity.incarnation.to_string()),
        (SLOT, identity.slot.to_string()),
        (ATTEMPT, attempt.to_string()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn read_identity(realm: &Realm, tags: &Tags) -> Result<(Identity, u32), String> {
    fn get<'a>(tags: &'a Tags, key: &str) -> Result<&'a str, String> {
        tags.get(key).map(String::as_str).ok_or_else(|| format!("{key} is missing"))
    }
    if get(tags, REALM)? != realm.as_str() {
        return Err(format!("{REALM} is not {realm}"));
    }
    let kind = get(tags, KIND)?;
    if kind != KIND_REPLICA_SET {
        return Err(format!("{KIND} {kind:?} is not known to this build"));
    }
    let key = ResourceKey {
        namespace: Namespace::new(get(tags, NAMESPACE)?).map_err(|error| error.to_string())?,
        name: ResourceName::new(get(tags, NAME)?).map_err(|error| error.to_string())?,
    };
    let incarnation = Incarnation::new(get(tags, INCARNATION)?).map_err(|error| error.to_string())?;
    let slot = get(tags, SLOT)?.parse().map_err(|error: crate::InvalidName| error.to_string())?;
    let attempt = get(tags, ATTEMPT)?;
    let attempt = attempt.parse().map_err(|_| format!("{ATTEMPT} {attempt:?} is not a number"))?;
    Ok((Identity { realm: realm.clone(), key, incarnation, slot }, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            realm: Realm::new("prod").expect("valid"),
            key: ResourceKey {
                namespace: Namespace::new("shop").expect("valid"),
                name: ResourceName::new("orders").expect("valid"),
            },
            incarnation: Incarnation::new("k3j9x2m4").expect("valid"),
            slot: Slot::Member(2),
        }
    }

    #[test]
    fn identity_survives_the_round_trip_through_tags() {
        let user = Tags::from([("team".to_owned(), "shop".to_owned())]);
        for tags in [machine_tags(&identity(), 3, &SpecHash("1-ab".into()), &user), volume_tags(&identity(), 3, &user)]
        {
            assert_eq!(read(&identity().realm, &tags), TagVerdict::Ours { identity: identity(), attempt: 3 });
            assert_eq!(tags["team"], "shop");
            assert!(tags.len() - 1 <= OWN_TAGS_MAX);
        }
    }

    #[test]
    fn what_the_operator_writes_is_listed_and_a_role_is_all_that_it_changes() {
        let machine = machine_tags(&identity(), 1, &SpecHash("1-ab".into()), &Tags::new());
        let written: std::collections::BTreeSet<String> =
            machine.into_keys().chain(volume_tags(&identity(), 1, &Tags::new()).into_keys()).collect();
        let listed = OPERATORS_OWN.into_iter().chain([DISPLAY_NAME]).map(str::to_owned).collect();
        assert_eq!(written, listed);
        let published: Vec<String> = role_tags(Role::Primary, Epoch(1)).into_keys().collect();
        let mut expected = PUBLISHED.map(str::to_owned);
        expected.sort();
        assert_eq!(published, expected);
    }

    #[test]
    fn every_key_of_ours_may_be_read_through_instance_metadata() {
        let tags = machine_tags(&identity(), 1, &SpecHash("1-ab".into()), &Tags::new());
        for key in tags.keys().map(String::as_str).chain([HOLD, VOLUME]) {
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || "-_+=,.@:".contains(c)), "{key}");
        }
    }

    #[test]
    fn anything_not_understood_means_hands_off() {
        let good = machine_tags(&identity(), 1, &SpecHash("1-ab".into()), &Tags::new());
        for (key, value) in
            [(SCHEMA, "2"), (KIND, "apptier"), (SLOT, "x1"), (ATTEMPT, "one"), (REALM, "other"), (INCARNATION, "")]
        {
            let mut tags = good.clone();
            tags.insert(key.to_owned(), value.to_owned());
            assert!(matches!(read(&identity().realm, &tags), TagVerdict::HandsOff { .. }), "{key}={value}");
            tags.remove(key);
            assert!(matches!(read(&identity().realm, &tags), TagVerdict::HandsOff { .. }), "{key} missing");
        }
    }

    #[test]
    fn user_tags_that_collide_or_exceed_ec2s_bounds_are_refused() {
        for key in ["drover:role", "Drover:x", "aws:y", "AWS:y", "Name", "", "a/b", "a b", &"k".repeat(129)] {
            assert!(refuse_user_tag(key, "v").is_some(), "{key:?} was allowed");
        }
        assert!(refuse_user_tag("team", &"v".repeat(257)).is_some());
        assert_eq!(refuse_user_tag("cost:center", &"v".repeat(256)), None);
    }
}
