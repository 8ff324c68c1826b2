//! Capacity memory: where the cloud lately had no room, so that the next launch asks elsewhere first. Asking again at once
//! would fail again and spend the scarce RunInstances requests. Pure: the time is an argument, and the memory is only a
//! hint, so losing it costs a refused call.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{Millis, SubnetId, Zone, launch::LaunchRequest};

use crate::error::{Class, CloudError};

/// How long a refusal is believed. Capacity comes and goes within minutes; no document says how many.
pub const REMEMBERED: Duration = Duration::from_secs(180);

/// EC2's code for a subnet without free addresses; any other capacity error is about the instance type in its zone.
pub const SUBNET_FULL: &str = "InsufficientFreeAddressesInSubnet";

/// Recent refusals: at most one entry per (type, zone) and per subnet that was ever asked for.
#[derive(Clone, Debug, Default)]
pub struct CapacityMemory {
    types: BTreeMap<(String, Zone), Millis>,
    subnets: BTreeMap<SubnetId, Millis>,
}

impl CapacityMemory {
    /// Remembers what a failed launch says about room; errors of other classes say nothing about it.
    pub fn note(&mut self, request: &LaunchRequest, error: &CloudError, now: Millis) {
        if error.class != Class::Capacity {
            return;
        }
        if error.code == SUBNET_FULL {
            self.subnets.insert(request.subnet.clone(), now);
        } else {
            self.types.insert((request.instance_type.clone(), request.zone.clone()), now);
        }
    }

    /// Instance types that were lately refused, each in the zone that refused it.
    pub fn refused(&self, now: Millis) -> BTreeSet<(String, Zone)> {
        recent(&self.types, now)
    }

    /// Subnets that lately had no free address.
    pub fn full_subnets(&self, now: Millis) -> BTreeSet<SubnetId> {
        recent(&self.subnets, now)
    }
}

/// A refusal dated in the future is not recent: the clock went back, and nobody knows how old it is.
fn recent<K: Ord + Clone>(refusals: &BTreeMap<K, Millis>, now: Millis) -> BTreeSet<K> {
    let recent = |at: Millis| at <= now && now.since(at) < REMEMBERED;
    let keys = refusals.iter().filter(|(_, at)| recent(**at)).map(|(key, _)| key.clone());
    keys.collect()
}

#[cfg(test)]
mod tests {
    use drover_api::{ClientToken, ImageId};

    use super::*;

    fn request(instance_type: &str, zone: &str, subnet: &str) -> LaunchRequest {
        LaunchRequest {
            token: ClientToken::new("t").expect("token"),
            image: ImageId::new("ami-1").expect("image"),
            instance_type: instance_type.into(),
            zone: Zone::new(zone).expect("zone"),
            subnet: SubnetId::new(subnet).expect("subnet"),
            security_groups: vec![],
            instance_profile: "p".into(),
            user_data: String::new(),
            tags: BTreeMap::new(),
            termination_protection: true,
        }
    }

    /// After these refusals at time 0 (type, zone, subnet, class, code), what is refused at `now` milliseconds?
    fn check(refusals: &[(&str, &str, &str, Class, &str)], now: u64, types: &[(&str, &str)], subnets: &[&str]) {
        let mut memory = CapacityMemory::default();
        for (instance_type, zone, subnet, class, code) in refusals {
            let error = CloudError::new(*class, "RunInstances", *code, "no");
            memory.note(&request(instance_type, zone, subnet), &error, Millis(1_000));
        }
        let refused: Vec<_> =
            memory.refused(Millis(1_000 + now)).into_iter().map(|(t, z)| (t, z.to_string())).collect();
        let expected: Vec<_> = types.iter().map(|(t, z)| ((*t).to_string(), (*z).to_string())).collect();
        assert_eq!(refused, expected);
        let full: Vec<_> = memory.full_subnets(Millis(1_000 + now)).into_iter().map(|s| s.to_string()).collect();
        assert_eq!(full, subnets);
    }

    #[test]
    fn a_refused_type_is_avoided_in_its_zone_for_three_minutes() {
        let refusal = [("m7i.large", "eu-1a", "subnet-a", Class::Capacity, "InsufficientInstanceCapacity")];
        check(&refusal, 0, &[("m7i.large", "eu-1a")], &[]);
        check(&refusal, 179_999, &[("m7i.large", "eu-1a")], &[]);
        check(&refusal, 180_000, &[], &[]);
    }

    #[test]
    fn a_full_subnet_condemns_neither_type_nor_zone() {
        check(&[("m7i.large", "eu-1a", "subnet-a", Class::Capacity, SUBNET_FULL)], 10, &[], &["subnet-a"]);
    }

    #[test]
    fn an_error_that_is_not_about_room_is_not_remembered() {
        check(&[("m7i.large", "eu-1a", "subnet-a", Class::Transient, "InternalError")], 0, &[], &[]);
        check(&[("m7i.large", "eu-1a", "subnet-a", Class::Quota, "VcpuLimitExceeded")], 0, &[], &[]);
    }

    #[test]
    fn a_clock_that_went_back_forgets_instead_of_remembering_for_hours() {
        let mut memory = CapacityMemory::default();
        let error = CloudError::new(Class::Capacity, "RunInstances", "InsufficientInstanceCapacity", "no");
        memory.note(&request("m7i.large", "eu-1a", "subnet-a"), &error, Millis(7_200_000));
        assert!(memory.refused(Millis(0)).is_empty());
    }
}
