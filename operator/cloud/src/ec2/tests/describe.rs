//! Lists: filters that AND, names that are refused, pages that neither overlap nor leave out.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn an_unknown_filter_is_refused_even_where_nothing_is() {
    let paged = |name: &str| Paged { filters: filters(&[(name, &["x"])]), ..Paged::default() };
    for name in ["colour", "tag", "Tag:a", "instance-state", "tag-value", ""] {
        let mut cloud = Cloud::new();
        let answers = [
            cloud.code(&DescribeInstances { paged: paged(name), ..DescribeInstances::default() }),
            cloud.code(&DescribeInstanceStatus { paged: paged(name), ..DescribeInstanceStatus::default() }),
            cloud.code(&DescribeVolumes { paged: paged(name), ..DescribeVolumes::default() }),
            cloud.code(&DescribeNetworkInterfaces { paged: paged(name), ..DescribeNetworkInterfaces::default() }),
            cloud.code(&DescribeSecurityGroups { paged: paged(name), ..DescribeSecurityGroups::default() }),
            cloud.code(&DescribeImages { paged: paged(name), ..DescribeImages::default() }),
            cloud.code(&DescribeSubnets { paged: paged(name), ..DescribeSubnets::default() }),
            cloud.code(&DescribeVpcs { paged: paged(name), ..DescribeVpcs::default() }),
            cloud.code(&DescribeInstanceTypes { paged: paged(name), ..DescribeInstanceTypes::default() }),
            cloud.code(&DescribeTags { paged: paged(name) }),
            cloud.code(&DescribeAvailabilityZones {
                filters: filters(&[(name, &["x"])]),
                ..DescribeAvailabilityZones::default()
            }),
        ];
        assert!(answers.iter().all(|code| code == "InvalidParameterValue"), "{name:?}: {answers:?}");
    }
}

#[test]
fn a_filter_needs_values_and_at_most_two_hundred() {
    let mut cloud = Cloud::new();
    let values: Vec<&str> = vec!["x"; 201];
    let code = |answer: Result<Vec<String>, ApiError>| answer.expect_err("a bad filter").code;
    assert_eq!(code(cloud.filtered(&[("vpc-id", &[])])), "MissingParameter");
    assert_eq!(code(cloud.filtered(&[("vpc-id", &values)])), "FilterLimitExceeded");
    assert_eq!(cloud.filtered(&[("vpc-id", &values[1..])]), Ok(vec![]));
}

#[test]
fn instances_are_found_by_what_they_are() {
    let mut cloud = Cloud::new();
    let mut request = cloud.request_in(1);
    request.client_token = Some("token-1".into());
    request.tag_specifications = vec![tagged("instance", &[("app", "db"), ("odd", "a*b")])];
    request.security_group_ids = vec![cloud.group("machines")];
    request.instance_profile = Some(InstanceProfileSpecification { name: Some("machine".into()), arn: None });
    let id = cloud.launch(&request).remove(0);
    let other = cloud.launched();
    cloud.pass(60);
    let described = cloud.describe(&id);
    let volume = described.block_device_mappings[0].0.volume_id.clone();
    let interface = described.network_interfaces[0].interface.network_interface_id.clone();
    let subnet = cloud.subnet(1);
    let group = cloud.group("machines");
    let hits: [(&str, &str); 27] = [
        ("instance-id", &id),
        ("client-token", "token-1"),
        ("tag:app", "db"),
        ("tag:app", "d?"),
        ("tag:odd", "a\\*b"),
        ("tag-key", "app"),
        ("tag-key", "a*"),
        ("availability-zone", "eu-test-1b"),
        ("subnet-id", &subnet),
        ("network-interface.subnet-id", &subnet),
        ("instance.group-id", &group),
        ("instance.group-name", "machines"),
        ("network-interface.group-name", "mach*"),
        ("private-ip-address", "10.42.2.4"),
        ("network-interface.addresses.private-ip-address", "10.42.2.*"),
        ("network-interface.network-interface-id", &interface),
        ("block-device-mapping.volume-id", &volume),
        ("reservation-id", &described.instance.reservation_id),
        ("iam-instance-profile.arn", "*instance-profile/machine"),
        ("tag:app", "*"),
        ("tag:odd", "*"),
        ("network-interface.availability-zone", "*b"),
        ("private-ip-address", "*.2.4"),
        ("availability-zone-id", "eut1-az2"),
        ("private-dns-name", "ip-10-42-2-4.eu-test-1.compute.internal"),
        ("network-interface.private-dns-name", "ip-10-42-2-4.*"),
        ("network-interface.attachment.instance-id", &id),
    ];
    for (name, value) in hits {
        assert_eq!(cloud.filtered(&[(name, &[value])]), Ok(one(&id)), "{name}={value}");
    }
    let both: BTreeSet<String> = [id.clone(), other].into();
    let shared: [(&str, &str); 9] = [
        ("instance-state-name", "running"),
        ("instance-state-code", "16"),
        ("architecture", "arm64"),
        ("instance-type", "m7g.*"),
        ("image-id", "ami-*"),
        ("vpc-id", "vpc-*"),
        ("owner-id", "123456789012"),
        ("launch-time", "2026-01-31T*"),
        ("block-device-mapping.device-name", "/dev/xvda"),
    ];
    for (name, value) in shared {
        let found: BTreeSet<String> =
            cloud.filtered(&[(name, &[value])]).expect("a known filter").into_iter().collect();
        assert_eq!(found, both, "{name}={value}");
    }
    for (name, value) in [("tag:app", "DB"), ("tag:App", "db"), ("tag:app", ""), ("instance-state-name", "run")] {
        assert_eq!(cloud.filtered(&[(name, &[value])]), Ok(vec![]), "{name}={value}");
    }
}

