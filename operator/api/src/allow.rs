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
