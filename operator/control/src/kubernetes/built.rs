//! Which Services and slices were last built for each resource, by their digests: as long as what they are made of is the same, and
//! the API server shows them so, they are not built again. At rest that is most of what a publisher would do. Pure.

use std::collections::BTreeMap;

use drover_api::ResourceKey;
use drover_plan::Endpoints;

use super::{
    companions::{self, Companions, Named},
    desired::{Services, Write},
    perform::companion,
    resource::Resource,
};

/// Of every resource.
#[derive(Debug, Default)]
pub struct Built {
    known: BTreeMap<ResourceKey, Known>,
}

#[derive(Debug)]
struct Known {
    endpoints: Option<Endpoints>,
    digests: Vec<(Named, String)>,
}

impl Built {
    /// Whether what these endpoints make of a resource is what the API server shows.
    pub fn of(&self, resource: &Resource, endpoints: Option<&Endpoints>, companions: &Companions) -> Services {
        let same = self.known.get(&resource.key);
        let same = same.filter(|known| known.endpoints.as_ref() == endpoints);
        let holds =
            |known: &Known| known.digests.iter().all(|(name, digest)| companions.holds(name, &resource.uid, digest));
        if same.is_some_and(holds) { Services::Written } else { Services::Unsure }
    }

    /// They were built, all of them.
    pub fn note(&mut self, resource: &Resource, endpoints: Option<&Endpoints>, writes: &[Write]) {
        let objects = writes.iter().filter_map(|write| companion(resource, write));
        let digests = objects.filter_map(|(name, object)| Some((name, companions::applied(object)?))).collect();
        let known = Known { endpoints: endpoints.cloned(), digests };
        self.known.insert(resource.key.clone(), known);
    }

    pub fn retain(&mut self, keep: impl Fn(&ResourceKey) -> bool) {
        self.known.retain(|key, _| keep(key));
    }
}