#[test]
fn a_launch_time_is_shown_in_whole_seconds_and_found_as_it_is_shown() {
    let mut cloud = Cloud::new();
    cloud.now = cloud.now.plus(Duration::from_millis(1_999));
    let id = cloud.launched();
    assert_eq!(cloud.describe(&id).instance.launch_time, START.plus(Duration::from_secs(1)));
    let table = [("2026-01-31T12:00:01.000Z", true), ("2026-01-31T12:00:01.999Z", false), ("*T12:00:01*", true)];
    for (value, found) in table {
        let expected = if found { one(&id) } else { vec![] };
        assert_eq!(cloud.filtered(&[("launch-time", &[value])]), Ok(expected), "{value}");
    }
}

#[test]
fn times_and_snapshots_are_found_as_they_are_shown() {
    let mut cloud = Cloud::new();
    cloud.now = cloud.now.plus(Duration::from_millis(1_999));
    let image_id =
        cloud.ec2.register_image(cloud.now, ImageSpec { name: "late".into(), ..cloud.ec2.account().images[0].clone() });
    let id = cloud.running();
    let volume_id = cloud.describe(&id).instance.block_devices[0].volume_id.clone();
    let volume = cloud.ec2.volume(&volume_id).expect("the root volume").clone();
    let image = cloud.ec2.image(&image_id).expect("the image").clone();
    let paged = |name: &str, value: &str| Paged { filters: filters(&[(name, &[value])]), ..Paged::default() };

    let attached = time(volume.attachment.as_ref().expect("attached").attach_time);
    for (name, value) in [
        ("create-time", time(volume.create_time)),
        ("attachment.attach-time", attached.clone()),
        ("snapshot-id", volume.snapshot_id()),
    ] {
        assert!(name == "snapshot-id" || value.ends_with(":01.000Z"), "{value}");
        let found = cloud.ok(&DescribeVolumes { paged: paged(name, &value), ..DescribeVolumes::default() });
        assert_eq!(found.items.len(), 1, "{name}={value}");
    }
    let found = cloud
        .ok(&DescribeNetworkInterfaces { paged: paged("attachment.attach-time", &attached), ..Default::default() });
    assert_eq!(found.items.len(), 1);
    for name in ["block-device-mapping.attach-time", "network-interface.attachment.attach-time"] {
        assert_eq!(cloud.filtered(&[(name, &[&attached])]), Ok(one(&id)), "{name}");
    }
    for (name, value) in
        [("creation-date", time(image.creation_date)), ("block-device-mapping.snapshot-id", image.snapshot_id())]
    {
        let found = cloud.ok(&DescribeImages { paged: paged(name, &value), ..DescribeImages::default() });
        assert_eq!(found.items.iter().map(|it| &it.image_id).collect::<Vec<_>>(), [&image_id], "{name}={value}");
    }
}

