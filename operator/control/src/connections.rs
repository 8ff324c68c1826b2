//! How applications connect: for whoever publishes it. It has passwords, so it is never part of a snapshot.

use std::collections::BTreeMap;

use drover_api::ResourceKey;
use drover_plan::{Connection, Observed};

use crate::store::StoredSet;

/// The users of a declared set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The certificate of the authority that signs what each mysqld of the set shows: clients verify by it. The names in those
    /// certificates are slots, not addresses, so that is VERIFY_CA and not VERIFY_IDENTITY.
    pub ca_pem: String,
    pub users: Vec<Connection>,
}

/// Of every declared set whose records are known.
pub(crate) fn of(
    observed: &Observed,
    sets: &BTreeMap<ResourceKey, Result<StoredSet, String>>,
) -> BTreeMap<ResourceKey, Connections> {
    let connections = drover_plan::connections(observed).into_iter();
    let with_ca = connections.filter_map(|(key, users)| {
        let ca = sets.get(&key)?.as_ref().ok()?.ca.as_ref()?;
        Some((key, Connections { ca_pem: ca.certificate_pem.clone(), users }))
    });
    with_ca.collect()
}
