//! What machines are launched with: one description for all sets that are launched alike, with where each part of it is written.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{
    defaults::{Defaults, Origin, ResolvedSet},
    set::{ImageSelector, NetworkSelector, VolumeType, ZoneSpread},
    tags::Tags,
};

use super::Level;

/// A part that is `None` is written nowhere: each manifest has to say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Who is launched so: `defaults`, or sets by namespace and name.
    pub of: Vec<String>,
    pub image: Option<ImageSelector>,
    /// The release series of an image that is found by tags.
    pub version: Option<String>,
    pub instance_types: Option<Vec<String>>,
    pub subnets: Option<NetworkSelector>,
    pub security_groups: Option<NetworkSelector>,
    pub instance_profile: Option<String>,
    pub tags: Tags,
    /// In how many zones members must stand, and what it is when there are fewer.
    pub zones: usize,
    pub crowded: Level,
    /// How many machines are launched so when all are there, and the size of their data volumes of each type together.
    pub machines: u32,
    pub volumes_gib: BTreeMap<VolumeType, u64>,
    /// The parts that are written in the configuration and not in a manifest, in a manifest's words.
    operators: BTreeSet<&'static str>,
}

/// The parts, as a manifest's `spec.machine` calls them.
const PARTS: [&str; 6] = ["image", "instanceTypes", "subnets", "securityGroups", "instanceProfile", "zoneSpread"];

/// Three zones: more than three are of no use to five members, which lose no vote by two in one.
const ZONES: usize = 3;

/// What the configuration says for all sets.
pub fn of_defaults(defaults: &Defaults) -> Section {
    let machine = defaults.machine.clone();
    let spread = machine.zone_spread.unwrap_or_default();
    let volume_type = machine.data_volume.and_then(|volume| volume.volume_type).unwrap_or_default();
    Section {
        of: vec!["defaults".to_owned()],
        image: machine.image,
        version: None,
        instance_types: machine.instance_types,
        subnets: machine.subnets,
        security_groups: machine.security_groups,
        instance_profile: machine.instance_profile,
        tags: machine.tags.unwrap_or_default(),
        zones: if spread == ZoneSpread::Required { ZONES } else { 1 },
        // A set of one is content with one.
        crowded: Level::Warn,
        machines: 0,
        volumes_gib: [(volume_type, 0)].into(),
        operators: PARTS.into(),
    }
}

/// What sets are launched with, each description once.
pub fn of_sets<'a>(sets: impl IntoIterator<Item = &'a ResolvedSet>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for section in sets.into_iter().map(of_set) {
        match sections.iter_mut().find(|known| known.is_like(&section)) {
            Some(known) => known.absorb(section),
            None => sections.push(section),
        }
    }
    sections
}

fn of_set(set: &ResolvedSet) -> Section {
    let is_operators = |part: &&str| set.origins.get(&format!("spec.machine.{part}")) == Some(&Origin::Operator);
    let machines = u32::from(set.members) + u32::from(set.read_replicas);
    let gib = u64::from(machines) * u64::from(set.data_volume.size_gib);
    Section {
        of: vec![set.key.to_string()],
        image: Some(set.image.clone()),
        version: Some(set.version.clone()),
        instance_types: Some(set.instance_types.clone()),
        subnets: Some(set.subnets.clone()),
        security_groups: Some(set.security_groups.clone()),
        instance_profile: Some(set.instance_profile.clone()),
        tags: set.tags.clone(),
        zones: if set.zone_spread == ZoneSpread::Required { ZONES.min(set.members.into()) } else { 1 },
        crowded: Level::Fail,
        machines,
        volumes_gib: [(set.data_volume.volume_type, gib)].into(),
        operators: PARTS.into_iter().filter(is_operators).collect(),
    }
}

// === impl Section ===

impl Section {
    /// What a finding about a part of it is called.
    pub fn name(&self, what: &str) -> String {
        format!("{what} of {}", self.of.join(", "))
    }

    /// Where a part of it is written, for whoever has to change it.
    pub fn field(&self, part: &str) -> String {
        if self.operators.contains(part) {
            format!("defaults.machine.{part} in the configuration")
        } else {
            format!("spec.machine.{part} of {}", self.of.join(", "))
        }
    }

    /// The same but for who it is for and how many they are.
    fn is_like(&self, other: &Section) -> bool {
        let Section { of, zones, machines, volumes_gib, .. } = self.clone();
        Section { of, zones, machines, volumes_gib, ..other.clone() } == *self
    }

    fn absorb(&mut self, other: Section) {
        self.of.extend(other.of);
        self.zones = self.zones.max(other.zones);
        self.machines += other.machines;
        for (volume_type, gib) in other.volumes_gib {
            *self.volumes_gib.entry(volume_type).or_default() += gib;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use drover_api::{ResourceKey, defaults::Terms, set::MachineSpec};

    use super::*;

    /// A whole one, of the configuration's.
    pub fn defaults() -> Defaults {
        let machine: MachineSpec = serde_json::from_value(serde_json::json!({
            "image": { "tags": { "app": "db" } },
            "instanceTypes": ["m7i.large"],
            "subnets": { "tags": { "tier": "db" } },
            "securityGroups": { "ids": ["sg-1"] },
            "instanceProfile": "db",
            "dataVolume": { "sizeGiB": 10 },
        }))
        .expect("a whole description");
        Defaults { machine }
    }

    pub fn set(name: &str, spec: serde_json::Value) -> ResolvedSet {
        let key = ResourceKey { namespace: "shop".parse().expect("valid"), name: name.parse().expect("valid") };
        let mut whole = serde_json::json!({ "version": "9.7" });
        whole.as_object_mut().expect("a map").extend(spec.as_object().cloned().expect("a map"));
        let spec = serde_json::from_value(whole).expect("a spec");
        let terms = Terms { defaults: defaults(), ..Terms::default() };
        terms.resolve(key, &spec, &[]).expect("nothing is missing")
    }

    #[test]
    fn sets_that_are_launched_alike_are_looked_at_once() {
        let sets = [
            set("a", serde_json::json!({ "members": 1, "readReplicas": 2 })),
            set("b", serde_json::json!({ "members": 3 })),
            set("c", serde_json::json!({ "members": 1, "machine": { "instanceProfile": "own" } })),
            set("d", serde_json::json!({ "members": 5, "machine": { "zoneSpread": "Preferred" } })),
        ];
        let sections = of_sets(&sets);
        let told = sections.iter().map(|it| (it.of.join(" "), it.zones, it.machines, it.volumes_gib.clone()));
        let expected = [("shop/a shop/b shop/d", 3, 11, 110), ("shop/c", 1, 1, 10)];
        let gp3 = |gib| BTreeMap::from([(VolumeType::Gp3, gib)]);
        let expected = expected.map(|(of, zones, machines, gib)| (of.to_owned(), zones, machines, gp3(gib)));
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(sections[0].field("instanceProfile"), "defaults.machine.instanceProfile in the configuration");
        assert_eq!(sections[1].field("instanceProfile"), "spec.machine.instanceProfile of shop/c");
        assert_eq!(sections[1].field("image"), "defaults.machine.image in the configuration");
    }
}
