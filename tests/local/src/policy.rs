//! What a machine's role may do: read binaries, and of its own set the bundles and the register. Nothing else, anywhere.
//!
//! This is the policy that an instance profile of one set has on AWS, from the same list of keys as `drover iam-policy --for
//! machine` prints it. It speaks of sets, not of slots or lives: role credentials do not say which slot a machine fills, so
//! machines of a set can read each other's bundles there, and here.

use std::collections::BTreeMap;

use drover_api::{
    Realm,
    bucket::{KeyPattern, RealmKeys},
    tags::{self, TagVerdict},
};

/// What machines of one set read, from `realms/` on. Tags do not say what prefix an operator puts before that, so any may be
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetScope {
    reads: [KeyPattern; 3],
}

impl SetScope {
    /// Reads the identity tags of a machine. `None` where it has none that Drover understands: such a machine may read nothing.
    pub fn from_tags(tags: &BTreeMap<String, String>) -> Option<Self> {
        let realm = Realm::new(tags.get(tags::REALM)?).ok()?;
        let TagVerdict::Ours { identity, .. } = tags::read(&realm, tags) else {
            return None;
        };
        Some(Self { reads: RealmKeys::new("", &realm).read_by_machines(&identity.key) })
    }
}

/// Whether a machine of `set` may call `operation` (as S3 names it; `s3:GetObject` allows both that read) on `key` of the
/// installation's bucket.
pub fn machine_may(operation: &str, key: &str, set: Option<&SetScope>) -> bool {
    let Some(scope) = set else { return false };
    if !matches!(operation, "GetObject" | "HeadObject") || key.split('/').any(|part| part == "..") {
        return false;
    }
    // A prefix is empty or ends with a slash, and may have `realms/` in it.
    let begins = |at: &usize| key[..*at].is_empty() || key[..*at].ends_with('/');
    let mut realms = key.match_indices("realms/").map(|(at, _)| at).filter(begins);
    realms.any(|at| scope.reads.iter().any(|pattern| pattern.matches(&key[at..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(realm: &str, name: &str) -> Option<SetScope> {
        let tags = [
            ("drover:schema", "1"),
            ("drover:realm", realm),
            ("drover:kind", "mysqlreplicaset"),
            ("drover:ns", "default"),
            ("drover:name", name),
            ("drover:inc", "abc12345"),
            ("drover:slot", "m0"),
            ("drover:attempt", "1"),
        ];
        SetScope::from_tags(&tags.map(|(key, value)| (key.into(), value.into())).into())
    }

    #[test]
    fn a_machine_reads_binaries_and_its_own_set_and_nothing_else() {
        let set = "realms/r/mysqlreplicaset/default/orders/abc12345";
        for (operation, key, allowed) in [
            ("GetObject", "realms/r/bin/current", true),
            ("GetObject", "realms/r/bin/0123/drover", true),
            ("HeadObject", "realms/r/bin/current", true),
            ("GetObject", &format!("{set}/register.json"), true),
            ("HeadObject", &format!("{set}/slots/m0/bundle.json"), true),
            ("PutObject", &format!("{set}/register.json"), false),
            ("PutObject", "realms/r/bin/current", false),
            ("DeleteObject", &format!("{set}/register.json"), false),
            ("GetObject", &format!("{set}/ca.json"), false),
            ("GetObject", &format!("{set}/slots/m0.json"), false),
            // IAM's * takes slashes too.
            ("GetObject", &format!("{set}/slots/m0/x/bundle.json"), true),
            ("GetObject", &format!("{set}/journal/1.json"), false),
            ("GetObject", "realms/r/mysqlreplicaset/default/orders/incarnation.json", false),
            // Of another life: a profile knows of none.
            ("GetObject", "realms/r/mysqlreplicaset/default/orders/zzz99999/register.json", true),
            ("GetObject", "realms/r/mysqlreplicaset/default/orders/zzz99999/ca.json", false),
            ("GetObject", "realms/r/mysqlreplicaset/default/other/abc12345/slots/m0/bundle.json", false),
            ("GetObject", "realms/other/bin/current", false),
            ("GetObject", "realms/r/lock.json", false),
            ("GetObject", "realms/r/bin/../lock.json", false),
            ("ListObjectsV2", "", false),
            ("ListObjectsV2", "realms/r/bin/", false),
        ] {
            // Under whatever prefix the operator was given.
            for prefix in ["", "x/", "teams/db/", "realms/", "realms/other/"] {
                let key = format!("{prefix}{key}");
                assert_eq!(machine_may(operation, &key, scope("r", "orders").as_ref()), allowed, "{operation} {key}");
            }
        }
    }

    #[test]
    fn a_prefix_ends_with_a_slash() {
        for key in ["xrealms/r/bin/current", "x/yrealms/r/bin/current", "../realms/r/bin/current"] {
            assert!(!machine_may("GetObject", key, scope("r", "orders").as_ref()), "{key}");
        }
    }

    #[test]
    fn a_machine_without_identity_reads_nothing() {
        assert!(!machine_may("GetObject", "realms/r/bin/current", scope("", "orders").as_ref()));
        assert!(!machine_may("GetObject", "realms/r/bin/current", scope("a/b", "orders").as_ref()));
    }
}
