//! EBS: what a volume may be, where it may go, what becomes of it.

use super::*;

type Change = fn(&mut CreateVolume);

#[test]
fn a_volume_is_bounded_as_the_api_reference_bounds_it() {
    let table: [(&str, &str, Change); 36] = [
        ("default type", "ok", |it| it.volume_type = None),
        ("no zone", "MissingParameter", |it| it.availability_zone = None),
        ("unknown zone", "InvalidZone.NotFound", |it| it.availability_zone = Some("eu-test-1z".into())),
        ("no size", "MissingParameter", |it| it.size = None),
        ("unknown type", "UnknownVolumeType", |it| it.volume_type = Some("gp9".into())),
        ("gp3 0", "InvalidParameterValue", |it| it.size = Some(0)),
        ("gp3 65536", "ok", |it| it.size = Some(65_536)),
        ("gp3 65537", "InvalidParameterValue", |it| it.size = Some(65_537)),
        ("gp2 16385", "InvalidParameterValue", |it| sized(it, "gp2", 16_385)),
        ("io2 3", "InvalidParameterValue", |it| sized(it, "io2", 3)),
        ("st1 124", "InvalidParameterValue", |it| sized(it, "st1", 124)),
        ("standard 1025", "InvalidParameterValue", |it| sized(it, "standard", 1_025)),
        ("gp3 iops 3000", "ok", |it| it.iops = Some(3_000)),
        ("gp3 iops 2999", "InvalidParameterValue", |it| it.iops = Some(2_999)),
        ("gp3 iops 80001", "InvalidParameterValue", |it| it.iops = Some(80_001)),
        ("gp2 iops", "InvalidParameterCombination", |it| {
            sized(it, "gp2", 10);
            it.iops = Some(3_000);
        }),
        ("io1 without iops", "MissingParameter", |it| sized(it, "io1", 10)),
        ("gp3 iops 5000 on 10 GiB", "ok", |it| it.iops = Some(5_000)),
        ("gp3 iops 5001 on 10 GiB", "InvalidParameterValue", |it| it.iops = Some(5_001)),
        ("gp3 of 1 GiB", "ok", |it| it.size = Some(1)),
        ("io1 iops 500 on 10 GiB", "ok", |it| provisioned(it, "io1", 500)),
        ("io1 iops 501 on 10 GiB", "InvalidParameterValue", |it| provisioned(it, "io1", 501)),
        ("io2 iops 10000 on 10 GiB", "ok", |it| provisioned(it, "io2", 10_000)),
        ("io2 iops 10001 on 10 GiB", "InvalidParameterValue", |it| provisioned(it, "io2", 10_001)),
        ("gp3 throughput 750 of 3000 iops", "ok", |it| it.throughput = Some(750)),
        ("gp3 throughput 751 of 3000 iops", "InvalidParameterValue", |it| it.throughput = Some(751)),
        ("gp3 throughput 2000", "ok", |it| {
            sized(it, "gp3", 16);
            it.iops = Some(8_000);
            it.throughput = Some(2_000);
        }),
        ("gp3 throughput 124", "InvalidParameterValue", |it| it.throughput = Some(124)),
        ("gp3 throughput 2001", "InvalidParameterValue", |it| it.throughput = Some(2_001)),
        ("gp2 throughput", "InvalidParameterCombination", |it| {
            sized(it, "gp2", 10);
            it.throughput = Some(125);
        }),
        ("key without encryption", "InvalidParameterDependency", |it| it.kms_key_id = Some("key".into())),
        ("key with encryption", "ok", |it| {
            it.kms_key_id = Some("key".into());
            it.encrypted = Some(true);
        }),
        ("snapshot", "InvalidSnapshot.NotFound", |it| it.snapshot_id = Some("snap-00000001".into())),
        ("multi-attach", "UnsupportedOperation", |it| it.multi_attach_enabled = Some(true)),
        ("long token", "InvalidParameterValue", |it| it.client_token = Some("x".repeat(65))),
        ("instance tags", "InvalidParameterValue", |it| {
            it.tag_specifications = vec![tagged("instance", &[("a", "b")])];
        }),
    ];
    for (what, expected, change) in table {
        let mut cloud = Cloud::new();
        let mut request = cloud.volume_request(0);
        change(&mut request);
        assert_eq!(cloud.code(&request), expected, "{what}");
        assert_eq!(cloud.ec2.volumes.len(), usize::from(expected == "ok"), "{what}");
    }
}

