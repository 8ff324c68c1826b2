//! From a manifest and the operator's defaults to a whole description, with the origin of each value.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    Namespace, ResourceKey,
    allow::Allow,
    clients::SecretRef,
    set::{
        DataVolumeSpec, DatabaseSpec, DeletionPolicy, Durability, ImageSelector, MachineSpec, MySQLReplicaSetSpec,
        NetworkSelector, UserSpec, VolumeType, ZoneSpread,
    },
    validate,
};

/// What an installation shares: of the spec, only `machine` can be given for all sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    #[serde(default)]
    pub machine: MachineSpec,
}

/// What an installation gives its sets, and what it lets them have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub defaults: Defaults,
    pub allow: Allow,
}

impl Terms {
    /// [`resolve`], held to what is allowed.
    pub fn resolve(
        &self,
        key: ResourceKey,
        spec: &MySQLReplicaSetSpec,
        left_out: &[&str],
    ) -> Result<ResolvedSet, Unresolved> {
        self.allow.hold(resolve(key, spec, left_out, &self.defaults)?)
    }
}

/// A set with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedSet {
    pub key: ResourceKey,
    pub members: u8,
    pub read_replicas: u16,
    pub version: String,
    pub image: ImageSelector,
    pub instance_types: Vec<String>,
    pub subnets: NetworkSelector,
    /// Of what is selected only these may be used; `None` where all may.
    pub subnets_allowed: Option<Vec<String>>,
    pub security_groups: NetworkSelector,
    pub instance_profile: String,
    pub zone_spread: ZoneSpread,
    pub tags: BTreeMap<String, String>,
    pub data_volume: ResolvedVolume,
    pub settings: BTreeMap<String, String>,
    pub durability: Durability,
    pub databases: BTreeMap<String, DatabaseSpec>,
    pub users: BTreeMap<String, UserSpec>,
    pub deletion_policy: DeletionPolicy,
    pub paused: bool,
    /// By field path, in the manifest's words.
    pub origins: BTreeMap<String, Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedVolume {
    pub size_gib: u32,
    pub volume_type: VolumeType,
    pub iops: Option<u32>,
    pub throughput_mibps: Option<u32>,
    pub kms_key_id: Option<String>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    Manifest,
    Operator,
    /// The custom resource's schema says it, for every installation alike.
    Schema,
    BuiltIn,
}

/// Why a manifest that is valid by itself makes no set with these defaults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("{field} is set neither in the manifest nor in the operator's defaults: set it in one of them")]
    Missing { field: &'static str },
    /// It breaks rules that an API server of this version of Drover would hold it to.
    #[error("mend the resource: {0}")]
    Invalid(String),
    #[error(
        "{field}: {value} is not allowed in namespace {namespace}: use what is, or have it added to `allow` of the operator's configuration"
    )]
    NotAllowed { field: &'static str, value: String, namespace: Namespace },
    /// Each value is allowed where it was written, and they are not allowed together.
    #[error("{rule}: {values}")]
    Contradiction {
        rule: String,
        /// Which value came from where.
        values: String,
    },
}

/// Where no size is asked for.
pub const DATA_VOLUME_GIB: u32 = 20;

/// The fields for which the schema has a value where a manifest says nothing.
pub const SCHEMA_FIELDS: [&str; 6] = [
    "spec.members",
    "spec.readReplicas",
    "spec.mysql.settings",
    "spec.mysql.durability",
    "spec.deletionPolicy",
    "spec.paused",
];

impl ResolvedSet {
    /// Where the passwords are that Drover does not make, one for each user that has one.
    pub fn password_refs(&self) -> impl Iterator<Item = SecretRef> {
        let keys = self.users.values().filter_map(|user| user.password_secret_ref.as_ref());
        keys.map(|key| SecretRef::of(&self.key.namespace, key))
    }
}

