//! RunInstances: what refuses a launch, what it makes, and its client token.

use super::*;

/// What one row changes in a good request.
type Change = fn(&mut RunInstances);

#[test]
fn a_wrong_parameter_is_refused_with_its_own_code_and_leaves_nothing() {
    let table: [(&str, &str, Change); 35] = [
        ("no image", "MissingParameter", |it| it.image_id = None),
        ("malformed image", "InvalidAMIID.Malformed", |it| it.image_id = Some("ami-xyz".into())),
        ("unknown image", "InvalidAMIID.NotFound", |it| it.image_id = Some("ami-00000000000000001".into())),
        ("no type", "MissingParameter", |it| it.instance_type = None),
        ("unknown type", "InvalidParameterValue", |it| it.instance_type = Some("m7g.huge".into())),
        ("type of another architecture", "InvalidParameterValue", |it| it.instance_type = Some("m7i.large".into())),
        ("no minimum", "InvalidParameterValue", |it| it.min_count = 0),
        ("no maximum", "InvalidParameterValue", |it| it.max_count = 0),
        ("minimum over maximum", "InvalidParameterCombination", |it| it.min_count = 2),
        ("malformed subnet", "InvalidSubnetID.Malformed", |it| it.subnet_id = Some("subnet-1".into())),
        ("unknown subnet", "InvalidSubnetID.NotFound", |it| it.subnet_id = Some("subnet-00000001".into())),
        ("subnet of another zone", "InvalidParameterCombination", |it| {
            it.availability_zone = Some("eu-test-1b".into())
        }),
        ("unknown zone", "InvalidParameterValue", |it| {
            it.subnet_id = None;
            it.availability_zone = Some("eu-test-1z".into());
        }),
        ("malformed group", "InvalidGroupId.Malformed", |it| it.security_group_ids = one("default")),
        ("unknown group", "InvalidGroup.NotFound", |it| it.security_group_ids = one("sg-00000001")),
        ("unknown group name", "InvalidGroup.NotFound", |it| {
            it.subnet_id = None;
            it.security_groups = one("nobody");
        }),
        ("group name beside a subnet", "InvalidParameterCombination", |it| it.security_groups = one("machines")),
        ("address of another subnet", "InvalidParameterValue", |it| it.private_ip_address = Some("10.42.2.9".into())),
        ("address that EC2 keeps", "InvalidParameterValue", |it| it.private_ip_address = Some("10.42.1.3".into())),
        ("not an address", "InvalidParameterValue", |it| it.private_ip_address = Some("10.42.1".into())),
        ("unknown profile", "InvalidParameterValue", |it| {
            it.instance_profile = Some(InstanceProfileSpecification { name: Some("nobody".into()), arn: None });
        }),
        ("profile twice", "InvalidParameterCombination", |it| {
            it.instance_profile =
                Some(InstanceProfileSpecification { name: Some("machine".into()), arn: Some("machine".into()) });
        }),
        ("user data over 16384 bytes", "InvalidParameterValue", |it| it.user_data = Some(vec![b'x'; 16_385])),
        ("token over 64", "InvalidParameterValue", |it| it.client_token = Some("x".repeat(65))),
        ("token beyond ASCII", "InvalidParameterValue", |it| it.client_token = Some("é".into())),
        ("hop limit 0", "InvalidParameterValue", |it| it.metadata_options.http_put_response_hop_limit = Some(0)),
        ("hop limit 65", "InvalidParameterValue", |it| it.metadata_options.http_put_response_hop_limit = Some(65)),
        ("tag on what is not launched", "InvalidParameterValue", |it| {
            it.tag_specifications = vec![tagged("security-group", &[("a", "b")])];
        }),
        ("reserved tag", "InvalidParameterValue", |it| {
            it.tag_specifications = vec![tagged("instance", &[("aws:a", "b")])];
        }),
        ("tag that metadata cannot show", "InvalidParameterValue", |it| {
            it.tag_specifications = vec![tagged("instance", &[("a/b", "c")])];
            it.metadata_options.instance_metadata_tags = Some(Switch::Enabled);
        }),
        ("root smaller than the image", "InvalidBlockDeviceMapping", |it| {
            it.block_device_mappings = vec![device("/dev/xvda", Some(7))];
        }),
        ("one device twice", "InvalidBlockDeviceMapping", |it| {
            it.block_device_mappings = vec![device("/dev/sdf", Some(1)), device("/dev/sdf", Some(1))];
        }),
        ("device without a size", "MissingParameter", |it| {
            it.block_device_mappings = vec![device("/dev/sdf", None)];
        }),
        ("unknown snapshot", "InvalidSnapshot.NotFound", |it| {
            let mut device = device("/dev/sdf", Some(1));
            device.ebs.snapshot_id = Some("snap-00000001".into());
            it.block_device_mappings = vec![device];
        }),
        ("interface beside a subnet", "InvalidParameterCombination", |it| {
            it.network_interfaces = vec![InterfaceSpecification::default()];
        }),
    ];
    for (what, expected, change) in table {
        let mut cloud = Cloud::new();
        let mut request = cloud.request();
        change(&mut request);
        assert_eq!(cloud.code(&request), expected, "{what}");
        let left = (cloud.ec2.instances.len(), cloud.ec2.volumes.len(), cloud.ec2.interfaces.len());
        assert_eq!(left, (0, 0, 0), "{what}");
    }
}

