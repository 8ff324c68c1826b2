//! From the SDK's types, where everything is optional, to ours, where only what may be missing is. What EC2 promises and an
//! answer lacks is an error: a machine described by half would be planned for by half.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use aws_smithy_types::DateTime;
use drover_api::{ClientToken, ImageId, InstanceId, InvalidName, Millis, SecurityGroupId, SubnetId, VolumeId, Zone};
use drover_cloud::{
    machines::{Image, InstanceType, Machine, MachineState, SecurityGroup, StateReason, Subnet},
    volumes::{Attachment, AttachmentState, Volume, VolumeState},
};

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{field} has the value {value:?}, which we do not know")]
    Unknown { field: &'static str, value: String },
    #[error(transparent)]
    Name(#[from] InvalidName),
}

type Result<T> = std::result::Result<T, Unreadable>;

/// Terminated machines lose subnet, address and volumes; their zone stays.
pub(crate) fn machine(instance: &ec2::Instance) -> Result<Machine> {
    let volumes = instance.block_device_mappings().iter();
    let volumes = volumes.filter_map(|mapping| mapping.ebs()?.volume_id()).map(VolumeId::new);
    let token = instance.client_token().filter(|token| !token.is_empty());
    Ok(Machine {
        id: InstanceId::new(need("instanceId", instance.instance_id())?)?,
        state: machine_state(need("instanceState", instance.state().and_then(|state| state.name()))?)?,
        state_reason: instance.state_reason().and_then(state_reason),
        zone: Zone::new(need("placement", instance.placement().and_then(|place| place.availability_zone()))?)?,
        subnet: instance.subnet_id().map(SubnetId::new).transpose()?,
        private_ip: instance.private_ip_address().map(|ip| parse("privateIpAddress", ip)).transpose()?,
        instance_type: need("instanceType", instance.instance_type())?.as_str().to_owned(),
        image: ImageId::new(need("imageId", instance.image_id())?)?,
        token: token.map(ClientToken::new).transpose()?,
        launched: millis("launchTime", instance.launch_time())?,
        tags: tag_map(instance.tags()),
        volumes: volumes.collect::<std::result::Result<_, _>>()?,
    })
}

pub(crate) fn volume(volume: &ec2::Volume) -> Result<Volume> {
    let attachments = volume.attachments().iter().map(attachment).collect::<Result<Vec<_>>>()?;
    Ok(Volume {
        id: VolumeId::new(need("volumeId", volume.volume_id())?)?,
        state: volume_state(need("status", volume.state())?)?,
        zone: Zone::new(need("availabilityZone", volume.availability_zone())?)?,
        size_gib: number("size", volume.size())?,
        volume_type: need("volumeType", volume.volume_type())?.as_str().to_owned(),
        iops: volume.iops().map(|iops| number("iops", Some(iops))).transpose()?,
        throughput_mibps: volume.throughput().map(|mibps| number("throughput", Some(mibps))).transpose()?,
        created: millis("createTime", volume.create_time())?,
        tags: tag_map(volume.tags()),
        attachment: attachments.into_iter().flatten().next(),
    })
}

/// CreateVolume answers with the same fields under a type of its own.
pub(crate) fn created(output: aws_sdk_ec2::operation::create_volume::CreateVolumeOutput) -> ec2::Volume {
    ec2::Volume::builder()
        .set_volume_id(output.volume_id)
        .set_state(output.state)
        .set_availability_zone(output.availability_zone)
        .set_size(output.size)
        .set_volume_type(output.volume_type)
        .set_iops(output.iops)
        .set_throughput(output.throughput)
        .set_create_time(output.create_time)
        .set_tags(output.tags)
        .set_attachments(output.attachments)
        .build()
}

pub(crate) fn image(image: &ec2::Image) -> Result<Image> {
    Ok(Image {
        id: ImageId::new(need("imageId", image.image_id())?)?,
        name: image.name().unwrap_or_default().to_owned(),
        architecture: need("architecture", image.architecture())?.as_str().to_owned(),
        created: need("creationDate", image.creation_date())?.to_owned(),
        available: need("imageState", image.state())? == &ec2::ImageState::Available,
        tags: tag_map(image.tags()),
    })
}

pub(crate) fn subnet(subnet: &ec2::Subnet) -> Result<Subnet> {
    Ok(Subnet {
        id: SubnetId::new(need("subnetId", subnet.subnet_id())?)?,
        zone: Zone::new(need("availabilityZone", subnet.availability_zone())?)?,
        vpc: need("vpcId", subnet.vpc_id())?.to_owned(),
        free_addresses: number("availableIpAddressCount", subnet.available_ip_address_count())?,
    })
}

pub(crate) fn security_group(group: &ec2::SecurityGroup) -> Result<SecurityGroup> {
    Ok(SecurityGroup {
        id: SecurityGroupId::new(need("groupId", group.group_id())?)?,
        vpc: need("vpcId", group.vpc_id())?.to_owned(),
    })
}

pub(crate) fn instance_type(info: &ec2::InstanceTypeInfo) -> Result<InstanceType> {
    let architectures = info.processor_info().map_or(&[][..], |processor| processor.supported_architectures());
    // Older types list i386 beside x86_64.
    let ours = |a: &&ec2::ArchitectureType| matches!(a, ec2::ArchitectureType::X8664 | ec2::ArchitectureType::Arm64);
    let memory = info.memory_info().and_then(|memory| memory.size_in_mib());
    Ok(InstanceType {
        name: need("instanceType", info.instance_type())?.as_str().to_owned(),
        architecture: need("supportedArchitectures", architectures.iter().find(ours))?.as_str().to_owned(),
        vcpus: number("defaultVCpus", info.v_cpu_info().and_then(|cpus| cpus.default_v_cpus()))?,
        memory_mib: number("sizeInMiB", memory)?,
    })
}

fn machine_state(state: &ec2::InstanceStateName) -> Result<MachineState> {
    use ec2::InstanceStateName as Name;
    match state {
        Name::Pending => Ok(MachineState::Pending),
        Name::Running => Ok(MachineState::Running),
        Name::Stopping => Ok(MachineState::Stopping),
        Name::Stopped => Ok(MachineState::Stopped),
        Name::ShuttingDown => Ok(MachineState::ShuttingDown),
        Name::Terminated => Ok(MachineState::Terminated),
        other => Err(unknown("instanceState", other.as_str())),
    }
}

/// A running machine has an empty one.
fn state_reason(reason: &ec2::StateReason) -> Option<StateReason> {
    let code = reason.code().filter(|code| !code.is_empty())?;
    Some(StateReason { code: code.to_owned(), message: reason.message().unwrap_or_default().to_owned() })
}

fn volume_state(state: &ec2::VolumeState) -> Result<VolumeState> {
    match state {
        ec2::VolumeState::Creating => Ok(VolumeState::Creating),
        ec2::VolumeState::Available => Ok(VolumeState::Available),
        ec2::VolumeState::InUse => Ok(VolumeState::InUse),
        ec2::VolumeState::Deleting => Ok(VolumeState::Deleting),
        ec2::VolumeState::Deleted => Ok(VolumeState::Deleted),
        ec2::VolumeState::Error => Ok(VolumeState::Error),
        other => Err(unknown("status", other.as_str())),
    }
}

/// `None` for one that has ended and is still listed.
fn attachment(attachment: &ec2::VolumeAttachment) -> Result<Option<Attachment>> {
    use ec2::VolumeAttachmentState as State;
    let state = match need("attachment status", attachment.state())? {
        State::Attaching => AttachmentState::Attaching,
        State::Attached => AttachmentState::Attached,
        State::Detaching => AttachmentState::Detaching,
        State::Busy => AttachmentState::Busy,
        State::Detached => return Ok(None),
        other => return Err(unknown("attachment status", other.as_str())),
    };
    let instance = InstanceId::new(need("attachment instanceId", attachment.instance_id())?)?;
    let device = attachment.device().unwrap_or_default().to_owned();
    Ok(Some(Attachment { instance, state, device, delete_on_termination: attachment.delete_on_termination() }))
}

fn tag_map(tags: &[ec2::Tag]) -> BTreeMap<String, String> {
    let pairs = tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())));
    pairs.collect()
}

fn millis(field: &'static str, time: Option<&DateTime>) -> Result<Millis> {
    let time = need(field, time)?;
    let millis = time.to_millis().ok().and_then(|millis| u64::try_from(millis).ok());
    millis.map(Millis).ok_or_else(|| unknown(field, &time.to_string()))
}

fn number<N: Copy + ToString>(field: &'static str, value: Option<N>) -> Result<u32>
where
    u32: TryFrom<N>,
{
    let value = need(field, value)?;
    u32::try_from(value).map_err(|_| unknown(field, &value.to_string()))
}

fn parse<T: std::str::FromStr>(field: &'static str, value: &str) -> Result<T> {
    value.parse().map_err(|_| unknown(field, value))
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Unreadable::Missing(field))
}

fn unknown(field: &'static str, value: &str) -> Unreadable {
    Unreadable::Unknown { field, value: value.to_owned() }
}
