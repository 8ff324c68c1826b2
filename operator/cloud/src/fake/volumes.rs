//! `Volumes` on the EC2 model.

use drover_api::{InstanceId, Realm, VolumeId, launch::VolumeRequest, tags};

use super::{Fake, convert};
use crate::{
    ec2::{
        AttachVolume, CreateVolume, DeleteVolume, DescribeVolumes, Filter, InstanceChange, ModifyInstanceAttribute,
        Paged, TagSpecification,
    },
    error::{Class, CloudError, Result},
    volumes::{Volume, Volumes},
};

/// The largest page that DescribeVolumes gives.
const PAGE_MAX: i64 = 500;

impl Volumes for Fake {
    async fn list(&self, realm: &Realm) -> Result<Vec<Volume>> {
        let mut paged = convert::filters(&[(&format!("tag:{}", tags::REALM), realm.as_str())]);
        paged.filters.push(Filter { name: "tag-key".into(), values: vec![tags::VOLUME.into()] });
        paged.max_results = Some(PAGE_MAX);
        let mut volumes = Vec::new();
        loop {
            let page = self.call(&DescribeVolumes { volume_ids: Vec::new(), paged: paged.clone() })?;
            volumes.extend(page.items.iter().map(convert::volume));
            paged.next_token = page.next_token;
            if paged.next_token.is_none() {
                return Ok(volumes);
            }
        }
    }

    async fn get(&self, id: &VolumeId) -> Result<Volume> {
        let found = self.call(&DescribeVolumes { volume_ids: vec![id.to_string()], paged: Paged::default() })?;
        found.items.first().map(convert::volume).ok_or_else(|| {
            let message = format!("the answer about {id} is empty");
            CloudError::new(Class::NotFound, "DescribeVolumes", "InvalidVolume.NotFound", message)
        })
    }

    async fn create(&self, request: &VolumeRequest) -> Result<Volume> {
        let tags = convert::tags(&request.tags);
        let tagged = TagSpecification { resource_type: "volume".into(), tags };
        let made = self.call(&CreateVolume {
            availability_zone: Some(request.zone.to_string()),
            size: Some(request.size_gib),
            volume_type: Some(request.volume_type.clone()),
            iops: request.iops,
            throughput: request.throughput_mibps,
            encrypted: request.kms_key_id.is_some().then_some(true),
            kms_key_id: request.kms_key_id.clone(),
            client_token: Some(request.token.to_string()),
            tag_specifications: if request.tags.is_empty() { Vec::new() } else { vec![tagged] },
            ..CreateVolume::default()
        })?;
        Ok(convert::volume(&made))
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &str) -> Result<()> {
        let (volume_id, instance_id) = (volume.to_string(), instance.to_string());
        self.call(&AttachVolume { volume_id, instance_id, device: device.into() }).map(drop)
    }

    async fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> Result<()> {
        let change = InstanceChange::DeleteOnTermination(vec![(device.to_owned(), false)]);
        self.call(&ModifyInstanceAttribute { instance_id: instance.to_string(), changes: vec![change] })
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.call(&DeleteVolume { volume_id: volume.to_string() })
    }
}
