//! Data volumes as we need them: made by CreateVolume only, in the zone of their machine, outliving it.

use std::{collections::BTreeMap, future::Future};

use drover_api::{InstanceId, Millis, Realm, VolumeId, Zone, launch::VolumeRequest};

use crate::error::Result;

/// One volume as the cloud describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: VolumeId,
    pub state: VolumeState,
    pub zone: Zone,
    pub size_gib: u32,
    /// The cloud's word, such as `gp3`.
    pub volume_type: String,
    /// `None` where the type has none of its own.
    pub iops: Option<u32>,
    pub throughput_mibps: Option<u32>,
    pub created: Millis,
    pub tags: BTreeMap<String, String>,
    pub attachment: Option<Attachment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeState {
    Creating,
    Available,
    InUse,
    Deleting,
    Deleted,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub instance: InstanceId,
    pub state: AttachmentState,
    /// Under which the instance has it, such as `/dev/sdf`.
    pub device: String,
    /// Whether it is deleted together with the instance; `None` where the cloud does not say.
    pub delete_on_termination: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttachmentState {
    Attaching,
    Attached,
    Detaching,
    Busy,
}

/// EBS volumes. The same promises as [`crate::Machines`].
pub trait Volumes: Send + Sync {
    /// Every volume that carries the realm's tag and `drover:volume`, all pages.
    fn list(&self, realm: &Realm) -> impl Future<Output = Result<Vec<Volume>>> + Send;

    fn get(&self, id: &VolumeId) -> impl Future<Output = Result<Volume>> + Send;

    /// CreateVolume, sent exactly once. Idempotent per token.
    fn create(&self, request: &VolumeRequest) -> impl Future<Output = Result<Volume>> + Send;

    fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &str)
    -> impl Future<Output = Result<()>> + Send;

    /// Clears DeleteOnTermination of the volume that the instance has under this device name (ModifyInstanceAttribute).
    fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> impl Future<Output = Result<()>> + Send;

    fn delete(&self, volume: &VolumeId) -> impl Future<Output = Result<()>> + Send;
}
