//! Machines as we need them: found by tags, launched once, ended by id.

use std::{collections::BTreeMap, future::Future, net::Ipv4Addr};

use drover_api::{
    ClientToken, ImageId, InstanceId, Millis, Realm, SecurityGroupId, SubnetId, VolumeId, Zone, launch::LaunchRequest,
};

use crate::error::Result;

/// One machine as the cloud describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub id: InstanceId,
    pub state: MachineState,
    /// Why, where the cloud says so: a launch that it gave up, a person, the machine itself.
    pub state_reason: Option<StateReason>,
    pub zone: Zone,
    pub subnet: Option<SubnetId>,
    pub private_ip: Option<Ipv4Addr>,
    pub instance_type: String,
    pub image: ImageId,
    pub token: Option<ClientToken>,
    pub launched: Millis,
    pub tags: BTreeMap<String, String>,
    /// Attached volumes by id, the root volume included.
    pub volumes: Vec<VolumeId>,
}

/// EC2's StateReason, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReason {
    /// Such as `Client.UserInitiatedShutdown`.
    pub code: String,
    pub message: String,
}

/// EC2's instance states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineState {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    /// Seen as terminated: the one proof that it is gone.
    Terminated,
}

/// What a selector by tags found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    pub name: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// RFC 3339, as EC2 gives it; sorts by time.
    pub created: String,
    pub available: bool,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: SubnetId,
    pub zone: Zone,
    pub vpc: String,
    pub free_addresses: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    pub vpc: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    pub name: String,
    pub architecture: String,
    pub vcpus: u32,
    pub memory_mib: u32,
}

/// Selects by ids or by tags, both within what the account may see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    Ids(Vec<String>),
    /// All of these tags.
    Tags(BTreeMap<String, String>),
}

/// EC2 instances and what a launch refers to. Every call has a deadline of its own and is made once: retrying is the
/// caller's, who knows what a lost reply means.
pub trait Machines: Send + Sync {
    /// Every machine that carries the realm's tag, in every state, all pages: one DescribeInstances per 1,000 machines.
    /// Fails as a whole when any page fails: a part of a fleet is not a fleet.
    fn list(&self, realm: &Realm) -> impl Future<Output = Result<Vec<Machine>>> + Send;

    /// One machine by id. `NotFound` proves nothing by itself.
    fn get(&self, id: &InstanceId) -> impl Future<Output = Result<Machine>> + Send;

    /// Machines launched with this token, in every state; empty when none is visible.
    fn find_by_token(&self, token: &ClientToken) -> impl Future<Output = Result<Vec<Machine>>> + Send;

    /// RunInstances for one machine, sent exactly once. Idempotent per token and zone.
    fn launch(&self, request: &LaunchRequest) -> impl Future<Output = Result<Machine>> + Send;

    /// Sets or clears termination protection.
    fn protect(&self, id: &InstanceId, protection: Protection) -> impl Future<Output = Result<()>> + Send;

    fn terminate(&self, id: &InstanceId) -> impl Future<Output = Result<()>> + Send;

    /// CreateTags: adds and overwrites.
    fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> impl Future<Output = Result<()>> + Send;

    /// DeleteTags: takes one tag away, whatever its value.
    fn untag(&self, id: &InstanceId, key: &str) -> impl Future<Output = Result<()>> + Send;

    /// Images by id, or by tags and owners (`self`, account ids).
    fn images(&self, selector: &Selector, owners: &[String]) -> impl Future<Output = Result<Vec<Image>>> + Send;

    fn subnets(&self, selector: &Selector) -> impl Future<Output = Result<Vec<Subnet>>> + Send;

    fn security_groups(&self, selector: &Selector) -> impl Future<Output = Result<Vec<SecurityGroup>>> + Send;

    /// Describes those of the types that the Region has; a name that it does not know is left out.
    fn instance_types(&self, names: &[String]) -> impl Future<Output = Result<Vec<InstanceType>>> + Send;

    /// Would this launch be allowed (DryRun)? EC2 checks permissions and what the request names, neither quotas nor capacity.
    /// Changes nothing, and uses no client token up.
    fn may_launch(&self, request: &LaunchRequest) -> impl Future<Output = Result<()>> + Send;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    On,
    Off,
}
