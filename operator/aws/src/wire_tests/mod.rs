//! The adapter against a scripted server: what goes over the wire, and what an answer, or none, is taken for.

use std::{collections::BTreeSet, time::Duration};

use drover_api::{
    ClientToken, ImageId, InstanceId, Realm, SecurityGroupId, SubnetId, VolumeId, Zone,
    bucket::ObjectKey,
    launch::{LaunchRequest, VolumeRequest},
};
use drover_cloud::{
    Class, CloudError, Machines, Objects, Volumes,
    examine::QuotaCode,
    machines::{MachineState, Protection, Selector, StateReason},
    objects::{Condition, ETag},
    volumes::{AttachmentState, VolumeState},
};
use expect_test::expect;

use crate::{
    Aws, OBJECT_BYTES_MAX,
    calls::{Call, calls},
    loopback::{Loopback, Received, Reply, answer, config, ec2_error, json_error, ok, s3_error, serve},
};

mod answers;
mod objects;
mod quotas;
mod requests;

fn launch_request() -> LaunchRequest {
    LaunchRequest {
        token: ClientToken::new("token-1").expect("token"),
        image: ImageId::new("ami-1").expect("image"),
        instance_type: "m7i.large".into(),
        zone: Zone::new("eu-central-1a").expect("zone"),
        subnet: SubnetId::new("subnet-1").expect("subnet"),
        security_groups: vec![
            SecurityGroupId::new("sg-1").expect("group"),
            SecurityGroupId::new("sg-2").expect("group"),
        ],
        instance_profile: "database".into(),
        user_data: "#!/bin/sh\n".into(),
        tags: [("drover:realm".into(), "prod".into()), ("drover:slot".into(), "m0".into())].into(),
        termination_protection: true,
    }
}

fn volume_request() -> VolumeRequest {
    VolumeRequest {
        token: ClientToken::new("token-2").expect("token"),
        zone: Zone::new("eu-central-1a").expect("zone"),
        size_gib: 100,
        volume_type: "gp3".into(),
        iops: Some(4_000),
        throughput_mibps: Some(250),
        kms_key_id: Some("alias/db".into()),
        tags: [("drover:realm".into(), "prod".into()), ("drover:volume".into(), "data".into())].into(),
    }
}

fn realm() -> Realm {
    Realm::new("prod").expect("realm")
}

fn machine() -> InstanceId {
    InstanceId::new("i-1").expect("id")
}

fn volume() -> VolumeId {
    VolumeId::new("vol-1").expect("id")
}

fn key() -> ObjectKey {
    ObjectKey::raw("realms/prod/lock.json")
}

fn quota() -> QuotaCode {
    QuotaCode { service: "ec2", code: "L-1216C47A" }
}

fn instance_xml(id: &str, state: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><imageId>ami-1</imageId><instanceState><code>0</code><name>{state}</name>\
         </instanceState><instanceType>m7i.large</instanceType><launchTime>2026-05-01T10:00:00.000Z</launchTime>\
         <placement><availabilityZone>eu-central-1a</availabilityZone></placement><subnetId>subnet-1</subnetId>\
         <privateIpAddress>10.0.0.4</privateIpAddress><clientToken>token-1</clientToken><tagSet><item><key>drover:slot\
         </key><value>m0</value></item></tagSet><blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs>\
         <volumeId>vol-9</volumeId></ebs></item></blockDeviceMapping></item>"
    )
}

fn instances_page(ids: &[&str], next: &str) -> Reply {
    let items: String = ids.iter().map(|id| instance_xml(id, "running")).collect();
    ok(&format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet>\
         <nextToken>{next}</nextToken></DescribeInstancesResponse>"
    ))
}

fn launched() -> Reply {
    let item = instance_xml("i-1", "pending");
    ok(&format!("<RunInstancesResponse><instancesSet>{item}</instancesSet></RunInstancesResponse>"))
}

/// One field a line, what is the same in every request left out.
fn fields(request: &Received) -> String {
    let form = request.form().into_iter().filter(|(key, _)| key != "Version");
    form.map(|(key, value)| format!("{key} = {value}\n")).collect()
}

