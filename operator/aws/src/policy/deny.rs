//! What everybody else must be denied: whoever can write our tags drives our machines, and whoever can read our bucket has
//! every set's passwords.

use drover_api::tags;

use super::{Effect, Names, Policy, Statement};
use crate::calls::Kind;

/// What ends, moves, opens or copies a machine or volume of ours. All of them know `aws:ResourceTag` (Service Authorization
/// Reference, EC2, Systems Manager, EC2 Instance Connect).
const TOUCHING: [&str; 25] = [
    "ec2-instance-connect:SendSSHPublicKey",
    "ec2:AssignPrivateIpAddresses",
    "ec2:AssociateIamInstanceProfile",
    "ec2:AttachNetworkInterface",
    "ec2:AttachVolume",
    "ec2:CreateImage",
    "ec2:CreateSnapshot",
    "ec2:CreateSnapshots",
    "ec2:DeleteVolume",
    "ec2:DetachNetworkInterface",
    "ec2:DetachVolume",
    "ec2:DisassociateIamInstanceProfile",
    "ec2:ModifyInstanceAttribute",
    "ec2:ModifyInstanceMetadataOptions",
    "ec2:ModifyNetworkInterfaceAttribute",
    "ec2:ModifyVolume",
    "ec2:RebootInstances",
    "ec2:ReplaceIamInstanceProfileAssociation",
    "ec2:ResetInstanceAttribute",
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
    "ec2:UnassignPrivateIpAddresses",
    "ssm:SendCommand",
    "ssm:StartSession",
];

const READING: [&str; 3] = ["s3:GetObject", "s3:GetObjectAttributes", "s3:GetObjectVersion"];
const WRITING: [&str; 5] =
    ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject", "s3:PutObjectAcl", "s3:RestoreObject"];
/// What opens the bucket to others, or takes it or its versions away.
const KEEPING: [&str; 6] = [
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketAcl",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
];

/// A service control policy, or one for the principals that it is to bind: what nobody may but `operators`, the roles that
/// act for Drover and for whoever mends its machines. Machines, which have `profile_roles`, go on reading. It allows nothing
/// by itself, so as a permissions boundary it needs an Allow beside it.
///
/// `drover:hold` is left to people, who may put it on a machine and take it away.
pub fn deny(names: &Names, operators: &[String], profile_roles: &[String]) -> Policy {
    let arns = |roles: &[String]| roles.iter().map(|role| names.role(role)).collect::<Vec<_>>();
    let deny =
        |sid: &str, but: Vec<String>| Statement::new(sid, Effect::Deny).when("ArnNotLike", "aws:PrincipalArn", but);
    let ours = |statement: Statement| {
        let machines = [Kind::Instance, Kind::Volume, Kind::NetworkInterface];
        statement.resources(machines.map(|kind| names.ec2(kind)))
    };
    let realm = || (Names::realm_tag("aws:ResourceTag"), [names.realm.as_str()]);
    let objects = || [names.objects(&names.keys().all())];
    let (tag, value) = realm();
    let touch = ours(deny("Machines", arns(operators))).actions(TOUCHING).when("StringEquals", tag, value);
    // DeleteTags that names no key takes them all (EC2 API Reference).
    let (tag, value) = realm();
    let strip = ours(deny("AllTagsAtOnce", arns(operators)))
        .actions(["ec2:DeleteTags"])
        .when("StringEquals", tag, value)
        .when("Null", "aws:TagKeys", ["true"]);
    let mut statements = vec![
        deny("Tags", arns(operators)).actions(["ec2:CreateTags", "ec2:DeleteTags"]).resources(["*".to_owned()]).when(
            "ForAnyValue:StringEquals",
            "aws:TagKeys",
            tags::OPERATORS_OWN,
        ),
        strip,
        touch,
        deny("WriteObjects", arns(operators)).actions(WRITING).resources(objects()),
        deny("ReadObjects", arns(&[operators, profile_roles].concat())).actions(READING).resources(objects()),
        deny("Bucket", arns(operators)).actions(KEEPING).resources([names.bucket()]),
    ];
    if !profile_roles.is_empty() {
        let roles = arns(profile_roles);
        statements.push(deny("GiveRole", arns(operators)).actions(["iam:PassRole"]).resources(roles));
    }
    Policy::of(statements)
}
