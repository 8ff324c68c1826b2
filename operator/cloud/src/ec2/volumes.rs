//! EBS volumes: made, bounded, described, deleted. Where they are attached is the business of `attachments`.

use serde::{Deserialize, Serialize};

use super::{
    ApiError, CreateVolume, DeleteVolume, DescribeVolumes, Ec2, HostEvent, Page, ResourceType, Tags, Volume,
    VolumeState,
    admission::check_token,
    calls::{action, sealed::Run},
    describe::narrowed,
    fields,
    host::Due,
    ids,
    pages::{USUAL, not_with_ids, page},
    tags::CreationTags,
};

action!(CreateVolume, mutating);
action!(DeleteVolume, mutating);
action!(DescribeVolumes, describing);

/// What a client token of CreateVolume stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeToken {
    request: CreateVolume,
    volume_id: String,
}

/// The performance side of a volume, once it is known to be allowed.
pub(super) struct Shape {
    pub size_gib: u32,
    pub volume_type: String,
    pub iops: Option<u32>,
    pub throughput: Option<u32>,
}

impl Run for CreateVolume {
    type Reply = Volume;

    fn try_out(&self, ec2: &Ec2) -> Result<(), ApiError> {
        ec2.require_tagging(&self.tag_specifications, "volume")
    }

    fn run(&self, ec2: &mut Ec2) -> Result<Volume, ApiError> {
        check_token(self.client_token.as_deref())?;
        if let Some(known) = self.client_token.as_ref().and_then(|token| ec2.volume_tokens.get(token)) {
            return ec2.repeat_volume(self, known);
        }
        let tags = CreationTags::parse(&self.tag_specifications, &[ResourceType::Volume])?.of(ResourceType::Volume);
        self.try_out(ec2)?;
        let zone = ec2.zone_asked(self.availability_zone.as_ref(), self.availability_zone_id.as_ref())?;
        let zone = zone.ok_or_else(|| ApiError::missing("AvailabilityZone"))?;
        if !ec2.account.subnets.iter().any(|spec| spec.zone == zone) {
            return Err(ApiError::new("InvalidZone.NotFound", format!("The zone '{zone}' does not exist.")));
        }
        if let Some(snapshot) = &self.snapshot_id {
            let message = format!("The snapshot '{snapshot}' does not exist.");
            return Err(ApiError::new("InvalidSnapshot.NotFound", message));
        }
        if self.multi_attach_enabled == Some(true) {
            return Err(ApiError::new("UnsupportedOperation", "Multi-Attach is not supported here"));
        }
        let encrypted = check_encryption(self.encrypted, self.kms_key_id.as_deref())?;
        let size = self.size.ok_or_else(|| ApiError::missing("size or snapshotId"))?;
        let shape = shape(size, self.volume_type.as_deref(), self.iops, self.throughput)?;
        ec2.require_zone(&zone)?;
        ec2.require_volume_quota(1)?;
        let volume = Volume {
            encrypted,
            kms_key_id: encrypted.then(|| ec2.kms_key(self.kms_key_id.as_deref())),
            tags,
            ..ec2.blank_volume(shape, &zone, VolumeState::Creating)
        };
        let volume_id = volume.volume_id.clone();
        ec2.volumes.insert(volume_id.clone(), volume.clone());
        if let Some(token) = &self.client_token {
            let known = VolumeToken { request: self.clone(), volume_id: volume_id.clone() };
            ec2.volume_tokens.insert(token.clone(), known);
        }
        let after = ec2.account.timings.volume;
        let order = HostEvent::CreateVolume { volume_id: volume_id.clone() };
        ec2.order(order, after, Due::VolumeCreated(volume_id));
        Ok(volume)
    }
}

impl Run for DeleteVolume {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        let volume = ec2.find_volume(&self.volume_id)?;
        match (volume.state, &volume.attachment) {
            (VolumeState::InUse, Some(at)) => {
                let message = format!("Volume {} is currently attached to {}", self.volume_id, at.instance_id);
                Err(ApiError::new("VolumeInUse", message))
            }
            (VolumeState::Available, _) => {
                ec2.begin_volume_deletion(&self.volume_id);
                Ok(())
            }
            (state, _) => Err(wrong_state(&self.volume_id, state)),
        }
    }
}

