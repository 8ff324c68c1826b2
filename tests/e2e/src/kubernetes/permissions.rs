//! What a service account is granted beside what it asked for.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;

use super::{AuditEntry, ControlPlane};

/// API group, resource with its subresource, verb.
type Permission = (String, String, String);

impl ControlPlane {
    /// Of a service account every permission that its roles grant was used, and it asked for nothing else.
    pub fn must_use_what_is_granted(&self, namespace: &str, account: &str) -> anyhow::Result<()> {
        self.must_not_be_refused(namespace, account)?;
        let (used, granted) = (self.used(namespace, account)?, self.granted(namespace, account)?);
        ensure!(!granted.is_empty(), "nothing is granted");
        let unused: Vec<_> = granted.difference(&used).filter(|grant| !is_by_the_way(grant)).collect();
        ensure!(unused.is_empty(), "granted and not used: {unused:?}");
        Ok(())
    }

    /// It asked for nothing that it may not, anywhere. What a namespace that is going away refuses is no matter of rights.
    pub fn must_not_be_refused(&self, namespace: &str, account: &str) -> anyhow::Result<()> {
        let asked = self.asked_by(namespace, account)?;
        ensure!(!asked.is_empty(), "{account} asked for nothing");
        // An API server that has just begun does not know its roles yet: what it grants at another time is granted.
        let what = |entry: &AuditEntry| {
            let AuditEntry { verb, api_group, resource, subresource, namespace, name, .. } = entry.clone();
            (verb, api_group, resource, subresource, namespace, name)
        };
        let granted: BTreeSet<_> = asked.iter().filter(|entry| !entry.forbidden).map(what).collect();
        let refused: Vec<_> = asked.iter().filter(|entry| entry.forbidden && !granted.contains(&what(entry))).collect();
        ensure!(refused.is_empty(), "asked for and not granted: {refused:?}");
        // Everybody's rights are no reason either: its own roles are to say what it does.
        let (used, granted) = (self.used(namespace, account)?, self.granted(namespace, account)?);
        let unsaid: Vec<_> = used.difference(&granted).collect();
        ensure!(unsaid.is_empty(), "used and not granted by its own roles: {unsaid:?}");
        Ok(())
    }

    fn asked_by(&self, namespace: &str, account: &str) -> anyhow::Result<Vec<AuditEntry>> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        Ok(self.audit()?.into_iter().filter(|entry| entry.user == user).collect())
    }

    fn used(&self, namespace: &str, account: &str) -> anyhow::Result<BTreeSet<Permission>> {
        let entries = self.asked_by(namespace, account)?.into_iter().filter(|entry| !entry.resource.is_empty());
        let permission = |entry: AuditEntry| {
            let resource = match entry.subresource.as_str() {
                "" => entry.resource,
                sub => format!("{}/{sub}", entry.resource),
            };
            (entry.api_group, resource, entry.verb)
        };
        Ok(entries.map(permission).collect())
    }

    fn granted(&self, namespace: &str, account: &str) -> anyhow::Result<BTreeSet<Permission>> {
        let mut granted = BTreeSet::new();
        for kind in ["clusterrole", "role"] {
            let bindings = self.admin.get_json(&[&format!("{kind}binding"), "-A"])?;
            let is_ours = |subject: &Value| subject["name"] == account && subject["namespace"] == namespace;
            for binding in items(&bindings["items"]).filter(|binding| items(&binding["subjects"]).any(is_ours)) {
                let (name, place) = (&binding["roleRef"]["name"], &binding["metadata"]["namespace"]);
                let (name, place) = (name.as_str().unwrap_or_default(), place.as_str().unwrap_or("default"));
                let role = self.admin.get_json(&[kind, name, "--namespace", place])?;
                for rule in items(&role["rules"]) {
                    for group in texts(&rule["apiGroups"]) {
                        for resource in texts(&rule["resources"]) {
                            granted.extend(texts(&rule["verbs"]).map(|verb| (group.clone(), resource.clone(), verb)));
                        }
                    }
                }
            }
        }
        Ok(granted)
    }
}

/// Server-side apply makes what is not there: the API server asks for `create` then too, and writes `patch` in its log.
fn is_by_the_way((_, resource, verb): &Permission) -> bool {
    verb == "create" && ["services", "endpointslices", "secrets"].contains(&resource.as_str())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    items(list).filter_map(Value::as_str).map(str::to_owned)
}
