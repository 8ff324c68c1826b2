//! Addresses that move, groups that are replaced, groups that are made and deleted.

use super::*;

#[test]
fn a_secondary_address_is_assigned_and_taken_away() {
    let mut cloud = Cloud::new();
    let (_, eni) = machine(&mut cloud, 0);
    let reply = cloud.ok(&by_count(&eni, 2));
    assert_eq!(reply.assigned, ["10.42.1.5", "10.42.1.6"]);
    assert_eq!(addresses(&cloud, &eni), ["10.42.1.4", "10.42.1.5", "10.42.1.6"]);
    cloud.ok(&unassign(&eni, "10.42.1.5"));
    assert_eq!(addresses(&cloud, &eni), ["10.42.1.4", "10.42.1.6"]);
    assert_eq!(cloud.code(&unassign(&eni, "10.42.1.5")), "InvalidParameterValue");
    assert_eq!(cloud.code(&unassign(&eni, "10.42.1.4")), "InvalidParameterValue", "the primary address stays");
}

#[test]
fn a_reassigned_address_really_moves_after_a_while() {
    let mut cloud = Cloud::new();
    let (_, from) = machine(&mut cloud, 0);
    let (_, to) = machine(&mut cloud, 0);
    cloud.ok(&assign(&from, "10.42.1.50", false));
    cloud.pass(0);
    cloud.ok(&assign(&to, "10.42.1.50", true));
    assert!(addresses(&cloud, &from).contains(&"10.42.1.50".to_owned()), "remapping is asynchronous");
    let events = cloud.pass(2);
    assert_eq!(addresses(&cloud, &from), ["10.42.1.4"]);
    assert_eq!(addresses(&cloud, &to), ["10.42.1.5", "10.42.1.50"]);
    let moved = HostEvent::AddressMoved { address: "10.42.1.50".into(), from: Some(from), to: Some(to.clone()) };
    assert_eq!(events, [moved]);
    assert_eq!(cloud.code(&assign(&to, "10.42.1.50", false)), "ok", "what one has already can be asked for again");
}