impl Run for DescribeVolumes {
    type Reply = Page<Volume>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<Volume>, ApiError> {
        not_with_ids(&self.volume_ids, "volumeIds", &self.paged)?;
        let filters = fields::VOLUME.compile(&self.paged.filters)?;
        ids::VOLUME.check_all(&self.volume_ids, |id| ec2.visible_volume(id).is_some())?;
        if self.volume_ids.is_empty() {
            ec2.require_all_zones()?;
        }
        let mut found = Vec::new();
        for it in ec2.volumes.values().filter(|it| ec2.visible(it.create_time)) {
            if self.volume_ids.is_empty() || self.volume_ids.contains(&it.volume_id) {
                ec2.require_zone(&it.zone)?;
                found.push(it);
            }
        }
        let found = found.into_iter().filter(|it| filters.matches(it)).cloned();
        page("DescribeVolumes", &self.paged, USUAL, found, |it| &it.volume_id)
    }

    fn narrowed(&self) -> bool {
        narrowed(&self.paged)
    }
}

pub(super) fn wrong_state(volume_id: &str, state: VolumeState) -> ApiError {
    ApiError::new("IncorrectState", format!("The volume '{volume_id}' is in the '{state}' state."))
}

/// KmsKeyId needs Encrypted.
pub(super) fn check_encryption(encrypted: Option<bool>, kms_key_id: Option<&str>) -> Result<bool, ApiError> {
    let encrypted = encrypted.unwrap_or(false);
    if kms_key_id.is_some() && !encrypted {
        let message = "The parameter KmsKeyId requires the parameter Encrypted to be set.";
        return Err(ApiError::new("InvalidParameterDependency", message));
    }
    Ok(encrypted)
}

/// Sizes, IOPS and throughput as the API reference of CreateVolume bounds them.
pub(super) fn shape(
    size_gib: u32,
    volume_type: Option<&str>,
    iops: Option<u32>,
    throughput: Option<u32>,
) -> Result<Shape, ApiError> {
    let volume_type = volume_type.unwrap_or("gp2");
    let (sizes, iops_allowed) = match volume_type {
        "gp2" => (1..=16_384, None),
        "gp3" => (1..=65_536, Some(3_000..=80_000)),
        "io1" => (4..=16_384, Some(100..=64_000)),
        "io2" => (4..=65_536, Some(100..=256_000)),
        "st1" | "sc1" => (125..=16_384, None),
        "standard" => (1..=1_024, None),
        other => {
            return Err(ApiError::new("UnknownVolumeType", format!("The volume type '{other}' is not supported")));
        }
    };
    if !sizes.contains(&size_gib) {
        let (low, high) = (sizes.start(), sizes.end());
        let message =
            format!("Volume of {size_gib}GiB is not allowed for {volume_type}: it must be {low} to {high}GiB");
        return Err(ApiError::value(message));
    }
    let iops = match (iops, iops_allowed) {
        (Some(_), None) => {
            let message = format!("The parameter iops is not supported for {volume_type} volumes.");
            return Err(ApiError::combination(message));
        }
        (None, Some(_)) if volume_type != "gp3" => return Err(ApiError::missing("iops")),
        (Some(iops), Some(allowed)) if !allowed.contains(&iops) => {
            let (low, high) = (allowed.start(), allowed.end());
            let message = format!("Volume iops of {iops} is not allowed for {volume_type}: it must be {low} to {high}");
            return Err(ApiError::value(message));
        }
        (iops, Some(_)) => Some(iops.unwrap_or(3_000)),
        (None, None) => None,
    };
    let throughput = match (throughput, volume_type) {
        (None, "gp3") => Some(125),
        (None, _) => None,
        (Some(it), "gp3") if (125..=2_000).contains(&it) => Some(it),
        (Some(it), "gp3") => {
            return Err(ApiError::value(format!("Throughput of {it} MiB/s is not allowed: it must be 125 to 2000")));
        }
        (Some(_), _) => {
            let message = format!("The parameter throughput is not supported for {volume_type} volumes.");
            return Err(ApiError::combination(message));
        }
    };
    check_ratios(volume_type, size_gib, iops, throughput)?;
    Ok(Shape { size_gib, volume_type: volume_type.into(), iops, throughput })
}

