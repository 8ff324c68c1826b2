//! The wire, against a model of its own: what is read, what is refused, what is written. The shapes are proven from outside,
//! by the contract suite; here it is that nothing is ignored.

use drover_cloud::ec2::{Account, Architecture, ImageSpec};

use super::*;

/// Every action, with the least that it asks for.
const LEAST: &[(&str, &str)] = &[
    ("AssignPrivateIpAddresses", "NetworkInterfaceId=eni-0123456789abcdef0&SecondaryPrivateIpAddressCount=1"),
    ("AttachVolume", "VolumeId=vol-0123456789abcdef0&InstanceId=i-0123456789abcdef0&Device=%2Fdev%2Fsdf"),
    ("CreateSecurityGroup", "GroupName=a&GroupDescription=b"),
    ("CreateTags", "ResourceId.1=i-0123456789abcdef0&Tag.1.Key=a"),
    ("CreateVolume", "AvailabilityZone=local-1a&Size=1"),
    ("DeleteSecurityGroup", "GroupId=sg-0123456789abcdef0"),
    ("DeleteTags", "ResourceId.1=i-0123456789abcdef0&Tag.1.Key=a"),
    ("DeleteVolume", "VolumeId=vol-0123456789abcdef0"),
    ("DescribeAvailabilityZones", ""),
    ("DescribeImages", ""),
    ("DescribeInstanceAttribute", "InstanceId=i-0123456789abcdef0&Attribute=userData"),
    ("DescribeInstanceStatus", ""),
    ("DescribeInstanceTypes", ""),
    ("DescribeInstances", ""),
    ("DescribeNetworkInterfaces", ""),
    ("DescribeSecurityGroups", ""),
    ("DescribeSubnets", ""),
    ("DescribeTags", ""),
    ("DescribeVolumes", ""),
    ("DescribeVpcs", ""),
    ("DetachVolume", "VolumeId=vol-0123456789abcdef0"),
    ("ModifyInstanceAttribute", "InstanceId=i-0123456789abcdef0&DisableApiStop.Value=true"),
    ("ModifyNetworkInterfaceAttribute", "NetworkInterfaceId=eni-0123456789abcdef0&Description.Value=a"),
    ("RebootInstances", "InstanceId.1=i-0123456789abcdef0"),
    ("RunInstances", "ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=1"),
    ("StartInstances", "InstanceId.1=i-0123456789abcdef0"),
    ("StopInstances", "InstanceId.1=i-0123456789abcdef0"),
    ("TerminateInstances", "InstanceId.1=i-0123456789abcdef0"),
    ("UnassignPrivateIpAddresses", "NetworkInterfaceId=eni-0123456789abcdef0&PrivateIpAddress.1=10.42.1.9"),
];

fn account() -> Ec2 {
    let image = ImageSpec {
        name: "image".into(),
        description: String::new(),
        architecture: Architecture::X86_64,
        root_size_gib: 8,
        tags: ec2::Tags::new(),
    };
    Ec2::new(Account { images: vec![image], ..Account::new("local-1") }, 7)
}

/// One call: the answer's text, or the error's code.
fn ask(ec2: &mut Ec2, action: &str, rest: &str) -> Result<String, String> {
    let body = format!("Action={action}&Version=2016-11-15&{rest}");
    let request = Request::parse(body.as_bytes()).map_err(|error| error.code)?;
    call(ec2, Millis(1_000), &Caller::operator(), &request, "r-1").result.map_err(|error| error.code)
}

#[test]
fn every_action_is_in_the_table() {
    assert_eq!(LEAST.iter().map(|(action, _)| *action).collect::<Vec<_>>(), ACTIONS);
}

#[test]
fn every_action_refuses_a_parameter_it_does_not_know() {
    for (action, least) in LEAST {
        let with = format!("{least}&Colour=red");
        assert_eq!(ask(&mut account(), action, &with), Err("UnknownParameter".into()), "{action}");
    }
}

#[test]
fn every_describe_refuses_a_filter_it_does_not_know() {
    for (action, least) in
        LEAST.iter().filter(|(action, _)| action.starts_with("Describe") && *action != "DescribeInstanceAttribute")
    {
        let with = format!("{least}&Filter.1.Name=colour&Filter.1.Value.1=red");
        assert_eq!(ask(&mut account(), action, &with), Err("InvalidParameterValue".into()), "{action}");
    }
}

