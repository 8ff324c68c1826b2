//! Writes to the API server, each one call with a deadline: what is declared or shown by server-side apply under our own field
//! managers, so that nobody's fields but ours are touched; events as they are made. (The Lease is [`super::election`]'s.)

use std::{fmt::Debug, time::Duration};

use drover_api::{Millis, set, status::MySQLReplicaSetStatus};
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, NamespaceResourceScope},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    events::{Fact, Telling},
    resource::{FINALIZER, Resource},
};

/// Owns finalizers, Services, slices and Secrets.
pub const MANAGER: &str = "drover-operator";
/// Owns the status.
pub const STATUS_MANAGER: &str = "drover-operator-status";

/// Longer than an API server's own time for a request under load is of no use: the next try finds it done.
const CALL_MAX: Duration = Duration::from_secs(10);
/// An event's note may have 1,024 characters (events.k8s.io/v1).
const NOTE_CHARS_MAX: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the API server did not answer within {} s", CALL_MAX.as_secs())]
    Deadline,
    #[error("{0}")]
    Api(#[source] Box<kube::Error>),
    #[error("{kind} {namespace}/{name} belongs to somebody else: rename it, or rename the set")]
    Foreign { kind: String, namespace: String, name: String },
}

/// Writes for one operator process.
#[derive(Clone)]
pub struct Hands {
    client: Client,
    sets: ApiResource,
    /// The process, for people who read events.
    instance: String,
}

// === impl WriteError ===

impl WriteError {
    /// Trying again would be refused again: the object is gone, or another has its name.
    pub fn is_over(&self) -> bool {
        matches!(self, WriteError::Api(error) if matches!(&**error, kube::Error::Api(status) if status.code == 404 || status.code == 409))
    }

    /// Nobody can write to it: an older definition let in what has other types by the present one. Server-side apply answers 500, and
    /// whatever else 422, a mended spec too, for the CEL rules do not even run on what was there before (measured on 1.35).
    pub fn is_of_other_types(&self) -> bool {
        let WriteError::Api(error) = self else { return false };
        let kube::Error::Api(status) = &**error else { return false };
        status.code == 500 && status.message.contains("failed to create typed live object")
    }

    /// Its namespace is being deleted: nothing is made there any more, and nothing needs to be.
    pub fn is_terminating(&self) -> bool {
        let WriteError::Api(error) = self else { return false };
        let kube::Error::Api(status) = &**error else { return false };
        status.code == 403 && status.message.contains("being terminated")
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        WriteError::Api(Box::new(error))
    }
}

// === impl Hands ===

impl Hands {
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, sets: ApiResource::erase::<set::MySQLReplicaSet>(&()), instance }
    }

    /// Puts our finalizer on a resource. The uid keeps the write from making anew what has been deleted meanwhile.
    pub async fn hold(&self, resource: &Resource) -> Result<DynamicObject, WriteError> {
        self.finalizers(resource, &[FINALIZER]).await
    }

    /// Takes our finalizer off, and nobody else's.
    pub async fn release(&self, resource: &Resource) -> Result<DynamicObject, WriteError> {
        self.finalizers(resource, &[]).await
    }

    async fn finalizers(&self, resource: &Resource, ours: &[&str]) -> Result<DynamicObject, WriteError> {
        let body = self.about(resource, json!({ "metadata": { "finalizers": ours } }));
        let patch = Patch::Apply(body);
        let params = PatchParams::apply(MANAGER).force();
        in_time(self.set(resource).patch(resource.key.name.as_str(), &params, &patch)).await
    }

    pub async fn status(
        &self,
        resource: &Resource,
        status: &MySQLReplicaSetStatus,
    ) -> Result<DynamicObject, WriteError> {
        let patch = Patch::Apply(self.about(resource, json!({ "status": status })));
        let params = PatchParams::apply(STATUS_MANAGER).force();
        in_time(self.set(resource).patch_status(resource.key.name.as_str(), &params, &patch)).await
    }

    /// Writes an object that goes with a resource, unless the name is somebody else's. `is_ours` is what is known of that.
    /// Answers the version that was written.
    pub async fn put<K>(&self, resource: &Resource, object: &Value, is_ours: Option<bool>) -> Result<String, WriteError>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let namespace = resource.key.namespace.as_str();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        if is_ours != Some(true) {
            let found = in_time(api.get_metadata_opt(name)).await?;
            let owners = found.iter().flat_map(ResourceExt::owner_references);
            let is_ours = found.is_none() || owners.into_iter().any(|owner| owner.uid == resource.uid);
            if !is_ours {
                let kind = K::kind(&()).into_owned();
                return Err(WriteError::Foreign { kind, namespace: namespace.to_owned(), name: name.to_owned() });
            }
        }
        let written = in_time(api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))).await?;
        Ok(written.resource_version().unwrap_or_default())
    }

    /// Tells a fact about a resource as an event.
    pub async fn tell(
        &self,
        resource: &Resource,
        fact: &Fact,
        telling: &Telling,
        now: Millis,
    ) -> Result<(), WriteError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), resource.key.namespace.as_str());
        let now = i64::try_from(now.0).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
        let now = MicroTime(now.unwrap_or(Timestamp::MAX));
        match telling {
            Telling::Dropped => Ok(()),
            Telling::New(name) => {
                in_time(api.create(&PostParams::default(), &self.event(resource, fact, name, now))).await.map(drop)
            }
            Telling::Again(name, count) => {
                let series = EventSeries { count: *count, last_observed_time: now };
                let patch = Patch::Merge(json!({ "series": series }));
                in_time(api.patch(name, &PatchParams::default(), &patch)).await.map(drop)
            }
        }
    }

    fn event(&self, resource: &Resource, fact: &Fact, name: &str, now: MicroTime) -> Event {
        let (namespace, set_name) = (resource.key.namespace.to_string(), resource.key.name.to_string());
        let mut event = Event {
            event_time: Some(now),
            action: Some("Reconcile".to_owned()),
            reason: Some(fact.reason.clone()),
            note: Some(fact.message.chars().take(NOTE_CHARS_MAX).collect()),
            type_: Some(if fact.warning { "Warning" } else { "Normal" }.to_owned()),
            reporting_controller: Some("drover.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(format!("{}/{}", set::GROUP, set::VERSION)),
                kind: Some(set::KIND.to_owned()),
                name: Some(set_name),
                namespace: Some(namespace.clone()),
                uid: Some(resource.uid.clone()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        event.meta_mut().name = Some(name.to_owned());
        event.meta_mut().namespace = Some(namespace);
        event
    }

    fn set(&self, resource: &Resource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), resource.key.namespace.as_str(), &self.sets)
    }

    /// A body for server-side apply on a resource that is there.
    fn about(&self, resource: &Resource, mut body: Value) -> Value {
        body["apiVersion"] = json!(self.sets.api_version);
        body["kind"] = json!(self.sets.kind);
        body["metadata"]["name"] = json!(resource.key.name);
        body["metadata"]["namespace"] = json!(resource.key.namespace);
        body["metadata"]["uid"] = json!(resource.uid);
        body
    }
}

impl Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hands({})", self.instance)
    }
}

async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WriteError::Deadline),
    }
}
