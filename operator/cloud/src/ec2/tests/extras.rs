//! What a launch can ask for that has one true answer here: key pairs, tenancy, credits, addresses of its own.

use super::*;

/// What one row changes in a good request.
type Change = fn(&mut RunInstances);

#[test]
fn what_is_not_to_be_had_here_is_refused_with_its_own_code_and_the_usual_is_taken() {
    let burstable = |it: &mut RunInstances| it.instance_type = Some("t4g.small".into());
    let table: [(&str, &str, Change); 9] = [
        ("a key pair, of which there is none", "InvalidKeyPair.NotFound", |it| it.key_name = Some("mine".into())),
        ("a host of its own", "UnsupportedOperation", |it| it.tenancy = Some("host".into())),
        ("no tenancy", "InvalidParameterValue", |it| it.tenancy = Some("shared".into())),
        ("credits where none are earned", "InstanceCreditSpecification.NotSupported", |it| {
            it.cpu_credits = Some("standard".into());
        }),
        ("unheard-of credits", "InvalidParameterValue", |it| it.cpu_credits = Some("many".into())),
        ("two primary addresses", "InvalidParameterCombination", |it| {
            it.network_interfaces = vec![with_addresses(it, &[("10.42.1.9", true), ("10.42.1.10", true)])];
            it.subnet_id = None;
        }),
        ("standard credits", "ok", |it| it.cpu_credits = Some("standard".into())),
        ("unlimited credits", "ok", |it| it.cpu_credits = Some("unlimited".into())),
        ("the default tenancy", "ok", |it| it.tenancy = Some("default".into())),
    ];
    for (what, expected, change) in table {
        let mut cloud = Cloud::new();
        let mut request = cloud.request();
        if what.ends_with(" credits") {
            burstable(&mut request);
        }
        change(&mut request);
        assert_eq!(cloud.code(&request), expected, "{what}");
        assert_eq!(cloud.ec2.instances.is_empty(), expected != "ok", "{what}");
    }
}

/// The interface that a launch in the same subnet would have, with these addresses; `true` for the primary one.
fn with_addresses(request: &RunInstances, addresses: &[(&str, bool)]) -> InterfaceSpecification {
    let address = |(address, primary): &(&str, bool)| AddressSpecification {
        private_ip_address: (*address).into(),
        primary: *primary,
    };
    InterfaceSpecification {
        subnet_id: request.subnet_id.clone(),
        private_ip_addresses: addresses.iter().map(address).collect(),
        ..InterfaceSpecification::default()
    }
}

#[test]
fn a_launch_gets_the_primary_and_secondary_addresses_that_it_asks_for() {
    let mut cloud = Cloud::new();
    let taken = cloud.launched();
    let taken = cloud.ec2.instance(&taken).expect("the launch").private_ip_address.clone();
    assert_eq!(taken, "10.42.1.4");
    let many: Vec<String> = (100..110).map(|n| format!("10.42.1.{n}")).collect();
    let many: Vec<(&str, bool)> = many.iter().map(|it| (it.as_str(), false)).collect();
    type Expected<'a> = Result<&'a [&'a str], &'a str>;
    let table: [(&[(&str, bool)], Expected<'_>); 7] = [
        (&[("10.42.1.20", false), ("10.42.1.21", true)], Ok(&["10.42.1.21", "10.42.1.20"])),
        (&[("10.42.1.30", true)], Ok(&["10.42.1.30"])),
        // The first free one is asked for as a secondary address, so the primary is another.
        (&[("10.42.1.5", false)], Ok(&["10.42.1.6", "10.42.1.5"])),
        (&[("10.42.1.40", false), ("10.42.1.40", true)], Err("InvalidParameterValue")),
        (&[(&taken, false)], Err("InvalidIPAddress.InUse")),
        (&[("10.42.2.9", false)], Err("InvalidParameterValue")),
        (&many, Err("PrivateIpAddressLimitExceeded")),
    ];
    for (addresses, expected) in table {
        let mut request = cloud.request();
        request.network_interfaces = vec![with_addresses(&request, addresses)];
        request.subnet_id = None;
        match (cloud.run(&request), expected) {
            (Ok(launched), Ok(expected)) => {
                let interface = &launched.instances[0].network_interfaces[0].interface;
                assert_eq!(interface.private_ip_addresses, expected);
            }
            (Err(error), Err(expected)) => assert_eq!(error.code, expected, "{addresses:?}"),
            (got, expected) => panic!("{addresses:?}: {got:?} and not {expected:?}"),
        }
        request.max_count = 2;
        assert!(expected.is_err() || cloud.code(&request) == "InvalidParameterCombination", "{addresses:?}");
    }
}
