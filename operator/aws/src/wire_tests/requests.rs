//! What is sent, field by field.

use super::*;

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
                 <volumeType>gp3</volumeType><iops>4000</iops><throughput>250</throughput><availabilityZone>eu-central-1a</availabilityZone><createTime>2026-05-01T10:00:00.000Z</createTime>\
                 </CreateVolumeResponse>";
    let server = serve(vec![ok(reply)]).await;
    let volume = server.connect().ec2().create(&volume_request()).await.expect("created");
    assert_eq!((volume.id.as_str(), volume.state, volume.size_gib), ("vol-1", VolumeState::Creating, 100));
    let shape = (volume.volume_type.as_str(), volume.iops, volume.throughput_mibps);
    assert_eq!(shape, ("gp3", Some(4_000), Some(250)));
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
async fn a_volume_is_kept_by_the_device_name_that_its_instance_has_it_under() {
    let server =
        serve(vec![ok("<ModifyInstanceAttributeResponse><return>true</return></ModifyInstanceAttributeResponse>")])
            .await;
    let instance = InstanceId::new("i-1").expect("an id");
    server.connect().ec2().keep_on_termination(&instance, "/dev/sdg").await.expect("kept");
    expect![[r#"
        Action = ModifyInstanceAttribute
        BlockDeviceMapping.1.DeviceName = /dev/sdg
        BlockDeviceMapping.1.Ebs.DeleteOnTermination = false
        InstanceId = i-1
    "#]]
    .assert_eq(&fields(&server.requests()[0]));
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
                <availabilityZone>eu-central-1a</availabilityZone></placement><clientToken/><stateReason>\
                <code>Client.VolumeLimitExceeded</code><message>no more</message></stateReason></item>";
    let page = format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet>\
                        </DescribeInstancesResponse>"
    );
    let server = serve(vec![ok(&page)]).await;
    let found =
        server.connect().ec2().find_by_token(&ClientToken::new("token-1").expect("token")).await.expect("found");
    assert_eq!((found.len(), found[0].state, found[0].private_ip), (1, MachineState::Terminated, None));
    let reason = StateReason { code: "Client.VolumeLimitExceeded".into(), message: "no more".into() };
    assert_eq!(found[0].state_reason, Some(reason));
    assert_eq!(server.requests()[0].form().get("Filter.1.Name").map(String::as_str), Some("client-token"));
}

/// InstanceType.N would have EC2 refuse them all for one that the Region does not know.
#[tokio::test]
async fn instance_types_are_asked_for_by_a_filter_and_a_name_that_is_not_known_is_left_out() {
    let page = "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>m7g.large</instanceType>\
                <processorInfo><supportedArchitectures><item>arm64</item></supportedArchitectures></processorInfo>\
                <vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>8192</sizeInMiB></memoryInfo>\
                </item></instanceTypeSet></DescribeInstanceTypesResponse>";
    let server = serve(vec![ok(page)]).await;
    let names = ["m9x.large".to_owned(), "m7g.large".to_owned()];
    let types = server.connect().ec2().instance_types(&names).await.expect("an answer");
    assert_eq!(types.iter().map(|known| known.name.as_str()).collect::<Vec<_>>(), ["m7g.large"]);
    expect![[r#"
        Action = DescribeInstanceTypes
        Filter.1.Name = instance-type
        Filter.1.Value.1 = m9x.large
        Filter.1.Value.2 = m7g.large
        MaxResults = 100
    "#]]
    .assert_eq(&fields(&server.requests()[0]));
}

#[tokio::test]
async fn an_ended_attachment_is_none() {
    let item = |state: &str| {
        format!(
            "<item><volumeId>vol-1</volumeId><status>in-use</status><size>1</size><volumeType>gp3</volumeType><availabilityZone>eu-central-1a</availabilityZone>\
             <createTime>2026-05-01T10:00:00.000Z</createTime><attachmentSet><item><instanceId>i-1</instanceId>\
             <device>/dev/sdf</device><status>{state}</status><deleteOnTermination>true</deleteOnTermination></item>\
             </attachmentSet></item>"
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
    let busy = volumes[0].attachment.as_ref().expect("it is attached");
    assert_eq!((busy.device.as_str(), busy.delete_on_termination), ("/dev/sdf", Some(true)));
    let form = server.requests()[0].form();
    assert_eq!(
        (form["Filter.1.Name"].as_str(), form["Filter.2.Name"].as_str()),
        ("tag:drover:realm", "tag:drover:volume")
    );
}

#[tokio::test]
async fn images_are_selected_by_exact_tags_among_owners_and_available_ones() {
    let item = "<item><imageId>ami-1</imageId><imageState>available</imageState><architecture>arm64</architecture>\
                <creationDate>2026-05-01T10:00:00.000Z</creationDate></item>";
    let server =
        serve(vec![ok(&format!("<DescribeImagesResponse><imagesSet>{item}</imagesSet></DescribeImagesResponse>"))])
            .await;
    let ec2 = server.connect().ec2();
    let tags = Selector::Tags([("mysql".into(), "9.7*".into())].into());
    let images = ec2.images(&tags, &["self".into()]).await.expect("found");
    assert_eq!((images[0].architecture.as_str(), images[0].available), ("arm64", true));
    ec2.images(&Selector::Ids(vec!["ami-1".into()]), &["self".into()]).await.expect("found");
    let sent: Vec<_> = server.requests().iter().map(fields).collect();
    expect![[r#"
        Action = DescribeImages
        Filter.1.Name = tag:mysql
        Filter.1.Value.1 = 9.7\*
        Filter.2.Name = state
        Filter.2.Value.1 = available
        MaxResults = 1000
        Owner.1 = self
        Action = DescribeImages
        ImageId.1 = ami-1
    "#]]
    .assert_eq(&sent.concat());
}
