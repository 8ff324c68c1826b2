//! The border to a host that reports: orders, reports, shutdowns from inside, losses, and restarts of either side.

use super::*;

fn reported() -> Cloud {
    Cloud::with(|it| it.hosting = Hosting::Reported)
}

#[test]
fn nothing_moves_before_the_host_reports() {
    let mut cloud = reported();
    let id = cloud.launched();
    assert!(cloud.pass(3600).contains(&HostEvent::Boot { instance_id: id.clone() }));
    assert_eq!(cloud.state(&id), "pending");
    cloud.ec2.instance_booted(cloud.now, &id);
    assert_eq!(cloud.state(&id), "running");
    cloud.ok(&StopInstances { instance_ids: one(&id), force: true, skip_os_shutdown: true, hibernate: false });
    let stop = HostEvent::Stop { instance_id: id.clone(), power_off: PowerOff::AtOnce };
    assert!(cloud.pass(3600).contains(&stop));
    assert_eq!(cloud.state(&id), "stopping");
    cloud.ec2.instance_powered_off(cloud.now, &id);
    assert_eq!(cloud.state(&id), "stopped");
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..Default::default() });
    cloud.ec2.instance_powered_off(cloud.now, &id);
    assert_eq!(cloud.state(&id), "terminated");
}

#[test]
fn a_shutdown_from_inside_does_what_the_instance_says_whatever_protects_it() {
    for (behavior, expected) in [(ShutdownBehavior::Stop, "stopped"), (ShutdownBehavior::Terminate, "terminated")] {
        let mut cloud = Cloud::new();
        let request = RunInstances {
            instance_initiated_shutdown_behavior: Some(behavior),
            disable_api_termination: Some(true),
            disable_api_stop: Some(true),
            ..cloud.request()
        };
        let id = cloud.launch(&request).remove(0);
        cloud.pass(60);
        cloud.ec2.instance_powered_off(cloud.now, &id);
        assert_eq!(cloud.state(&id), expected);
        let reason = cloud.describe(&id).instance.state_reason.expect("a reason");
        assert_eq!(reason.code, "Client.InstanceInitiatedShutdown");
    }
}

#[test]
fn a_reboot_is_an_order_and_not_a_state() {
    let mut cloud = Cloud::new();
    let id = cloud.running();
    cloud.pass(0);
    cloud.ok(&RebootInstances { instance_ids: one(&id) });
    assert_eq!(cloud.pass(0), [HostEvent::Reboot { instance_id: id.clone() }]);
    assert_eq!(cloud.state(&id), "running");
}

#[test]
fn a_reboot_of_a_terminated_instance_orders_nothing_and_keeps_no_other_from_it() {
    let mut cloud = Cloud::new();
    let (id, gone) = (cloud.running(), cloud.running());
    cloud.ok(&TerminateInstances { instance_ids: one(&gone), ..TerminateInstances::default() });
    cloud.pass(60);
    cloud.ok(&RebootInstances { instance_ids: one(&gone) });
    assert_eq!(cloud.pass(0), []);
    cloud.ok(&RebootInstances { instance_ids: vec![gone.clone(), id.clone()] });
    assert_eq!(cloud.pass(0), [HostEvent::Reboot { instance_id: id }]);
    assert_eq!(cloud.state(&gone), "terminated");
}

#[test]
fn a_machine_that_cannot_be_made_is_terminated_with_the_reason_and_leaves_nothing() {
    let mut cloud = reported();
    let id = cloud.launched();
    let reason = StateReason { code: "Server.InternalError".into(), message: "no image".into() };
    cloud.ec2.instance_failed(cloud.now, &id, reason.clone());
    assert_eq!(cloud.state(&id), "terminated");
    assert_eq!(cloud.describe(&id).instance.state_reason, Some(reason.clone()));
    assert!(cloud.ec2.interfaces.is_empty());
    assert!(cloud.pass(0).iter().any(|event| matches!(event, HostEvent::DeleteVolume { .. })));
    let well = cloud.launched();
    cloud.ec2.instance_booted(cloud.now, &well);
    cloud.ec2.instance_failed(cloud.now, &well, reason);
    assert_eq!(cloud.state(&well), "running", "what booted did not fail to be made");
}

#[test]
fn a_late_report_does_nothing() {
    let mut cloud = reported();
    let id = cloud.launched();
    cloud.ok(&TerminateInstances { instance_ids: one(&id), ..Default::default() });
    cloud.ec2.instance_booted(cloud.now, &id);
    assert_eq!(cloud.state(&id), "shutting-down");
    cloud.ec2.instance_powered_off(cloud.now, &id);
    cloud.ec2.instance_powered_off(cloud.now, &id);
    cloud.ec2.instance_booted(cloud.now, &id);
    assert_eq!(cloud.state(&id), "terminated");
    cloud.ec2.instance_booted(cloud.now, "i-00000001");
    cloud.ec2.volume_attached(cloud.now, "vol-00000001");
}