#[test]
fn what_is_at_a_bound_is_allowed() {
    let table: [(&str, Change); 6] = [
        ("16384 bytes of user data", |it| it.user_data = Some(vec![b'x'; 16_384])),
        ("token of 64", |it| it.client_token = Some("x".repeat(64))),
        ("hop limit 64", |it| it.metadata_options.http_put_response_hop_limit = Some(64)),
        ("slash in a tag without metadata tags", |it| {
            it.tag_specifications = vec![tagged("instance", &[("a/b", "c")])];
        }),
        ("profile by ARN", |it| {
            let arn = "arn:aws:iam::123456789012:instance-profile/machine".into();
            it.instance_profile = Some(InstanceProfileSpecification { name: None, arn: Some(arn) });
        }),
        ("first usable address", |it| it.private_ip_address = Some("10.42.1.4".into())),
    ];
    for (what, change) in table {
        let mut cloud = Cloud::new();
        let mut request = cloud.request();
        change(&mut request);
        assert_eq!(cloud.code(&request), "ok", "{what}");
    }
}

#[test]
fn a_launch_makes_instance_root_volume_and_interface_each_with_its_tags() {
    let mut cloud = Cloud::new();
    let kinds = ["instance", "volume", "network-interface"];
    let mut request = cloud.request();
    request.tag_specifications = kinds.iter().map(|kind| tagged(kind, &[("kind", kind)])).collect();
    request.security_group_ids = vec![cloud.group("machines")];
    let reply = cloud.ok(&request).instances.remove(0);

    let kind = |tags: &Tags| tags.get("kind").cloned();
    assert_eq!(kind(&reply.instance.tags).as_deref(), Some("instance"));
    let interface = &reply.network_interfaces[0].interface;
    assert_eq!(kind(&interface.tags).as_deref(), Some("network-interface"));
    assert_eq!((interface.subnet_id.as_str(), interface.groups.len()), (cloud.subnet(0).as_str(), 1));
    assert_eq!(reply.groups()[0].group_name, "machines");
    assert_eq!(reply.private_ip_address(), Some("10.42.1.4"));
    let (device, attachment) = &reply.block_device_mappings[0];
    assert_eq!((device.device_name.as_str(), attachment.delete_on_termination), ("/dev/xvda", true));
    let volume = cloud.ec2.volume(&device.volume_id).expect("the root volume").clone();
    assert_eq!((kind(&volume.tags).as_deref(), volume.size_gib), (Some("volume"), 8));
    assert_eq!(reply.instance.state, InstanceStateName::Pending);
}

