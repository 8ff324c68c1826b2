//! What can be made to go wrong, and what it does to whom.

use super::*;

#[test]
fn what_is_fresh_is_missing_from_lists_and_not_found_by_id() {
    let mut cloud = Cloud::new();
    cloud.ec2.faults().visibility_lag = Duration::from_secs(60);
    let request = RunInstances { client_token: Some("token".into()), ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    let volume = cloud.volume_request(0);
    let volume = cloud.ok(&volume).volume_id;
    let group = CreateSecurityGroup { group_name: "web".into(), description: "x".into(), ..Default::default() };
    let group = cloud.ok(&group).group_id;
    let answers = |cloud: &mut Cloud| {
        [
            cloud.code(&DescribeInstances { instance_ids: one(&id), ..Default::default() }),
            cloud.code(&StopInstances { instance_ids: one(&id), ..Default::default() }),
            cloud.code(&CreateTags { resources: one(&id), tags: tag_list(&[("a", "b")]) }),
            cloud.code(&DescribeInstanceAttribute { instance_id: id.clone(), attribute: "userData".into() }),
            cloud.code(&DescribeVolumes { volume_ids: one(&volume), ..Default::default() }),
            cloud.code(&DescribeSecurityGroups { group_ids: one(&group), ..Default::default() }),
        ]
    };
    cloud.pass(59);
    let hidden = [
        "InvalidInstanceID.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidVolume.NotFound",
        "InvalidGroup.NotFound",
    ];
    assert_eq!(answers(&mut cloud), hidden);
    assert_eq!(cloud.filtered(&[("client-token", &["token"])]), Ok(vec![]));
    let listed = |cloud: &mut Cloud| {
        (
            cloud.ok(&DescribeVolumes::default()).items.len(),
            cloud.ok(&DescribeNetworkInterfaces::default()).items.len(),
            cloud.ok(&DescribeInstanceStatus { include_all_instances: true, ..Default::default() }).items.len(),
        )
    };
    assert_eq!(listed(&mut cloud), (0, 0, 0));
    assert_eq!(cloud.launch(&request), one(&id), "the token knows what a list does not show yet");
    cloud.pass(1);
    assert_eq!(answers(&mut cloud), ["ok"; 6]);
    assert_eq!(listed(&mut cloud), (2, 1, 1));
}

#[test]
fn tag_lag_shows_each_change_late_and_loses_none() {
    let mut cloud = Cloud::new();
    cloud.ec2.faults().tag_lag = Duration::from_secs(60);
    let id = cloud.running();
    let shown = |cloud: &mut Cloud| {
        let described = cloud.describe(&id).instance.tags.get("a").cloned().unwrap_or_default();
        let by_filter = cloud.filtered(&[("tag:a", &[described.as_str()])]).expect("a known filter").len();
        assert_eq!(by_filter, usize::from(!described.is_empty()), "the filter sees what is shown");
        described
    };
    for value in ["1", "2"] {
        cloud.ok(&CreateTags { resources: one(&id), tags: tag_list(&[("a", value)]) });
        cloud.pass(30);
    }
    assert_eq!(cloud.ec2.instance(&id).and_then(|it| it.tags.get("a")).map(String::as_str), Some("2"));
    let mut seen = vec![shown(&mut cloud)];
    for _ in 0..2 {
        cloud.pass(29);
        seen.push(shown(&mut cloud));
        cloud.pass(1);
        seen.push(shown(&mut cloud));
    }
    // The first change is 60 s old when the second is 30.
    assert_eq!(seen, ["1", "1", "2", "2", "2"]);
    cloud.ok(&DeleteTags { resources: one(&id), tags: vec![] });
    assert_eq!(shown(&mut cloud), "2");
    cloud.pass(60);
    assert_eq!(shown(&mut cloud), "");
}

#[test]
fn capacity_is_missing_where_it_is_said_to_be_and_nowhere_else() {
    let lack = |zone: Option<&str>, instance_type: Option<&str>| NoCapacity {
        zone: zone.map(Into::into),
        instance_type: instance_type.map(Into::into),
    };
    let table = [
        (lack(None, None), [false, false, false]),
        (lack(Some("eu-test-1a"), None), [false, false, true]),
        (lack(None, Some("m7g.large")), [false, true, false]),
        (lack(Some("eu-test-1a"), Some("m7g.large")), [false, true, true]),
    ];
    for (lack, expected) in table {
        let mut cloud = Cloud::new();
        cloud.ec2.faults().no_capacity.push(lack.clone());
        let here = cloud.request();
        let other_type = RunInstances { instance_type: Some("m7g.xlarge".into()), ..here.clone() };
        let answers = [here, other_type, cloud.request_in(1)].map(|request| cloud.run(&request));
        for (answer, allowed) in answers.into_iter().zip(expected) {
            match answer {
                Ok(_) => assert!(allowed, "{lack:?}"),
                Err(error) => {
                    let got = (error.code.as_str(), error.http_status, allowed);
                    assert_eq!(got, ("InsufficientInstanceCapacity", 500, false), "{lack:?}");
                }
            }
        }
    }
}

#[test]
fn a_zone_that_is_out_fails_every_list_and_its_own_resources_only() {
    let mut cloud = Cloud::new();
    let (out, well) = (cloud.running_in(0), cloud.running_in(1));
    let volume = cloud.volume_in(0);
    cloud.ec2.faults().zone_outages.insert("eu-test-1a".into());
    let by_id = |id: &str| DescribeInstances { instance_ids: one(id), ..Default::default() };
    let (request, other) = (cloud.request_in(0), cloud.request_in(1));
    let new_volume = cloud.volume_request(0);
    let table = [
        (cloud.code(&DescribeInstances::default()), "Unavailable"),
        (cloud.filtered(&[("availability-zone", &["eu-test-1b"])]).expect_err("a list").code, "Unavailable"),
        (cloud.code(&DescribeVolumes::default()), "Unavailable"),
        (cloud.code(&DescribeInstanceStatus::default()), "Unavailable"),
        (cloud.code(&DescribeNetworkInterfaces::default()), "Unavailable"),
        (cloud.code(&by_id(&out)), "Unavailable"),
        (cloud.code(&by_id(&well)), "ok"),
        (
            cloud.code(&DescribeInstances { instance_ids: vec![well.clone(), out.clone()], ..Default::default() }),
            "Unavailable",
        ),
        (cloud.code(&DescribeVolumes { volume_ids: one(&volume), ..Default::default() }), "Unavailable"),
        (cloud.code(&request), "Unavailable"),
        (cloud.code(&other), "ok"),
        (cloud.code(&new_volume), "Unavailable"),
        (cloud.code(&TerminateInstances { instance_ids: one(&out), ..Default::default() }), "Unavailable"),
        (cloud.code(&CreateTags { resources: one(&out), tags: tag_list(&[("a", "b")]) }), "Unavailable"),
        (cloud.code(&CreateTags { resources: one(&well), tags: tag_list(&[("a", "b")]) }), "ok"),
    ];
    for (answer, expected) in table {
        assert_eq!(answer, expected);
    }
    let zones = cloud.ok(&DescribeAvailabilityZones::default());
    let states: Vec<&str> = zones.iter().map(|it| it.state).collect();
    assert_eq!(states, ["impaired", "available", "available"]);
    cloud.ec2.faults().zone_outages.clear();
    assert_eq!(cloud.state(&out), "running", "an outage of the control plane ends no machine");
    assert_eq!(cloud.code(&DescribeInstances::default()), "ok");
}

#[test]
fn a_full_subnet_has_no_address() {
    let mut cloud = Cloud::new();
    let full = cloud.subnet(0);
    cloud.ec2.faults().full_subnets.insert(full.clone());
    let (here, there) = (cloud.request_in(0), cloud.request_in(1));
    assert_eq!(cloud.code(&here), "InsufficientFreeAddressesInSubnet");
    assert_eq!(cloud.code(&there), "ok");
    let found = cloud.ok(&DescribeSubnets { subnet_ids: one(&full), ..Default::default() });
    assert_eq!(found.items[0].available_ip_address_count, 0);
}

#[test]
fn calls_beyond_the_bucket_are_throttled_before_anything_else() {
    let mut cloud = Cloud::new();
    cloud.ec2.faults().throttling = Throttling::Buckets;
    let request = RunInstances { image_id: None, ..cloud.request() };
    let answers: Vec<String> = (0..7).map(|_| cloud.code(&request)).collect();
    assert_eq!(answers[..5], ["MissingParameter"; 5], "a call that fails costs its token too");
    assert_eq!(answers[5..], ["RequestLimitExceeded"; 2]);
    assert_eq!(cloud.run(&request).expect_err("throttled").http_status, 503);
    cloud.pass(1);
    let answers: Vec<String> = (0..3).map(|_| cloud.code(&request)).collect();
    assert_eq!(answers, ["MissingParameter", "MissingParameter", "RequestLimitExceeded"]);
}

#[test]
fn an_unfiltered_list_has_the_smaller_bucket() {
    let mut cloud = Cloud::new();
    cloud.ec2.faults().throttling = Throttling::Buckets;
    let passing =
        |cloud: &mut Cloud, request: &DescribeInstances| (0..200).filter(|_| cloud.run(request).is_ok()).count();
    let paged = Paged { max_results: Some(1000), ..Paged::default() };
    assert_eq!(passing(&mut cloud, &DescribeInstances::default()), 50);
    assert_eq!(passing(&mut cloud, &DescribeInstances { paged, ..Default::default() }), 100);
}

#[test]
fn without_permission_nothing_is_read_or_changed() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    let machine = Caller::Machine(id.clone());
    let table = [
        (Caller::operator(), Credentials::Revoked, "AuthFailure", 401),
        (Caller::operator(), Credentials::Unauthorized, "UnauthorizedOperation", 403),
        (machine, Credentials::Valid, "UnauthorizedOperation", 403),
    ];
    for (caller, credentials, code, http_status) in table {
        cloud.ec2.faults().credentials = credentials;
        let (now, position) = (cloud.now, cloud.ec2.log().position());
        let read = cloud.ec2.call(now, &caller, Mode::Run, &DescribeInstances::default());
        let terminate = TerminateInstances { instance_ids: one(&id), ..Default::default() };
        let change = cloud.ec2.call(now, &caller, Mode::Run, &terminate);
        for error in [read.err(), change.err()] {
            let error = error.expect("no permission");
            assert_eq!((error.code.as_str(), error.http_status), (code, http_status));
        }
        assert!(cloud.ec2.log().since(position).all(|entry| !entry.changed_something()));
        assert_eq!(cloud.ec2.log().since(position).count(), 2);
    }
    cloud.ec2.faults().credentials = Credentials::Valid;
    assert_eq!(cloud.state(&id), "pending");
}

#[test]
fn the_log_tells_who_did_what_when_and_how_it_ended() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let position = cloud.ec2.log().position();
    cloud.ok(&DescribeInstances::default());
    cloud.code(&StartInstances { instance_ids: one("i-00000001") });
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..Default::default() });
    let seen: Vec<(&str, bool, Option<&str>)> = cloud
        .ec2
        .log()
        .since(position)
        .inspect(|entry| assert_eq!((entry.at, &entry.caller), (cloud.now, &Caller::operator())))
        .map(|entry| (entry.action.as_str(), entry.mutating, entry.error.as_deref()))
        .collect();
    let expected = [
        ("DescribeInstances", false, None),
        ("StartInstances", true, Some("InvalidInstanceID.NotFound")),
        ("TerminateInstances", true, None),
    ];
    assert_eq!(seen, expected);
    assert_eq!(cloud.ec2.log().since(position).filter(|entry| entry.changed_something()).count(), 1);
}
