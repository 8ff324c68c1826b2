//! Everything that can refuse a launch: nothing has changed when it does.

use super::{
    ApiError, Architecture, BlockDeviceMapping, EbsBlockDevice, Ec2, HttpTokens, IMAGE_VOLUME_TYPE, Image,
    InstanceProfile, InstanceTypeInfo, InterfaceSpecification, MetadataOptions, MetadataOptionsRequest, ResourceType,
    RunInstances, Subnet, Switch, TagSpecification,
    attachments::{check_volumes_max, is_device_name},
    ids,
    tags::{CreationTags, check_metadata_keys},
    volumes::{Shape, check_encryption, shape},
};

/// Characters of a client token ("Ensuring idempotency").
const TOKEN_MAX: usize = 64;

/// User data before base64 ("Run commands when you launch an EC2 instance").
const USER_DATA_MAX: usize = 16_384;

/// A launch that has passed every check.
pub(super) struct Launch {
    pub image: Image,
    pub info: InstanceTypeInfo,
    pub subnet: Subnet,
    pub interface: InterfaceSpecification,
    pub groups: Vec<String>,
    /// One per instance.
    pub addresses: Vec<String>,
    /// Of the one instance that a launch with such can have.
    pub secondary_addresses: Vec<String>,
    pub devices: Vec<Device>,
    pub profile: Option<InstanceProfile>,
    pub metadata_options: MetadataOptions,
    pub tags: CreationTags,
}

/// A volume to be made with each instance.
pub(super) struct Device {
    pub name: String,
    pub shape: Shape,
    pub delete_on_termination: bool,
    pub encrypted: bool,
    pub kms_key_id: Option<String>,
    pub image_id: Option<String>,
}

