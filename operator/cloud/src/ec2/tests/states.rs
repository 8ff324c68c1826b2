//! Instance states: which actions they allow, how long they take, what protects an instance, what is left of it.

use super::*;

#[test]
fn states_take_their_time() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    let mut seen = vec![cloud.state(&id)];
    let mut step = |cloud: &mut Cloud, seconds| {
        cloud.pass(seconds);
        seen.push(cloud.state(&id));
    };
    step(&mut cloud, 14);
    step(&mut cloud, 1);
    stop(&mut cloud, &id, false, false);
    step(&mut cloud, 29);
    step(&mut cloud, 1);
    cloud.ok(&StartInstances { instance_ids: one(&id) });
    step(&mut cloud, 14);
    step(&mut cloud, 1);
    terminate(&mut cloud, &id);
    step(&mut cloud, 29);
    step(&mut cloud, 1);
    let expected =
        ["pending", "pending", "running", "stopping", "stopped", "pending", "running", "shutting-down", "terminated"];
    assert_eq!(seen, expected);
}

#[test]
fn an_action_in_the_wrong_state_is_refused() {
    let start = |id: &str| StartInstances { instance_ids: one(id) };
    let reboot = |id: &str| RebootInstances { instance_ids: one(id) };
    let table = [
        ("pending", ["ok", "IncorrectInstanceState", "IncorrectInstanceState", "ok"]),
        ("running", ["ok", "ok", "ok", "ok"]),
        ("stopping", ["IncorrectInstanceState", "ok", "IncorrectInstanceState", "ok"]),
        ("stopped", ["ok", "ok", "IncorrectInstanceState", "ok"]),
        ("shutting-down", ["IncorrectInstanceState", "IncorrectInstanceState", "IncorrectInstanceState", "ok"]),
        ("terminated", ["IncorrectInstanceState", "IncorrectInstanceState", "ok", "ok"]),
    ];
    for (state, expected) in table {
        let answers = [0, 1, 2, 3].map(|action| {
            let mut cloud = Cloud::new();
            let id = reach(&mut cloud, state);
            match action {
                0 => cloud.code(&start(&id)),
                1 => cloud.code(&StopInstances { instance_ids: one(&id), ..StopInstances::default() }),
                2 => cloud.code(&reboot(&id)),
                _ => cloud.code(&TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() }),
            }
        });
        assert_eq!(answers, expected, "{state}");
    }
}

#[test]
fn repeating_stop_start_and_terminate_changes_nothing() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let started = cloud.ok(&StartInstances { instance_ids: one(&id) });
    assert_eq!(states(&started), [("running", "running")]);
    assert_eq!(states(&stop(&mut cloud, &id, false, false)), [("running", "stopping")]);
    assert_eq!(states(&stop(&mut cloud, &id, false, false)), [("stopping", "stopping")]);
    cloud.pass(30);
    assert_eq!(states(&stop(&mut cloud, &id, false, false)), [("stopped", "stopped")]);
    assert_eq!(states(&terminate(&mut cloud, &id)), [("stopped", "shutting-down")]);
    cloud.pass(30);
    assert_eq!(states(&terminate(&mut cloud, &id)), [("terminated", "terminated")]);
}

#[test]
fn one_bad_id_stops_everything() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let table = [("i-00000000000000001", "InvalidInstanceID.NotFound"), ("machine-1", "InvalidInstanceID.Malformed")];
    for (bad, expected) in table {
        let instance_ids = vec![id.clone(), bad.into()];
        let stop = StopInstances { instance_ids: instance_ids.clone(), ..StopInstances::default() };
        assert_eq!(cloud.code(&stop), expected);
        assert_eq!(cloud.code(&StartInstances { instance_ids: instance_ids.clone() }), expected);
        assert_eq!(cloud.code(&RebootInstances { instance_ids: instance_ids.clone() }), expected);
        let terminate = TerminateInstances { instance_ids, ..TerminateInstances::default() };
        assert_eq!(cloud.code(&terminate), expected);
        assert_eq!(cloud.state(&id), "running");
    }
    assert_eq!(cloud.code(&StartInstances::default()), "MissingParameter");
}

#[test]
fn a_protected_instance_keeps_its_zone_and_no_other() {
    for (flag, verb) in [("termination", "terminated"), ("stop", "stopped")] {
        let mut cloud = Cloud::new();
        let ids: Vec<String> = [0, 0, 1].into_iter().map(|zone| cloud.running_in(zone)).collect();
        let change = match flag {
            "stop" => InstanceChange::DisableApiStop(true),
            _ => InstanceChange::DisableApiTermination(true),
        };
        cloud.ok(&ModifyInstanceAttribute { instance_id: ids[0].clone(), changes: vec![change] });
        let mut order = |instance_ids: Vec<String>| {
            let code = match flag {
                "stop" => cloud.code(&StopInstances { instance_ids, ..StopInstances::default() }),
                _ => cloud.code(&TerminateInstances { instance_ids, ..TerminateInstances::default() }),
            };
            assert_eq!(code, "OperationNotPermitted");
            cloud.ec2.log().entries().last().map(LogEntry::changed_something)
        };
        assert_eq!(order(ids[..2].to_vec()), Some(false), "only the zone that is kept");
        assert_eq!(order(ids.clone()), Some(true), "the error comes after a change");
        cloud.pass(60);
        let states: Vec<&str> = ids.iter().map(|id| cloud.state(id)).collect();
        assert_eq!(states, ["running", "running", verb], "{flag} protection");
    }
}

