//! Every call this crate makes, with its rate lane, its deadline and what a policy must allow for it: the one table that the
//! code sends by, that IAM policies are made from ([`crate::policy`]), and that a test holds against what really goes over
//! the wire.
//!
//! Rates are half of what EC2 gives an account per Region and action (EC2 API documentation, "Request throttling"), where
//! everyone in the account shares the bucket. A row is a lane: where EC2 has two buckets for one action, or where a call
//! must never wait behind routine ones, the action has two rows.

use std::time::Duration;

use drover_cloud::lanes::Rate;

/// Whose API a call is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Ec2,
    S3,
    ServiceQuotas,
}

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub service: Service,
    /// The action's name in its service's API, such as `RunInstances`.
    pub action: &'static str,
    /// The name of its rate lane: the action, or the action and what sets this row apart.
    pub lane: &'static str,
    /// What policies must allow for it.
    pub permissions: &'static [Permission],
    /// `None` for S3, which allows thousands per second and prefix where we make a few, and for Service Quotas, which nobody but
    /// `drover doctor` asks, for each quota once.
    pub rate: Option<Rate>,
    /// From asking for a token to having the whole answer; reading a body, and writing one without a condition, have time
    /// for the transfer on top.
    pub deadline: Duration,
}

/// What one of IAM's actions is allowed on, and to whom. Which resources and condition keys an action knows is from the
/// Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2", "for Amazon S3" and "for Service
/// Quotas".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// As IAM names it: `ec2:RunInstances`.
    pub action: &'static str,
    pub on: Scope,
    pub by: &'static [Party],
}

