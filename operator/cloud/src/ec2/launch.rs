//! RunInstances: client tokens, checks in the order that keeps a refused launch without any trace, and the launch itself.

use serde::{Deserialize, Serialize};

use super::{
    ApiError, AttachmentState, AutoRecovery, BlockDevice, Ec2, Instance, InstanceStateName, InterfaceAttachment,
    NetworkInterface, Reservation, ResourceType, RunInstances, ShutdownBehavior, Volume, VolumeAttachment, VolumeState,
    admission::{Device, Launch, check_token, interface},
    calls::{action, sealed::Run},
    volumes::Shape,
};

action!(RunInstances, mutating);

/// What a client token of RunInstances stands for. Kept as long as the account: a token that could be forgotten would be a
/// second launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaunchToken {
    request: RunInstances,
    reservation_id: String,
    instance_ids: Vec<String>,
}

impl Run for RunInstances {
    type Reply = Reservation;

    fn run(&self, ec2: &mut Ec2) -> Result<Reservation, ApiError> {
        check_token(self.client_token.as_deref())?;
        let scope = ec2.token_scope(self)?;
        ec2.require_zone(&scope)?;
        if let Some(token) = &self.client_token
            && let Some(known) = ec2.launch_tokens.get(&scope).and_then(|zone| zone.get(token))
        {
            return ec2.repeat_launch(self, known);
        }
        let launch = ec2.check_launch(self)?;
        ec2.check_room(&launch)?;
        let reservation_id = ec2.mint("r");
        let instance_ids: Vec<String> = launch
            .addresses
            .iter()
            .zip(0..)
            .map(|(address, index)| ec2.launch_one(self, &launch, &reservation_id, address, index))
            .collect();
        if let Some(token) = &self.client_token {
            let known = LaunchToken {
                request: self.clone(),
                reservation_id: reservation_id.clone(),
                instance_ids: instance_ids.clone(),
            };
            ec2.launch_tokens.entry(scope).or_default().insert(token.clone(), known);
        }
        Ok(ec2.reservation(&reservation_id, &instance_ids))
    }

    /// EC2 looks at what the request names also in a dry run, and not at quotas, capacity or what the token was used for: the API
    /// reference promises the check of permissions only, and those who use it meet the others (aws-parallelcluster's and
    /// Karpenter's validation of launches).
    fn try_out(&self, ec2: &Ec2) -> Result<(), ApiError> {
        check_token(self.client_token.as_deref())?;
        ec2.require_zone(&ec2.token_scope(self)?)?;
        ec2.check_launch(self).map(drop)
    }

    fn instances(&self) -> u32 {
        self.max_count
    }
}

impl Ec2 {
    /// Launches with a subnet or zone are idempotent within that zone, others within the region: the empty scope.
    fn token_scope(&self, request: &RunInstances) -> Result<String, ApiError> {
        if let Some(subnet_id) = interface(request)?.subnet_id {
            return Ok(self.find_subnet(&subnet_id)?.zone.clone());
        }
        Ok(request.availability_zone.clone().unwrap_or_default())
    }

    /// The same token in the same zone: what it launched before, or why not.
    fn repeat_launch(&self, request: &RunInstances, known: &LaunchToken) -> Result<Reservation, ApiError> {
        if known.request != *request {
            let message =
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
            return Err(ApiError::new("IdempotentParameterMismatch", message));
        }
        let ended = |id: &String| self.instances.get(id).is_none_or(|it| it.state == InstanceStateName::Terminated);
        if let Some(id) = known.instance_ids.iter().find(|id| ended(id)) {
            let message = format!("The instance '{id}' of this client token has been terminated");
            return Err(ApiError::new("IdempotentInstanceTerminated", message));
        }
        Ok(self.reservation(&known.reservation_id, &known.instance_ids))
    }

    fn reservation(&self, reservation_id: &str, instance_ids: &[String]) -> Reservation {
        let instances = instance_ids.iter().filter_map(|id| self.instances.get(id));
        Reservation {
            reservation_id: reservation_id.into(),
            owner_id: self.account.owner_id.clone(),
            instances: instances.map(|it| self.show_instance(it)).collect(),
        }
    }

