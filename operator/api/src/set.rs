//! The custom resource MySQLReplicaSet. Its doc comments are the user's documentation: they appear in `kubectl explain`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::MySQLReplicaSetStatus;

pub const GROUP: &str = "drover.dev";
pub const VERSION: &str = "v1alpha1";
pub const KIND: &str = "MySQLReplicaSet";

/// A MySQL replica set on EC2 machines: voting members that acknowledge every commit, and read replicas beside them.
#[expect(clippy::duplicated_attributes, reason = "columns of one type are no mistake")]
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
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.readReplicas",
        status_replicas_path = ".status.readReplicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Quorum",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="QuorumHeld")].status"#
    ),
    printcolumn(name = "Endpoint", type_ = "string", priority = 1, json_path = ".status.endpoint"),
    printcolumn(name = "Zones", type_ = "string", priority = 1, json_path = ".status.zones")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MySQLReplicaSetSpec {
    /// Voting members, in different zones where possible: 1, 3 or 5. A commit is acknowledged once half of them, rounded
    /// down, beside the primary have it. Cannot be changed yet.
    #[serde(default = "three")]
    pub members: u8,

    /// Asynchronous read replicas beside the members: they serve reads, never acknowledge and never lead.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub read_replicas: u16,

    /// The MySQL release series, such as "9.7": the image is chosen by it where images are selected by tags, and no other
    /// mysqld is started. Cannot be changed yet.
    pub version: String,

    /// The machines. What is left out comes from the operator's configuration.
    #[serde(default)]
    pub machine: MachineSpec,

    /// mysqld itself.
    #[serde(default)]
    pub mysql: MysqlSpec,

    /// What deleting the resource does. Retain: everything goes on running, and the same name adopts it again. Delete: its
    /// machines and volumes are ended for good, with all data; the resource is gone once they were seen to end. In a directory
    /// of manifests a removed manifest always retains: there, `drover delete` ends a set.
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
    #[schemars(length(min = 1, max = 20))]
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

    /// Required waits for three zones (for one member: one) and then spreads evenly; Preferred places and warns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_spread: Option<ZoneSpread>,

    /// Tags of your own on machines and volumes, 36 at most; keys of letters, digits and -_+=,.@: only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,

    /// The data volume of each machine. A member keeps its own: a change reaches volumes that are made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeSpec>,
}

/// An image by its id, or the newest available one with all of the tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSelector {
    /// By id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The newest available image that has every one of these tags and `mysql-version` equal to spec.version.
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
    /// By id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub ids: Option<Vec<String>>,
    /// All that have every one of these tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The EBS volume that holds a machine's data. A member's volume outlives its machines: a change reaches volumes that are
/// made later, and those that exist are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataVolumeSpec {
    /// In GiB; 20 where neither this nor the operator's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sizeGiB")]
    #[schemars(range(min = 1, max = 65536))]
    pub size_gib: Option<u32>,
    /// gp3 where left out. The type, iops and throughputMiBps are one choice: where a manifest makes any of them, none
    /// of the three is taken from the operator's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub volume_type: Option<VolumeType>,
    /// Only for gp3 (3000 where left out), io1 and io2 (required).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 256000))]
    pub iops: Option<u32>,
    /// In MiB/s, at most a quarter of iops. Only for gp3 (125 where left out).
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "throughputMiBps")]
    #[schemars(range(min = 125, max = 2000))]
    pub throughput_mibps: Option<u32>,
    /// The KMS key that encrypts the volume: its id, alias or ARN. EBS's own key where left out.
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

    /// Databases by name: each is made where it is not there, and dropped only when somebody asks for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, DatabaseSpec>,

    /// MySQL users by name, for applications: they connect from anywhere, by TLS only. A user that is not declared any more
    /// stays as it is, and status names it. One that somebody else made under such a name is left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, UserSpec>,
}

/// How a database is made. One that is there already is taken as it is, whatever is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSpec {
    /// Such as utf8mb4; MySQL's own default where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub character_set: Option<String>,
    /// Such as utf8mb4_0900_ai_ci; the character set's own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// A MySQL user with rights on one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSpec {
    /// One of spec.mysql.databases.
    pub database: String,
    /// ReadWrite: everything inside the database, its tables' definitions included. ReadOnly: SELECT and SHOW VIEW.
    pub access: Access,
    /// Where the password is: a key of a Secret in the set's namespace, or the file NAMESPACE/NAME/KEY below the directory of
    /// --secrets. It has 8 to 128 characters. Where left out, Drover makes one. A password that changes is changed in MySQL
    /// too, and the one before is taken for another hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeySelector>,
    /// Count it up to have a password that Drover made replaced by another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rotation: Option<u32>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeySelector {
    /// The Secret's name.
    pub name: String,
    /// The key whose value is the password.
    pub key: String,
}

/// What a user may do in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    ReadWrite,
    ReadOnly,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    #[default]
    Gp3,
    Gp2,
    Io1,
    Io2,
}

fn three() -> u8 {
    3
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Access::ReadWrite => "ReadWrite",
            Access::ReadOnly => "ReadOnly",
        })
    }
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