/// What an action is allowed on, and how that is told from everything else in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Actions that IAM cannot narrow: every Describe, and reading a quota.
    Everything,
    /// What the call makes, with the realm's tag in the request: `aws:RequestTag`.
    Made(&'static [Kind]),
    /// What the call refers to and does not change; it is the account's.
    Given(&'static [Kind]),
    /// What the call makes, tagged in the same call (`ec2:CreateAction`) with the realm's tag.
    TaggedBy(&'static str, &'static [Kind]),
    /// What carries the realm's tag: `aws:ResourceTag`.
    Ours(&'static [Kind]),
    /// The same, and only the tags that publish a role: `aws:TagKeys`.
    Published(&'static [Kind]),
    /// The same, and only the mark of a person's hand.
    Held(&'static [Kind]),
    /// The roles in the instance profiles, handed to EC2 only: `iam:PassedToService`.
    ProfileRoles,
    /// The bucket itself.
    Bucket,
    /// The realm's objects: all of them for the operator; for machines those of [`drover_api::bucket::RealmKeys::read_by_machines`].
    Objects,
}

/// EC2's kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Instance,
    Volume,
    NetworkInterface,
    Image,
    Subnet,
    SecurityGroup,
}

/// Whose credentials a call is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Operator,
    /// `drover doctor`, beside everything that the operator may.
    Doctor,
    /// A machine of a set, by its instance profile.
    Machine,
}

use Kind::{Image, Instance, NetworkInterface, SecurityGroup, Subnet, Volume};

/// A read may be a page of 1,000 machines.
const READ: Duration = Duration::from_secs(20);
/// Short, because whoever holds the operators' lock sends nothing that could arrive after its lease has ended.
const WRITE: Duration = Duration::from_secs(15);
/// Documents of a few kilobytes; the lock itself is renewed by one of these.
const OBJECT: Duration = Duration::from_secs(10);

/// Half of "non-mutating actions" with a filter or pagination, 100 and 20 per second.
const FILTERED: Option<Rate> = rate(50, 100);
/// Half of the big Describes with neither, 50 and 10 per second.
const BY_ID: Option<Rate> = rate(25, 200);
/// Half of "mutating actions", 50 and 5 per second.
const MUTATING: Option<Rate> = rate(25, 400);
/// Half of the actions with a bucket of 100 and 5 per second.
const LARGE: Option<Rate> = rate(50, 400);

const fn operator(action: &'static str, on: Scope) -> Permission {
    Permission { action, on, by: &[Party::Operator] }
}

const LOOK_AT_INSTANCES: &[Permission] = &[operator("ec2:DescribeInstances", Scope::Everything)];
const LOOK_AT_VOLUMES: &[Permission] = &[operator("ec2:DescribeVolumes", Scope::Everything)];

pub(crate) const DESCRIBE_INSTANCES: Call = read("DescribeInstances", LOOK_AT_INSTANCES, FILTERED);
pub(crate) const DESCRIBE_INSTANCES_BY_ID: Call =
    Call { lane: "DescribeInstances by id", ..read("DescribeInstances", LOOK_AT_INSTANCES, BY_ID) };
pub(crate) const DESCRIBE_VOLUMES: Call = read("DescribeVolumes", LOOK_AT_VOLUMES, FILTERED);
pub(crate) const DESCRIBE_VOLUMES_BY_ID: Call =
    Call { lane: "DescribeVolumes by id", ..read("DescribeVolumes", LOOK_AT_VOLUMES, BY_ID) };
pub(crate) const DESCRIBE_IMAGES: Call =
    read("DescribeImages", &[operator("ec2:DescribeImages", Scope::Everything)], FILTERED);
pub(crate) const DESCRIBE_SUBNETS: Call =
    read("DescribeSubnets", &[operator("ec2:DescribeSubnets", Scope::Everything)], FILTERED);
pub(crate) const DESCRIBE_SECURITY_GROUPS: Call =
    read("DescribeSecurityGroups", &[operator("ec2:DescribeSecurityGroups", Scope::Everything)], BY_ID);
pub(crate) const DESCRIBE_INSTANCE_TYPES: Call =
    read("DescribeInstanceTypes", &[operator("ec2:DescribeInstanceTypes", Scope::Everything)], FILTERED);

/// What RunInstances makes: the root volume and the network interface come with the instance.
const LAUNCHED: &[Kind] = &[Instance, Volume, NetworkInterface];

/// 5 and 2 per second for the whole account: the scarcest bucket. Tagging what is created and giving it a role are
/// permissions of their own.
pub(crate) const RUN_INSTANCES: Call = write(
    "RunInstances",
    &[
        operator("ec2:RunInstances", Scope::Made(LAUNCHED)),
        operator("ec2:RunInstances", Scope::Given(&[Image, Subnet, SecurityGroup])),
        operator("ec2:CreateTags", Scope::TaggedBy("RunInstances", LAUNCHED)),
        operator("iam:PassRole", Scope::ProfileRoles),
    ],
    rate(2, 1_000),
);
/// A change of a block device is asked of its volume too.
pub(crate) const MODIFY_INSTANCE_ATTRIBUTE: Call = write(
    "ModifyInstanceAttribute",
    &[operator("ec2:ModifyInstanceAttribute", Scope::Ours(&[Instance, Volume]))],
    MUTATING,
);
pub(crate) const TERMINATE_INSTANCES: Call =
    write("TerminateInstances", &[operator("ec2:TerminateInstances", Scope::Ours(&[Instance]))], LARGE);
/// 100 and 10 per second.
pub(crate) const CREATE_TAGS: Call = write(
    "CreateTags",
    &[operator("ec2:CreateTags", Scope::Published(&[Instance])), operator("ec2:CreateTags", Scope::Held(&[Instance]))],
    rate(50, 200),
);
/// 100 and 10 per second, in a bucket of its own.
pub(crate) const DELETE_TAGS: Call =
    write("DeleteTags", &[operator("ec2:DeleteTags", Scope::Held(&[Instance]))], rate(50, 200));
pub(crate) const CREATE_VOLUME: Call = write(
    "CreateVolume",
    &[
        operator("ec2:CreateVolume", Scope::Made(&[Volume])),
        operator("ec2:CreateTags", Scope::TaggedBy("CreateVolume", &[Volume])),
    ],
    LARGE,
);
pub(crate) const ATTACH_VOLUME: Call =
    write("AttachVolume", &[operator("ec2:AttachVolume", Scope::Ours(&[Instance, Volume]))], MUTATING);
pub(crate) const DELETE_VOLUME: Call =
    write("DeleteVolume", &[operator("ec2:DeleteVolume", Scope::Ours(&[Volume]))], LARGE);

const LIST_BUCKET: Permission = operator("s3:ListBucket", Scope::Bucket);

/// Without `s3:ListBucket` S3 answers AccessDenied, not NoSuchKey, for what is not there; a machine hears no more than that.
/// Nor may it depend on `s3:prefix`, which no GetObject has.
pub(crate) const GET_OBJECT: Call = object(
    "GetObject",
    &[Permission { action: "s3:GetObject", on: Scope::Objects, by: &[Party::Operator, Party::Machine] }, LIST_BUCKET],
);
pub(crate) const PUT_OBJECT: Call = object("PutObject", &[operator("s3:PutObject", Scope::Objects)]);
pub(crate) const LIST_OBJECTS: Call = object("ListObjectsV2", &[LIST_BUCKET]);
pub(crate) const GET_BUCKET_VERSIONING: Call = object(
    "GetBucketVersioning",
    &[Permission { action: "s3:GetBucketVersioning", on: Scope::Bucket, by: &[Party::Doctor] }],
);

const LOOK_AT_QUOTA: &[Permission] =
    &[Permission { action: "servicequotas:GetServiceQuota", on: Scope::Everything, by: &[Party::Doctor] }];
const LOOK_AT_DEFAULT_QUOTA: &[Permission] =
    &[Permission { action: "servicequotas:GetAWSDefaultServiceQuota", on: Scope::Everything, by: &[Party::Doctor] }];

pub(crate) const GET_SERVICE_QUOTA: Call = quota("GetServiceQuota", LOOK_AT_QUOTA);
pub(crate) const GET_AWS_DEFAULT_SERVICE_QUOTA: Call = quota("GetAWSDefaultServiceQuota", LOOK_AT_DEFAULT_QUOTA);

/// Every call, EC2 first. A volume with a customer's KMS key needs `kms:CreateGrant`, `kms:Decrypt` and
/// `kms:GenerateDataKeyWithoutPlaintext` on that key besides (EBS documentation, "Permissions to use KMS keys").
pub fn calls() -> &'static [Call] {
    &[
        DESCRIBE_INSTANCES,
        DESCRIBE_INSTANCES_BY_ID,
        DESCRIBE_VOLUMES,
        DESCRIBE_VOLUMES_BY_ID,
        DESCRIBE_IMAGES,
        DESCRIBE_SUBNETS,
        DESCRIBE_SECURITY_GROUPS,
        DESCRIBE_INSTANCE_TYPES,
        RUN_INSTANCES,
        MODIFY_INSTANCE_ATTRIBUTE,
        TERMINATE_INSTANCES,
        CREATE_TAGS,
        DELETE_TAGS,
        CREATE_VOLUME,
        ATTACH_VOLUME,
        DELETE_VOLUME,
        GET_OBJECT,
        PUT_OBJECT,
        LIST_OBJECTS,
        GET_BUCKET_VERSIONING,
        GET_SERVICE_QUOTA,
        GET_AWS_DEFAULT_SERVICE_QUOTA,
    ]
}

const fn rate(burst: u32, every_ms: u64) -> Option<Rate> {
    Some(Rate { burst, every: Duration::from_millis(every_ms) })
}

const fn read(action: &'static str, permissions: &'static [Permission], rate: Option<Rate>) -> Call {
    Call { service: Service::Ec2, action, lane: action, permissions, rate, deadline: READ }
}

const fn write(action: &'static str, permissions: &'static [Permission], rate: Option<Rate>) -> Call {
    Call { deadline: WRITE, ..read(action, permissions, rate) }
}

const fn object(action: &'static str, permissions: &'static [Permission]) -> Call {
    Call { service: Service::S3, deadline: OBJECT, ..read(action, permissions, None) }
}

const fn quota(action: &'static str, permissions: &'static [Permission]) -> Call {
    Call { service: Service::ServiceQuotas, ..read(action, permissions, None) }
}

// === impl Service ===

impl Service {
    /// As IAM names it before an action.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::S3 => "s3",
            Service::ServiceQuotas => "servicequotas",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EC2's own buckets (capacity, refill per second), from "Request throttling".
    const EC2_BUCKETS: &[(&str, f64, f64)] = &[
        ("DescribeInstances", 100.0, 20.0),
        ("DescribeInstances by id", 50.0, 10.0),
        ("DescribeVolumes", 100.0, 20.0),
        ("DescribeVolumes by id", 50.0, 10.0),
        ("DescribeImages", 100.0, 20.0),
        ("DescribeSubnets", 100.0, 20.0),
        ("DescribeSecurityGroups", 50.0, 10.0),
        ("DescribeInstanceTypes", 100.0, 20.0),
        ("RunInstances", 5.0, 2.0),
        ("ModifyInstanceAttribute", 50.0, 5.0),
        ("TerminateInstances", 100.0, 5.0),
        ("CreateTags", 100.0, 10.0),
        ("DeleteTags", 100.0, 10.0),
        ("CreateVolume", 100.0, 5.0),
        ("AttachVolume", 50.0, 5.0),
        ("DeleteVolume", 100.0, 5.0),
    ];

    #[test]
    fn no_lane_takes_more_than_half_of_the_accounts_bucket() {
        for (bucket, capacity, refill) in EC2_BUCKETS {
            let lanes = calls().iter().filter(|c| c.lane == *bucket);
            let (burst, per_second) = lanes.filter_map(|c| c.rate).fold((0.0, 0.0), |(burst, per_second), rate| {
                (burst + f64::from(rate.burst), per_second + 1.0 / rate.every.as_secs_f64())
            });
            assert!(burst > 0.0, "{bucket} has no lane");
            assert!(burst <= capacity / 2.0 && per_second <= refill / 2.0, "{bucket}: {burst} and {per_second}/s");
        }
        let known: Vec<_> = EC2_BUCKETS.iter().map(|(bucket, ..)| *bucket).collect();
        for call in calls().iter().filter(|c| c.rate.is_some()) {
            assert!(known.contains(&call.lane), "{} is in no bucket of the table above", call.lane);
        }
    }

    #[test]
    fn every_lane_has_one_row_and_can_be_used_at_once() {
        let mut lanes: Vec<_> = calls().iter().map(|c| c.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        assert_eq!(lanes.len(), calls().len());
        for call in calls() {
            assert!(call.rate.is_none_or(|rate| rate.burst > 0 && !rate.every.is_zero()), "{call:?}");
            assert!(!call.permissions.is_empty() && !call.deadline.is_zero(), "{call:?}");
            assert!(call.permissions.iter().all(|permission| !permission.by.is_empty()), "{call:?}");
            let own = |permission: &&Permission| permission.action.starts_with(&format!("{}:", call.service.as_str()));
            assert!(call.permissions.iter().any(|permission| own(&permission)), "{call:?}");
        }
    }
}