#[test]
fn two_filters_of_one_name_both_count() {
    let mut cloud = Cloud::new();
    let mut launch = |tags: &[(&str, &str)]| {
        let request = RunInstances { tag_specifications: vec![tagged("instance", tags)], ..cloud.request() };
        cloud.launch(&request).remove(0)
    };
    let both = launch(&[("a", "1"), ("b", "1")]);
    launch(&[("a", "1")]);
    launch(&[("b", "1")]);
    assert_eq!(cloud.filtered(&[("tag-key", &["a"]), ("tag-key", &["b"])]), Ok(one(&both)));
    assert_eq!(cloud.filtered(&[("tag-key", &["a", "b"])]).map(|it| it.len()), Ok(3));
}

#[test]
fn pagination_and_ids_exclude_each_other_and_pages_have_bounds() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    let ask = |instance_ids: Vec<String>, max_results, next_token: Option<&str>| DescribeInstances {
        instance_ids,
        paged: Paged { max_results, next_token: next_token.map(Into::into), filters: vec![] },
    };
    let table = [
        (ask(one(&id), Some(5), None), "InvalidParameterCombination"),
        (ask(vec![], Some(4), None), "InvalidParameterValue"),
        (ask(vec![], Some(-1), None), "InvalidParameterValue"),
        (ask(vec![], Some(1001), None), "InvalidParameterValue"),
        (ask(vec![], Some(5), None), "ok"),
        (ask(vec![], Some(1000), None), "ok"),
        (ask(vec![], None, Some("nonsense")), "InvalidParameterValue"),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
    let types = |max_results| DescribeInstanceTypes {
        paged: Paged { max_results: Some(max_results), ..Paged::default() },
        ..DescribeInstanceTypes::default()
    };
    assert_eq!(cloud.code(&types(100)), "ok");
    assert_eq!(cloud.code(&types(101)), "InvalidParameterValue");
}

#[test]
fn a_token_is_good_for_the_request_it_continues_only() {
    let mut cloud = Cloud::new();
    let many = RunInstances { min_count: 7, max_count: 7, ..cloud.request() };
    cloud.launch(&many);
    let paged = Paged { max_results: Some(5), ..Paged::default() };
    let token = cloud.ok(&DescribeInstances { paged: paged.clone(), ..DescribeInstances::default() }).next_token;
    let other_action =
        DescribeVolumes { paged: Paged { next_token: token.clone(), ..paged.clone() }, ..DescribeVolumes::default() };
    assert_eq!(cloud.code(&other_action), "InvalidParameterValue");
    let filters = filters(&[("instance-type", &["*"])]);
    let other_filters =
        DescribeInstances { paged: Paged { next_token: token, filters, ..paged }, ..DescribeInstances::default() };
    assert_eq!(cloud.code(&other_filters), "InvalidParameterValue");
}

#[test]
fn a_page_counts_instances_and_may_end_inside_a_reservation() {
    let mut cloud = Cloud::new();
    let many = RunInstances { min_count: 8, max_count: 8, ..cloud.request() };
    cloud.launch(&many);
    let mut paged = Paged { max_results: Some(5), ..Paged::default() };
    let first = cloud.ok(&DescribeInstances { paged: paged.clone(), ..DescribeInstances::default() });
    assert_eq!(first.items[0].instances.len(), 5);
    paged.next_token = first.next_token;
    let second = cloud.ok(&DescribeInstances { paged, ..DescribeInstances::default() });
    assert_eq!((second.items[0].instances.len(), second.next_token), (3, None));
    assert_eq!(first.items[0].reservation_id, second.items[0].reservation_id);
}

