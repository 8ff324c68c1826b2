//! What is said of quotas, by what is declared and what Service Quotas tells.

use super::{
    super::{AGAIN, Level, of_defaults, of_sets, sections::tests},
    *,
};

fn known() -> Result<Vec<InstanceType>, CloudError> {
    let sizes = [("m7i.large", 2), ("r7i.4xlarge", 16), ("x2iedn.xlarge", 4)];
    let known = sizes.map(|(name, vcpus)| InstanceType {
        name: name.into(),
        architecture: "x86_64".into(),
        vcpus,
        memory_mib: 8_192,
    });
    Ok(known.into())
}

fn sections(sets: &[serde_json::Value]) -> Vec<Section> {
    let sets: Vec<_> = sets.iter().map(|spec| tests::set("orders", spec.clone())).collect();
    of_sets(&sets)
}

fn vcpus(wanted: u64) -> Need {
    Wanted { standard_vcpus: wanted, ..Wanted::default() }.needs().remove(0)
}

fn storage_of(volume_type: VolumeType, gib: u64) -> Need {
    Wanted { volumes_gib: [(volume_type, gib)].into(), ..Wanted::default() }.needs().remove(1)
}

#[test]
fn a_quota_is_compared_with_what_is_wanted_of_it() {
    let ask = |service: &str, code: &str, value: &str| {
        format!(
            "ask for as much, and for what else is there in the account: aws service-quotas request-service-quota-increase --region \
             eu-central-1 --service-code {service} --quota-code {code} --desired-value {value}"
        )
    };
    let gp3 = |gib| storage_of(VolumeType::Gp3, gib);
    for (need, quota, level, found, remedy) in [
        (vcpus(0), 5.0, Level::Ok, "5 vCPUs; nothing is declared that needs them", None),
        (
            vcpus(12),
            12.0,
            Level::Ok,
            "12 vCPUs are wanted, and the quota is 12 vCPUs; what else is there in the account counts too",
            None,
        ),
        (
            vcpus(12),
            11.0,
            Level::Fail,
            "12 vCPUs are wanted, and the quota is 11 vCPUs",
            Some(ask("ec2", "L-1216C47A", "12")),
        ),
        (gp3(0), 50.0, Level::Ok, "50 TiB; nothing is declared that needs them", None),
        (
            gp3(51_200),
            50.0,
            Level::Ok,
            "51200 GiB are wanted, and the quota is 50 TiB; what else is there in the account counts too",
            None,
        ),
        (
            gp3(51_201),
            50.0,
            Level::Fail,
            "51201 GiB are wanted, and the quota is 50 TiB",
            Some(ask("ebs", "L-7A658B76", "51")),
        ),
        (
            storage_of(VolumeType::Io2, 513),
            0.5,
            Level::Fail,
            "513 GiB are wanted, and the quota is 0.5 TiB",
            Some(ask("ebs", "L-09BD8365", "1")),
        ),
    ] {
        let finding = judge(&need, &Ok(quota), "eu-central-1");
        let expected = Finding { level, name: format!("quota of {}", need.of), found: found.to_owned(), remedy };
        assert_eq!(finding, expected);
    }
}

#[test]
fn a_quota_that_is_not_told_is_never_ok() {
    for (class, code, remedy) in [
        (
            Class::Denied,
            "AccessDeniedException",
            "allow these credentials servicequotas:GetServiceQuota: `drover iam-policy --for operator --with doctor` prints the policy",
        ),
        (Class::Denied, "UnrecognizedClientException", "AWS does not know these credentials here"),
        (Class::Denied, "Credentials", "give AWS credentials"),
        (Class::Transient, "Connection", "check the network, and the endpoint"),
        (Class::Transient, "ServiceException", "run `drover doctor` again"),
        (Class::Throttled, "TooManyRequestsException", "run `drover doctor` again"),
        (Class::NotFound, "NoSuchResourceException", "compare it with https://console.aws.amazon.com/servicequotas/"),
        (Class::Invalid, "IllegalArgumentException", "compare it with https://console.aws.amazon.com/servicequotas/"),
    ] {
        for wanted in [0, 12] {
            let error = CloudError::new(class, "GetServiceQuota", code, "as it is");
            let finding = judge(&vcpus(wanted), &Err(error), "eu-central-1");
            let found = format!("not known, and {wanted} vCPUs are wanted: GetServiceQuota failed: {code}: as it is");
            assert_eq!((finding.level, finding.found), (Level::Warn, found));
            assert!(finding.remedy.as_deref().is_some_and(|it| it.starts_with(remedy)), "{:?}", finding.remedy);
        }
    }
}

