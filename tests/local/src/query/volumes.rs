//! The actions on volumes.

use drover_cloud::ec2::{
    ApiError, AttachVolume, Attachment, CreateVolume, DeleteVolume, DescribeVolumes, DetachVolume, Page, Volume,
    VolumeAttachment,
};

use super::{Reader, Wire, Xml, paged, tag_specifications, with_managed, write_done, write_tags};

impl Wire for CreateVolume {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            availability_zone: form.optional("AvailabilityZone")?,
            availability_zone_id: form.optional("AvailabilityZoneId")?,
            size: form.optional("Size")?,
            volume_type: form.optional("VolumeType")?,
            iops: form.optional("Iops")?,
            throughput: form.optional("Throughput")?,
            encrypted: form.optional("Encrypted")?,
            kms_key_id: form.optional("KmsKeyId")?,
            snapshot_id: form.optional("SnapshotId")?,
            multi_attach_enabled: form.optional("MultiAttachEnabled")?,
            client_token: form.optional("ClientToken")?,
            tag_specifications: tag_specifications(form)?,
        })
    }

    fn write(volume: &Volume, xml: &mut Xml) {
        write_volume(xml, volume);
    }
}

impl Wire for DeleteVolume {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { volume_id: form.required("VolumeId")? })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

impl Wire for AttachVolume {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            volume_id: form.required("VolumeId")?,
            instance_id: form.required("InstanceId")?,
            device: form.required("Device")?,
        })
    }

    fn write(reply: &Attachment, xml: &mut Xml) {
        write_attachment(xml, &reply.volume_id, &reply.attachment);
    }
}

impl Wire for DetachVolume {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            volume_id: form.required("VolumeId")?,
            instance_id: form.optional("InstanceId")?,
            device: form.optional("Device")?,
            force: form.optional("Force")?.unwrap_or(false),
        })
    }

    fn write(reply: &Attachment, xml: &mut Xml) {
        write_attachment(xml, &reply.volume_id, &reply.attachment);
    }
}

impl Wire for DescribeVolumes {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        with_managed(form)?;
        Ok(Self { volume_ids: form.list("VolumeId")?, paged: paged(form)? })
    }

    fn write(page: &Page<Volume>, xml: &mut Xml) {
        xml.items("volumeSet", &page.items, write_volume);
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

fn write_volume(xml: &mut Xml, volume: &Volume) {
    xml.text("volumeId", &volume.volume_id);
    xml.text("size", volume.size_gib);
    xml.text("snapshotId", volume.snapshot_id());
    xml.text("availabilityZone", &volume.zone);
    xml.text("availabilityZoneId", &volume.zone_id);
    xml.text("status", volume.state);
    xml.time("createTime", volume.create_time);
    xml.items("attachmentSet", &volume.attachment, |xml, attachment| {
        write_attachment(xml, &volume.volume_id, attachment);
    });
    write_tags(xml, &volume.tags);
    xml.text("volumeType", &volume.volume_type);
    xml.optional("iops", volume.shown_iops());
    xml.optional("throughput", volume.throughput);
    xml.text("encrypted", volume.encrypted);
    xml.optional("kmsKeyId", volume.kms_key_id.as_ref());
    xml.text("multiAttachEnabled", false);
}

fn write_attachment(xml: &mut Xml, volume_id: &str, attachment: &VolumeAttachment) {
    xml.text("volumeId", volume_id);
    xml.text("instanceId", &attachment.instance_id);
    xml.text("device", &attachment.device);
    xml.text("status", attachment.state);
    xml.time("attachTime", attachment.attach_time);
    xml.text("deleteOnTermination", attachment.delete_on_termination);
}