#[test]
fn every_action_but_those_without_one_has_a_dry_run_that_changes_nothing() {
    for (action, least) in LEAST {
        let mut ec2 = account();
        let before = serde_json::to_string(&ec2.volumes().collect::<Vec<_>>()).unwrap();
        let expected = match *action {
            "AssignPrivateIpAddresses" | "UnassignPrivateIpAddresses" => "UnknownParameter",
            // It looks at what a launch names; this image is not there.
            "RunInstances" => "InvalidAMIID.NotFound",
            _ => "DryRunOperation",
        };
        assert_eq!(ask(&mut ec2, action, &format!("{least}&DryRun=true")), Err(expected.into()), "{action}");
        assert_eq!(serde_json::to_string(&ec2.volumes().collect::<Vec<_>>()).unwrap(), before, "{action}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let mut ec2 = account();
    assert_eq!(ask(&mut ec2, "DescribeSnapshots", ""), Err("InvalidAction".into()));
    assert_eq!(ask(&mut ec2, "DescribeVpcs", "Version=2014-01-01"), Err("MalformedQueryString".into()));
    assert_eq!(ask(&mut ec2, "RunInstances", "MinCount=1"), Err("MissingParameter".into()));
    assert_eq!(
        ask(&mut ec2, "RunInstances", "MinCount=1&MaxCount=1&UserData=%21"),
        Err("InvalidParameterValue".into())
    );
    let wrong_version =
        Request::parse(b"Action=DescribeVpcs&Version=2014-01-01").map(|_| ()).map_err(|error| error.code);
    assert_eq!(wrong_version, Err("InvalidParameterValue".into()));
}

#[test]
fn a_launch_is_read_whole() {
    let body = "ImageId=ami-1&InstanceType=t3.small&MinCount=1&MaxCount=2&ClientToken=token&SubnetId=subnet-1&\
        Placement.AvailabilityZone=local-1a&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&UserData=I2EK&\
        IamInstanceProfile.Name=profile&MetadataOptions.HttpTokens=required&MetadataOptions.InstanceMetadataTags=enabled&\
        MetadataOptions.HttpPutResponseHopLimit=2&DisableApiTermination=true&DisableApiStop=false&\
        InstanceInitiatedShutdownBehavior=stop&MaintenanceOptions.AutoRecovery=disabled&\
        BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda&BlockDeviceMapping.1.Ebs.VolumeSize=9&\
        BlockDeviceMapping.1.Ebs.DeleteOnTermination=true&\
        TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b&\
        TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=c";
    let form = Form::parse(body.as_bytes()).unwrap();
    let tag = |key: &str, value: &str| ec2::Tag { key: key.into(), value: value.into() };
    let expected = ec2::RunInstances {
        image_id: Some("ami-1".into()),
        instance_type: Some("t3.small".into()),
        min_count: 1,
        max_count: 2,
        client_token: Some("token".into()),
        subnet_id: Some("subnet-1".into()),
        availability_zone: Some("local-1a".into()),
        security_group_ids: vec!["sg-1".into(), "sg-2".into()],
        user_data: Some(b"#a\n".to_vec()),
        instance_profile: Some(ec2::InstanceProfileSpecification { arn: None, name: Some("profile".into()) }),
        metadata_options: ec2::MetadataOptionsRequest {
            http_tokens: Some(ec2::HttpTokens::Required),
            http_put_response_hop_limit: Some(2),
            http_endpoint: None,
            instance_metadata_tags: Some(ec2::Switch::Enabled),
        },
        disable_api_termination: Some(true),
        disable_api_stop: Some(false),
        instance_initiated_shutdown_behavior: Some(ec2::ShutdownBehavior::Stop),
        auto_recovery: Some(ec2::AutoRecovery::Disabled),
        block_device_mappings: vec![ec2::BlockDeviceMapping {
            device_name: "/dev/xvda".into(),
            ebs: ec2::EbsBlockDevice { delete_on_termination: Some(true), volume_size: Some(9), ..Default::default() },
        }],
        tag_specifications: vec![
            ec2::TagSpecification { resource_type: "instance".into(), tags: vec![tag("a", "b")] },
            ec2::TagSpecification { resource_type: "volume".into(), tags: vec![tag("c", "")] },
        ],
        ..Default::default()
    };
    assert_eq!(ec2::RunInstances::read(&form.reader()), Ok(expected));
    assert_eq!(form.finish(), Ok(()));
}

#[test]
fn an_attribute_is_changed_by_either_form() {
    use ec2::InstanceChange as Change;
    for (form, expected) in [
        ("DisableApiStop.Value=true", vec![Change::DisableApiStop(true)]),
        ("Attribute=disableApiStop&Value=true", vec![Change::DisableApiStop(true)]),
        ("Attribute=userData&Value=I2EK", vec![Change::UserData(b"#a\n".to_vec())]),
        ("GroupId.1=sg-1", vec![Change::Groups(vec!["sg-1".into()])]),
        (
            "Attribute=blockDeviceMapping&BlockDeviceMapping.1.DeviceName=a&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
            vec![Change::DeleteOnTermination(vec![("a".into(), false)])],
        ),
        (
            "DisableApiStop.Value=true&EbsOptimized.Value=false",
            vec![Change::DisableApiStop(true), Change::EbsOptimized(false)],
        ),
    ] {
        let form_read = Form::parse(format!("InstanceId=i-1&{form}").as_bytes()).unwrap();
        let read = ec2::ModifyInstanceAttribute::read(&form_read.reader()).map(|read| read.changes);
        assert_eq!(read, Ok(expected), "{form}");
        assert_eq!(form_read.finish(), Ok(()), "{form}");
    }
}

#[test]
fn a_volume_is_written_whole() {
    let mut ec2 = account();
    let created = ask(
        &mut ec2,
        "CreateVolume",
        "AvailabilityZone=local-1a&Size=4&TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a%3Cb",
    );
    let expected = expect_test::expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <CreateVolumeResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>r-1</requestId>
        <volumeId>vol-1</volumeId>
        <size>4</size>
        <snapshotId>
        </snapshotId>
        <availabilityZone>local-1a</availabilityZone>
        <availabilityZoneId>l1-az1</availabilityZoneId>
        <status>creating</status>
        <createTime>1970-01-01T00:00:01.000Z</createTime>
        <attachmentSet>
        </attachmentSet>
        <tagSet>
        <item>
        <key>a&lt;b</key>
        <value>
        </value>
        </item>
        </tagSet>
        <volumeType>gp2</volumeType>
        <iops>100</iops>
        <encrypted>false</encrypted>
        <multiAttachEnabled>false</multiAttachEnabled>
        </CreateVolumeResponse>"#]];
    let id = ec2.volumes().next().unwrap().volume_id.clone();
    expected.assert_eq(&created.unwrap().replace(&id, "vol-1").replace("><", ">\n<"));
}