#[test]
fn a_lost_host_is_revived_elsewhere_where_recovery_is_on() {
    let recovering = || Cloud::with(|it| it.timings.auto_recovery = Some(Duration::from_secs(300)));
    for (auto_recovery, revived) in [(AutoRecovery::Default, true), (AutoRecovery::Disabled, false)] {
        let mut cloud = recovering();
        let request = RunInstances { auto_recovery: Some(auto_recovery), ..cloud.request() };
        let id = cloud.launch(&request).remove(0);
        cloud.pass(60);
        cloud.ec2.host_lost(cloud.now, &id);
        let events = cloud.pass(300);
        assert_eq!(events.contains(&HostEvent::Boot { instance_id: id.clone() }), revived, "{auto_recovery}");
        assert_eq!(cloud.state(&id), "running");
    }
    let mut cloud = recovering();
    let id = cloud.running();
    cloud.ec2.host_lost(cloud.now, &id);
    cloud.ok(&StopInstances { instance_ids: one(&id), ..Default::default() });
    cloud.pass(60);
    let events = cloud.pass(600);
    assert_eq!((cloud.state(&id), events), ("stopped", vec![]), "what was stopped meanwhile is not revived");
}

#[test]
fn volumes_move_when_the_host_says_so() {
    let mut cloud = reported();
    let id = cloud.launched();
    cloud.ec2.instance_booted(cloud.now, &id);
    let request = cloud.volume_request(0);
    let volume = cloud.ok(&request).volume_id;
    cloud.pass(60);
    assert_eq!(cloud.volume(&volume), "creating");
    cloud.ec2.volume_created(cloud.now, &volume);
    let attach = AttachVolume { volume_id: volume.clone(), instance_id: id.clone(), device: "/dev/sdf".into() };
    cloud.ok(&attach);
    cloud.pass(60);
    assert_eq!(cloud.volume(&volume), "in-use attaching");
    cloud.ec2.volume_attached(cloud.now, &volume);
    cloud.ok(&DetachVolume { volume_id: volume.clone(), ..Default::default() });
    let order = HostEvent::DetachVolume { volume_id: volume.clone(), instance_id: id, forced: false };
    assert_eq!(cloud.pass(60), [order]);
    cloud.ec2.volume_detached(cloud.now, &volume);
    cloud.ok(&DeleteVolume { volume_id: volume.clone() });
    assert_eq!(cloud.volume(&volume), "deleting");
    cloud.ec2.volume_deleted(cloud.now, &volume);
    assert_eq!(cloud.volume(&volume), "none");
}

#[test]
fn a_host_that_starts_anew_gets_every_open_order_again() {
    let mut cloud = reported();
    let ids: Vec<String> = (0..4).map(|_| cloud.launched()).collect();
    for id in &ids[1..] {
        cloud.ec2.instance_booted(cloud.now, id);
    }
    cloud.ok(&StopInstances { instance_ids: one(&ids[1]), ..Default::default() });
    cloud.ok(&TerminateInstances { instance_ids: one(&ids[2]), skip_os_shutdown: true, ..Default::default() });
    let request = cloud.volume_request(0);
    let volumes: Vec<String> = (0..2).map(|_| cloud.ok(&request).volume_id).collect();
    cloud.ec2.volume_created(cloud.now, &volumes[1]);
    let device = "/dev/sdf".to_owned();
    cloud.ok(&AttachVolume { volume_id: volumes[1].clone(), instance_id: ids[3].clone(), device: device.clone() });
    let handed_out = cloud.pass(0);

    let text = serde_json::to_string(&cloud.ec2).expect("the model is serialisable");
    let kept: Ec2 = serde_json::from_str(&text).expect("and comes back");
    let mut open = kept.unfinished();
    let mut expected = vec![
        HostEvent::Boot { instance_id: ids[0].clone() },
        HostEvent::Stop { instance_id: ids[1].clone(), power_off: PowerOff::Graceful },
        HostEvent::Terminate { instance_id: ids[2].clone(), power_off: PowerOff::AtOnce },
        HostEvent::CreateVolume { volume_id: volumes[0].clone() },
        HostEvent::AttachVolume { volume_id: volumes[1].clone(), instance_id: ids[3].clone(), device },
    ];
    assert!(expected.iter().all(|event| handed_out.contains(event)), "they had been handed out before");
    let text = |events: &mut Vec<HostEvent>| {
        events.sort_by_key(|event| format!("{event:?}"));
        format!("{events:?}")
    };
    assert_eq!(text(&mut open), text(&mut expected));
}

#[test]
fn a_model_that_was_kept_goes_on_as_if_nothing_had_happened() {
    let mut cloud = Cloud::new();
    let request = RunInstances { client_token: Some("token".into()), ..cloud.request() };
    let id = cloud.launch(&request);
    let text = serde_json::to_string(&cloud.ec2).expect("the model is serialisable");
    let mut kept = Cloud { ec2: serde_json::from_str(&text).expect("and comes back"), now: cloud.now };
    assert_eq!(kept.launch(&request), id, "it knows its tokens");
    let (next, next_kept) = (cloud.launched(), kept.launched());
    assert_eq!(next, next_kept, "and which id comes next");
    for cloud in [&mut cloud, &mut kept] {
        cloud.pass(15);
        assert_eq!(cloud.state(&id[0]), "running", "and what is due");
    }
}

#[test]
fn what_is_due_happens_at_its_own_time() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    assert_eq!(cloud.ec2.next_due(), Some(START.plus(Duration::from_secs(15))));
    cloud.pass(1000);
    let since = cloud.ec2.instance(&id).and_then(|it| it.running_since);
    assert_eq!(since, Some(START.plus(Duration::from_secs(15))), "however late the model is asked");
    cloud.ec2.settle(START);
    assert_eq!(cloud.ec2.now, cloud.now, "time does not go back");
}
