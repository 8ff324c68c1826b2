//! What is asked of the cloud when a slot is filled: the whole request, kept in the slot's record before it is sent, and
//! sent again byte for byte by any operator of any version (law 3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ClientToken, ImageId, Incarnation, Realm, ResourceKey, SecurityGroupId, Slot, SubnetId, Zone};

/// RunInstances for one machine, every parameter frozen. IdempotentParameterMismatch is what EC2 answers to the same token
/// with any other parameter (AWS.md, Idempotency).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    pub token: ClientToken,
    pub image: ImageId,
    pub instance_type: String,
    pub zone: Zone,
    pub subnet: SubnetId,
    pub security_groups: Vec<SecurityGroupId>,
    pub instance_profile: String,
    /// Not base64. At most [`USER_DATA_MAX`] bytes.
    pub user_data: String,
    /// Set on the instance, its root volume and its network interface in the same call.
    pub tags: BTreeMap<String, String>,
    /// DisableApiTermination: on for every database machine (AWS.md, Fencing).
    pub termination_protection: bool,
}

/// CreateVolume for one data volume, every parameter frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRequest {
    pub token: ClientToken,
    pub zone: Zone,
    pub size_gib: u32,
    pub volume_type: String,
    pub iops: Option<u32>,
    pub throughput_mibps: Option<u32>,
    pub kms_key_id: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// EC2's bound on user data before base64 (AWS.md, Sizes).
pub const USER_DATA_MAX: usize = 16_384;

/// The device name asked for at AttachVolume. The agent never trusts it: it opens the device that carries the volume's id.
pub const DATA_DEVICE: &str = "/dev/sdf";

/// What a token stands for: a machine or its data volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOf {
    Machine,
    Volume,
}

/// The token of a slot's launch: hex(sha256(realm, kind, namespace, name, incarnation, slot, zone, attempt)), 64 characters.
/// The parts are length-prefixed, so that no two different lists of parts hash alike.
pub fn client_token(
    of: TokenOf,
    realm: &Realm,
    kind: &str,
    key: &ResourceKey,
    incarnation: &Incarnation,
    slot: Slot,
    zone: &Zone,
    attempt: u32,
) -> ClientToken {
    let of = match of {
        TokenOf::Machine => "machine",
        TokenOf::Volume => "volume",
    };
    let slot = slot.to_string();
    let attempt = attempt.to_string();
    let parts = [
        of,
        realm.as_str(),
        kind,
        key.namespace.as_str(),
        key.name.as_str(),
        incarnation.as_str(),
        &slot,
        zone.as_str(),
        &attempt,
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    ClientToken::new(hex::encode(hash.finalize())).expect("64 hex digits are a valid token")
}