#[test]
fn ids_look_like_ec2s_and_follow_from_the_seed() {
    let ids = || {
        let mut cloud = Cloud::new();
        let reply = cloud.ok(&cloud.request()).instances.remove(0);
        [
            reply.instance.instance_id.clone(),
            reply.block_device_mappings[0].0.volume_id.clone(),
            reply.network_interfaces[0].interface.network_interface_id.clone(),
            reply.instance.reservation_id.clone(),
            reply.instance.image_id.clone(),
        ]
    };
    for (id, prefix) in ids().iter().zip(["i-", "vol-", "eni-", "r-", "ami-"]) {
        let digits = id.strip_prefix(prefix).unwrap_or_else(|| panic!("{id} does not begin with {prefix}"));
        assert_eq!(digits.len(), 17, "{id}");
        assert!(digits.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    }
    assert_eq!(ids(), ids());
}

#[test]
fn several_instances_get_one_reservation_and_as_many_as_the_subnet_has_room_for() {
    let mut cloud = Cloud::with(|it| {
        // 11 usable addresses.
        it.subnets[0].cidr = Cidr::try_from("10.42.1.0/28".to_owned()).expect("a valid range");
    });
    let many = RunInstances { min_count: 3, max_count: 20, ..cloud.request() };
    let reply = cloud.ok(&many);
    assert_eq!(reply.instances.len(), 11);
    let indexes: Vec<u32> = reply.instances.iter().map(|it| it.instance.ami_launch_index).collect();
    assert_eq!(indexes, (0..11).collect::<Vec<u32>>());
    let request = cloud.request();
    assert_eq!(cloud.code(&request), "InsufficientFreeAddressesInSubnet");
}

#[test]
fn an_address_in_use_is_refused() {
    let mut cloud = Cloud::new();
    let request = RunInstances { private_ip_address: Some("10.42.1.20".into()), ..cloud.request() };
    assert_eq!(cloud.code(&request), "ok");
    assert_eq!(cloud.code(&request), "InvalidIPAddress.InUse");
}

#[test]
fn quotas_refuse_what_goes_beyond_them() {
    let mut cloud = Cloud::with(|it| it.vcpus_max = Some(4));
    let request = cloud.request();
    let first = cloud.launch(&request).remove(0);
    assert_eq!(cloud.code(&request), "ok");
    assert_eq!(cloud.code(&request), "VcpuLimitExceeded");
    cloud.ok(&TerminateInstances { instance_ids: one(&first), ..TerminateInstances::default() });
    cloud.pass(60);
    assert_eq!(cloud.code(&request), "ok");
    cloud.ec2.faults().quotas.insert(STANDARD_VCPUS.into(), 6);
    assert_eq!(cloud.code(&request), "ok");
    assert_eq!(cloud.code(&request), "VcpuLimitExceeded");

    let mut cloud = Cloud::with(|it| it.volumes_max = Some(1));
    let request = cloud.request();
    assert_eq!(cloud.code(&request), "ok");
    assert_eq!(cloud.code(&request), "VolumeLimitExceeded");
}

#[test]
fn the_same_token_and_parameters_answer_the_same_instance() {
    let mut cloud = Cloud::new();
    let request = with_token(&cloud, 0);
    let first = cloud.launch(&request);
    cloud.pass(3600);
    assert_eq!(cloud.launch(&request), first);
    assert_eq!(cloud.ec2.instances.len(), 1);
}

#[test]
fn any_other_parameter_under_a_token_is_a_mismatch() {
    let table: [(&str, Change); 6] = [
        ("type", |it| it.instance_type = Some("m7g.xlarge".into())),
        ("user data", |it| it.user_data = Some(b"other".to_vec())),
        ("tags", |it| it.tag_specifications = vec![tagged("instance", &[("a", "b")])]),
        ("protection", |it| it.disable_api_termination = Some(true)),
        ("count", |it| it.max_count = 2),
        ("groups", |it| it.security_group_ids = one("sg-00000001")),
    ];
    for (what, change) in table {
        let mut cloud = Cloud::new();
        let request = with_token(&cloud, 0);
        cloud.launch(&request);
        let mut other = request.clone();
        change(&mut other);
        assert_eq!(cloud.code(&other), "IdempotentParameterMismatch", "{what}");
        assert_eq!(cloud.ec2.instances.len(), 1, "{what}");
    }
}

#[test]
fn a_token_counts_in_its_own_zone_only() {
    let mut cloud = Cloud::new();
    let (here, there) = (with_token(&cloud, 0), with_token(&cloud, 1));
    assert_ne!(cloud.launch(&here), cloud.launch(&there));
    assert_eq!(cloud.ec2.instances.len(), 2);
}

#[test]
fn a_regional_token_is_apart_from_the_zonal_ones() {
    let mut cloud = Cloud::new();
    let zonal = with_token(&cloud, 0);
    let regional = RunInstances { subnet_id: None, ..zonal.clone() };
    assert_ne!(cloud.launch(&zonal), cloud.launch(&regional));
    assert_eq!(cloud.launch(&regional).len(), 1);
    assert_eq!(cloud.ec2.instances.len(), 2);
}

#[test]
fn the_token_of_a_terminated_instance_is_spent_for_good() {
    let mut cloud = Cloud::new();
    let request = with_token(&cloud, 0);
    let id = cloud.launch(&request).remove(0);
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() });
    assert_eq!(cloud.launch(&request), one(&id), "shutting-down is not terminated");
    cloud.pass(60);
    assert_eq!(cloud.code(&request), "IdempotentInstanceTerminated");
    cloud.pass(2 * 3600);
    assert_eq!(cloud.state(&id), "none");
    assert_eq!(cloud.code(&request), "IdempotentInstanceTerminated");
}

#[test]
fn a_refused_launch_does_not_burn_its_token() {
    let mut cloud = Cloud::new();
    let request = with_token(&cloud, 0);
    cloud.ec2.faults().no_capacity.push(NoCapacity::default());
    assert_eq!(cloud.code(&request), "InsufficientInstanceCapacity");
    cloud.ec2.faults().no_capacity.clear();
    assert_eq!(cloud.code(&request), "ok");
}

