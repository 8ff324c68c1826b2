//! Every call this crate makes, with its rate lane and deadline: the one table that the code sends by, that an IAM policy
//! is made from, and that a test holds against what really goes over the wire.
//!
//! Rates are half of what EC2 gives an account per Region and action (EC2 API documentation, "Request throttling"), where
//! everyone in the account shares the bucket. A row is a lane: where EC2 has two buckets for one action, or where a call
//! must never wait behind routine ones, the action has two rows.

use std::time::Duration;

use drover_cloud::lanes::Rate;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The action's name in its service's API, such as `RunInstances`.
    pub action: &'static str,
    /// The name of its rate lane: the action, or the action and what sets this row apart.
    pub lane: &'static str,
    /// What a policy must allow for it.
    pub permissions: &'static [&'static str],
    /// `None` for S3, which allows thousands per second and prefix where we make a few.
    pub rate: Option<Rate>,
    /// From asking for a token to having the whole answer; reading a body, and writing one without a condition, have time
    /// for the transfer on top.
    pub deadline: Duration,
}

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

pub(crate) const DESCRIBE_INSTANCES: Call = read("DescribeInstances", &["ec2:DescribeInstances"], FILTERED);
pub(crate) const DESCRIBE_INSTANCES_BY_ID: Call =
    Call { lane: "DescribeInstances by id", ..read("DescribeInstances", &["ec2:DescribeInstances"], BY_ID) };
pub(crate) const DESCRIBE_VOLUMES: Call = read("DescribeVolumes", &["ec2:DescribeVolumes"], FILTERED);
pub(crate) const DESCRIBE_VOLUMES_BY_ID: Call =
    Call { lane: "DescribeVolumes by id", ..read("DescribeVolumes", &["ec2:DescribeVolumes"], BY_ID) };
pub(crate) const DESCRIBE_IMAGES: Call = read("DescribeImages", &["ec2:DescribeImages"], FILTERED);
pub(crate) const DESCRIBE_SUBNETS: Call = read("DescribeSubnets", &["ec2:DescribeSubnets"], FILTERED);
pub(crate) const DESCRIBE_SECURITY_GROUPS: Call =
    read("DescribeSecurityGroups", &["ec2:DescribeSecurityGroups"], BY_ID);
pub(crate) const DESCRIBE_INSTANCE_TYPES: Call =
    read("DescribeInstanceTypes", &["ec2:DescribeInstanceTypes"], FILTERED);

/// 5 and 2 per second for the whole account: the scarcest bucket. Tagging what is created and giving it a role are
/// permissions of their own.
pub(crate) const RUN_INSTANCES: Call =
    write("RunInstances", &["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"], rate(2, 1_000));
pub(crate) const MODIFY_INSTANCE_ATTRIBUTE: Call =
    write("ModifyInstanceAttribute", &["ec2:ModifyInstanceAttribute"], MUTATING);
pub(crate) const TERMINATE_INSTANCES: Call = write("TerminateInstances", &["ec2:TerminateInstances"], LARGE);
/// 100 and 10 per second.
pub(crate) const CREATE_TAGS: Call = write("CreateTags", &["ec2:CreateTags"], rate(50, 200));
/// 100 and 10 per second, in a bucket of its own.
pub(crate) const DELETE_TAGS: Call = write("DeleteTags", &["ec2:DeleteTags"], rate(50, 200));
pub(crate) const CREATE_VOLUME: Call = write("CreateVolume", &["ec2:CreateVolume", "ec2:CreateTags"], LARGE);
pub(crate) const ATTACH_VOLUME: Call = write("AttachVolume", &["ec2:AttachVolume"], MUTATING);
pub(crate) const DELETE_VOLUME: Call = write("DeleteVolume", &["ec2:DeleteVolume"], LARGE);

/// Without `s3:ListBucket` S3 answers AccessDenied, not NoSuchKey, for what is not there.
pub(crate) const GET_OBJECT: Call = object("GetObject", &["s3:GetObject", "s3:ListBucket"]);
pub(crate) const PUT_OBJECT: Call = object("PutObject", &["s3:PutObject"]);
pub(crate) const LIST_OBJECTS: Call = object("ListObjectsV2", &["s3:ListBucket"]);

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
    ]
}

const fn rate(burst: u32, every_ms: u64) -> Option<Rate> {
    Some(Rate { burst, every: Duration::from_millis(every_ms) })
}

const fn read(action: &'static str, permissions: &'static [&'static str], rate: Option<Rate>) -> Call {
    Call { action, lane: action, permissions, rate, deadline: READ }
}

const fn write(action: &'static str, permissions: &'static [&'static str], rate: Option<Rate>) -> Call {
    Call { deadline: WRITE, ..read(action, permissions, rate) }
}

const fn object(action: &'static str, permissions: &'static [&'static str]) -> Call {
    Call { deadline: OBJECT, ..read(action, permissions, None) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn the_readme_grants_what_is_called_and_no_more() {
        let readme = include_str!("../../../README.md");
        let (_, after) = readme.split_once("**The operator's permissions**").expect("the policy's heading");
        let policy = after.split("```").nth(1).expect("the policy");
        let granted: BTreeSet<_> = policy
            .split('"')
            .filter(|it| ["ec2:", "s3:", "iam:"].iter().any(|service| it.starts_with(service)))
            .collect();
        let needed: BTreeSet<_> = calls().iter().flat_map(|call| call.permissions).copied().collect();
        assert_eq!(granted.into_iter().filter(|it| *it != "ec2:CreateAction").collect::<BTreeSet<_>>(), needed);
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
        }
    }
}
