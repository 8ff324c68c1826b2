//! Where a machine goes: the type in the order of preference, the zone by spread, the subnet by free addresses, all without
//! what was just refused.

use std::collections::BTreeMap;

use drover_api::{Slot, SubnetId, Zone, defaults::ResolvedSet, set::ZoneSpread};

use crate::{
    observed::{Catalog, CatalogSubnet},
    view::View,
};

/// A place for one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub instance_type: String,
    pub zone: Zone,
    pub subnet: SubnetId,
}

/// Why there is none now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlace {
    pub reason: &'static str,
    pub message: String,
}

/// The reason where no instance type can be taken: only another manifest, image or Region mends that.
pub const NO_TYPES: &str = "InstanceTypesUnresolved";

/// Chooses for `slot`; `bound` is the zone of its data volume, `placed` what this pass chose for other slots. Capacity moves a launch to the next type and zone; a spread
/// that is Required never gives way to it.
pub fn choose(
    view: &View<'_>,
    catalog: &Catalog,
    set: &ResolvedSet,
    slot: Slot,
    bound: Option<&Zone>,
    placed: &BTreeMap<Slot, Zone>,
) -> Result<Place, NoPlace> {
    let no = |reason, message: &str| NoPlace { reason, message: message.to_owned() };
    let subnets = catalog.subnets.as_ref().map_err(|error| no("SubnetsUnresolved", error))?;
    let types = catalog.instance_types.as_ref().map_err(|error| no(NO_TYPES, error))?;
    let (spread, namespace) = (set.zone_spread, &set.key.namespace);
    let is_allowed = |subnet: &&CatalogSubnet| {
        set.subnets_allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|id| id == subnet.id.as_str()))
    };
    let zones = by_zone(subnets.iter().filter(is_allowed));
    if zones.is_empty() {
        let message = format!(
            "of the selected subnets none is allowed in namespace {namespace}: select others, or add them to `allow` of the operator's configuration"
        );
        return Err(NoPlace { reason: "SubnetsNotAllowed", message });
    }
    let full = &view.observed.full_subnets;
    let (mut order, crowded_from) = match bound {
        Some(zone) if !zones.contains_key(zone) => {
            return Err(no(
                "NoSubnetInZone",
                &format!("the data volume of {slot} is in {zone}, where no selected subnet is"),
            ));
        }
        Some(zone) => (vec![zone.clone()], 1),
        None => by_spread(view, slot, zones.keys().cloned().collect(), spread, placed)?,
    };
    let allowed = if spread == ZoneSpread::Required && slot.is_member() { crowded_from } else { order.len() };
    order.truncate(allowed);
    for instance_type in types {
        for zone in &order {
            let subnet = zones[zone].iter().find(|subnet| !full.contains(*subnet));
            if let Some(subnet) = subnet
                && !view.observed.refused.contains(&(instance_type.clone(), zone.clone()))
            {
                return Ok(Place { instance_type: instance_type.clone(), zone: zone.clone(), subnet: subnet.clone() });
            }
        }
    }
    let names: Vec<&str> = order.iter().map(Zone::as_str).collect();
    let names = names.join(", ");
    let addresses = order.iter().all(|zone| zones[zone].iter().all(|subnet| full.contains(subnet)));
    let message = if addresses {
        format!(
            "the subnets in {names} have no free address: free some, or select more subnets; asked again in a few minutes"
        )
    } else {
        format!("EC2 has no capacity for {} in {names}; asked again in a few minutes", types.join(", "))
    };
    Err(no(if addresses { "SubnetsFull" } else { "InsufficientCapacity" }, &message))
}

/// Zones in the order to try, and from which place on they would crowd: more members in a zone than an even spread needs.
fn by_spread(
    view: &View<'_>,
    slot: Slot,
    zones: Vec<Zone>,
    spread: ZoneSpread,
    placed: &BTreeMap<Slot, Zone>,
) -> Result<(Vec<Zone>, usize), NoPlace> {
    let peers: Vec<Slot> = view
        .wanted_slots()
        .into_iter()
        .filter(|other| *other != slot && other.is_member() == slot.is_member())
        .collect();
    let mut load: BTreeMap<Zone, usize> = zones.iter().map(|zone| (zone.clone(), 0)).collect();
    for zone in peers.iter().filter_map(|peer| placed.get(peer).cloned().or_else(|| view.zone_of(*peer))) {
        if let Some(count) = load.get_mut(&zone) {
            *count += 1;
        }
    }
    let all = peers.len() + 1;
    let needed = all.min(3);
    if slot.is_member() && spread == ZoneSpread::Required && zones.len() < needed {
        let message = format!(
            "{all} members need subnets in {needed} zones and {} were selected: select more, or set spec.machine.zoneSpread to Preferred",
            zones.len()
        );
        return Err(NoPlace { reason: "TooFewZones", message });
    }
    let even = all.div_ceil(zones.len().max(1));
    let turn = turn_of(view, zones.len());
    let mut order: Vec<(usize, usize, Zone)> = zones
        .into_iter()
        .enumerate()
        .map(|(index, zone)| (load[&zone], (index + load.len() - turn) % load.len(), zone))
        .collect();
    order.sort();
    let crowded_from = order.iter().take_while(|(count, ..)| *count < even).count();
    Ok((order.into_iter().map(|(.., zone)| zone).collect(), crowded_from))
}

/// Sets begin in different zones, so that not every m0 of a realm stands in the first. Any fixed function of the name does.
fn turn_of(view: &View<'_>, zones: usize) -> usize {
    let name =
        view.key.name.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    name.checked_rem(zones).unwrap_or(0)
}

/// The subnets of each zone, in the order to try.
fn by_zone<'a>(subnets: impl Iterator<Item = &'a CatalogSubnet>) -> BTreeMap<Zone, Vec<SubnetId>> {
    let mut zones: BTreeMap<Zone, Vec<SubnetId>> = BTreeMap::new();
    for subnet in subnets {
        zones.entry(subnet.zone.clone()).or_default().push(subnet.id.clone());
    }
    zones
}