/// Fills in what a manifest leaves out. The spec and the defaults are each taken to be valid; what they make together is
/// checked. `left_out` are those of [`SCHEMA_FIELDS`] that are in the spec although its manifest does not say them.
fn resolve(
    key: ResourceKey,
    spec: &MySQLReplicaSetSpec,
    left_out: &[&str],
    defaults: &Defaults,
) -> Result<ResolvedSet, Unresolved> {
    let by_schema = |field: &str| if left_out.contains(&field) { Origin::Schema } else { Origin::Manifest };
    let mut origins: BTreeMap<String, Origin> =
        SCHEMA_FIELDS.iter().map(|field| ((*field).to_owned(), by_schema(field))).collect();
    origins.insert("spec.version".to_owned(), Origin::Manifest);
    let mut pick = Picker { origins: &mut origins };
    let (own, shared) = (&spec.machine, &defaults.machine);
    let none = DataVolumeSpec::default();
    let (own_volume, shared_volume) =
        (own.data_volume.as_ref().unwrap_or(&none), shared.data_volume.as_ref().unwrap_or(&none));
    // Type, iops and throughput only make sense together: a manifest's iops beside the operator's type could be a volume
    // that EC2 does not make.
    let chosen = own_volume.volume_type.is_some() || own_volume.iops.is_some() || own_volume.throughput_mibps.is_some();
    let shared_kind = if chosen { &none } else { shared_volume };
    let image = pick.required("spec.machine.image", &own.image, &shared.image)?;
    let instance_types = pick.required("spec.machine.instanceTypes", &own.instance_types, &shared.instance_types)?;
    let subnets = pick.required("spec.machine.subnets", &own.subnets, &shared.subnets)?;
    let security_groups =
        pick.required("spec.machine.securityGroups", &own.security_groups, &shared.security_groups)?;
    let instance_profile =
        pick.required("spec.machine.instanceProfile", &own.instance_profile, &shared.instance_profile)?;
    let zone_spread = pick.or("spec.machine.zoneSpread", &own.zone_spread, &shared.zone_spread, ZoneSpread::default());
    let tags = pick.or("spec.machine.tags", &own.tags, &shared.tags, BTreeMap::new());
    let volume = "spec.machine.dataVolume";
    let data_volume = ResolvedVolume {
        size_gib: pick.or(&format!("{volume}.sizeGiB"), &own_volume.size_gib, &shared_volume.size_gib, DATA_VOLUME_GIB),
        volume_type: pick.or(
            &format!("{volume}.type"),
            &own_volume.volume_type,
            &shared_kind.volume_type,
            VolumeType::default(),
        ),
        iops: pick.optional(&format!("{volume}.iops"), &own_volume.iops, &shared_kind.iops),
        throughput_mibps: pick.optional(
            &format!("{volume}.throughputMiBps"),
            &own_volume.throughput_mibps,
            &shared_kind.throughput_mibps,
        ),
        kms_key_id: pick.optional(&format!("{volume}.kmsKeyId"), &own_volume.kms_key_id, &shared_volume.kms_key_id),
    };
    check_volume(&data_volume, &origins)?;
    Ok(ResolvedSet {
        key,
        members: spec.members,
        read_replicas: spec.read_replicas,
        version: spec.version.clone(),
        image,
        instance_types,
        subnets,
        subnets_allowed: None,
        security_groups,
        instance_profile,
        zone_spread,
        tags,
        data_volume,
        settings: spec.mysql.settings.clone(),
        durability: spec.mysql.durability,
        databases: spec.mysql.databases.clone(),
        users: spec.mysql.users.clone(),
        deletion_policy: spec.deletion_policy,
        paused: spec.paused,
        origins,
    })
}

/// What a volume's type allows is bounded by its size and the other way round, and a size may come from elsewhere than the rest.
fn check_volume(volume: &ResolvedVolume, origins: &BTreeMap<String, Origin>) -> Result<(), Unresolved> {
    let origin = |name: &str| origins.get(&format!("spec.machine.dataVolume.{name}"));
    let told = [
        ("sizeGiB", Some(volume.size_gib.to_string())),
        ("type", Some(volume.volume_type.as_str().to_owned())),
        ("iops", volume.iops.map(|iops| iops.to_string())),
        ("throughputMiBps", volume.throughput_mibps.map(|mibps| mibps.to_string())),
    ];
    let told: Vec<(&str, String, &Origin)> =
        told.into_iter().filter_map(|(name, value)| Some((name, value?, origin(name)?))).collect();
    if told.windows(2).all(|pair| pair[0].2 == pair[1].2) {
        return Ok(());
    }
    let spec = DataVolumeSpec {
        size_gib: Some(volume.size_gib),
        volume_type: Some(volume.volume_type),
        iops: volume.iops,
        throughput_mibps: volume.throughput_mibps,
        kms_key_id: None,
    };
    match validate::validate_data_volume(&spec).into_iter().next() {
        None => Ok(()),
        Some(rule) => {
            let told = told.iter().map(|(name, value, origin)| format!("{name} {value} ({origin})"));
            Err(Unresolved::Contradiction { rule, values: told.collect::<Vec<_>>().join(", ") })
        }
    }
}

struct Picker<'a> {
    origins: &'a mut BTreeMap<String, Origin>,
}

