//! The writes of one resource, made one after the other.

use std::sync::Arc;

use drover_api::status::MySQLReplicaSetStatus;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{core::DynamicObject, runtime::watcher::Event};
use serde_json::Value;

use super::{
    companions::Named,
    desired::Write,
    hands::{Hands, WriteError},
    resource::Resource,
    secrets::SecretObject,
    store::Store,
};

/// The kinds of companions.
pub const SERVICE: &str = "Service";
pub const SLICE: &str = "EndpointSlice";

/// How the writes of one resource went.
#[derive(Debug)]
pub struct Outcome {
    pub resource: Arc<Resource>,
    /// The status that was written.
    pub status: Option<MySQLReplicaSetStatus>,
    /// The Secrets that were.
    pub secrets: Vec<SecretObject>,
    /// Why not everything was.
    pub failed: Option<WriteError>,
}

/// Makes the writes of one resource, one after the other. Somebody else's object in the way keeps none of the others.
pub async fn perform(hands: &Hands, store: &Store, resource: Arc<Resource>, writes: Vec<Write>) -> Outcome {
    let mut outcome = Outcome { resource: Arc::clone(&resource), status: None, secrets: Vec::new(), failed: None };
    let mut version = resource.resource_version.clone();
    for write in writes {
        match one(hands, store, &resource, &mut version, &write).await {
            Ok(()) => match write {
                Write::Status(status) => outcome.status = Some(*status),
                Write::Secret(secret) => outcome.secrets.push(secret),
                Write::Hold | Write::Release | Write::Service(_) | Write::Slice(_) => {}
            },
            Err(error @ WriteError::Foreign { .. }) => outcome.failed = Some(error),
            Err(error) => {
                outcome.failed = Some(error);
                break;
            }
        }
    }
    outcome
}

/// One write. `version` is the resource's as we know it.
async fn one(
    hands: &Hands,
    store: &Store,
    resource: &Resource,
    version: &mut String,
    write: &Write,
) -> Result<(), WriteError> {
    match write {
        Write::Hold => take(store, resource, version, hands.hold(resource).await?),
        Write::Status(status) => take(store, resource, version, hands.status(resource, status).await?),
        // The object may be gone with it: the watch says so, and nothing older is believed again.
        Write::Release => hands.release(resource).await.map(drop)?,
        Write::Secret(secret) => hands.put::<Secret>(resource, &secret.0, None).await.map(drop)?,
        Write::Service(object) | Write::Slice(object) => {
            let Some((name, _)) = companion(resource, write) else { return Ok(()) };
            let is_ours = store.companions().is_owned_by(&name, &resource.uid);
            let version = match write {
                Write::Service(_) => hands.put::<Service>(resource, object, is_ours).await?,
                _ => hands.put::<EndpointSlice>(resource, object, is_ours).await?,
            };
            store.companions().written(name, &resource.uid, object, version);
        }
    }
    Ok(())
}

/// The answer to a write is the newest that is known as long as no watch has shown another version: with it nothing is written
/// and told twice.
fn take(store: &Store, resource: &Resource, version: &mut String, answer: DynamicObject) {
    let known = store.resources().all().get(&resource.key).map(|known| known.resource_version.clone());
    if known.as_ref() == Some(version) {
        *version = answer.metadata.resource_version.clone().unwrap_or_default();
        store.absorb(&None, Event::Apply(answer));
    }
}

/// What a write makes besides the resource itself.
pub fn companion<'a>(resource: &Resource, write: &'a Write) -> Option<(Named, &'a Value)> {
    let (kind, object) = match write {
        Write::Service(object) => (SERVICE, object),
        Write::Slice(object) => (SLICE, object),
        Write::Hold | Write::Release | Write::Status(_) | Write::Secret(_) => return None,
    };
    Some(((kind, resource.key.namespace.to_string(), name_of(object)), object))
}

pub fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
