//! The adapter against a scripted server: what goes over the wire, and what an answer, or none, is taken for.

use std::{collections::BTreeSet, time::Duration};

use drover_api::{
    ClientToken, ImageId, InstanceId, Realm, SecurityGroupId, SubnetId, VolumeId, Zone,
    bucket::ObjectKey,
    launch::{LaunchRequest, VolumeRequest},
};
use drover_cloud::{
    Class, CloudError, Machines, Objects, Volumes,
    machines::{MachineState, Protection, Selector, StopMode},
    objects::{Condition, ETag},
    volumes::{AttachmentState, VolumeState},
};
use expect_test::expect;

use crate::{
    OBJECT_BYTES_MAX,
    calls::calls,
    loopback::{Loopback, Received, Reply, answer, config, ec2_error, ok, s3_error, serve},
};

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

// === what is sent ===

#[tokio::test]
async fn a_launch_says_everything_and_nothing_of_data_volumes() {
    let server = serve(vec![launched()]).await;
    let machine = server.connect().ec2().launch(&launch_request()).await.expect("launched");
    assert_eq!((machine.id.as_str(), machine.state), ("i-1", MachineState::Pending));
    expect![[r#"
        Action = RunInstances
        ClientToken = token-1
        DisableApiStop = false
        DisableApiTermination = true
        IamInstanceProfile.Name = database
        ImageId = ami-1
        InstanceInitiatedShutdownBehavior = stop
        InstanceType = m7i.large
        MaxCount = 1
        MetadataOptions.HttpEndpoint = enabled
        MetadataOptions.HttpPutResponseHopLimit = 1
        MetadataOptions.HttpTokens = required
        MetadataOptions.InstanceMetadataTags = enabled
        MinCount = 1
        SecurityGroupId.1 = sg-1
        SecurityGroupId.2 = sg-2
        SubnetId = subnet-1
        TagSpecification.1.ResourceType = instance
        TagSpecification.1.Tag.1.Key = drover:realm
        TagSpecification.1.Tag.1.Value = prod
        TagSpecification.1.Tag.2.Key = drover:slot
        TagSpecification.1.Tag.2.Value = m0
        TagSpecification.2.ResourceType = volume
        TagSpecification.2.Tag.1.Key = drover:realm
        TagSpecification.2.Tag.1.Value = prod
        TagSpecification.2.Tag.2.Key = drover:slot
        TagSpecification.2.Tag.2.Value = m0
        TagSpecification.3.ResourceType = network-interface
        TagSpecification.3.Tag.1.Key = drover:realm
        TagSpecification.3.Tag.1.Value = prod
        TagSpecification.3.Tag.2.Key = drover:slot
        TagSpecification.3.Tag.2.Value = m0
        UserData = IyEvYmluL3NoCg==
    "#]]
    .assert_eq(&fields(&server.requests()[0]));
}

#[tokio::test]
async fn the_same_launch_is_sent_byte_for_byte_again() {
    let server = serve(vec![ec2_error(500, "InternalError", "again"), launched()]).await;
    let ec2 = server.connect().ec2();
    ec2.launch(&launch_request()).await.expect_err("an internal error");
    ec2.launch(&launch_request()).await.expect("launched");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test]
async fn a_profile_that_looks_like_an_arn_is_sent_as_one() {
    let server = serve(vec![launched()]).await;
    let arn = "arn:aws:iam::123456789012:instance-profile/db";
    let request = LaunchRequest { instance_profile: arn.into(), ..launch_request() };
    server.connect().ec2().launch(&request).await.expect("launched");
    let form = server.requests()[0].form();
    assert_eq!(form.get("IamInstanceProfile.Arn").map(String::as_str), Some(arn));
    assert!(!form.contains_key("IamInstanceProfile.Name"));
}

#[tokio::test]
async fn a_volume_is_created_with_its_identity_and_encrypted_where_a_key_is_named() {
    let reply = "<CreateVolumeResponse><volumeId>vol-1</volumeId><status>creating</status><size>100</size>\
                 <availabilityZone>eu-central-1a</availabilityZone><createTime>2026-05-01T10:00:00.000Z</createTime>\
                 </CreateVolumeResponse>";
    let server = serve(vec![ok(reply)]).await;
    let volume = server.connect().ec2().create(&volume_request()).await.expect("created");
    assert_eq!((volume.id.as_str(), volume.state, volume.size_gib), ("vol-1", VolumeState::Creating, 100));
    expect![[r#"
        Action = CreateVolume
        AvailabilityZone = eu-central-1a
        ClientToken = token-2
        Encrypted = true
        Iops = 4000
        KmsKeyId = alias/db
        Size = 100
        TagSpecification.1.ResourceType = volume
        TagSpecification.1.Tag.1.Key = drover:realm
        TagSpecification.1.Tag.1.Value = prod
        TagSpecification.1.Tag.2.Key = drover:volume
        TagSpecification.1.Tag.2.Value = data
        Throughput = 250
        VolumeType = gp3
    "#]]
    .assert_eq(&fields(&server.requests()[0]));
}

#[tokio::test]
async fn powering_off_skips_the_operating_system() {
    let server = serve(vec![ok("<StopInstancesResponse/>")]).await;
    let ec2 = server.connect().ec2();
    ec2.stop(&machine(), StopMode::PowerOff).await.expect("stopped");
    ec2.stop(&machine(), StopMode::Graceful).await.expect("stopped");
    let sent: Vec<_> = server.requests().iter().map(fields).collect();
    expect![[r#"
        Action = StopInstances
        Force = true
        InstanceId.1 = i-1
        SkipOsShutdown = true
        Action = StopInstances
        InstanceId.1 = i-1
    "#]]
    .assert_eq(&sent.concat());
}

#[tokio::test]
async fn protection_names_only_the_one_attribute() {
    let server =
        serve(vec![ok("<ModifyInstanceAttributeResponse><return>true</return></ModifyInstanceAttributeResponse>")])
            .await;
    server.connect().ec2().protect(&machine(), Protection::Off).await.expect("changed");
    expect![[r#"
        Action = ModifyInstanceAttribute
        DisableApiTermination.Value = false
        InstanceId = i-1
    "#]]
    .assert_eq(&fields(&server.requests()[0]));
}

#[tokio::test]
async fn the_fleet_list_is_filtered_by_realm_and_read_to_the_last_page() {
    let server = serve(vec![instances_page(&["i-1", "i-2"], "page2"), instances_page(&["i-3"], "")]).await;
    let machines = Machines::list(&server.connect().ec2(), &realm()).await.expect("listed");
    let ids: Vec<_> = machines.iter().map(|machine| machine.id.as_str()).collect();
    assert_eq!(ids, ["i-1", "i-2", "i-3"]);
    let machine = &machines[0];
    assert_eq!(machine.private_ip.map(|ip| ip.to_string()).as_deref(), Some("10.0.0.4"));
    assert_eq!((machine.launched.0, machine.volumes[0].as_str()), (1_777_629_600_000, "vol-9"));
    assert_eq!(machine.tags.get("drover:slot").map(String::as_str), Some("m0"));
    let sent: Vec<_> = server.requests().iter().map(fields).collect();
    expect![[r#"
        Action = DescribeInstances
        Filter.1.Name = tag:drover:realm
        Filter.1.Value.1 = prod
        MaxResults = 1000
        Action = DescribeInstances
        Filter.1.Name = tag:drover:realm
        Filter.1.Value.1 = prod
        MaxResults = 1000
        NextToken = page2
    "#]]
    .assert_eq(&sent.concat());
}

#[tokio::test]
async fn a_fleet_list_with_a_failed_page_is_no_list() {
    let server = serve(vec![instances_page(&["i-1"], "page2"), ec2_error(503, "Unavailable", "zone outage")]).await;
    let error = Machines::list(&server.connect().ec2(), &realm()).await.expect_err("a part is not a fleet");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Unavailable"));
}

#[tokio::test]
async fn a_terminated_machine_without_address_and_tags_is_still_listed() {
    let item = "<item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceState><name>terminated</name></instanceState>\
                <instanceType>m7i.large</instanceType><launchTime>2026-05-01T10:00:00.000Z</launchTime><placement>\
                <availabilityZone>eu-central-1a</availabilityZone></placement><clientToken/></item>";
    let page = format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet>\
                        </DescribeInstancesResponse>"
    );
    let server = serve(vec![ok(&page)]).await;
    let found =
        server.connect().ec2().find_by_token(&ClientToken::new("token-1").expect("token")).await.expect("found");
    assert_eq!((found.len(), found[0].state, found[0].private_ip), (1, MachineState::Terminated, None));
    assert_eq!(server.requests()[0].form().get("Filter.1.Name").map(String::as_str), Some("client-token"));
}

#[tokio::test]
async fn an_ended_attachment_is_none() {
    let item = |state: &str| {
        format!(
            "<item><volumeId>vol-1</volumeId><status>in-use</status><size>1</size><availabilityZone>eu-central-1a</availabilityZone>\
             <createTime>2026-05-01T10:00:00.000Z</createTime><attachmentSet><item><instanceId>i-1</instanceId>\
             <status>{state}</status></item></attachmentSet></item>"
        )
    };
    let page = format!(
        "<DescribeVolumesResponse><volumeSet>{}{}</volumeSet></DescribeVolumesResponse>",
        item("busy"),
        item("detached")
    );
    let server = serve(vec![ok(&page)]).await;
    let volumes = Volumes::list(&server.connect().ec2(), &realm()).await.expect("listed");
    let states: Vec<_> = volumes.iter().map(|volume| volume.attachment.as_ref().map(|a| a.state)).collect();
    assert_eq!(states, [Some(AttachmentState::Busy), None]);
    let form = server.requests()[0].form();
    assert_eq!(
        (form["Filter.1.Name"].as_str(), form["Filter.2.Name"].as_str()),
        ("tag:drover:realm", "tag:drover:volume")
    );
}

// === what an answer, or none, is taken for ===

#[tokio::test]
async fn a_lost_reply_is_ambiguous_and_the_launch_was_sent_once() {
    let (server, error) = launch_against(Reply::HangUp).await;
    assert_eq!((error.class, error.code.as_str(), error.is_ambiguous()), (Class::Transient, "Connection", true));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_ambiguous() {
    for reply in [
        ok("<html>not EC2"),
        ok("<RunInstancesResponse/>"),
        answer(502, "<html>bad gateway</html>"),
        ok(
            "<RunInstancesResponse><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></RunInstancesResponse>",
        ),
    ] {
        let (server, error) = launch_against(reply.clone()).await;
        assert!(error.is_ambiguous(), "{reply:?} gave {error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let server = serve(vec![Reply::Silence]).await;
    let aws = server.connect_within(Duration::from_millis(300));
    let error = aws.ec2().launch(&launch_request()).await.expect_err("nothing was answered");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Timeout"));
    let error = aws.bucket("b").get(&key()).await.expect_err("nothing was answered");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Timeout"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let server = serve(vec![Reply::HangUp]).await;
    let aws = server.connect();
    drop(server);
    // The port is closed once the aborted task is gone; until then a connection is hung up on, which is the same class.
    let error = aws.ec2().launch(&launch_request()).await.expect_err("nobody is there");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Connection"));
}

#[tokio::test]
async fn a_capacity_error_with_a_server_status_is_not_sent_again() {
    let (server, error) = launch_against(ec2_error(500, "InsufficientInstanceCapacity", "none left")).await;
    assert_eq!((error.class, error.call), (Class::Capacity, "RunInstances"));
    assert_eq!(error.to_string(), "RunInstances failed: InsufficientInstanceCapacity: none left");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_dry_run_that_would_have_succeeded_is_a_yes() {
    let server = serve(vec![ec2_error(412, "DryRunOperation", "Request would have succeeded")]).await;
    server.connect().ec2().may_launch(&launch_request()).await.expect("allowed");
    assert_eq!(server.requests()[0].form()["DryRun"], "true");
    let server = serve(vec![ec2_error(403, "UnauthorizedOperation", "no")]).await;
    let error = server.connect().ec2().may_launch(&launch_request()).await.expect_err("refused");
    assert_eq!(error.class, Class::Denied);
    let server = serve(vec![launched()]).await;
    server.connect().ec2().may_launch(&launch_request()).await.expect_err("the dry run launched a machine");
}

#[tokio::test]
async fn a_wrong_clock_is_named() {
    let headers = vec![("date", "Thu, 01 Jan 2099 00:00:00 GMT".to_owned())];
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>".to_owned();
    let server = serve(vec![Reply::Answer { status: 403, headers, body }]).await;
    let error = server.connect().bucket("b").get(&key()).await.expect_err("denied");
    assert_eq!(error.class, Class::Denied);
    assert!(error.message.contains("clock skew: this machine's clock is"), "{error}");
    assert!(error.message.ends_with("s behind the cloud's)"), "{error}");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = serve(vec![launched()]).await;
    let config =
        config().credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(NoCredentials));
    let aws = crate::Aws::new(&config.endpoint_url(&server.url).build(), Duration::MAX).expect("a Region is set");
    let error = aws.ec2().launch(&launch_request()).await.expect_err("no credentials");
    assert_eq!((error.class, error.code.as_str()), (Class::Denied, "Credentials"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

#[derive(Debug)]
struct NoCredentials;

impl aws_credential_types::provider::ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = aws_credential_types::provider::error::CredentialsError::not_loaded("none configured");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
    }
}

#[tokio::test]
async fn a_throttled_launch_empties_the_lane_and_the_next_waits_for_its_token() {
    let server = serve(vec![ec2_error(503, "RequestLimitExceeded", "slow down"), launched()]).await;
    let hurried = server.connect_within(Duration::from_millis(500)).ec2();
    let error = hurried.launch(&launch_request()).await.expect_err("throttled");
    assert_eq!((error.class, error.code.as_str()), (Class::Throttled, "RequestLimitExceeded"));
    // The lane gives its next token after a second, beyond this call's deadline.
    let error = hurried.launch(&launch_request()).await.expect_err("no token");
    assert_eq!((error.class, error.code.as_str()), (Class::Throttled, crate::send::LOCAL_RATE));
    assert_eq!(server.requests().len(), 1);
}

// === objects ===

fn stored(etag: &str, body: &str) -> Reply {
    Reply::Answer { status: 200, headers: vec![("etag", etag.into())], body: body.into() }
}

#[tokio::test]
async fn an_etag_goes_back_as_it_came_with_its_quotes() {
    let server = serve(vec![stored("\"abc-1\"", "{}"), stored("\"def\"", "")]).await;
    let bucket = server.connect().bucket("bucket");
    let object = bucket.get(&key()).await.expect("read").expect("there");
    assert_eq!((object.body.as_slice(), object.etag.0.as_str()), (&b"{}"[..], "\"abc-1\""));
    let etag = bucket.put(&key(), b"{1}".to_vec(), Condition::Unchanged(object.etag)).await.expect("written");
    assert_eq!(etag, ETag("\"def\"".into()));
    let requests = server.requests();
    assert_eq!(requests[0].line, "GET /bucket/realms/prod/lock.json?x-id=GetObject", "path style");
    assert_eq!(requests[1].line, "PUT /bucket/realms/prod/lock.json?x-id=PutObject");
    assert_eq!(requests[1].headers["if-match"], "\"abc-1\"");
    assert!(!requests[1].headers.contains_key("if-none-match"));
    assert_eq!(requests[1].body, b"{1}");
}

#[tokio::test]
async fn a_write_says_its_condition_and_carries_a_checksum() {
    let server = serve(vec![stored("\"a\"", "")]).await;
    let bucket = server.connect().bucket("bucket");
    bucket.put(&key(), b"{}".to_vec(), Condition::Absent).await.expect("written");
    bucket.put(&key(), b"{}".to_vec(), Condition::Always).await.expect("written");
    let requests = server.requests();
    assert_eq!(requests[0].headers["if-none-match"], "*");
    assert!(!requests[1].headers.contains_key("if-none-match") && !requests[1].headers.contains_key("if-match"));
    assert!(requests.iter().all(|request| request.headers.keys().any(|name| name.starts_with("x-amz-checksum-crc"))));
}

#[tokio::test]
async fn objects_answer_in_their_own_classes() {
    let put = Condition::Unchanged(ETag("\"a\"".into()));
    for (reply, class) in [
        (s3_error(412, "PreconditionFailed"), Class::Conflict),
        (s3_error(409, "ConditionalRequestConflict"), Class::Conflict),
        (s3_error(404, "NoSuchKey"), Class::Conflict),
        (s3_error(404, "NoSuchBucket"), Class::Invalid),
        (s3_error(403, "AccessDenied"), Class::Denied),
        (s3_error(503, "SlowDown"), Class::Throttled),
        (answer(503, ""), Class::Transient),
        (Reply::HangUp, Class::Transient),
    ] {
        let server = serve(vec![reply.clone()]).await;
        let error = server.connect().bucket("b").put(&key(), vec![], put.clone()).await.expect_err("an error");
        assert_eq!(error.class, class, "{reply:?} gave {error:?}");
        assert_eq!(server.requests().len(), 1, "sent once");
    }
}

#[tokio::test]
async fn only_no_such_key_means_that_nothing_is_there() {
    let server = serve(vec![s3_error(404, "NoSuchKey")]).await;
    assert_eq!(server.connect().bucket("b").get(&key()).await, Ok(None));
    for reply in [s3_error(404, "NoSuchBucket"), answer(404, ""), s3_error(403, "AccessDenied"), answer(500, "")] {
        let server = serve(vec![reply.clone()]).await;
        assert!(server.connect().bucket("b").get(&key()).await.is_err(), "{reply:?} was taken for an absent object");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_or_damaged_is_not_believed() {
    let damaged = vec![("etag", "\"a\"".to_owned()), ("x-amz-checksum-crc32", "AAAAAA==".to_owned())];
    let damaged = Reply::Answer { status: 200, headers: damaged, body: "{\"leader\":1}".into() };
    for reply in [Reply::CutShort("{\"leader\"".into()), damaged] {
        let server = serve(vec![reply]).await;
        let error = server.connect().bucket("b").get(&key()).await.expect_err("half a register");
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Body"));
    }
}

#[tokio::test]
async fn an_object_too_large_is_neither_read_nor_sent() {
    let huge = vec![("etag", "\"a\"".to_owned())];
    let server = serve(vec![Reply::Answer { status: 200, headers: huge, body: String::new() }]).await;
    let bucket = server.connect().bucket("b");
    let error = bucket.put(&key(), vec![0; OBJECT_BYTES_MAX + 1], Condition::Always).await.expect_err("too large");
    assert_eq!((error.class, error.code.as_str()), (Class::Invalid, "TooLarge"));
    assert_eq!(server.requests().len(), 0);
}

fn keys_page(keys: &[&str], next: &str) -> Reply {
    let contents: String = keys.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
    ok(&format!("<ListBucketResult>{contents}<NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"))
}

#[tokio::test]
async fn keys_are_listed_to_the_last_page_in_order() {
    let server = serve(vec![keys_page(&["p/c", "p/b"], "two"), keys_page(&["p/a"], "")]).await;
    let keys = server.connect().bucket("b").list("p/").await.expect("listed");
    assert_eq!(keys.iter().map(ObjectKey::as_str).collect::<Vec<_>>(), ["p/a", "p/b", "p/c"]);
    let lines: Vec<_> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /b/?list-type=2&prefix=p%2F", "GET /b/?list-type=2&prefix=p%2F&continuation-token=two"]);
}

#[tokio::test]
async fn a_list_whose_token_never_ends_is_given_up() {
    let server = serve(vec![keys_page(&["p/a"], "again")]).await;
    let error = server.connect().bucket("b").list("p/").await.expect_err("no end");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Reply"));
    assert_eq!(server.requests().len(), 100);
}

// === the table of calls ===

/// Drives every method of the adapter; what it answers to a closed connection does not matter here.
#[tokio::test]
async fn the_table_of_calls_is_what_goes_over_the_wire() {
    let server = serve(vec![Reply::HangUp]).await;
    let (aws, id, ids) = (server.connect(), machine(), Selector::Ids(vec!["x-1".into()]));
    let (ec2, bucket) = (aws.ec2(), aws.bucket("b"));
    let errors = [
        Machines::list(&ec2, &realm()).await.err(),
        Machines::get(&ec2, &id).await.err(),
        ec2.find_by_token(&launch_request().token).await.err(),
        ec2.launch(&launch_request()).await.err(),
        ec2.protect(&id, Protection::On).await.err(),
        ec2.stop(&id, StopMode::Graceful).await.err(),
        ec2.stop(&id, StopMode::PowerOff).await.err(),
        ec2.terminate(&id).await.err(),
        ec2.tag(&id, &launch_request().tags).await.err(),
        ec2.images(&ids, &[]).await.err(),
        ec2.subnets(&ids).await.err(),
        ec2.security_groups(&ids).await.err(),
        ec2.instance_types(&["m7i.large".into()]).await.err(),
        ec2.may_launch(&launch_request()).await.err(),
        Volumes::list(&ec2, &realm()).await.err(),
        Volumes::get(&ec2, &volume()).await.err(),
        ec2.create(&volume_request()).await.err(),
        ec2.attach(&volume(), &id, "/dev/sdf").await.err(),
        ec2.detach(&volume()).await.err(),
        Volumes::delete(&ec2, &volume()).await.err(),
        bucket.get(&key()).await.err(),
        bucket.put(&key(), vec![], Condition::Absent).await.err(),
        bucket.list("").await.err(),
        bucket.delete(&key()).await.err(),
    ];
    let sent: Vec<_> = server.requests().iter().map(action).collect();
    let said: Vec<_> = errors.iter().map(|error| error.as_ref().expect("all connections are closed").call).collect();
    assert_eq!(sent, said, "a call is sent under another row's name");
    let table: BTreeSet<_> = calls().iter().map(|call| call.action.to_owned()).collect();
    assert_eq!(sent.into_iter().collect::<BTreeSet<_>>(), table);
}

/// What a request is, by what it carries.
fn action(request: &Received) -> String {
    if let Some(action) = request.form().get("Action") {
        return action.clone();
    }
    if request.line.contains("list-type=2") {
        return "ListObjectsV2".into();
    }
    let (_, id) = request.line.split_once("x-id=").expect("the SDK names the S3 action");
    id.split('&').next().expect("a part").into()
}
