//! What the bucket says of a set.

use std::fs;

use anyhow::Context;
use drover_api::{
    Namespace, Realm, ResourceKey, ResourceName,
    bucket::RealmKeys,
    records::{IncarnationRecord, Register},
};
use serde::de::DeserializeOwned;

use crate::Cloud;

impl Cloud {
    /// Who leads and who votes in a set.
    pub fn register(&self, name: &str) -> anyhow::Result<Register> {
        let key = ResourceKey { namespace: Namespace::new("default")?, name: ResourceName::new(name)? };
        let keys = RealmKeys::new("", &Realm::new("e2e")?).set(&key);
        let life: IncarnationRecord = self.object(keys.incarnation().as_str())?;
        self.object(keys.of(&life.incarnation).register().as_str())
    }

    fn object<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<T> {
        let path = self.home().join("objects/drover").join(key);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}
