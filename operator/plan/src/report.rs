//! How a set is, computed from what was observed: the words, the table and the conditions that people read.

use std::{collections::BTreeMap, net::Ipv4Addr};

use drover_api::{
    Epoch, InstanceId, ResourceKey, Slot, Zone,
    conditions::{Condition, ConditionType},
    set::Access,
    status::Handled,
    tags::Role,
};
use serde::{Deserialize, Serialize};

use crate::endpoints::Endpoints;

/// One set as it was seen in one pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    pub key: ResourceKey,
    pub generation: i64,
    /// A sentence, most important first: what a person wants to know at three in the morning.
    pub verdict: String,
    pub ready: bool,
    pub primary: Option<Slot>,
    pub epoch: Option<Epoch>,
    pub members: Vec<MemberReport>,
    pub conditions: Vec<Condition>,
    /// Where clients connect; `None` while that is not known.
    #[serde(default)]
    pub endpoints: Option<Endpoints>,
    /// What mysqld the leader says it is, such as `9.7.4`.
    #[serde(default)]
    pub version: Option<String>,
    /// What is awaited, a line each.
    pub awaiting: Vec<String>,
    /// What became of requests, by their verb.
    #[serde(default)]
    pub handled: BTreeMap<String, Handled>,
    /// Declared users.
    #[serde(default)]
    pub users: Vec<UserReport>,
    /// Users that Drover made and nobody declares any more: they stay.
    #[serde(default)]
    pub kept_users: Vec<String>,
    /// The same of databases.
    #[serde(default)]
    pub kept_databases: Vec<String>,
}

/// A user of an application. Nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReport {
    pub name: String,
    pub database: String,
    pub access: Access,
    /// It is in MySQL as it is declared, with its present password.
    pub ready: bool,
}

/// One slot's row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    pub slot: Slot,
    pub instance: Option<InstanceId>,
    pub zone: Option<Zone>,
    pub address: Option<Ipv4Addr>,
    /// What it does now, by its own report.
    pub role: Option<Role>,
    pub epoch: Option<Epoch>,
    /// gtid_executed.
    pub position: Option<String>,
    pub lag_ms: Option<u64>,
    /// Age of the report that this row is made of, milliseconds, when the pass looked.
    pub report_age_ms: Option<u64>,
    /// In words: what it is doing or waiting for.
    pub state: String,
    pub ready: bool,
}

/// Why Ready is not known: the bucket, or EC2's lists, could not be read.
pub const RECORDS_UNKNOWN: &str = "RecordsUnknown";
pub const FLEET_UNKNOWN: &str = "FleetUnknown";

impl SetReport {
    /// Whether bucket and lists were seen, so that it is known how the set is.
    pub fn is_known(&self) -> bool {
        let ready = self.condition(ConditionType::Ready);
        !ready.is_some_and(|ready| [RECORDS_UNKNOWN, FLEET_UNKNOWN].contains(&ready.reason.as_str()))
    }

    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}
