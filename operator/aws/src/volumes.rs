//! Data volumes.

use aws_sdk_ec2::types::{
    EbsInstanceBlockDeviceSpecification, InstanceBlockDeviceMappingSpecification, ResourceType, VolumeType,
};
use drover_api::{InstanceId, Realm, VolumeId, launch::VolumeRequest, tags};
use drover_cloud::{Class, CloudError, Result, Volumes, volumes::Volume};

use crate::{
    calls::{
        ATTACH_VOLUME, CREATE_VOLUME, Call, DELETE_VOLUME, DESCRIBE_VOLUMES, DESCRIBE_VOLUMES_BY_ID,
        MODIFY_INSTANCE_ATTRIBUTE,
    },
    classify::failed,
    convert,
    machines::Ec2,
    selectors::{PAGE_MAX, tag_filter, tagged},
    send::{pages, unreadable},
};

impl Volumes for Ec2 {
    async fn list(&self, realm: &Realm) -> Result<Vec<Volume>> {
        let call = &DESCRIBE_VOLUMES;
        // Both filters must hold. Root volumes carry the realm too, and are not ours to keep.
        let request = self.client.describe_volumes().filters(tag_filter(tags::REALM, realm.as_str()));
        let request = request.filters(tag_filter(tags::VOLUME, tags::VOLUME_VALUE)).max_results(PAGE_MAX);
        pages(call, |token| async {
            let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
            let volumes = answer.volumes().iter().map(convert::volume).collect::<std::result::Result<_, _>>();
            Ok((volumes.map_err(|error| unreadable(call, error))?, answer.next_token))
        })
        .await
    }

    async fn get(&self, id: &VolumeId) -> Result<Volume> {
        let call = &DESCRIBE_VOLUMES_BY_ID;
        let request = self.client.describe_volumes().volume_ids(id.as_str());
        let answer = self.sender.send(call, request.send()).await?;
        let volume = answer.volumes().first();
        let volume = volume.ok_or_else(|| failed(Class::NotFound, call, "NotFound", id.as_str()))?;
        convert::volume(volume).map_err(|error| unreadable(call, error))
    }

    async fn create(&self, request: &VolumeRequest) -> Result<Volume> {
        let call = &CREATE_VOLUME;
        let request = self
            .client
            .create_volume()
            .client_token(request.token.as_str())
            .availability_zone(request.zone.as_str())
            .size(whole(call, "sizeGiB", request.size_gib)?)
            .volume_type(VolumeType::from(request.volume_type.as_str()))
            .set_iops(request.iops.map(|iops| whole(call, "iops", iops)).transpose()?)
            .set_throughput(request.throughput_mibps.map(|mibps| whole(call, "throughputMiBps", mibps)).transpose()?)
            // A key without encryption is refused; without a key the account's default decides.
            .set_encrypted(request.kms_key_id.as_ref().map(|_| true))
            .set_kms_key_id(request.kms_key_id.clone())
            .tag_specifications(tagged(ResourceType::Volume, &request.tags));
        let answer = self.sender.send(call, request.send()).await?;
        convert::volume(&convert::created(answer)).map_err(|error| unreadable(call, error))
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &str) -> Result<()> {
        let request = self.client.attach_volume().volume_id(volume.as_str()).instance_id(instance.as_str());
        self.sender.send(&ATTACH_VOLUME, request.device(device).send()).await.map(drop)
    }

    async fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> Result<()> {
        let kept = EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(false).build();
        let mapping = InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(kept).build();
        let request = self.client.modify_instance_attribute().instance_id(instance.as_str());
        self.sender.send(&MODIFY_INSTANCE_ATTRIBUTE, request.block_device_mappings(mapping).send()).await.map(drop)
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        let request = self.client.delete_volume().volume_id(volume.as_str());
        self.sender.send(&DELETE_VOLUME, request.send()).await.map(drop)
    }
}

/// EC2 counts in signed 32 bits.
fn whole(call: &Call, what: &str, value: u32) -> std::result::Result<i32, CloudError> {
    i32::try_from(value).map_err(|_| failed(Class::Invalid, call, "Request", &format!("{what} {value} is too large")))
}