#[test]
fn what_sets_want_is_counted_by_family_and_by_type_of_volume() {
    let io2 = serde_json::json!({ "type": "io2", "iops": 10_000, "sizeGiB": 200 });
    let sections = sections(&[
        serde_json::json!({ "members": 3, "readReplicas": 1 }),
        serde_json::json!({ "members": 1, "machine": { "instanceTypes": ["t9.huge", "r7i.4xlarge", "m7i.large"] } }),
        serde_json::json!({ "members": 1, "machine": { "instanceTypes": ["x2iedn.xlarge"], "dataVolume": io2 } }),
    ]);
    let (wanted, not_compared) = wanted(&sections, &known());
    let expected = Wanted {
        machines: 6,
        uncounted: 0,
        standard_vcpus: 4 * 2 + 16,
        other_vcpus: [("x2iedn.xlarge".to_owned(), 4)].into(),
        volumes_gib: [(VolumeType::Gp3, 50), (VolumeType::Io2, 200)].into(),
    };
    assert_eq!((&wanted, not_compared), (&expected, vec![]));
    let needs: Vec<_> = wanted.needs().iter().map(|need| (need.of.clone(), need.code.code, need.wanted)).collect();
    let expected =
        [("Standard vCPUs", "L-1216C47A", 24), ("gp3 storage", "L-7A658B76", 50), ("io2 storage", "L-09BD8365", 200)];
    assert_eq!(needs, expected.map(|(of, code, wanted)| (of.to_owned(), code, wanted)));
    let finding = other_family("x2iedn.xlarge", 4);
    assert_eq!(
        (finding.level, finding.found.as_str()),
        (Level::Warn, "not compared: 4 vCPUs are wanted of a family that has a quota of its own")
    );
}

#[test]
fn machines_that_nobody_can_count_are_told() {
    let sections = sections(&[serde_json::json!({ "members": 3, "machine": { "instanceTypes": ["t9.huge"] } })]);
    let slow = CloudError::new(Class::Throttled, "DescribeInstanceTypes", "RequestLimitExceeded", "slow down");
    for (told, found, remedy) in [
        (
            known(),
            "EC2 knows none of their instance types",
            "set right what is said above of spec.machine.instanceTypes of shop/orders",
        ),
        (Err(slow), "DescribeInstanceTypes failed: RequestLimitExceeded: slow down", AGAIN),
    ] {
        let (wanted, not_compared) = wanted(&sections, &told);
        let found = format!("not compared for 3 machines: {found}");
        assert_eq!(not_compared, [Finding::warn("quota of vCPUs of shop/orders", found, remedy)]);
        // Nothing is said of a quota that they may well want something of.
        let needs: Vec<_> = wanted.needs().into_iter().map(|need| need.of).collect();
        assert_eq!((wanted.machines, needs), (3, vec!["gp3 storage".to_owned()]));
    }
}

#[test]
fn where_nothing_is_declared_the_quotas_of_the_defaults_are_asked_for() {
    let (wanted, not_compared) = wanted(&[of_defaults(&tests::defaults())], &Ok(vec![]));
    let needs: Vec<_> = wanted.needs().into_iter().map(|need| (need.of, need.wanted)).collect();
    assert_eq!(needs, [("Standard vCPUs".to_owned(), 0), ("gp3 storage".to_owned(), 0)]);
    assert_eq!(not_compared, []);
}

#[test]
fn standard_instances_are_told_by_the_letters_of_their_family() {
    for name in ["a1.large", "c7gn.large", "d3en.xlarge", "h1.2xlarge", "i4i.large", "im4gn.large", "is4gen.large"] {
        assert!(is_standard(name), "{name}");
    }
    for name in ["m7i.large", "r8g.large", "t4g.small", "z1d.large"] {
        assert!(is_standard(name), "{name}");
    }
    for name in
        ["hpc7a.96xlarge", "inf2.xlarge", "mac2.metal", "trn1.2xlarge", "x2idn.large", "u-6tb1.metal", "g5.large"]
    {
        assert!(!is_standard(name), "{name}");
    }
}

#[test]
fn the_operators_own_limit_is_judged_too() {
    assert_eq!(limit(4, 0), Finding::ok("limits.maxMachines", "4 machines; nothing is declared that needs them"));
    let fits =
        "4 machines are wanted, and the operator makes no more than 4; what else is there in the realm counts too";
    assert_eq!(limit(4, 4), Finding::ok("limits.maxMachines", fits));
    let found = "5 machines are wanted, and the operator makes no more than 4";
    let remedy = "set limits.maxMachines in the configuration to 5 or more, or declare fewer machines";
    assert_eq!(limit(4, 5), Finding::fail("limits.maxMachines", found, remedy));
}