async fn launch_against(reply: Reply) -> (Loopback, CloudError) {
    let server = serve(vec![reply]).await;
    let error = server.connect().ec2().launch(&launch_request()).await.expect_err("the reply is an error");
    (server, error)
}

// === the table of calls ===

/// Drives every method of the adapter once; how each call failed.
async fn drive(aws: &Aws) -> Vec<CloudError> {
    let (ec2, bucket, quotas) = (aws.ec2(), aws.bucket("b"), aws.quotas());
    let (id, ids) = (machine(), Selector::Ids(vec!["x-1".into()]));
    let errors = [
        Machines::list(&ec2, &realm()).await.err(),
        Machines::get(&ec2, &id).await.err(),
        ec2.find_by_token(&launch_request().token).await.err(),
        ec2.launch(&launch_request()).await.err(),
        ec2.protect(&id, Protection::On).await.err(),
        ec2.terminate(&id).await.err(),
        ec2.tag(&id, &launch_request().tags).await.err(),
        ec2.untag(&id, "drover:hold").await.err(),
        ec2.images(&ids, &[]).await.err(),
        ec2.subnets(&ids).await.err(),
        ec2.security_groups(&ids).await.err(),
        ec2.instance_types(&["m7i.large".into()]).await.err(),
        ec2.may_launch(&launch_request()).await.err(),
        Volumes::list(&ec2, &realm()).await.err(),
        Volumes::get(&ec2, &volume()).await.err(),
        ec2.create(&volume_request()).await.err(),
        ec2.attach(&volume(), &id, "/dev/sdf").await.err(),
        ec2.keep_on_termination(&id, "/dev/sdf").await.err(),
        Volumes::delete(&ec2, &volume()).await.err(),
        bucket.get(&key()).await.err(),
        bucket.put(&key(), vec![], Condition::Absent).await.err(),
        bucket.list("").await.err(),
        bucket.versioning().await.err(),
        quotas.applied(quota()).await.err(),
        quotas.default(quota()).await.err(),
    ];
    errors.map(|error| error.expect("nothing is answered")).into()
}

/// What the adapter answers to a closed connection does not matter here.
#[tokio::test]
async fn the_table_of_calls_is_what_goes_over_the_wire() {
    let server = serve(vec![Reply::HangUp]).await;
    let errors = drive(&server.connect()).await;
    let sent: Vec<_> = server.requests().iter().map(action).collect();
    let said: Vec<_> = errors.iter().map(|error| error.call).collect();
    assert_eq!(sent, said, "a call is sent under another row's name");
    let table: BTreeSet<_> = calls().iter().map(|call| call.action.to_owned()).collect();
    assert_eq!(sent.into_iter().collect::<BTreeSet<_>>(), table);
}

/// Law 10, for every row of the table.
#[tokio::test]
async fn every_call_that_is_not_answered_ends_by_its_deadline_and_says_so() {
    let server = serve(vec![Reply::Silence]).await;
    let deadline = Duration::from_millis(100);
    let aws = server.connect_within(deadline);
    let errors =
        tokio::time::timeout(Duration::from_secs(20), drive(&aws)).await.expect("a call outlived its deadline");
    for error in &errors {
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Timeout"), "{error:?}");
        assert!(error.to_string().contains(&format!("{} failed: Timeout", error.call)), "{error}");
    }
    let ended: BTreeSet<_> = errors.iter().map(|error| error.call).collect();
    assert_eq!(ended, calls().iter().map(|call| call.action).collect());
    let lasts = |call: &Call| !call.deadline.is_zero() && call.deadline <= Duration::from_secs(20);
    assert!(calls().iter().all(lasts), "a deadline that nobody waits for is none");
}

/// What a request is, by what it carries.
fn action(request: &Received) -> String {
    if let Some(target) = request.headers.get("x-amz-target") {
        return target.split_once('.').expect("version and action").1.into();
    }
    if let Some(action) = request.form().get("Action") {
        return action.clone();
    }
    if request.line.contains("list-type=2") {
        return "ListObjectsV2".into();
    }
    if request.line.contains("?versioning") {
        return "GetBucketVersioning".into();
    }
    let (_, id) = request.line.split_once("x-id=").expect("the SDK names the S3 action");
    id.split('&').next().expect("a part").into()
}