#[test]
fn stop_protection_keeps_from_terminating_too_and_termination_protection_not_from_stopping() {
    let mut cloud = Cloud::new();
    let request = RunInstances { disable_api_stop: Some(true), ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    let order = TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() };
    let refusal = cloud.run(&order).expect_err("protected");
    assert_eq!(refusal.code, "OperationNotPermitted");
    assert!(refusal.message.contains("'disableApiStop'"), "{}", refusal.message);
    let change = InstanceChange::DisableApiStop(false);
    cloud.ok(&ModifyInstanceAttribute { instance_id: id.clone(), changes: vec![change] });
    terminate(&mut cloud, &id);
    let request = RunInstances { disable_api_termination: Some(true), ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    cloud.pass(60);
    stop(&mut cloud, &id, false, false);
    cloud.pass(60);
    let again = TerminateInstances { instance_ids: one(&id), ..TerminateInstances::default() };
    assert_eq!(cloud.code(&again), "OperationNotPermitted", "a stopped instance is protected too");
}

#[test]
fn hibernation_is_refused() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let request = StopInstances { instance_ids: one(&id), hibernate: true, ..StopInstances::default() };
    assert_eq!(cloud.code(&request), "UnsupportedHibernationConfiguration");
    assert_eq!(cloud.state(&id), "running");
}

#[test]
fn force_alone_is_graceful_first_and_skipping_the_shutdown_is_not() {
    let table = [
        ((false, false), PowerOff::Graceful, 30),
        ((true, false), PowerOff::GracefulThenForced, 30),
        ((true, true), PowerOff::AtOnce, 5),
        ((false, true), PowerOff::AtOnce, 5),
    ];
    for ((force, skip), power_off, seconds) in table {
        let mut cloud = Cloud::new();
        let id = cloud.running();
        stop(&mut cloud, &id, force, skip);
        let ordered = cloud.pass(0);
        assert!(ordered.contains(&HostEvent::Stop { instance_id: id.clone(), power_off }), "{ordered:?}");
        cloud.pass(seconds - 1);
        assert_eq!(cloud.state(&id), "stopping");
        cloud.pass(1);
        assert_eq!(cloud.state(&id), "stopped");
    }
}

#[test]
fn a_stop_under_way_can_be_made_harder() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    stop(&mut cloud, &id, false, false);
    cloud.pass(1);
    stop(&mut cloud, &id, true, true);
    cloud.pass(5);
    assert_eq!(cloud.state(&id), "stopped");
    cloud.ok(&StartInstances { instance_ids: one(&id) });
    cloud.pass(60);
    assert_eq!(cloud.state(&id), "running", "the timer of the first stop does nothing to the next life");
}