#[test]
fn an_address_that_cannot_be_assigned_is_refused_and_nothing_moves() {
    let mut cloud = Cloud::new();
    let (_, holder) = machine(&mut cloud, 0);
    let (_, other) = machine(&mut cloud, 0);
    cloud.ok(&assign(&holder, "10.42.1.50", false));
    let both = AssignPrivateIpAddresses {
        private_ip_addresses: vec!["10.42.1.60".into(), "10.42.1.50".into()],
        ..assign(&other, "", false)
    };
    let neither = AssignPrivateIpAddresses { private_ip_addresses: vec![], ..both.clone() };
    let twice_asked =
        AssignPrivateIpAddresses { secondary_private_ip_address_count: Some(1), ..assign(&other, "10.42.1.60", false) };
    let table = [
        (assign(&other, "10.42.1.50", false), "InvalidParameterValue"),
        (both, "InvalidParameterValue"),
        (assign(&other, "10.42.1.4", true), "InvalidParameterValue"),
        (assign(&other, "10.42.2.50", false), "InvalidParameterValue"),
        (assign(&other, "10.42.1.255", false), "InvalidParameterValue"),
        (assign(&other, "nonsense", false), "InvalidParameterValue"),
        (neither, "MissingParameter"),
        (twice_asked, "InvalidParameterCombination"),
        // m7g.large: ten addresses on one interface, the primary included.
        (by_count(&other, 10), "PrivateIpAddressLimitExceeded"),
        (assign("eni-00000001", "10.42.1.60", false), "InvalidNetworkInterfaceID.NotFound"),
        (assign("eni-1", "10.42.1.60", false), "InvalidNetworkInterfaceId.Malformed"),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
    cloud.pass(60);
    assert_eq!(addresses(&cloud, &other), ["10.42.1.5"]);
    assert_eq!(cloud.code(&by_count(&other, 9)), "ok");
}

#[test]
fn groups_are_replaced_and_never_joined() {
    let mut cloud = Cloud::new();
    let (id, eni) = machine(&mut cloud, 0);
    let (default, machines) = (cloud.group("default"), cloud.group("machines"));
    let by_interface = |groups: Vec<String>| ModifyNetworkInterfaceAttribute {
        network_interface_id: eni.clone(),
        changes: vec![InterfaceChange::Groups(groups)],
    };
    let shown = |cloud: &mut Cloud| {
        let it = cloud.describe(&id);
        let on_interface = it.network_interfaces[0].interface.groups.clone();
        let on_instance: Vec<String> = it.groups().iter().map(|group| group.group_id.clone()).collect();
        assert_eq!(on_interface, on_instance);
        on_instance
    };
    assert_eq!(shown(&mut cloud), one(&default));
    cloud.pass(0);
    cloud.ok(&by_interface(one(&machines)));
    assert_eq!(shown(&mut cloud), one(&machines));
    let replaced = HostEvent::GroupsReplaced { network_interface_id: eni.clone(), groups: one(&machines) };
    assert_eq!(cloud.pass(0), [replaced]);
    let changes = vec![InstanceChange::Groups(one(&default))];
    cloud.ok(&ModifyInstanceAttribute { instance_id: id.clone(), changes });
    assert_eq!(shown(&mut cloud), one(&default));

    let six: Vec<String> = (0..6).map(|n| cloud.ok(&group_named(&format!("g{n}"))).group_id).collect();
    let table = [
        (by_interface(vec![]), "InvalidParameterValue"),
        (by_interface(one("sg-00000001")), "InvalidGroup.NotFound"),
        (by_interface(vec![default.clone(), default.clone()]), "InvalidParameterValue"),
        (by_interface(six.clone()), "SecurityGroupsPerInterfaceLimitExceeded"),
        (by_interface(six[..5].to_vec()), "ok"),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
    assert_eq!(shown(&mut cloud), six[..5]);
}

#[test]
fn an_interface_is_changed_one_attribute_at_a_time() {
    let mut cloud = Cloud::new();
    let (id, eni) = machine(&mut cloud, 0);
    let attachment_id = cloud.ec2.interface(&eni).and_then(|it| it.attachment.clone()).expect("attached").attachment_id;
    let modify = |changes| ModifyNetworkInterfaceAttribute { network_interface_id: eni.clone(), changes };
    let keep = |attachment_id: &str| InterfaceChange::DeleteOnTermination {
        attachment_id: attachment_id.into(),
        delete: false,
    };
    let text = InterfaceChange::Description("text".into());
    let table = [
        (modify(vec![]), "InvalidParameterCombination"),
        (modify(vec![text.clone(), InterfaceChange::SourceDestCheck(false)]), "InvalidParameterCombination"),
        (modify(vec![keep("eni-attach-1")]), "InvalidAttachmentID.NotFound"),
        (modify(vec![text]), "ok"),
        (modify(vec![InterfaceChange::SourceDestCheck(false)]), "ok"),
        (modify(vec![keep(&attachment_id)]), "ok"),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() });
    cloud.pass(60);
    let left = cloud.ec2.interface(&eni).expect("kept, as it was told");
    assert_eq!((left.description.as_str(), left.source_dest_check, &left.attachment), ("text", false, &None));
}

#[test]
fn a_group_has_one_name_in_its_vpc() {
    let mut cloud = Cloud::new();
    assert_eq!(cloud.code(&group_named("web")), "ok");
    let long = "x".repeat(256);
    let table = [
        (group_named("web"), "InvalidGroup.Duplicate"),
        (group_named("default"), "InvalidGroup.Reserved"),
        (group_named("sg-web"), "InvalidParameterValue"),
        (group_named(""), "MissingParameter"),
        (group_named(&long), "InvalidParameterValue"),
        (group_named("wéb"), "InvalidParameterValue"),
        (CreateSecurityGroup { description: String::new(), ..group_named("a") }, "MissingParameter"),
        (CreateSecurityGroup { vpc_id: Some("vpc-00000001".into()), ..group_named("a") }, "InvalidVpcID.NotFound"),
        (
            CreateSecurityGroup { tag_specifications: vec![tagged("instance", &[("a", "b")])], ..group_named("a") },
            "InvalidParameterValue",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
}

#[test]
fn a_group_in_use_is_not_deleted() {
    let mut cloud = Cloud::new();
    let group = cloud.ok(&group_named("web")).group_id;
    let request = RunInstances { security_group_ids: one(&group), ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    let delete = DeleteSecurityGroup { group_id: Some(group), group_name: None };
    assert_eq!(cloud.code(&delete), "DependencyViolation");
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() });
    assert_eq!(cloud.code(&delete), "DependencyViolation", "until the interface is gone");
    cloud.pass(60);
    assert_eq!(cloud.code(&delete), "ok");
    assert_eq!(cloud.code(&delete), "InvalidGroup.NotFound");
    let by_name = |name: &str| DeleteSecurityGroup { group_id: None, group_name: Some(name.into()) };
    assert_eq!(cloud.code(&by_name("default")), "CannotDelete");
    assert_eq!(cloud.code(&by_name("machines")), "ok");
    assert_eq!(cloud.code(&by_name("nobody")), "InvalidGroup.NotFound");
    assert_eq!(cloud.code(&DeleteSecurityGroup::default()), "MissingParameter");
}

#[test]
fn a_group_that_another_groups_rule_names_is_not_deleted() {
    let mut cloud = Cloud::new();
    let (named, other) = (cloud.ok(&group_named("a")).group_id, cloud.ok(&group_named("b")).group_id);
    let rule = IpPermission { ip_protocol: "-1".into(), ports: None, cidrs: vec![], groups: one(&named) };
    cloud.ec2.groups.get_mut(&other).expect("just made").ingress.push(rule);
    let delete = |id: &str| DeleteSecurityGroup { group_id: Some(id.into()), group_name: None };
    assert_eq!(cloud.code(&delete(&named)), "DependencyViolation");
    assert_eq!(cloud.code(&delete(&other)), "ok");
    assert_eq!(cloud.code(&delete(&named)), "ok");
}

#[test]
fn groups_keep_apart_what_no_rule_lets_through() {
    let mut cloud = Cloud::new();
    let (default, machines) = (cloud.group("default"), cloud.group("machines"));
    let closed = cloud.ok(&group_named("closed")).group_id;
    let mut launch = |groups: &[&String]| {
        let security_group_ids = groups.iter().map(|id| (*id).clone()).collect();
        let request = RunInstances { security_group_ids, ..cloud.request() };
        cloud.launch(&request).remove(0)
    };
    let (a, b, c) = (launch(&[&machines]), launch(&[&machines, &closed]), launch(&[&default, &closed]));
    let pair = |from: &String, to: &String| [(from.clone(), to.clone()), (to.clone(), from.clone())];
    let pairs = |pairs: &[[(String, String); 2]]| pairs.iter().flatten().cloned().collect();
    // A group without rules lets in nobody, its own members neither.
    assert_eq!(cloud.ec2.kept_apart(), pairs(&[pair(&a, &c), pair(&b, &c)]));
    let groups = InstanceChange::Groups(vec![default, machines]);
    cloud.ok(&ModifyInstanceAttribute { instance_id: c.clone(), changes: vec![groups] });
    assert_eq!(cloud.ec2.kept_apart(), pairs(&[]));
    cloud.ok(&ModifyInstanceAttribute { instance_id: b.clone(), changes: vec![InstanceChange::Groups(one(&closed))] });
    assert_eq!(cloud.ec2.kept_apart(), pairs(&[pair(&a, &b), pair(&b, &c)]));
    cloud.ok(&TerminateInstances { instance_ids: one(&b), ..TerminateInstances::default() });
    cloud.pass(60);
    assert_eq!(cloud.ec2.kept_apart(), pairs(&[]), "what is terminated has no interface");
}

fn machine(cloud: &mut Cloud, zone: usize) -> (String, String) {
    let id = cloud.running_in(zone);
    let eni = cloud.describe(&id).network_interfaces[0].interface.network_interface_id.clone();
    (id, eni)
}

fn addresses(cloud: &Cloud, eni: &str) -> Vec<String> {
    cloud.ec2.interface(eni).expect("an interface of this id").private_ip_addresses.clone()
}

fn assign(eni: &str, address: &str, allow_reassignment: bool) -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses {
        network_interface_id: eni.into(),
        private_ip_addresses: one(address),
        secondary_private_ip_address_count: None,
        allow_reassignment,
    }
}

fn by_count(eni: &str, count: u32) -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses {
        private_ip_addresses: vec![],
        secondary_private_ip_address_count: Some(count),
        ..assign(eni, "", false)
    }
}

fn unassign(eni: &str, address: &str) -> UnassignPrivateIpAddresses {
    UnassignPrivateIpAddresses { network_interface_id: eni.into(), private_ip_addresses: one(address) }
}

fn group_named(name: &str) -> CreateSecurityGroup {
    CreateSecurityGroup { group_name: name.into(), description: "for tests".into(), ..CreateSecurityGroup::default() }
}
