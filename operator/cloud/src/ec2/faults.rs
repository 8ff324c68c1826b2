//! What can be wrong with the cloud, on demand. Nothing of it is set in a new account.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::Millis;
use serde::{Deserialize, Serialize};

use super::{ApiError, Ec2, Instance, Tags};

/// The faults that are on now. Changing one takes effect with the next call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// A fresh instance, volume, network interface or security group is missing from lists and NotFound by id for this long
    /// ("Eventual consistency in the Amazon EC2 API").
    pub visibility_lag: Duration,
    /// What Describe and its filters show of an instance's tags is this much behind CreateTags and DeleteTags (the same page:
    /// a change "might not be immediately visible to all subsequent commands").
    pub tag_lag: Duration,
    pub throttling: Throttling,
    /// Launches and starts that match any of these get InsufficientInstanceCapacity.
    pub no_capacity: Vec<NoCapacity>,
    /// Zones whose control plane is out: launches there, and every describe that names nothing or names something there, fail.
    pub zone_outages: BTreeSet<String>,
    /// Subnets, by id, that have no free address left.
    pub full_subnets: BTreeSet<String>,
    /// Permissions that the operator's policy lacks, as IAM names them: `iam:PassRole`.
    #[serde(default)]
    pub denied: BTreeSet<String>,
    pub credentials: Credentials,
    /// The account's quotas by Service Quotas' codes, where they are other than the account's own. Launches keep to that of vCPUs;
    /// the others are told only.
    #[serde(default)]
    pub quotas: BTreeMap<String, u32>,
}

/// Service Quotas' code of running On-Demand Standard instances, in vCPUs: all types that there are here are such.
pub const STANDARD_VCPUS: &str = "L-1216C47A";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Throttling {
    #[default]
    Off,
    /// The token buckets of "Request throttling for the Amazon EC2 API".
    Buckets,
}

/// Whether the operator's credentials hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    #[default]
    Valid,
    /// The keys are unknown: AuthFailure.
    Revoked,
    /// The keys are good and the policy allows nothing: UnauthorizedOperation.
    Unauthorized,
}

/// None matches every zone or every type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCapacity {
    pub zone: Option<String>,
    pub instance_type: Option<String>,
}

impl NoCapacity {
    fn matches(&self, zone: &str, instance_type: &str) -> bool {
        self.zone.as_deref().is_none_or(|it| it == zone)
            && self.instance_type.as_deref().is_none_or(|it| it == instance_type)
    }
}

impl Ec2 {
    /// Whether something made at `created` is known to the front end that answers this call.
    pub(super) fn visible(&self, created: Millis) -> bool {
        self.faults.visibility_lag.is_zero() || self.now.since(created) >= self.faults.visibility_lag
    }

    /// An instance's tags as a describe shows them now.
    pub(super) fn shown_tags<'a>(&self, instance: &'a Instance) -> &'a Tags {
        let hidden = |(changed, _): &&(Millis, Tags)| self.now.since(*changed) < self.faults.tag_lag;
        instance.earlier_tags.iter().find(hidden).map_or(&instance.tags, |(_, before)| before)
    }

    /// To be called before an instance's tags change.
    pub(super) fn note_tags(&mut self, instance_id: &str) {
        let (now, lag) = (self.now, self.faults.tag_lag);
        let Some(instance) = self.instances.get_mut(instance_id) else {
            return;
        };
        instance.earlier_tags.retain(|(changed, _)| now.since(*changed) < lag);
        if !lag.is_zero() {
            instance.earlier_tags.push((now, instance.tags.clone()));
        }
    }

    /// The value of a quota that is the account's own; `None` where it has none.
    pub fn quota(&self, code: &str) -> Option<u32> {
        let own = if code == STANDARD_VCPUS { self.account.vcpus_max } else { None };
        self.faults.quotas.get(code).copied().or(own)
    }

    /// Whether the operator's policy lacks a permission.
    pub fn is_denied(&self, permission: &str) -> bool {
        self.faults.denied.contains(permission)
    }

    /// The words of EC2's refusals since they name action and resource ("Troubleshoot access denied error messages").
    pub(super) fn require_permission(&self, permission: &str, resource: &str) -> Result<(), ApiError> {
        if !self.is_denied(permission) {
            return Ok(());
        }
        let message = format!(
            "You are not authorized to perform this operation. User: arn:aws:iam::{}:user/operator is not authorized to \
             perform: {permission} on resource: {resource} because no identity-based policy allows the {permission} action. \
             Encoded authorization failure message: {}",
            self.account.owner_id,
            "0".repeat(600),
        );
        Err(ApiError::new("UnauthorizedOperation", message))
    }

    pub(super) fn require_zone(&self, zone: &str) -> Result<(), ApiError> {
        if self.faults.zone_outages.contains(zone) { Err(unavailable()) } else { Ok(()) }
    }

    /// A describe that names nothing asks every zone, and fails when one is out.
    pub(super) fn require_all_zones(&self) -> Result<(), ApiError> {
        if self.faults.zone_outages.is_empty() { Ok(()) } else { Err(unavailable()) }
    }

    pub(super) fn require_capacity(&self, zone: &str, instance_type: &str) -> Result<(), ApiError> {
        if self.faults.no_capacity.iter().any(|it| it.matches(zone, instance_type)) {
            let message = format!(
                "We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone})."
            );
            return Err(ApiError::new("InsufficientInstanceCapacity", message));
        }
        Ok(())
    }
}

fn unavailable() -> ApiError {
    ApiError::new("Unavailable", "The server is overloaded and can't handle the request.")
}