impl Picker<'_> {
    fn optional<T: Clone>(&mut self, field: &str, own: &Option<T>, shared: &Option<T>) -> Option<T> {
        let (value, origin) = match (own, shared) {
            (Some(value), _) => (value, Origin::Manifest),
            (None, Some(value)) => (value, Origin::Operator),
            (None, None) => return None,
        };
        self.origins.insert(field.to_owned(), origin);
        Some(value.clone())
    }

    fn or<T: Clone>(&mut self, field: &str, own: &Option<T>, shared: &Option<T>, built_in: T) -> T {
        self.optional(field, own, shared).unwrap_or_else(|| {
            self.origins.insert(field.to_owned(), Origin::BuiltIn);
            built_in
        })
    }

    fn required<T: Clone>(
        &mut self,
        field: &'static str,
        own: &Option<T>,
        shared: &Option<T>,
    ) -> Result<T, Unresolved> {
        self.optional(field, own, shared).ok_or(Unresolved::Missing { field })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Manifest => "manifest",
            Origin::Operator => "operator's defaults",
            Origin::Schema => "schema's default",
            Origin::BuiltIn => "built in",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceName;

    fn volume(own: DataVolumeSpec, shared: DataVolumeSpec) -> ResolvedVolume {
        resolved(own, shared).expect("nothing is missing").data_volume
    }

    fn resolved(own: DataVolumeSpec, shared: DataVolumeSpec) -> Result<ResolvedSet, Unresolved> {
        let machine: MachineSpec = serde_json::from_value(serde_json::json!({
            "image": { "id": "ami-1" },
            "instanceTypes": ["r8g.large"],
            "subnets": { "ids": ["subnet-1"] },
            "securityGroups": { "ids": ["sg-1"] },
            "instanceProfile": "shop",
        }))
        .expect("a whole description");
        let defaults = Defaults { machine: MachineSpec { data_volume: Some(shared), ..machine } };
        let mut spec: MySQLReplicaSetSpec =
            serde_json::from_value(serde_json::json!({ "version": "9.7" })).expect("valid");
        spec.machine.data_volume = Some(own);
        let key = ResourceKey {
            namespace: Namespace::new("default").expect("valid"),
            name: ResourceName::new("shop").expect("valid"),
        };
        resolve(key, &spec, &[], &defaults)
    }

    #[test]
    fn values_that_are_allowed_apart_and_not_together_are_refused_with_where_each_came_from() {
        let none = DataVolumeSpec::default;
        let size = |gib| DataVolumeSpec { size_gib: Some(gib), ..none() };
        let gp2 = DataVolumeSpec { volume_type: Some(VolumeType::Gp2), ..none() };
        let io1 = DataVolumeSpec { volume_type: Some(VolumeType::Io1), iops: Some(10_000), ..none() };
        let fast = DataVolumeSpec { iops: Some(16_000), ..none() };
        let table = [
            (
                size(20_000),
                gp2.clone(),
                Some(
                    "sizeGiB of a gp2 volume must be 1 to 16384: sizeGiB 20000 (manifest), type gp2 (operator's defaults)",
                ),
            ),
            (
                gp2.clone(),
                size(20_000),
                Some(
                    "sizeGiB of a gp2 volume must be 1 to 16384: sizeGiB 20000 (operator's defaults), type gp2 (manifest)",
                ),
            ),
            (
                size(100),
                io1.clone(),
                Some(
                    "iops must be at most 500 for each GiB of a gp3 volume above 3000, 50 for io1, 1000 for io2: sizeGiB 100 (manifest), type io1 (operator's defaults), iops 10000 (operator's defaults)",
                ),
            ),
            (
                fast.clone(),
                none(),
                Some(
                    "iops must be at most 500 for each GiB of a gp3 volume above 3000, 50 for io1, 1000 for io2: sizeGiB 20 (built in), type gp3 (built in), iops 16000 (manifest)",
                ),
            ),
            (size(200), io1, None),
            (size(32), fast, None),
            (size(16_384), gp2, None),
        ];
        for (own, shared, refused) in table {
            let told = resolved(own.clone(), shared.clone()).err().map(|error| error.to_string());
            let expected = refused.map(|refused| format!("spec.machine.dataVolume.{refused}"));
            assert_eq!(told, expected, "{own:?} over {shared:?}");
        }
    }

    #[test]
    fn a_volumes_type_iops_and_throughput_come_from_one_place() {
        let shared = DataVolumeSpec {
            size_gib: Some(500),
            volume_type: Some(VolumeType::Io2),
            iops: Some(10_000),
            ..DataVolumeSpec::default()
        };
        let operators = volume(DataVolumeSpec::default(), shared.clone());
        assert_eq!((operators.volume_type, operators.iops), (VolumeType::Io2, Some(10_000)));
        let own = DataVolumeSpec { throughput_mibps: Some(250), ..DataVolumeSpec::default() };
        let manifests = volume(own, shared);
        assert_eq!((manifests.volume_type, manifests.iops), (VolumeType::Gp3, None));
        assert_eq!((manifests.throughput_mibps, manifests.size_gib), (Some(250), 500));
    }
}
