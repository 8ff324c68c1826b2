//! A model of EC2 in EC2's own words: one account in one region, as a state machine without I/O, clock, logging or
//! randomness of its own. The same model stands behind [`crate::fake`], where time is virtual, and behind drover-local's
//! endpoint, where the machines are real, so that the simulator and the real thing agree.
//!
//! `now` is an argument of every call and never goes back. A client calls [`Ec2::call`] with one of the request structs; a
//! host calls [`Ec2::advance`] for what it has to do and reports with [`Ec2::instance_booted`] and its siblings. What is
//! modelled follows the EC2 API reference and user guide; what is not modelled is refused, never ignored.

mod account;
mod addresses;
mod admission;
mod attachments;
mod attributes;
mod buckets;
mod calls;
mod describe;
mod error;
mod faults;
mod fields;
mod filters;
mod groups;
mod host;
mod ids;
mod instances;
mod launch;
mod log;
mod network;
mod pages;
mod replies;
mod requests;
mod tags;
mod types;
mod volumes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use drover_api::Millis;
use serde::{Deserialize, Serialize};

pub use account::*;
pub use calls::Action;
pub use error::ApiError;
pub use faults::*;
pub use fields::{
    CAPACITY_PREFERENCE, DHCP_OPTIONS_ID, HOSTNAME_TYPE, IMAGE_VOLUME_TYPE, PLATFORM_DETAILS, USAGE_OPERATION,
    private_dns_name, time,
};
pub use host::HostEvent;
pub use log::*;
pub use replies::*;
pub use requests::*;
pub use types::*;

use buckets::Buckets;
use host::Due;
use launch::LaunchToken;
use volumes::VolumeToken;

/// One account in one region. Serialisable, so that a host can keep it across its own restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ec2 {
    account: Account,
    seed: u64,
    /// How many ids were minted: with the seed it is the state of the id generator.
    minted: u64,
    now: Millis,
    vpc_id: String,
    instances: BTreeMap<String, Instance>,
    volumes: BTreeMap<String, Volume>,
    interfaces: BTreeMap<String, NetworkInterface>,
    groups: BTreeMap<String, SecurityGroup>,
    vpcs: BTreeMap<String, Vpc>,
    subnets: BTreeMap<String, Subnet>,
    images: BTreeMap<String, Image>,
    /// By zone (empty for a regional launch), then client token; see [`LaunchToken`].
    launch_tokens: BTreeMap<String, BTreeMap<String, LaunchToken>>,
    volume_tokens: BTreeMap<String, VolumeToken>,
    faults: Faults,
    buckets: Buckets,
    /// Not kept: a log of a day would be written again with every change.
    #[serde(skip)]
    log: Log,
    due: BTreeMap<Millis, Vec<Due>>,
    /// What [`Ec2::advance`] will hand out. Bounded by the changes made since it was last called.
    outbox: Vec<HostEvent>,
}

impl Ec2 {
    /// The account as its owner finds it. `seed` decides every id.
    pub fn new(account: Account, seed: u64) -> Self {
        let mut ec2 = Self {
            account,
            seed,
            minted: 0,
            now: Millis(0),
            vpc_id: String::new(),
            instances: BTreeMap::new(),
            volumes: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            groups: BTreeMap::new(),
            vpcs: BTreeMap::new(),
            subnets: BTreeMap::new(),
            images: BTreeMap::new(),
            launch_tokens: BTreeMap::new(),
            volume_tokens: BTreeMap::new(),
            faults: Faults::default(),
            buckets: Buckets::default(),
            log: Log::default(),
            due: BTreeMap::new(),
            outbox: Vec::new(),
        };
        ec2.found_network();
        for image in ec2.account.images.clone() {
            ec2.register_image(Millis(0), image);
        }
        ec2
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What is wrong with the cloud, to be read and set by a test or by `drover-local fault`.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Every call that reached the account.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes the latest calls out of the log, which then holds none: for a host that keeps a log of its own.
    pub fn take_log(&mut self) -> impl Iterator<Item = LogEntry> {
        self.log.take()
    }

    /// An image of the account's own, or the newest of its name again: registering the same specification twice makes one.
    pub fn register_image(&mut self, now: Millis, spec: ImageSpec) -> String {
        self.settle(now);
        let known = self.images.values().find(|image| {
            image.name == spec.name
                && image.architecture == spec.architecture
                && image.root_size_gib == spec.root_size_gib
                && image.tags == spec.tags
        });
        if let Some(image) = known {
            return image.image_id.clone();
        }
        let image_id = self.mint("ami");
        let image = Image {
            image_id: image_id.clone(),
            name: spec.name,
            description: spec.description,
            owner_id: self.account.owner_id.clone(),
            architecture: spec.architecture,
            creation_date: self.now,
            root_device_name: "/dev/xvda".into(),
            root_size_gib: spec.root_size_gib,
            tags: spec.tags,
        };
        self.images.insert(image_id.clone(), image);
        image_id
    }

    /// An instance whatever its visibility: for the host, which needs its tags, user data and address.
    pub fn instance(&self, instance_id: &str) -> Option<&Instance> {
        self.instances.get(instance_id)
    }

    /// Every instance, the terminated that are still listed included.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    pub fn volume(&self, volume_id: &str) -> Option<&Volume> {
        self.volumes.get(volume_id)
    }

    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.values()
    }

    pub fn interface(&self, network_interface_id: &str) -> Option<&NetworkInterface> {
        self.interfaces.get(network_interface_id)
    }

    pub fn interfaces(&self) -> impl Iterator<Item = &NetworkInterface> {
        self.interfaces.values()
    }

    /// The subnets, in the order of the account's zones.
    pub fn subnets(&self) -> Vec<&Subnet> {
        let mut subnets: Vec<&Subnet> = self.subnets.values().collect();
        subnets.sort_by_key(|subnet| self.zone_index(&subnet.zone));
        subnets
    }

    pub fn image(&self, image_id: &str) -> Option<&Image> {
        self.images.get(image_id)
    }

    pub fn group(&self, group_id: &str) -> Option<&SecurityGroup> {
        self.groups.get(group_id)
    }

    /// The group made for machines.
    pub fn machine_group(&self) -> Option<&SecurityGroup> {
        self.groups.values().find(|group| group.group_name == self.account.machine_group)
    }

    fn zone_index(&self, zone: &str) -> usize {
        self.account.subnets.iter().position(|subnet| subnet.zone == zone).unwrap_or(usize::MAX)
    }
}