#[test]
fn what_is_not_there_is_named_by_its_own_code() {
    let mut cloud = Cloud::new();
    let table = [
        (
            cloud.code(&DescribeInstances { instance_ids: one("i-00000001"), ..Default::default() }),
            "InvalidInstanceID.NotFound",
        ),
        (
            cloud.code(&DescribeVolumes { volume_ids: one("vol-00000001"), ..Default::default() }),
            "InvalidVolume.NotFound",
        ),
        (
            cloud.code(&DescribeNetworkInterfaces { network_interface_ids: one("eni-00000001"), ..Default::default() }),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (
            cloud.code(&DescribeSecurityGroups { group_ids: one("sg-00000001"), ..Default::default() }),
            "InvalidGroup.NotFound",
        ),
        (cloud.code(&DescribeSecurityGroups { group_names: one("x"), ..Default::default() }), "InvalidGroup.NotFound"),
        (
            cloud.code(&DescribeSubnets { subnet_ids: one("subnet-00000001"), ..Default::default() }),
            "InvalidSubnetID.NotFound",
        ),
        (cloud.code(&DescribeVpcs { vpc_ids: one("vpc-00000001"), ..Default::default() }), "InvalidVpcID.NotFound"),
        (cloud.code(&DescribeImages { image_ids: one("ami-00000001"), ..Default::default() }), "InvalidAMIID.NotFound"),
        (cloud.code(&DescribeInstanceTypes { instance_types: one("x"), ..Default::default() }), "InvalidInstanceType"),
        (
            cloud.code(&DescribeAvailabilityZones { zone_names: one("x"), ..Default::default() }),
            "InvalidParameterValue",
        ),
    ];
    for (answer, expected) in table {
        assert_eq!(answer, expected);
    }
}

#[test]
fn images_belong_to_the_account() {
    let mut cloud = Cloud::new();
    let table: [(&[&str], usize); 5] =
        [(&[], 2), (&["self"], 2), (&["123456789012"], 2), (&["amazon"], 0), (&["210987654321", "self"], 2)];
    for (owners, expected) in table {
        let owners: Vec<String> = owners.iter().map(|it| (*it).into()).collect();
        let found = cloud.ok(&DescribeImages { owners: owners.clone(), ..DescribeImages::default() });
        assert_eq!(found.items.len(), expected, "{owners:?}");
    }
    let paged = Paged { filters: filters(&[("tag:os", &["arm"]), ("architecture", &["arm64"])]), ..Paged::default() };
    let found = cloud.ok(&DescribeImages { owners: one("self"), paged, ..DescribeImages::default() });
    assert_eq!(found.items.len(), 1);
}

#[test]
fn an_image_registered_twice_is_one_image() {
    let mut cloud = Cloud::new();
    let spec = cloud.ec2.account().images[0].clone();
    let known = cloud.image("arm");
    assert_eq!(cloud.ec2.register_image(cloud.now, spec.clone()), known);
    let other = ImageSpec { tags: Tags::new(), ..spec };
    assert_ne!(cloud.ec2.register_image(cloud.now, other), known);
}

#[test]
fn zones_and_subnets_are_those_of_the_account() {
    let mut cloud = Cloud::new();
    let zones = cloud.ok(&DescribeAvailabilityZones::default());
    let names: Vec<(&str, &str)> =
        zones.iter().map(|it| (it.zone.zone_name.as_str(), it.zone.zone_id.as_str())).collect();
    assert_eq!(names, [("eu-test-1a", "eut1-az1"), ("eu-test-1b", "eut1-az2"), ("eu-test-1c", "eut1-az3")]);
    for (region, zone_id) in [("us-east-1", "use1-az1"), ("ap-northeast-1", "apne1-az1"), ("eu-central-1", "euc1-az1")]
    {
        let ec2 = Ec2::new(Account::new(region), 1);
        assert_eq!(ec2.zone_id(&format!("{region}a")), zone_id);
    }
    let subnets = cloud.ok(&DescribeSubnets::default()).items;
    assert!(subnets.iter().all(|it| it.available_ip_address_count == 251), "256 less the five that EC2 keeps");
    cloud.launched();
    let first = DescribeSubnets { subnet_ids: vec![cloud.subnet(0)], ..DescribeSubnets::default() };
    assert_eq!(cloud.ok(&first).items[0].available_ip_address_count, 250);
}

#[test]
fn subnets_are_found_by_every_documented_name() {
    let mut cloud = Cloud::new();
    let second = cloud.subnet(1);
    let arn = format!("arn:aws:ec2:eu-test-1:123456789012:subnet/{second}");
    let table: [(&str, &str, usize); 12] = [
        ("subnet-arn", &arn, 1),
        ("subnet-id", &second, 1),
        ("cidr-block", "10.42.2.0/24", 1),
        ("cidrBlock", "10.42.2.0/24", 1),
        ("cidr", "10.42.2.0/24", 1),
        ("availability-zone", "eu-test-1b", 1),
        ("availabilityZone", "eu-test-1b", 1),
        ("availability-zone-id", "eut1-az2", 1),
        ("availabilityZoneId", "eut1-az2", 1),
        ("default-for-az", "true", 3),
        ("defaultForAz", "true", 3),
        ("vpc-id", "vpc-*", 3),
    ];
    for (name, value, expected) in table {
        let mut found = |value: &str| -> Vec<String> {
            let paged = Paged { filters: filters(&[(name, &[value])]), ..Paged::default() };
            let page = cloud.ok(&DescribeSubnets { paged, ..DescribeSubnets::default() });
            page.items.into_iter().map(|it| it.subnet.subnet_id).collect()
        };
        let hits = found(value);
        assert!(hits.len() == expected && hits.contains(&second), "{name}={value}: {hits:?}");
        assert_eq!(found("nothing-like-it"), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn status_checks_begin_with_initializing_and_list_running_machines_only() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let pending = cloud.launched();
    let ask = |include_all_instances| DescribeInstanceStatus { include_all_instances, ..Default::default() };
    let status = |cloud: &mut Cloud| {
        let found = cloud.ok(&ask(false)).items;
        assert!(found.iter().all(|it| it.instance_id == id));
        found[0].instance_status
    };
    assert_eq!(status(&mut cloud), CheckStatus::Initializing);
    let all = cloud.ok(&ask(true)).items;
    let of_pending = all.iter().find(|it| it.instance_id == pending).expect("asked for all");
    assert_eq!(of_pending.instance_status, CheckStatus::NotApplicable);
    cloud.ok(&TerminateInstances { instance_ids: one(&pending), ..TerminateInstances::default() });
    cloud.pass(120);
    assert_eq!(status(&mut cloud), CheckStatus::Ok);
    cloud.ec2.host_lost(cloud.now, &id);
    assert_eq!(status(&mut cloud), CheckStatus::Impaired);
    assert_eq!(cloud.state(&id), "running", "losing its host does not change an instance's state");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever comes and goes between two pages, what was there all the time is listed exactly once.
    #[test]
    fn pages_are_complete_and_do_not_overlap(count in 0u32..40, size in 5i64..20, coming in 0usize..4) {
        let mut cloud = Cloud::new();
        let mut expected = BTreeSet::new();
        if count > 0 {
            let many = RunInstances { min_count: count, max_count: count, ..cloud.request() };
            expected.extend(cloud.launch(&many));
        }
        let (mut paged, mut seen) = (Paged { max_results: Some(size), ..Paged::default() }, Vec::new());
        loop {
            let page = cloud.ok(&DescribeInstances { paged: paged.clone(), ..DescribeInstances::default() });
            let found: Vec<String> = page.items.into_iter().flat_map(|it| it.instances).map(|it| it.instance.instance_id).collect();
            prop_assert!(found.len() <= usize::try_from(size).expect("a small number"));
            seen.extend(found);
            for _ in 0..coming {
                cloud.launched();
            }
            paged.next_token = page.next_token;
            if paged.next_token.is_none() || seen.len() > 200 {
                break;
            }
        }
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), seen.len(), "an instance is on two pages");
        if seen.len() <= 200 {
            prop_assert!(expected.is_subset(&distinct), "an instance is on no page");
        }
    }

    /// A list by two filters is the intersection of the two lists.
    #[test]
    fn filters_and(tags in prop::collection::vec((0u8..3, 0u8..3), 1..12), a in 0u8..3, b in 0u8..3) {
        let mut cloud = Cloud::new();
        for (x, y) in &tags {
            let tags = tagged("instance", &[("x", &x.to_string()), ("y", &y.to_string())]);
            let request = RunInstances { tag_specifications: vec![tags], ..cloud.request() };
            cloud.launch(&request);
        }
        let (a, b) = (a.to_string(), b.to_string());
        let (a, b): (&[&str], &[&str]) = (&[&a], &[&b]);
        let set = |found: Result<Vec<String>, ApiError>| found.expect("known filters").into_iter().collect::<BTreeSet<_>>();
        let both = set(cloud.filtered(&[("tag:x", a), ("tag:y", b)]));
        let (left, right) = (set(cloud.filtered(&[("tag:x", a)])), set(cloud.filtered(&[("tag:y", b)])));
        prop_assert_eq!(both, &left & &right);
    }
}