/// Shared by the two actions that take a token.
pub(super) fn check_token(token: Option<&str>) -> Result<(), ApiError> {
    match token {
        Some(token) if token.len() > TOKEN_MAX => {
            let message = format!("Client token must be less than or equal to {TOKEN_MAX} characters");
            Err(ApiError::value(message))
        }
        Some(token) if token.is_empty() || !token.is_ascii() => {
            Err(ApiError::value("Client token must consist of ASCII characters"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_user_data(user_data: Option<&[u8]>) -> Result<(), ApiError> {
    if user_data.is_some_and(|it| it.len() > USER_DATA_MAX) {
        return Err(ApiError::value(format!("User data is limited to {USER_DATA_MAX} bytes")));
    }
    Ok(())
}

fn check_counts(request: &RunInstances) -> Result<(), ApiError> {
    match (request.min_count, request.max_count) {
        (0, _) => Err(ApiError::value("Value (0) for parameter minCount is invalid. It must be at least 1.")),
        (_, 0) => Err(ApiError::value("Value (0) for parameter maxCount is invalid. It must be at least 1.")),
        (min, max) if min > max => {
            Err(ApiError::combination(format!("The minimum count {min} is larger than the maximum count {max}")))
        }
        (_, max) if max > 1000 => Err(ApiError::new("InstanceLimitExceeded", "At most 1000 instances per request")),
        _ => Ok(()),
    }
}

fn check_metadata_options(options: &MetadataOptionsRequest) -> Result<MetadataOptions, ApiError> {
    let hop_limit = options.http_put_response_hop_limit.unwrap_or(1);
    let hop_limit = u8::try_from(hop_limit).ok().filter(|it| (1..=64).contains(it)).ok_or_else(|| {
        ApiError::value(format!("Value ({hop_limit}) for parameter HttpPutResponseHopLimit must be 1 to 64"))
    })?;
    Ok(MetadataOptions {
        http_tokens: options.http_tokens.unwrap_or(HttpTokens::Optional),
        http_put_response_hop_limit: hop_limit,
        http_endpoint: options.http_endpoint.unwrap_or(Switch::Enabled),
        instance_metadata_tags: options.instance_metadata_tags.unwrap_or(Switch::Disabled),
    })
}

/// The root volume as the image has it and the request changes it, and the other volumes the request asks for. The API
/// reference and the user guide disagree on the default of DeleteOnTermination for the others; this follows the reference:
/// volumes attached at launch are deleted.
fn devices(image: &Image, mappings: &[BlockDeviceMapping]) -> Result<Vec<Device>, ApiError> {
    let invalid = |message: String| ApiError::new("InvalidBlockDeviceMapping", message);
    let root = BlockDeviceMapping { device_name: image.root_device_name.clone(), ebs: EbsBlockDevice::default() };
    let root = mappings.iter().find(|it| it.device_name == image.root_device_name).unwrap_or(&root);
    let others = mappings.iter().filter(|it| it.device_name != image.root_device_name);
    let mut devices: Vec<Device> = Vec::new();
    for BlockDeviceMapping { device_name, ebs } in std::iter::once(root).chain(others) {
        let is_root = *device_name == image.root_device_name;
        if device_name.is_empty() {
            return Err(ApiError::missing("BlockDeviceMapping.DeviceName"));
        }
        if !is_device_name(device_name) {
            return Err(invalid(format!("Invalid device name {device_name}")));
        }
        if mappings.iter().filter(|it| it.device_name == *device_name).count() > 1 {
            return Err(invalid(format!("The device '{device_name}' is used in more than one block-device mapping")));
        }
        // Of snapshots there is the one that each image is made of.
        let is_image_s = |snapshot: &String| is_root && *snapshot == image.snapshot_id();
        if let Some(snapshot) = ebs.snapshot_id.as_ref().filter(|snapshot| !is_image_s(snapshot)) {
            let message = format!("The snapshot '{snapshot}' does not exist.");
            return Err(ApiError::new("InvalidSnapshot.NotFound", message));
        }
        let smallest = if is_root { Some(image.root_size_gib) } else { None };
        let size = ebs.volume_size.or(smallest);
        let size = size.ok_or_else(|| ApiError::missing("BlockDeviceMapping.Ebs.VolumeSize"))?;
        if smallest.is_some_and(|smallest| size < smallest) {
            let needed = image.root_size_gib;
            return Err(invalid(format!(
                "Volume of size {size}GB is smaller than snapshot, expect size >= {needed}GB"
            )));
        }
        let volume_type = ebs.volume_type.as_deref().or(is_root.then_some(IMAGE_VOLUME_TYPE));
        if is_root && volume_type.is_some_and(|it| matches!(it, "st1" | "sc1")) {
            return Err(invalid("st1 and sc1 volumes cannot be the root device".into()));
        }
        devices.push(Device {
            name: device_name.clone(),
            shape: shape(size, volume_type, ebs.iops, ebs.throughput)?,
            delete_on_termination: ebs.delete_on_termination.unwrap_or(true),
            encrypted: check_encryption(ebs.encrypted, ebs.kms_key_id.as_deref())?,
            kms_key_id: ebs.kms_key_id.clone(),
            image_id: is_root.then(|| image.image_id.clone()),
        });
    }
    Ok(devices)
}

/// The one interface of a launch, from either of the two places where a request can describe it.
pub(super) fn interface(request: &RunInstances) -> Result<InterfaceSpecification, ApiError> {
    let top = InterfaceSpecification {
        subnet_id: request.subnet_id.clone(),
        groups: request.security_group_ids.clone(),
        private_ip_address: request.private_ip_address.clone(),
        ..InterfaceSpecification::default()
    };
    if request.subnet_id.is_some() && !request.security_groups.is_empty() {
        return Err(ApiError::combination("The parameter groupName cannot be used with the parameter subnet"));
    }
    match request.network_interfaces.as_slice() {
        [] => Ok(top),
        [it] if it.device_index == 0 => {
            let primaries = it.private_ip_addresses.iter().filter(|address| address.primary).count();
            if primaries + usize::from(it.private_ip_address.is_some()) > 1 {
                return Err(ApiError::combination("Only one primary private IP address can be specified"));
            }
            if top != InterfaceSpecification::default() || !request.security_groups.is_empty() {
                let message = "Network interfaces and an instance-level subnet ID, private address or security groups \
                               may not be specified on the same request";
                return Err(ApiError::combination(message));
            }
            if it.associate_public_ip_address == Some(true) {
                return Err(ApiError::new("UnsupportedOperation", "Public addresses are not supported here"));
            }
            let mut interface = it.clone();
            let primary = interface.private_ip_addresses.extract_if(.., |address| address.primary).next();
            interface.private_ip_address =
                interface.private_ip_address.or(primary.map(|address| address.private_ip_address));
            Ok(interface)
        }
        _ => {
            Err(ApiError::new("UnsupportedOperation", "Exactly one network interface, of device index 0, is supported"))
        }
    }
}

/// What a launch can ask for and that has one answer here.
fn check_extras(request: &RunInstances, info: &InstanceTypeInfo) -> Result<(), ApiError> {
    if let Some(name) = &request.key_name {
        return Err(ApiError::new("InvalidKeyPair.NotFound", format!("The key pair '{name}' does not exist")));
    }
    match request.tenancy.as_deref() {
        None | Some("default") => {}
        Some("dedicated" | "host") => {
            return Err(ApiError::new("UnsupportedOperation", "Only instances of default tenancy are supported here"));
        }
        Some(other) => {
            return Err(ApiError::value(format!("Value ({other}) for parameter tenancy is invalid. Invalid tenancy")));
        }
    }
    match request.cpu_credits.as_deref() {
        Some("standard" | "unlimited") if !info.burstable => {
            let message = format!("The {} instance type does not support T2 Unlimited.", info.instance_type);
            Err(ApiError::new("InstanceCreditSpecification.NotSupported", message))
        }
        None | Some("standard" | "unlimited") => Ok(()),
        Some(other) => Err(ApiError::value(format!("Value ({other}) for parameter cpuCredits is invalid."))),
    }
}

impl Ec2 {
    /// What can refuse a launch by what it asks for. Nothing has changed when it does.
    pub(super) fn check_launch(&self, request: &RunInstances) -> Result<Launch, ApiError> {
        check_counts(request)?;
        let kinds = [ResourceType::Instance, ResourceType::Volume, ResourceType::NetworkInterface];
        let tags = CreationTags::parse(&request.tag_specifications, &kinds)?;
        let metadata_options = check_metadata_options(&request.metadata_options)?;
        if metadata_options.instance_metadata_tags == Switch::Enabled {
            check_metadata_keys(&tags.of(ResourceType::Instance))?;
        }
        check_user_data(request.user_data.as_deref())?;
        let image = self.find_image(request.image_id.as_deref())?.clone();
        let info = self.find_type(request.instance_type.as_deref(), image.architecture)?.clone();
        check_extras(request, &info)?;
        let devices = devices(&image, &request.block_device_mappings)?;
        check_volumes_max(&info, devices.len())?;
        let profile = self.find_profile(request)?;
        self.check_permissions(request, profile.as_ref())?;
        let interface = interface(request)?;
        let subnet = self.place(request, &interface)?.clone();
        let groups = self.groups_of(request, &interface)?;
        self.require_zone(&subnet.zone)?;
        let addresses = self.launch_addresses(request, &interface, &subnet)?;
        let secondary_addresses = self.secondary_addresses(request, &interface, &subnet, &info, &addresses)?;
        Ok(Launch {
            image,
            info,
            subnet,
            interface,
            groups,
            addresses,
            secondary_addresses,
            devices,
            profile,
            metadata_options,
            tags,
        })
    }

    /// What the account or the zone may not have room for: what can refuse a launch that asks for nothing wrong.
    pub(super) fn check_room(&self, launch: &Launch) -> Result<(), ApiError> {
        let (instances, instance_type) = (launch.addresses.len(), launch.info.instance_type.as_str());
        self.require_vcpus(launch.addresses.iter().map(|_| instance_type))?;
        self.require_volume_quota(launch.devices.len() * instances)?;
        self.require_capacity(&launch.subnet.zone, instance_type)
    }

    /// Tagging what is made and giving it a role are permissions of their own.
    fn check_permissions(&self, request: &RunInstances, profile: Option<&InstanceProfile>) -> Result<(), ApiError> {
        let owner = &self.account.owner_id;
        self.require_tagging(&request.tag_specifications, "instance")?;
        profile.map_or(Ok(()), |profile| {
            // The role in a profile is called as the profile is.
            self.require_permission("iam:PassRole", &format!("arn:aws:iam::{owner}:role/{}", profile.name))
        })
    }

    /// Tagging what is made is a permission of its own.
    pub(super) fn require_tagging(&self, asked: &[TagSpecification], resource: &str) -> Result<(), ApiError> {
        if asked.is_empty() {
            return Ok(());
        }
        let (region, owner) = (&self.account.region, &self.account.owner_id);
        self.require_permission("ec2:CreateTags", &format!("arn:aws:ec2:{region}:{owner}:{resource}/*"))
    }

    fn find_image(&self, image_id: Option<&str>) -> Result<&Image, ApiError> {
        let image_id = image_id.ok_or_else(|| ApiError::missing("ImageId"))?;
        ids::IMAGE.check(image_id)?;
        self.images.get(image_id).ok_or_else(|| {
            ApiError::new("InvalidAMIID.NotFound", format!("The image id '[{image_id}]' does not exist"))
        })
    }

    /// EC2's own default type is of no use in any account of today, so a type is asked for.
    pub(super) fn find_type(
        &self,
        name: Option<&str>,
        architecture: Architecture,
    ) -> Result<&InstanceTypeInfo, ApiError> {
        let name = name.ok_or_else(|| ApiError::missing("InstanceType"))?;
        let info =
            self.type_info(name).ok_or_else(|| ApiError::value(format!("Invalid value '{name}' for InstanceType.")))?;
        if info.architecture != architecture {
            let message = format!(
                "The architecture '{}' of the specified instance type does not match the architecture \
                 '{architecture}' of the specified AMI.",
                info.architecture
            );
            return Err(ApiError::value(message));
        }
        Ok(info)
    }

    fn find_profile(&self, request: &RunInstances) -> Result<Option<InstanceProfile>, ApiError> {
        let Some(wanted) = &request.instance_profile else {
            return Ok(None);
        };
        let profile = |name: &String| InstanceProfile {
            arn: format!("arn:aws:iam::{}:instance-profile/{name}", self.account.owner_id),
            id: format!("AIPA{}", hex::encode_upper(name.as_bytes())),
            name: name.clone(),
        };
        let (field, value) = match (&wanted.arn, &wanted.name) {
            (Some(_), Some(_)) => {
                return Err(ApiError::combination(
                    "The parameter 'iamInstanceProfile.name' may not be used in \
                                                  combination with 'iamInstanceProfile.arn'",
                ));
            }
            (Some(arn), None) => ("arn", arn),
            (None, Some(name)) => ("name", name),
            (None, None) => return Err(ApiError::missing("IamInstanceProfile.Name or IamInstanceProfile.Arn")),
        };
        let known = self.account.instance_profiles.iter().map(profile).find(|it| it.arn == *value || it.name == *value);
        known.map(Some).ok_or_else(|| {
            let message = format!(
                "Value ({value}) for parameter iamInstanceProfile.{field} is invalid. Invalid IAM Instance Profile {field}"
            );
            ApiError::value(message)
        })
    }

    pub(super) fn find_subnet(&self, subnet_id: &str) -> Result<&Subnet, ApiError> {
        ids::SUBNET.check(subnet_id)?;
        self.subnets.get(subnet_id).ok_or_else(|| ids::SUBNET.missing(&[subnet_id]))
    }

    /// The subnet named, or that of the zone named, or that of the first zone.
    fn place(&self, request: &RunInstances, interface: &InterfaceSpecification) -> Result<&Subnet, ApiError> {
        let zone = self.zone_asked(request.availability_zone.as_ref(), request.availability_zone_id.as_ref())?;
        if let Some(subnet_id) = &interface.subnet_id {
            let subnet = self.find_subnet(subnet_id)?;
            if zone.as_ref().is_some_and(|zone| *zone != subnet.zone) {
                let message = format!("The availability zone of the subnet '{subnet_id}' is {}", subnet.zone);
                return Err(ApiError::combination(message));
            }
            return Ok(subnet);
        }
        let subnets = self.subnets();
        let Some(zone) = &zone else {
            return subnets.first().copied().ok_or_else(|| {
                ApiError::new("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
            });
        };
        subnets.into_iter().find(|it| it.zone == *zone).ok_or_else(|| {
            let message = format!("Value ({zone}) for parameter availabilityZone is invalid. Subnet not found for it.");
            ApiError::value(message)
        })
    }

    fn groups_of(&self, request: &RunInstances, interface: &InterfaceSpecification) -> Result<Vec<String>, ApiError> {
        let mut groups = interface.groups.clone();
        for name in &request.security_groups {
            groups.push(self.group_named(name)?.group_id.clone());
        }
        if groups.is_empty() {
            groups.push(self.group_named("default")?.group_id.clone());
        }
        self.check_groups(&groups)?;
        Ok(groups)
    }

    fn secondary_addresses(
        &self,
        request: &RunInstances,
        interface: &InterfaceSpecification,
        subnet: &Subnet,
        info: &InstanceTypeInfo,
        primaries: &[String],
    ) -> Result<Vec<String>, ApiError> {
        let wanted: Vec<String> =
            interface.private_ip_addresses.iter().map(|address| address.private_ip_address.clone()).collect();
        let any = interface.secondary_private_ip_address_count.unwrap_or(0);
        if !wanted.is_empty() && any > 0 {
            let message =
                "The parameters PrivateIpAddresses and SecondaryPrivateIpAddressCount cannot be used together";
            return Err(ApiError::combination(message));
        }
        if (!wanted.is_empty() || any > 0) && request.max_count != 1 {
            let message = "Secondary private addresses can be asked for with one instance only";
            return Err(ApiError::combination(message));
        }
        let max = info.ipv4_addresses_per_interface;
        if wanted.len() >= usize::try_from(max).unwrap_or(usize::MAX) || any >= max {
            let message = format!("Number of private addresses will exceed limit: {max}");
            return Err(ApiError::new("PrivateIpAddressLimitExceeded", message));
        }
        if any > 0 {
            // One more, for the primary may be among them: it is not taken yet.
            let mut picked = self.pick_addresses(subnet, any + 1)?;
            picked.retain(|address| !primaries.contains(address));
            picked.truncate(usize::try_from(any).unwrap_or(usize::MAX));
            return Ok(picked);
        }
        let mut seen: Vec<&String> = interface.private_ip_address.iter().collect();
        for address in &wanted {
            self.check_free_address(subnet, address)?;
            if seen.contains(&address) {
                return Err(ApiError::value(format!("The address {address} is specified more than once")));
            }
            seen.push(address);
        }
        Ok(wanted)
    }

    /// One address per instance: as many as there are, from MinCount to MaxCount.
    fn launch_addresses(
        &self,
        request: &RunInstances,
        interface: &InterfaceSpecification,
        subnet: &Subnet,
    ) -> Result<Vec<String>, ApiError> {
        if let Some(address) = &interface.private_ip_address {
            if request.max_count != 1 {
                let message = "The parameter PrivateIpAddress can be used with one instance only";
                return Err(ApiError::combination(message));
            }
            self.check_free_address(subnet, address)?;
            self.pick_addresses(subnet, 1)?;
            return Ok(vec![address.clone()]);
        }
        let asked =
            |address: &String| interface.private_ip_addresses.iter().any(|it| it.private_ip_address == *address);
        if let [_, ..] = interface.private_ip_addresses[..] {
            // One instance; its primary address is the first that is neither taken nor asked for beside it.
            let beside = u32::try_from(interface.private_ip_addresses.len()).unwrap_or(u32::MAX);
            let picked = self.pick_addresses(subnet, beside.saturating_add(1))?;
            return Ok(picked.into_iter().filter(|address| !asked(address)).take(1).collect());
        }
        let count = self.free_addresses(subnet).clamp(request.min_count, request.max_count);
        self.pick_addresses(subnet, count)
    }
}