/// IOPS per GiB, and throughput per IOPS ("Amazon EBS volume types").
fn check_ratios(volume_type: &str, size_gib: u32, iops: Option<u32>, throughput: Option<u32>) -> Result<(), ApiError> {
    let per_gib = match volume_type {
        "io1" => 50,
        "gp3" => 500,
        _ => 1_000,
    };
    // The 3,000 IOPS of gp3 come with every size.
    let included = if volume_type == "gp3" { 3_000 } else { 0 };
    if iops.is_some_and(|iops| iops > included.max(size_gib.saturating_mul(per_gib))) {
        let message = format!("Iops to volume size ratio is too high; maximum is {per_gib} IOPS per GiB");
        return Err(ApiError::value(message));
    }
    if iops.zip(throughput).is_some_and(|(iops, throughput)| throughput > iops / 4) {
        let message = "Throughput (MiBps) to iops ratio is too high; maximum is 0.250000 MiBps per iops";
        return Err(ApiError::value(message));
    }
    Ok(())
}

impl Ec2 {
    /// The key of an encrypted volume as an ARN: the one that is named by id, alias or ARN, or the account's own for EBS.
    pub(super) fn kms_key(&self, named: Option<&str>) -> String {
        match named {
            Some(arn) if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.into(),
            named => {
                let (region, owner) = (&self.account.region, &self.account.owner_id);
                // Aliases are not resolved here: a key of the account stands behind each.
                let id = named.filter(|named| !named.contains("alias/"));
                let id = id.unwrap_or("00000000-0000-4000-8000-000000000000");
                format!("arn:aws:kms:{region}:{owner}:key/{id}")
            }
        }
    }

    pub(super) fn visible_volume(&self, id: &str) -> Option<&Volume> {
        self.volumes.get(id).filter(|it| self.visible(it.create_time))
    }

    pub(super) fn find_volume(&self, id: &str) -> Result<&Volume, ApiError> {
        ids::VOLUME.check(id)?;
        let volume = self
            .visible_volume(id)
            .ok_or_else(|| ApiError::new("InvalidVolume.NotFound", format!("The volume '{id}' does not exist.")))?;
        self.require_zone(&volume.zone)?;
        Ok(volume)
    }

    pub(super) fn volume_mut(&mut self, id: &str) -> &mut Volume {
        self.volumes.get_mut(id).expect("the volume was just found, and nothing ran in between")
    }

    pub(super) fn blank_volume(&mut self, shape: Shape, zone: &str, state: VolumeState) -> Volume {
        Volume {
            volume_id: self.mint("vol"),
            size_gib: shape.size_gib,
            volume_type: shape.volume_type,
            iops: shape.iops,
            throughput: shape.throughput,
            encrypted: false,
            kms_key_id: None,
            image_id: None,
            zone: zone.into(),
            zone_id: self.zone_id(zone),
            state,
            create_time: self.now,
            attachment: None,
            tags: Tags::new(),
        }
    }

    pub(super) fn require_volume_quota(&self, more: usize) -> Result<(), ApiError> {
        match self.account.volumes_max {
            Some(max) if self.volumes.len() + more > usize::try_from(max).unwrap_or(usize::MAX) => {
                Err(ApiError::new("VolumeLimitExceeded", format!("Maximum number of volumes exceeded: {max}")))
            }
            _ => Ok(()),
        }
    }

    /// The same token again: the same volume, while it lives. Seen in the field (aws-ebs-csi-driver issue 1428): the token of a
    /// deleted volume stays burnt and answers IdempotentParameterMismatch.
    fn repeat_volume(&self, request: &CreateVolume, known: &VolumeToken) -> Result<Volume, ApiError> {
        let volume = self.volumes.get(&known.volume_id).filter(|it| it.state != VolumeState::Deleting);
        match volume {
            Some(volume) if known.request == *request => Ok(volume.clone()),
            _ => {
                let message = "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)";
                Err(ApiError::new("IdempotentParameterMismatch", message))
            }
        }
    }

    pub(super) fn begin_volume_deletion(&mut self, volume_id: &str) {
        let volume = self.volume_mut(volume_id);
        volume.state = VolumeState::Deleting;
        volume.attachment = None;
        let after = self.account.timings.volume;
        let event = HostEvent::DeleteVolume { volume_id: volume_id.into() };
        self.order(event, after, Due::VolumeDeleted(volume_id.into()));
    }

    pub(super) fn created(&mut self, volume_id: &str) {
        if let Some(volume) = self.volumes.get_mut(volume_id)
            && volume.state == VolumeState::Creating
        {
            volume.state = VolumeState::Available;
        }
    }

    pub(super) fn deleted(&mut self, volume_id: &str) {
        if self.volumes.get(volume_id).is_some_and(|it| it.state == VolumeState::Deleting) {
            self.volumes.remove(volume_id);
        }
    }
}
