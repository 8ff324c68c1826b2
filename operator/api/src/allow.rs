//! What the sets of a namespace may use of an account. Whoever may write a manifest starts machines with an instance profile:
//! which ones is the installation's to say, not the manifest's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Namespace,
    defaults::{ResolvedSet, Unresolved},
};

/// By namespace; `*` is for those that are not named. Where nothing is said at all, everything is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allow(pub BTreeMap<String, Allowed>);

/// What one namespace may use. A list that is left out allows everything of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowed {
    /// Names.
    #[serde(default)]
    pub instance_profiles: Option<Vec<String>>,
    /// Ids.
    #[serde(default)]
    pub subnets: Option<Vec<String>>,
}

/// Every namespace that is not named.
pub const OTHERS: &str = "*";

impl Allow {
    /// Holds a set to what its namespace may use. What subnets its tags select is not known yet: the set then carries which are
    /// allowed.
    ///
    /// # Errors
    /// What is not allowed, and where it is said what is.
    pub fn hold(&self, mut set: ResolvedSet) -> Result<ResolvedSet, Unresolved> {
        if self.0.is_empty() {
            return Ok(set);
        }
        let namespace = &set.key.namespace;
        let Some(allowed) = self.0.get(namespace.as_str()).or_else(|| self.0.get(OTHERS)) else {
            return Err(refused("metadata.namespace", namespace.as_str(), namespace));
        };
        if let Some(profiles) = &allowed.instance_profiles
            && !profiles.contains(&set.instance_profile)
        {
            return Err(refused("spec.machine.instanceProfile", &set.instance_profile, namespace));
        }
        if let Some(subnets) = &allowed.subnets {
            let mut selected = set.subnets.ids.iter().flatten();
            if let Some(other) = selected.find(|id| !subnets.contains(*id)) {
                return Err(refused("spec.machine.subnets.ids", other, namespace));
            }
            set.subnets_allowed = Some(subnets.clone());
        }
        Ok(set)
    }
}

fn refused(field: &'static str, value: &str, namespace: &Namespace) -> Unresolved {
    Unresolved::NotAllowed { field, value: value.to_owned(), namespace: namespace.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest;

    fn set(namespace: &str, profile: &str, subnets: &serde_json::Value) -> ResolvedSet {
        let text = json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "MySQLReplicaSet",
            "metadata": { "name": "shop", "namespace": namespace },
            "spec": { "version": "9.7", "machine": {
                "image": { "id": "ami-1" }, "instanceTypes": ["m7g.large"], "subnets": subnets,
                "securityGroups": { "ids": ["sg-1"] }, "instanceProfile": profile,
            } },
        });
        let (manifests, errors) = manifest::parse("f", &text.to_string());
        assert!(errors.is_empty(), "{errors:?}");
        manifests[0].resolve(&crate::defaults::Terms::default()).expect("whole")
    }

    fn told(allow: &str, set: ResolvedSet) -> Result<Option<Vec<String>>, String> {
        let allow: Allow = serde_saphyr::from_str(allow).expect("allowances");
        allow.hold(set).map(|set| set.subnets_allowed).map_err(|error| error.to_string())
    }

    #[test]
    fn a_namespace_uses_what_it_may_and_the_refusal_says_where_that_is_said() {
        let allow = "{shop: {instanceProfiles: [shop-db], subnets: [subnet-1]}, '*': {instanceProfiles: [plain]}}";
        let (one, by_tag) = (json!({ "ids": ["subnet-1"] }), json!({ "tags": { "a": "b" } }));
        assert_eq!(told("{}", set("shop", "any", &one)), Ok(None));
        assert_eq!(told(allow, set("shop", "shop-db", &one)), Ok(Some(vec!["subnet-1".to_owned()])));
        assert_eq!(told(allow, set("shop", "shop-db", &by_tag)), Ok(Some(vec!["subnet-1".to_owned()])));
        assert_eq!(told(allow, set("till", "plain", &one)), Ok(None));
        for (namespace, profile, subnets, field) in [
            ("shop", "plain", &one, "spec.machine.instanceProfile: plain"),
            ("shop", "shop-db", &json!({ "ids": ["subnet-1", "subnet-2"] }), "spec.machine.subnets.ids: subnet-2"),
            ("till", "shop-db", &one, "spec.machine.instanceProfile: shop-db"),
        ] {
            let said = told(allow, set(namespace, profile, subnets)).expect_err("refused");
            assert!(said.starts_with(field) && said.contains("`allow` of the operator's configuration"), "{said}");
        }
        let said = told("{shop: {}}", set("till", "any", &one)).expect_err("not named");
        assert!(said.starts_with("metadata.namespace: till"), "{said}");
    }
}