    fn launch_one(
        &mut self,
        request: &RunInstances,
        launch: &Launch,
        reservation_id: &str,
        address: &str,
        index: u32,
    ) -> String {
        let instance_id = self.mint("i");
        let network_interface_id = self.make_interface(launch, &instance_id, address);
        let block_devices =
            launch.devices.iter().map(|device| self.make_volume(launch, device, &instance_id)).collect();
        let instance = Instance {
            instance_id: instance_id.clone(),
            reservation_id: reservation_id.into(),
            ami_launch_index: index,
            image_id: launch.image.image_id.clone(),
            instance_type: launch.info.instance_type.clone(),
            architecture: launch.info.architecture,
            client_token: request.client_token.clone(),
            state: InstanceStateName::Pending,
            state_reason: None,
            state_transition_reason: String::new(),
            launch_time: self.now,
            zone: launch.subnet.zone.clone(),
            zone_id: self.zone_id(&launch.subnet.zone),
            subnet_id: launch.subnet.subnet_id.clone(),
            vpc_id: launch.subnet.vpc_id.clone(),
            private_ip_address: address.into(),
            network_interface_id,
            block_devices,
            root_device_name: launch.image.root_device_name.clone(),
            instance_profile: launch.profile.clone(),
            metadata_options: launch.metadata_options.clone(),
            ebs_optimized: request.ebs_optimized.unwrap_or(false),
            monitoring: request.monitoring.unwrap_or(false),
            auto_recovery: request.auto_recovery.unwrap_or(AutoRecovery::Default),
            disable_api_termination: request.disable_api_termination.unwrap_or(false),
            disable_api_stop: request.disable_api_stop.unwrap_or(false),
            shutdown_behavior: request.instance_initiated_shutdown_behavior.unwrap_or(ShutdownBehavior::Stop),
            user_data: request.user_data.clone(),
            tags: launch.tags.of(ResourceType::Instance),
            earlier_tags: Vec::new(),
            created: self.now,
            running_since: None,
            host_lost: false,
            power_off: None,
            turn: 0,
        };
        self.instances.insert(instance_id.clone(), instance);
        self.begin_boot(&instance_id);
        instance_id
    }

    fn make_interface(&mut self, launch: &Launch, instance_id: &str, address: &str) -> String {
        let id = self.mint("eni");
        let attachment_id = self.mint("eni-attach");
        // Locally administered, from the id: unique as long as the id is.
        let digits = &id["eni-0".len()..];
        let mac: Vec<&str> = (0..5).map(|n| &digits[2 * n..2 * n + 2]).collect();
        let interface = NetworkInterface {
            network_interface_id: id.clone(),
            owner_id: self.account.owner_id.clone(),
            subnet_id: launch.subnet.subnet_id.clone(),
            vpc_id: launch.subnet.vpc_id.clone(),
            zone: launch.subnet.zone.clone(),
            zone_id: self.zone_id(&launch.subnet.zone),
            description: launch.interface.description.clone().unwrap_or_default(),
            mac_address: format!("0a:{}", mac.join(":")),
            private_ip_addresses: [address.to_owned()].into_iter().chain(launch.secondary_addresses.clone()).collect(),
            groups: launch.groups.clone(),
            attachment: Some(InterfaceAttachment {
                attachment_id,
                instance_id: instance_id.into(),
                device_index: 0,
                attach_time: self.now,
                delete_on_termination: launch.interface.delete_on_termination.unwrap_or(true),
            }),
            source_dest_check: true,
            created: self.now,
            tags: launch.tags.of(ResourceType::NetworkInterface),
        };
        self.interfaces.insert(id.clone(), interface);
        id
    }

    fn make_volume(&mut self, launch: &Launch, device: &Device, instance_id: &str) -> BlockDevice {
        let shape = Shape { volume_type: device.shape.volume_type.clone(), ..device.shape };
        let volume = Volume {
            encrypted: device.encrypted,
            kms_key_id: device.encrypted.then(|| self.kms_key(device.kms_key_id.as_deref())),
            image_id: device.image_id.clone(),
            attachment: Some(VolumeAttachment {
                instance_id: instance_id.into(),
                device: device.name.clone(),
                state: AttachmentState::Attaching,
                attach_time: self.now,
                delete_on_termination: device.delete_on_termination,
                forced: false,
            }),
            tags: launch.tags.of(ResourceType::Volume),
            ..self.blank_volume(shape, &launch.subnet.zone, VolumeState::InUse)
        };
        let volume_id = volume.volume_id.clone();
        self.volumes.insert(volume_id.clone(), volume);
        BlockDevice { device_name: device.name.clone(), volume_id }
    }
}
