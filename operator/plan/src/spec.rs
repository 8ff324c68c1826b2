//! The hash of what a launch depends on, to tell a changed wish from an old machine. A new operator version never makes a
//! machine look drifted: what is hashed is the user's words, under a version of its own.

use std::collections::BTreeMap;

use drover_api::{
    defaults::ResolvedSet,
    set::{Durability, ImageSelector, NetworkSelector, VolumeType},
    tags::SpecHash,
};
use serde::Serialize;

/// Raised when [`Words`] changes; hashes of unequal versions are never compared.
const HASH_VERSION: u32 = 1;

/// The field order is part of the hash.
#[derive(Serialize)]
struct Words<'a> {
    version: &'a str,
    image: &'a ImageSelector,
    instance_types: &'a [String],
    subnets: &'a NetworkSelector,
    security_groups: &'a NetworkSelector,
    instance_profile: &'a str,
    tags: &'a BTreeMap<String, String>,
    size_gib: u32,
    volume_type: VolumeType,
    iops: Option<u32>,
    throughput_mibps: Option<u32>,
    kms_key_id: &'a Option<String>,
    settings: &'a BTreeMap<String, String>,
    durability: Durability,
}

/// `1-<16 hex digits>`.
pub fn spec_hash(set: &ResolvedSet) -> SpecHash {
    let volume = &set.data_volume;
    let words = Words {
        version: &set.version,
        image: &set.image,
        instance_types: &set.instance_types,
        subnets: &set.subnets,
        security_groups: &set.security_groups,
        instance_profile: &set.instance_profile,
        tags: &set.tags,
        size_gib: volume.size_gib,
        volume_type: volume.volume_type,
        iops: volume.iops,
        throughput_mibps: volume.throughput_mibps,
        kms_key_id: &volume.kms_key_id,
        settings: &set.settings,
        durability: set.durability,
    };
    let json = serde_json::to_vec(&words).expect("words have string keys only, so they always serialise");
    SpecHash(format!("{HASH_VERSION}-{}", &drover_api::digest::sha256_hex(&json)[..16]))
}
