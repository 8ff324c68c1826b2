//! What a slot asks of the cloud, whole, as its record will hold it.

use drover_api::{
    Slot, Zone,
    launch::{LaunchRequest, TokenOf, VolumeRequest, client_token},
    tags::{KIND_REPLICA_SET, machine_tags, volume_tags},
    wire::MysqlOrder,
};

use crate::{
    observed::{Catalog, CatalogImage},
    placement::Place,
    spec::spec_hash,
    view::View,
};
use drover_api::defaults::ResolvedSet;

/// The RunInstances request of one attempt, or why it cannot be made yet.
pub fn launch_request(
    view: &View<'_>,
    set: &ResolvedSet,
    catalog: &Catalog,
    slot: Slot,
    attempt: u32,
    place: Place,
) -> Result<LaunchRequest, (&'static str, String)> {
    let image = catalog.image.as_ref().map_err(|error| ("ImageUnresolved", error.clone()))?;
    let groups = catalog.security_groups.as_ref().map_err(|error| ("SecurityGroupsUnresolved", error.clone()))?;
    has_agent(view, image)?;
    let identity = view.identity(slot);
    Ok(LaunchRequest {
        token: client_token(
            TokenOf::Machine,
            &identity.realm,
            KIND_REPLICA_SET,
            view.key,
            view.incarnation(),
            slot,
            &place.zone,
            attempt,
        ),
        image: image.id.clone(),
        instance_type: place.instance_type,
        zone: place.zone,
        subnet: place.subnet,
        security_groups: groups.clone(),
        instance_profile: set.instance_profile.clone(),
        user_data: view.observed.operator.user_data.clone(),
        tags: machine_tags(&identity, attempt, &spec_hash(set), &set.tags),
        termination_protection: true,
    })
}

/// A machine whose agent nobody has published would boot for nothing. Before an operator has published any, nothing is known.
fn has_agent(view: &View<'_>, image: &CatalogImage) -> Result<(), (&'static str, String)> {
    let builds = &view.observed.operator.builds;
    let wanted = &image.architecture;
    if builds.is_empty() || builds.contains_key(wanted) {
        return Ok(());
    }
    let known: Vec<&str> = builds.keys().map(String::as_str).collect();
    let message = format!(
        "give the operator an agent for {wanted} (its image: make image ARGS='--agent {wanted}=FILE'; elsewhere: drover run --agents), or \
         select an image for {}: {} is for {wanted}",
        known.join(" or "),
        image.id
    );
    Err(("NoAgentForArchitecture", message))
}

/// The CreateVolume request of one attempt.
pub fn volume_request(view: &View<'_>, set: &ResolvedSet, slot: Slot, attempt: u32, zone: Zone) -> VolumeRequest {
    let identity = view.identity(slot);
    let volume = &set.data_volume;
    VolumeRequest {
        token: client_token(
            TokenOf::Volume,
            &identity.realm,
            KIND_REPLICA_SET,
            view.key,
            view.incarnation(),
            slot,
            &zone,
            attempt,
        ),
        zone,
        size_gib: volume.size_gib,
        volume_type: volume.volume_type.as_str().to_owned(),
        iops: volume.iops,
        throughput_mibps: volume.throughput_mibps,
        kms_key_id: volume.kms_key_id.clone(),
        tags: volume_tags(&identity, attempt, &set.tags),
    }
}

/// What mysqld of a new attempt is configured with.
pub fn mysql_order(view: &View<'_>, set: &ResolvedSet) -> MysqlOrder {
    MysqlOrder { version: view.life.version.clone(), settings: set.settings.clone(), durability: set.durability }
}
