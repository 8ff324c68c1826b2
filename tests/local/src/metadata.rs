//! What a machine may read about itself: the model's record of it, joined for the metadata service.

use std::net::Ipv4Addr;

use drover_api::InstanceId;
use drover_cloud::ec2::{Ec2, HttpTokens, Instance, InstanceStateName, Switch, private_dns_name};
use jiff::{SignedDuration, Timestamp};

use crate::{
    clock,
    cloud::Cloud,
    keys::Keys,
    machine::{Metadata, MetadataView, RoleCredentials, RoleView},
    session::{self, Session},
};

/// Answers the metadata services of all machines.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cloud: Cloud,
    pub keys: Keys,
}

/// Why there are no role credentials for an instance.
#[derive(Debug, thiserror::Error)]
pub enum NoCredentials {
    #[error("there is no instance {0}")]
    NoSuchInstance(String),
    #[error("{0} is {1}: no machine is there that could have credentials")]
    NotOn(String, InstanceStateName),
    #[error("the metadata service of {0} is disabled (MetadataOptions.HttpEndpoint)")]
    Hidden(String),
    #[error("{0} was launched without an instance profile")]
    NoProfile(String),
}

impl Identity {
    /// What a machine's metadata service would hand out now; or, with a duration, a session of its own that ends after it.
    pub fn role_credentials(&self, id: &str, valid: Option<SignedDuration>) -> Result<RoleCredentials, NoCredentials> {
        self.cloud.look(|ec2, sessions| {
            let instance = ec2.instance(id).ok_or_else(|| NoCredentials::NoSuchInstance(id.into()))?;
            if matches!(instance.state, InstanceStateName::Stopped | InstanceStateName::Terminated) {
                return Err(NoCredentials::NotOn(id.into(), instance.state));
            }
            if instance.metadata_options.http_endpoint == Switch::Disabled {
                return Err(NoCredentials::Hidden(id.into()));
            }
            if instance.instance_profile.is_none() {
                return Err(NoCredentials::NoProfile(id.into()));
            }
            let now = clock::now();
            Ok(printed(match valid {
                Some(valid) => session::mint(instance, &self.keys, now, valid),
                None => session::current(instance, sessions, &self.keys, now),
            }))
        })
    }
}

impl Metadata for Identity {
    fn view(&self, instance: &InstanceId) -> Option<MetadataView> {
        self.cloud.look(|ec2, sessions| {
            let instance = ec2.instance(instance.as_str())?;
            let hidden = instance.metadata_options.http_endpoint == Switch::Disabled;
            if hidden || instance.state == InstanceStateName::Terminated {
                return None;
            }
            let role = instance.instance_profile.as_ref().map(|profile| RoleView {
                profile_arn: profile.arn.clone(),
                profile_id: profile.id.clone(),
                role_name: profile.name.clone(),
                credentials: printed(session::current(instance, sessions, &self.keys, clock::now())),
            });
            view(ec2, instance, role)
        })
    }
}

/// `None` for a record whose addresses do not parse, which the model does not make.
fn view(ec2: &Ec2, instance: &Instance, role: Option<RoleView>) -> Option<MetadataView> {
    let interface = ec2.interface(&instance.network_interface_id)?;
    let subnets = ec2.subnets();
    let index = subnets.iter().position(|subnet| subnet.subnet_id == instance.subnet_id)?;
    let group = |id: &String| (id.clone(), ec2.group(id).map_or_else(|| id.clone(), |group| group.group_name.clone()));
    let account = ec2.account();
    Some(MetadataView {
        instance_id: InstanceId::new(&instance.instance_id).ok()?,
        image_id: instance.image_id.clone(),
        instance_type: instance.instance_type.clone(),
        reservation_id: instance.reservation_id.clone(),
        account_id: account.owner_id.clone(),
        region: account.region.clone(),
        zone: instance.zone.clone(),
        zone_id: ec2.zone_id(&instance.zone),
        private_ip: interface.primary_address().parse().ok()?,
        secondary_ips: interface
            .private_ip_addresses
            .iter()
            .skip(1)
            .filter_map(|it| it.parse::<Ipv4Addr>().ok())
            .collect(),
        mac: interface.mac_address.clone(),
        hostname: private_dns_name(interface.primary_address(), &instance.zone),
        interface_id: interface.network_interface_id.clone(),
        vpc_id: instance.vpc_id.clone(),
        vpc_cidr: account.vpc_cidr.to_string(),
        subnet_id: instance.subnet_id.clone(),
        subnet_cidr: subnets[index].cidr_block.clone(),
        security_groups: interface.groups.iter().map(group).collect(),
        launched_at: seconds(Timestamp::from_millisecond(i64::try_from(instance.launch_time.0).ok()?).ok()?),
        tags: (instance.metadata_options.instance_metadata_tags == Switch::Enabled).then(|| instance.tags.clone()),
        user_data: instance.user_data.clone(),
        tokens_required: instance.metadata_options.http_tokens == HttpTokens::Required,
        role,
    })
}

fn printed(session: Session) -> RoleCredentials {
    RoleCredentials {
        access_key_id: session.access_key,
        secret_access_key: session.secret,
        token: session.token,
        last_updated: seconds(session.minted),
        expiration: seconds(session.expires),
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
