//! One MySQLReplicaSet as the API server last showed it. It is read from an untyped object, so that one that nobody
//! understands stops no watch.

use std::{collections::BTreeMap, sync::Arc};

use drover_api::{
    Namespace, ResourceKey, ResourceName, object,
    requests::Request,
    set::{DeletionPolicy, MySQLReplicaSetSpec},
    status::MySQLReplicaSetStatus,
};
use kube::core::DynamicObject;

/// Keeps a resource until this operator has done what its deletion asks for.
pub const FINALIZER: &str = "drover.dev/machines";
/// Annotations that begin so ask for one act; the verb follows.
pub const REQUEST: &str = "drover.dev/request-";

/// What is wanted, and what was written on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub key: ResourceKey,
    pub uid: String,
    pub generation: i64,
    pub resource_version: String,
    /// The spec, or why it cannot be used.
    pub spec: Arc<Result<MySQLReplicaSetSpec, String>>,
    pub policy: DeletionPolicy,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub held: bool,
    /// By verb, what the annotation says.
    pub requests: BTreeMap<String, String>,
    /// As it was last written; the empty one where there is none or it cannot be read.
    pub status: Arc<MySQLReplicaSetStatus>,
}

/// Whose object it is.
///
/// # Errors
/// Where the name is one that no set can have.
pub fn key_of(object: &DynamicObject) -> Result<ResourceKey, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(ResourceKey {
        namespace: Namespace::new(text(&object.metadata.namespace)).map_err(|error| error.to_string())?,
        name: ResourceName::new(text(&object.metadata.name)).map_err(|error| error.to_string())?,
    })
}

impl Resource {
    /// Reads an object. `known` is the same one before: what did not change is not judged again.
    pub fn read(key: ResourceKey, object: &DynamicObject, known: Option<&Resource>) -> Self {
        let metadata = &object.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default();
        let same = known.filter(|known| known.uid == uid && known.generation == generation);
        let spec = match same {
            Some(known) => Arc::clone(&known.spec),
            None => Arc::new(object::spec_of(key.name.as_str(), &object.data["spec"])),
        };
        let status = serde_json::from_value::<MySQLReplicaSetStatus>(object.data["status"].clone()).unwrap_or_default();
        let requests = metadata.annotations.iter().flatten();
        Self {
            key,
            uid,
            generation,
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            policy: policy(&spec, object),
            spec,
            deleting: metadata.deletion_timestamp.is_some(),
            held: metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
            requests: requests
                .filter_map(|(name, value)| Some((name.strip_prefix(REQUEST)?.to_owned(), value.clone())))
                .collect(),
            status: Arc::new(status),
        }
    }

    /// What its annotations ask for that its status does not answer yet.
    pub fn unanswered(&self) -> Vec<Request> {
        let requests = self.requests.iter().map(|(verb, text)| Request::read(verb, text));
        let is_answered = |request: &Request| {
            self.status.handled.get(&request.verb).is_some_and(|handled| handled.token == request.token)
        };
        requests.filter(|request| !is_answered(request)).collect()
    }

    /// Whether the difference to what was known is more than what this operator wrote itself.
    pub fn asks_anew(&self, known: &Resource) -> bool {
        let asked = |it: &Resource| (it.uid.clone(), it.generation, it.deleting, it.held, it.requests.clone());
        asked(self) != asked(known)
    }
}

/// Of a spec that cannot be used its deletion policy still counts, where that much can be read: Delete was a decision.
fn policy(spec: &Result<MySQLReplicaSetSpec, String>, object: &DynamicObject) -> DeletionPolicy {
    match spec {
        Ok(spec) => spec.deletion_policy,
        Err(_) => serde_json::from_value(object.data["spec"]["deletionPolicy"].clone()).unwrap_or_default(),
    }
}
