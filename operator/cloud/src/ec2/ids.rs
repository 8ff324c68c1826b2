//! Ids as EC2 makes them, and what it says of those it does not know.

use sha2::{Digest, Sha256};

use super::{ApiError, Ec2, ResourceType};

/// The kinds of id a request can name, with the two error codes of each (EC2 spells them unevenly).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdKind {
    pub prefix: &'static str,
    pub noun: &'static str,
    pub malformed: &'static str,
    pub not_found: &'static str,
}

macro_rules! kinds {
    ($($name:ident: $prefix:literal, $noun:literal, $malformed:literal, $not_found:literal;)+) => {
        $(pub(super) const $name: IdKind =
            IdKind { prefix: $prefix, noun: $noun, malformed: $malformed, not_found: $not_found };)+
    };
}

kinds! {
    INSTANCE: "i-", "instance", "InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound";
    VOLUME: "vol-", "volume", "InvalidVolumeID.Malformed", "InvalidVolume.NotFound";
    INTERFACE: "eni-", "networkInterface", "InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound";
    GROUP: "sg-", "security group", "InvalidGroupId.Malformed", "InvalidGroup.NotFound";
    SUBNET: "subnet-", "subnet", "InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound";
    VPC: "vpc-", "vpc", "InvalidVpcID.Malformed", "InvalidVpcID.NotFound";
    IMAGE: "ami-", "image id", "InvalidAMIID.Malformed", "InvalidAMIID.NotFound";
}

impl IdKind {
    /// Ids are a prefix and 17 hex digits, or 8 in old accounts.
    pub(super) fn check(self, id: &str) -> Result<(), ApiError> {
        let well_formed = id.strip_prefix(self.prefix).is_some_and(|rest| {
            matches!(rest.len(), 8 | 17) && rest.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        });
        if well_formed {
            Ok(())
        } else {
            Err(ApiError::new(self.malformed, format!("Invalid id: \"{id}\" (expecting \"{}...\")", self.prefix)))
        }
    }

    pub(super) fn missing(self, ids: &[&str]) -> ApiError {
        let message = match ids {
            [id] => format!("The {} ID '{id}' does not exist", self.noun),
            ids => format!("The {} IDs '{}' do not exist", self.noun, ids.join(", ")),
        };
        ApiError::new(self.not_found, message)
    }

    /// Every id is well-formed and found, or the first kind of mistake is named with all the ids that make it.
    pub(super) fn check_all(self, ids: &[String], found: impl Fn(&str) -> bool) -> Result<(), ApiError> {
        ids.iter().try_for_each(|id| self.check(id))?;
        let missing: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !found(id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(self.missing(&missing)) }
    }
}

/// The kind of a resource, from its id. EC2 answers InvalidID to a prefix it does not know.
pub(super) fn kind_of(id: &str) -> Result<(ResourceType, IdKind), ApiError> {
    let kinds = [
        (ResourceType::Instance, INSTANCE),
        (ResourceType::Volume, VOLUME),
        (ResourceType::NetworkInterface, INTERFACE),
        (ResourceType::SecurityGroup, GROUP),
        (ResourceType::Subnet, SUBNET),
        (ResourceType::Vpc, VPC),
        (ResourceType::Image, IMAGE),
    ];
    let (resource_type, kind) = kinds
        .into_iter()
        .find(|(_, kind)| id.starts_with(kind.prefix))
        .ok_or_else(|| ApiError::new("InvalidID", format!("The ID '{id}' is not valid")))?;
    kind.check(id)?;
    Ok((resource_type, kind))
}

impl Ec2 {
    /// A fresh id: `prefix` (without the dash) and 17 hex digits, decided by the seed and by how many were made before.
    pub(super) fn mint(&mut self, prefix: &str) -> String {
        self.minted += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(self.minted.to_be_bytes());
        let digits = hex::encode(hash.finalize());
        format!("{prefix}-0{}", &digits[..16])
    }
}
