//! The custom resource MySQLReplicaSet. Its doc comments are the user's documentation: they appear in `kubectl explain`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;

pub const GROUP: &str = "drover.dev";
pub const VERSION: &str = "v1alpha1";
pub const KIND: &str = "MySQLReplicaSet";

/// A MySQL replica set on EC2 machines: voting members that acknowledge every commit, and read replicas beside them.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "MySQLReplicaSet",
    plural = "mysqlreplicasets",
    shortname = "mrs",
    category = "drover",
    namespaced,
    status = "MySQLReplicaSetStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MySQLReplicaSetSpec {
    /// Voting members, in different zones where possible: 1, 3 or 5. A commit is acknowledged once half of them, rounded
    /// down, beside the primary have it. Cannot be changed yet.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 5))]
    pub members: u8,

    /// Asynchronous read replicas beside the members: they serve reads, never acknowledge and never lead.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub read_replicas: u16,

    /// The MySQL release series, such as "9.7": the image is chosen by it where images are selected by tags, and no other
    /// mysqld is started. Cannot be changed yet.
    #[schemars(regex(pattern = r"^[0-9]{1,3}\.[0-9]{1,3}$"))]
    pub version: String,

    /// The machines. What is left out comes from the operator's configuration.
    #[serde(default)]
    pub machine: MachineSpec,

    /// mysqld itself.
    #[serde(default)]
    pub mysql: MysqlSpec,

    /// What deleting this resource does to machines and data: Retain leaves everything running, and the same name adopts
    /// it again; Delete ends machines and volumes for good.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Drover looks, and changes nothing.
    #[serde(default)]
    pub paused: bool,
}

/// The machines of a set. A change reaches new machines only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// The machine image: by id, or the newest that has all the tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSelector>,

    /// Instance types in order of preference: the next is taken where EC2 has no capacity for the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), inner(regex(pattern = r"^[a-z0-9-]+\.[a-z0-9-]+$")))]
    pub instance_types: Option<Vec<String>>,

    /// Where machines may stand: subnets by id or by tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<NetworkSelector>,

    /// Security groups by id or by tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<NetworkSelector>,

    /// The instance profile's name. Machines that share a profile can read each other's certificates: one per set is best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub instance_profile: Option<String>,

    /// Required waits rather than put two members into one zone; Preferred places and warns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_spread: Option<ZoneSpread>,

    /// Tags of your own on machines and volumes, 36 at most; keys of letters, digits and -_+=,.@: only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,

    /// The data volume of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeSpec>,
}

/// An image by its id, or the newest available one with all of the tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^ami-[0-9a-zA-Z]{1,60}$"))]
    pub id: Option<String>,
    /// Besides these, the image must have `mysql-version` equal to spec.version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Account ids, `self`, `amazon` or `aws-marketplace`; `self` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub owners: Option<Vec<String>>,
}

/// Subnets or security groups by their ids, or all that have all of the tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub ids: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The EBS volume that holds a machine's data. A member's volume outlives its machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataVolumeSpec {
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sizeGiB")]
    #[schemars(range(min = 1, max = 65536))]
    pub size_gib: Option<u32>,
    /// gp3 where left out.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub volume_type: Option<VolumeType>,
    /// Only for gp3, io1 and io2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 256000))]
    pub iops: Option<u32>,
    /// Only for gp3.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "throughputMiBps")]
    #[schemars(range(min = 125, max = 2000))]
    pub throughput_mibps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// mysqld's own part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MysqlSpec {
    /// System variables by name, as in my.cnf. Those that decide about safety are refused, each with its reason. A change
    /// reaches new machines only.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,

    /// standard: an acknowledged row survives the loss of any machine that the set tolerates. strict: acknowledging
    /// members also sync their relay log for every transaction, at the price of throughput on network disks.
    #[serde(default)]
    pub durability: Durability,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    #[default]
    Standard,
    Strict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ZoneSpread {
    #[default]
    Required,
    Preferred,
}

/// EBS volume types that are fit for a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    #[default]
    Gp3,
    Gp2,
    Io1,
    Io2,
}

/// What was observed; never what is hoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MySQLReplicaSetStatus {
    /// The generation that the rest of the status is about.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The slot that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Ready machines of wanted machines, such as "4/4".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
}

fn three() -> u8 {
    3
}

fn unobserved() -> i64 {
    -1
}

impl VolumeType {
    /// EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeType::Gp3 => "gp3",
            VolumeType::Gp2 => "gp2",
            VolumeType::Io1 => "io1",
            VolumeType::Io2 => "io2",
        }
    }
}