#[test]
fn a_dry_run_looks_at_permission_and_parameters_and_not_at_room() {
    let mut cloud = Cloud::new();
    let request = cloud.request();
    let dry = |cloud: &mut Cloud| cloud.ec2.call(START, &Caller::operator(), Mode::DryRun, &request);
    let error = dry(&mut cloud).expect_err("a dry run never succeeds");
    assert_eq!((error.code.as_str(), error.http_status), ("DryRunOperation", 412));
    cloud.ec2.faults().no_capacity.push(NoCapacity::default());
    assert_eq!(dry(&mut cloud).expect_err("a dry run never succeeds").code, "DryRunOperation");
    let profile = |name: &str| Some(InstanceProfileSpecification { name: Some(name.into()), arn: None });
    let table: [(&str, RunInstances); 4] = [
        ("InvalidAMIID.NotFound", RunInstances { image_id: Some("ami-00000000000000001".into()), ..request.clone() }),
        ("InvalidSubnetID.NotFound", RunInstances { subnet_id: Some("subnet-00000001".into()), ..request.clone() }),
        ("InvalidParameterValue", RunInstances { instance_type: Some("m7i.large".into()), ..request.clone() }),
        ("InvalidParameterValue", RunInstances { instance_profile: profile("nobody"), ..request.clone() }),
    ];
    for (code, wrong) in table {
        let told = cloud.ec2.call(START, &Caller::operator(), Mode::DryRun, &wrong).expect_err("refused").code;
        assert_eq!(told, code, "{wrong:?}");
    }
    let full = RunInstances {
        instance_profile: profile("machine"),
        tag_specifications: vec![tagged("instance", &[("a", "b")])],
        ..request.clone()
    };
    for permission in ["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"] {
        cloud.ec2.faults().denied.insert(permission.into());
        let error = cloud.ec2.call(START, &Caller::operator(), Mode::DryRun, &full).expect_err("refused");
        assert_eq!(error.code, "UnauthorizedOperation");
        assert!(error.message.contains(&format!("not authorized to perform: {permission} on resource: ")), "{error:?}");
        cloud.ec2.faults().denied.clear();
    }
    cloud.ec2.faults().credentials = Credentials::Unauthorized;
    assert_eq!(dry(&mut cloud).expect_err("no permission").code, "UnauthorizedOperation");
    assert!(cloud.ec2.instances.is_empty());
    assert!(cloud.ec2.log().entries().all(|entry| !entry.mutating));
}

#[test]
fn the_interface_can_be_described_by_itself() {
    let mut cloud = Cloud::new();
    let interface = InterfaceSpecification {
        subnet_id: Some(cloud.subnet(1)),
        groups: vec![cloud.group("machines")],
        private_ip_address: Some("10.42.2.77".into()),
        delete_on_termination: Some(false),
        ..InterfaceSpecification::default()
    };
    let request = RunInstances { subnet_id: None, network_interfaces: vec![interface], ..cloud.request() };
    let reply = cloud.ok(&request).instances.remove(0);
    assert_eq!((reply.instance.zone.as_str(), reply.private_ip_address()), ("eu-test-1b", Some("10.42.2.77")));
}

#[test]
fn volumes_of_a_launch_go_with_the_instance_unless_it_says_otherwise() {
    let mut cloud = Cloud::new();
    let mut kept = device("/dev/sdg", Some(2));
    kept.ebs.delete_on_termination = Some(false);
    let request = RunInstances { block_device_mappings: vec![device("/dev/sdf", Some(1)), kept], ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    cloud.pass(60);
    let volumes: Vec<(String, String)> = cloud
        .describe(&id)
        .block_device_mappings
        .into_iter()
        .map(|(device, _)| (device.device_name, device.volume_id))
        .collect();
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() });
    cloud.pass(120);
    let left: Vec<(&str, String)> = volumes.iter().map(|(name, id)| (name.as_str(), cloud.volume(id))).collect();
    let expected = [("/dev/xvda", "none"), ("/dev/sdf", "none"), ("/dev/sdg", "available")];
    assert_eq!(left, expected.map(|(name, state)| (name, state.to_owned())));
}

fn with_token(cloud: &Cloud, zone: usize) -> RunInstances {
    RunInstances { client_token: Some("token".into()), ..cloud.request_in(zone) }
}

fn device(name: &str, size: Option<u32>) -> BlockDeviceMapping {
    BlockDeviceMapping {
        device_name: name.into(),
        ebs: EbsBlockDevice { volume_size: size, ..EbsBlockDevice::default() },
    }
}