#[test]
fn a_volume_is_made_once_per_token() {
    let mut cloud = Cloud::new();
    let request = CreateVolume { client_token: Some("token".into()), ..cloud.volume_request(0) };
    let first = cloud.ok(&request).volume_id;
    cloud.pass(3600);
    assert_eq!(cloud.ok(&request).volume_id, first);
    let bigger = CreateVolume { size: Some(11), ..request.clone() };
    assert_eq!(cloud.code(&bigger), "IdempotentParameterMismatch");
    let elsewhere = CreateVolume { availability_zone: Some("eu-test-1b".into()), ..request.clone() };
    assert_eq!(cloud.code(&elsewhere), "IdempotentParameterMismatch", "these tokens are not zonal");
    cloud.ok(&DeleteVolume { volume_id: first });
    assert_eq!(cloud.code(&request), "IdempotentParameterMismatch", "the token of a deleted volume stays burnt");
    assert_eq!(cloud.ec2.volumes.len(), 1);
}

#[test]
fn a_volume_takes_its_time() {
    let mut cloud = Cloud::new();
    let instance = cloud.running();
    let request = cloud.volume_request(0);
    let id = cloud.ok(&request).volume_id;
    let mut seen = vec![cloud.volume(&id)];
    let mut step = |cloud: &mut Cloud, seconds| {
        cloud.pass(seconds);
        seen.push(cloud.volume(&id));
    };
    step(&mut cloud, 3);
    attach(&mut cloud, &id, &instance, "/dev/sdf");
    step(&mut cloud, 0);
    step(&mut cloud, 2);
    detach(&mut cloud, &id, true);
    step(&mut cloud, 0);
    step(&mut cloud, 2);
    cloud.ok(&DeleteVolume { volume_id: id.clone() });
    step(&mut cloud, 0);
    step(&mut cloud, 3);
    let expected = [
        "creating",
        "available",
        "in-use attaching",
        "in-use attached",
        "in-use detaching",
        "available",
        "deleting",
        "none",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn attaching_is_refused_where_it_cannot_work() {
    let mut cloud = Cloud::new();
    let here = cloud.running_in(0);
    let there = cloud.running_in(1);
    let free = cloud.volume_in(0);
    let used = cloud.volume_in(0);
    attach(&mut cloud, &used, &here, "/dev/sdf");
    let pending = cloud.launched();
    let creating = cloud.volume_request(0);
    let creating = cloud.ok(&creating).volume_id;
    let table = [
        (free.as_str(), there.as_str(), "/dev/sdf", "InvalidVolume.ZoneMismatch"),
        (&used, &here, "/dev/sdg", "VolumeInUse"),
        (&creating, &here, "/dev/sdg", "IncorrectState"),
        (&free, &pending, "/dev/sdf", "IncorrectState"),
        (&free, &here, "/dev/sdf", "InvalidParameterValue"),
        (&free, &here, "/dev/xvda", "InvalidParameterValue"),
        (&free, &here, "", "MissingParameter"),
        ("vol-00000001", &here, "/dev/sdg", "InvalidVolume.NotFound"),
        ("volume", &here, "/dev/sdg", "InvalidVolumeID.Malformed"),
        (&free, "i-00000001", "/dev/sdg", "InvalidInstanceID.NotFound"),
        (&free, &here, "/dev/sdg", "ok"),
    ];
    for (volume, instance, device, expected) in table {
        let request = AttachVolume { volume_id: volume.into(), instance_id: instance.into(), device: device.into() };
        assert_eq!(cloud.code(&request), expected, "{volume} to {instance} as {device:?}");
    }
}

#[test]
fn detaching_from_a_running_machine_hangs_until_it_stops_or_is_forced() {
    for end in ["stop", "terminate", "force"] {
        let mut cloud = Cloud::new();
        let instance = cloud.running();
        let id = cloud.volume_in(0);
        attach(&mut cloud, &id, &instance, "/dev/sdf");
        cloud.pass(10);
        detach(&mut cloud, &id, false);
        cloud.pass(3600);
        assert_eq!(cloud.volume(&id), "in-use detaching");
        let instance_ids = one(&instance);
        match end {
            "stop" => drop(cloud.ok(&StopInstances { instance_ids, ..StopInstances::default() })),
            "force" => detach(&mut cloud, &id, true),
            _ => drop(cloud.ok(&TerminateInstances { instance_ids, ..TerminateInstances::default() })),
        }
        cloud.pass(60);
        assert_eq!(cloud.volume(&id), "available", "{end}");
    }
}

#[test]
fn an_attached_volume_outlives_its_instance_unless_told_otherwise() {
    for (delete, expected) in [(false, "available"), (true, "none")] {
        let mut cloud = Cloud::new();
        let instance = cloud.running();
        let id = cloud.volume_in(0);
        attach(&mut cloud, &id, &instance, "/dev/sdf");
        if delete {
            let changes = vec![InstanceChange::DeleteOnTermination(vec![("/dev/sdf".into(), true)])];
            cloud.ok(&ModifyInstanceAttribute { instance_id: instance.clone(), changes });
        }
        cloud.ok(&TerminateInstances { instance_ids: one(&instance), ..TerminateInstances::default() });
        cloud.pass(29);
        assert!(cloud.volume(&id).starts_with("in-use"), "it is in use until the machine has ended");
        cloud.pass(31);
        assert_eq!(cloud.volume(&id), expected);
    }
}

#[test]
fn detaching_and_deleting_need_the_right_state() {
    let mut cloud = Cloud::new();
    let instance = cloud.running();
    let id = cloud.volume_in(0);
    assert_eq!(cloud.code(&DetachVolume { volume_id: id.clone(), ..DetachVolume::default() }), "IncorrectState");
    attach(&mut cloud, &id, &instance, "/dev/sdf");
    assert_eq!(cloud.code(&DeleteVolume { volume_id: id.clone() }), "VolumeInUse");
    let other =
        DetachVolume { volume_id: id.clone(), instance_id: Some("i-00000001".into()), ..DetachVolume::default() };
    assert_eq!(cloud.code(&other), "InvalidAttachment.NotFound");
    let other = DetachVolume { volume_id: id, device: Some("/dev/sdz".into()), ..DetachVolume::default() };
    assert_eq!(cloud.code(&other), "InvalidAttachment.NotFound");
    let root = cloud.describe(&instance).block_device_mappings[0].0.volume_id.clone();
    let root = DetachVolume { volume_id: root, ..DetachVolume::default() };
    assert_eq!(cloud.code(&root), "OperationNotPermitted");
    let fresh = cloud.volume_request(0);
    let fresh = cloud.ok(&fresh).volume_id;
    assert_eq!(cloud.code(&DeleteVolume { volume_id: fresh }), "IncorrectState", "it is still being created");
    assert_eq!(cloud.code(&DeleteVolume { volume_id: "vol-00000001".into() }), "InvalidVolume.NotFound");
}

#[test]
fn a_volume_can_be_given_to_a_stopped_machine() {
    let mut cloud = Cloud::new();
    let instance = cloud.running();
    let id = cloud.volume_in(0);
    cloud.ok(&StopInstances { instance_ids: one(&instance), ..StopInstances::default() });
    cloud.pass(60);
    attach(&mut cloud, &id, &instance, "/dev/sdf");
    cloud.pass(10);
    assert_eq!(cloud.volume(&id), "in-use attached");
    detach(&mut cloud, &id, false);
    cloud.pass(10);
    assert_eq!(cloud.volume(&id), "available");
    assert_eq!(cloud.describe(&instance).block_device_mappings.len(), 1, "the root volume only");
}

fn sized(request: &mut CreateVolume, volume_type: &str, size: u32) {
    request.volume_type = Some(volume_type.into());
    request.size = Some(size);
}

fn provisioned(request: &mut CreateVolume, volume_type: &str, iops: u32) {
    request.volume_type = Some(volume_type.into());
    request.iops = Some(iops);
}

fn attach(cloud: &mut Cloud, volume: &str, instance: &str, device: &str) {
    let request = AttachVolume { volume_id: volume.into(), instance_id: instance.into(), device: device.into() };
    assert_eq!(cloud.ok(&request).attachment.state, AttachmentState::Attaching);
}

fn detach(cloud: &mut Cloud, volume: &str, force: bool) {
    cloud.ok(&DetachVolume { volume_id: volume.into(), force, ..DetachVolume::default() });
}
