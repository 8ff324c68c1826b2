//! The status of a MySQLReplicaSet: what was observed, never what is hoped. Nothing in it moves all the time (positions, lags),
//! for each change is a write that every watcher hears; those are in metrics and in `drover status`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was observed; never what is hoped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MySQLReplicaSetStatus {
    /// The generation that the rest of the status is about.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Ready is always there; Reconciling and Stalled only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The slot that is open for writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Ready machines of wanted machines, such as "4/4".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Read replicas that are ready: what the scale subresource reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_replicas: Option<u16>,
    /// For the scale subresource: it selects nothing, for the replicas are no Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The MySQL that the primary runs, such as "9.7.4".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Host and port for writes: the Service that follows the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Host and port for reads: the Service that follows the replicas that are at most two seconds behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_endpoint: Option<String>,
    /// The zones that machines stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<String>,
    /// One for each slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// The latest request of each kind and what became of it, by the request's verb.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handled: BTreeMap<String, Handled>,
}

/// A slot and the machine in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Such as m0 for a member, r0 for a read replica.
    pub slot: String,
    /// The EC2 instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its private address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it does, by the last that was heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// It serves in its role.
    pub ready: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// The request's first word: whoever asked knows its answer by it.
    pub token: String,
    /// Done, or why not.
    pub outcome: String,
}

impl Default for MySQLReplicaSetStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            primary: None,
            nodes: None,
            read_replicas: None,
            selector: None,
            version: None,
            endpoint: None,
            read_endpoint: None,
            zones: None,
            members: Vec::new(),
            handled: BTreeMap::new(),
        }
    }
}

/// For kstatus an object without conditions whose generation was observed counts as done: nothing was observed yet.
fn unobserved() -> i64 {
    -1
}
