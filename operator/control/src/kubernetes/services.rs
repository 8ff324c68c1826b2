//! The Services that follow a set's roles, and their EndpointSlices. Pure. A Service without a selector is served by the slices
//! that name it (Kubernetes documentation, "Services without selectors"); machines are no Pods, so there is nothing to select.

use drover_api::{ResourceKey, digest, set, wire::MYSQL_PORT};
use drover_plan::{Endpoint, Endpoints};
use serde_json::{Value, json};

use super::{companions::APPLIED, resource::Resource};

/// What clients come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    Primary,
    Replicas,
}

/// Whose objects these are, for people and for our own watch.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "drover");
const PORT_NAME: &str = "mysql";

/// `<set>-primary` or `<set>-replicas`: of the Service, and of its slice.
pub fn name(key: &ResourceKey, of: For) -> String {
    format!("{}-{}", key.name, of.word())
}

/// The Service, whole.
pub fn service(resource: &Resource, of: For) -> Value {
    stamped(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(resource, &name(&resource.key, of), of.word(), &[]),
        "spec": {
            "type": "ClusterIP",
            "ports": [{ "name": PORT_NAME, "port": MYSQL_PORT, "targetPort": MYSQL_PORT, "protocol": "TCP" }],
        },
    }))
}

/// The EndpointSlice of that Service, whole.
pub fn slice(resource: &Resource, of: For, endpoints: &Endpoints) -> Value {
    let service = name(&resource.key, of);
    let own = [
        ("kubernetes.io/service-name", service.as_str()),
        ("endpointslice.kubernetes.io/managed-by", "operator.drover.dev"),
    ];
    let endpoints = match of {
        For::Primary => &endpoints.primary,
        For::Replicas => &endpoints.replicas,
    };
    stamped(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(resource, &service, of.word(), &own),
        "addressType": "IPv4",
        "ports": [{ "name": PORT_NAME, "port": MYSQL_PORT, "protocol": "TCP" }],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    }))
}

/// With its own digest, so that its metadata says what was written.
fn stamped(mut object: Value) -> Value {
    let digest = digest::sha256_hex(object.to_string().as_bytes());
    object["metadata"]["annotations"] = json!({ APPLIED: digest });
    object
}

/// Name, labels and owner of an object that goes with its set's resource.
pub fn metadata(resource: &Resource, name: &str, role: &str, more: &[(&str, &str)]) -> Value {
    let set = resource.key.name.as_str();
    let mut labels = json!({
        MANAGED_BY.0: MANAGED_BY.1,
        "app.kubernetes.io/name": "mysql",
        "app.kubernetes.io/instance": set,
        "drover.dev/set": set,
        "drover.dev/role": role,
    });
    for (label, value) in more {
        labels[*label] = json!(value);
    }
    json!({
        "name": name,
        "namespace": resource.key.namespace,
        "labels": labels,
        "ownerReferences": [{
            "apiVersion": format!("{}/{}", set::GROUP, set::VERSION),
            "kind": set::KIND,
            "name": resource.key.name,
            "uid": resource.uid,
            "controller": true,
            // Nobody waits for these, and whoever may not set finalizers of the owner may not say otherwise.
            "blockOwnerDeletion": false,
        }],
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let mut json = json!({
        "addresses": [endpoint.address],
        "conditions": { "ready": true, "serving": true, "terminating": false },
    });
    if let Some(zone) = &endpoint.zone {
        json["zone"] = json!(zone);
    }
    json
}

impl For {
    pub fn word(self) -> &'static str {
        match self {
            For::Primary => "primary",
            For::Replicas => "replicas",
        }
    }
}
