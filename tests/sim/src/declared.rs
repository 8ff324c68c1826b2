//! What manifests declare, read from YAML as an operator reads it.

use std::collections::BTreeMap;

use drover_api::{ResourceKey, defaults::Terms, manifest};
use drover_plan::observed::Intent;

/// A set's manifest, as far as the simulation varies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub members: u8,
    pub readers: u16,
    pub instance_type: &'static str,
    pub zone_spread: &'static str,
    pub settings: &'static str,
    /// Fields of `mysql` about databases and users, in YAML's flow style.
    pub clients: &'static str,
    pub generation: i64,
}

impl Declared {
    pub fn new(name: &str, members: u8, readers: u16) -> Self {
        Self {
            name: name.into(),
            members,
            readers,
            instance_type: "m7g.large",
            zone_spread: "Required",
            settings: "{}",
            clients: "databases: {}",
            generation: 1,
        }
    }

    /// Edited by its owner: other machines, other settings.
    pub fn edited(mut self) -> Self {
        self.instance_type = "t4g.medium";
        self.settings = "{max_connections: \"500\"}";
        self.generation += 1;
        self
    }

    pub fn key(&self) -> ResourceKey {
        key(&self.name)
    }

    pub fn manifest(&self) -> String {
        let Self { name, members, readers, instance_type, zone_spread, settings, clients, generation: _ } = self;
        format!(
            r#"
apiVersion: drover.dev/v1alpha1
kind: MySQLReplicaSet
metadata: {{name: {name}}}
spec:
  members: {members}
  readReplicas: {readers}
  version: "9.7"
  mysql: {{settings: {settings}, {clients}}}
  machine:
    image: {{tags: {{role: db}}}}
    instanceTypes: [{instance_type}, t4g.small]
    subnets: {{tags: {{role: db}}}}
    securityGroups: {{tags: {{role: db}}}}
    instanceProfile: machine
    zoneSpread: {zone_spread}
"#
        )
    }

    pub fn intents(&self) -> BTreeMap<ResourceKey, Intent> {
        let generation = self.generation;
        let (manifests, errors) = manifest::parse("sim.yaml", &self.manifest());
        assert_eq!(errors, []);
        let resolved = manifests.into_iter().map(|manifest| {
            let set = manifest.resolve(&Terms::default());
            (manifest.key, Intent { set, generation, requests: vec![] })
        });
        resolved.collect()
    }
}

pub fn key(name: &str) -> ResourceKey {
    ResourceKey { namespace: "default".parse().expect("a namespace"), name: name.parse().expect("a name") }
}