#[test]
fn a_terminated_instance_is_listed_for_an_hour_and_loses_its_tags_earlier() {
    let mut cloud = Cloud::new();
    let request = RunInstances { tag_specifications: vec![tagged("instance", &[("a", "b")])], ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    terminate(&mut cloud, &id);
    cloud.pass(30);
    let gone = cloud.describe(&id);
    assert_eq!((gone.private_ip_address(), gone.groups().len(), gone.block_device_mappings.len()), (None, 0, 0));
    let by_tag = |cloud: &mut Cloud| cloud.filtered(&[("tag:a", &["b"])]).expect("a known filter").len();
    assert_eq!(by_tag(&mut cloud), 1);
    cloud.pass(600);
    assert_eq!(by_tag(&mut cloud), 0);
    assert_eq!(cloud.filtered(&[]).expect("no filter"), one(&id));
    cloud.pass(2999);
    assert_eq!(cloud.filtered(&[]).expect("no filter"), one(&id));
    cloud.pass(1);
    assert_eq!(cloud.filtered(&[]).expect("no filter"), Vec::<String>::new());
    let ask = DescribeInstances { instance_ids: one(&id), paged: Paged::default() };
    assert_eq!(cloud.code(&ask), "InvalidInstanceID.NotFound");
}

#[test]
fn a_stopped_instance_keeps_its_address_and_a_terminated_one_frees_it() {
    let mut cloud = Cloud::new();
    let request = RunInstances { private_ip_address: Some("10.42.1.20".into()), ..cloud.request() };
    let id = cloud.launch(&request).remove(0);
    cloud.pass(60);
    stop(&mut cloud, &id, false, false);
    cloud.pass(60);
    assert_eq!(cloud.describe(&id).private_ip_address(), Some("10.42.1.20"));
    assert_eq!(cloud.code(&request), "InvalidIPAddress.InUse");
    terminate(&mut cloud, &id);
    cloud.pass(60);
    assert_eq!(cloud.code(&request), "ok");
}

#[test]
fn starting_needs_capacity_and_a_root_volume() {
    let mut cloud = Cloud::new();
    let id = reach(&mut cloud, "stopped");
    let start = StartInstances { instance_ids: one(&id) };
    cloud.ec2.faults().no_capacity.push(NoCapacity::default());
    assert_eq!(cloud.code(&start), "InsufficientInstanceCapacity");
    cloud.ec2.faults().no_capacity.clear();
    let root = cloud.describe(&id).block_device_mappings[0].0.volume_id.clone();
    cloud.ok(&DetachVolume { volume_id: root, ..DetachVolume::default() });
    cloud.pass(10);
    assert_eq!(cloud.code(&start), "IncorrectInstanceState");
}

#[test]
fn an_attribute_reads_as_it_was_written() {
    let mut cloud = Cloud::new();
    let id = reach(&mut cloud, "stopped");
    let groups = vec![cloud.group("machines")];
    let table = [
        (
            "disableApiTermination",
            InstanceChange::DisableApiTermination(true),
            AttributeValue::DisableApiTermination(true),
        ),
        ("disableApiStop", InstanceChange::DisableApiStop(true), AttributeValue::DisableApiStop(true)),
        ("userData", InstanceChange::UserData(b"hi".to_vec()), AttributeValue::UserData(Some(b"hi".to_vec()))),
        (
            "instanceType",
            InstanceChange::InstanceType("m7g.xlarge".into()),
            AttributeValue::InstanceType("m7g.xlarge".into()),
        ),
        ("ebsOptimized", InstanceChange::EbsOptimized(true), AttributeValue::EbsOptimized(true)),
        ("sourceDestCheck", InstanceChange::SourceDestCheck(false), AttributeValue::SourceDestCheck(false)),
        (
            "instanceInitiatedShutdownBehavior",
            InstanceChange::InstanceInitiatedShutdownBehavior(ShutdownBehavior::Terminate),
            AttributeValue::InstanceInitiatedShutdownBehavior(ShutdownBehavior::Terminate),
        ),
        (
            "groupSet",
            InstanceChange::Groups(groups.clone()),
            AttributeValue::GroupSet(cloud.ec2.group_identifiers(&groups)),
        ),
    ];
    for (attribute, change, expected) in table {
        cloud.ok(&ModifyInstanceAttribute { instance_id: id.clone(), changes: vec![change] });
        let read = DescribeInstanceAttribute { instance_id: id.clone(), attribute: attribute.into() };
        assert_eq!(cloud.ok(&read).value, expected, "{attribute}");
    }
}

#[test]
fn attributes_are_changed_one_at_a_time_and_some_only_while_stopped() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    let modify = |changes: Vec<InstanceChange>| ModifyInstanceAttribute { instance_id: id.clone(), changes };
    let protect = InstanceChange::DisableApiStop(true);
    let table = [
        (modify(vec![]), "InvalidParameterCombination"),
        (modify(vec![protect.clone(), protect]), "InvalidParameterCombination"),
        (modify(vec![InstanceChange::UserData(vec![])]), "IncorrectInstanceState"),
        (modify(vec![InstanceChange::InstanceType("m7g.xlarge".into())]), "IncorrectInstanceState"),
        (modify(vec![InstanceChange::EbsOptimized(true)]), "IncorrectInstanceState"),
        (modify(vec![InstanceChange::Groups(vec![])]), "InvalidParameterValue"),
        (
            modify(vec![InstanceChange::DeleteOnTermination(vec![("/dev/sdz".into(), true)])]),
            "InvalidInstanceAttributeValue",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(cloud.code(&request), expected, "{request:?}");
    }
    let unknown = DescribeInstanceAttribute { instance_id: id, attribute: "colour".into() };
    assert_eq!(cloud.code(&unknown), "InvalidParameterValue");
}

fn stop(cloud: &mut Cloud, id: &str, force: bool, skip_os_shutdown: bool) -> Vec<InstanceStateChange> {
    cloud.ok(&StopInstances { instance_ids: one(id), force, skip_os_shutdown, hibernate: false })
}

fn terminate(cloud: &mut Cloud, id: &str) -> Vec<InstanceStateChange> {
    cloud.ok(&TerminateInstances { instance_ids: one(id), ..TerminateInstances::default() })
}

fn states(changes: &[InstanceStateChange]) -> Vec<(&'static str, &'static str)> {
    changes.iter().map(|it| (it.previous_state.as_str(), it.current_state.as_str())).collect()
}

fn reach(cloud: &mut Cloud, state: &str) -> String {
    let id = cloud.launched();
    if state != "pending" {
        cloud.pass(60);
    }
    if state.starts_with("stopp") {
        stop(cloud, &id, false, false);
    }
    if matches!(state, "shutting-down" | "terminated") {
        terminate(cloud, &id);
    }
    if matches!(state, "stopped" | "terminated") {
        cloud.pass(60);
    }
    assert_eq!(cloud.state(&id), state);
    id
}
