//! Random walks: whatever is asked in whatever order, the account stays in one piece.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step; the numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Launch(usize),
    Start(usize),
    Stop(usize, bool),
    Terminate(usize),
    Shutdown(usize),
    CreateVolume(usize),
    DeleteVolume(usize),
    Attach(usize, usize),
    Detach(usize, bool),
    Assign(usize),
    Move(usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2usize).prop_map(Step::Launch),
        (0..8usize).prop_map(Step::Start),
        (0..8usize, any::<bool>()).prop_map(|(n, hard)| Step::Stop(n, hard)),
        (0..8usize).prop_map(Step::Terminate),
        (0..8usize).prop_map(Step::Shutdown),
        (0..2usize).prop_map(Step::CreateVolume),
        (0..8usize).prop_map(Step::DeleteVolume),
        (0..8usize, 0..8usize).prop_map(|(volume, instance)| Step::Attach(volume, instance)),
        (0..8usize, any::<bool>()).prop_map(|(n, force)| Step::Detach(n, force)),
        (0..8usize).prop_map(Step::Assign),
        (0..8usize, 0..8usize).prop_map(|(from, to)| Step::Move(from, to)),
        prop_oneof![1..10u64, 20..60u64, Just(4_000)].prop_map(Step::Pass),
    ]
}

/// The nth key, going round; an id of nothing where there is none.
fn nth<T>(all: &BTreeMap<String, T>, n: usize, prefix: &str) -> String {
    all.keys().nth(n % all.len().max(1)).cloned().unwrap_or_else(|| format!("{prefix}-00000001"))
}

fn take(cloud: &mut Cloud, step: Step) {
    let instance = |cloud: &Cloud, n| nth(&cloud.ec2.instances, n, "i");
    let volume = |cloud: &Cloud, n| nth(&cloud.ec2.volumes, n, "vol");
    let interface = |cloud: &Cloud, n| nth(&cloud.ec2.interfaces, n, "eni");
    match step {
        Step::Launch(zone) => drop(cloud.code(&cloud.request_in(zone))),
        Step::Start(n) => drop(cloud.code(&StartInstances { instance_ids: one(&instance(cloud, n)) })),
        Step::Stop(n, hard) => {
            let instance_ids = one(&instance(cloud, n));
            cloud.code(&StopInstances { instance_ids, force: hard, skip_os_shutdown: hard, hibernate: false });
        }
        Step::Terminate(n) => {
            cloud.code(&TerminateInstances { instance_ids: one(&instance(cloud, n)), ..Default::default() });
        }
        Step::Shutdown(n) => cloud.ec2.instance_powered_off(cloud.now, &instance(cloud, n)),
        Step::CreateVolume(zone) => drop(cloud.code(&cloud.volume_request(zone))),
        Step::DeleteVolume(n) => drop(cloud.code(&DeleteVolume { volume_id: volume(cloud, n) })),
        Step::Attach(volume_n, instance_n) => {
            let (volume_id, instance_id) = (volume(cloud, volume_n), instance(cloud, instance_n));
            let device = format!("/dev/sd{}", ['f', 'g', 'h'][volume_n % 3]);
            cloud.code(&AttachVolume { volume_id, instance_id, device });
        }
        Step::Detach(n, force) => {
            cloud.code(&DetachVolume { volume_id: volume(cloud, n), force, ..Default::default() });
        }
        Step::Assign(n) => {
            let request = AssignPrivateIpAddresses {
                network_interface_id: interface(cloud, n),
                secondary_private_ip_address_count: Some(1),
                ..Default::default()
            };
            cloud.code(&request);
        }
        Step::Move(from, to) => {
            let from = cloud.ec2.interface(&interface(cloud, from)).cloned();
            let address = from.and_then(|it| it.private_ip_addresses.last().cloned()).unwrap_or_default();
            let request = AssignPrivateIpAddresses {
                network_interface_id: interface(cloud, to),
                private_ip_addresses: vec![address],
                allow_reassignment: true,
                ..Default::default()
            };
            cloud.code(&request);
        }
        Step::Pass(seconds) => drop(cloud.pass(seconds)),
    }
}

fn check(ec2: &Ec2) -> Result<(), TestCaseError> {
    let addresses: Vec<&String> = ec2.interfaces.values().flat_map(|it| &it.private_ip_addresses).collect();
    prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "an address is held twice");
    for it in ec2.instances.values() {
        let alive = it.state != InstanceStateName::Terminated;
        let interface = ec2.interfaces.get(&it.network_interface_id);
        prop_assert_eq!(interface.is_some(), alive, "an interface lives as long as its instance");
        prop_assert!(alive || it.block_devices.is_empty(), "a terminated instance has volumes");
        if it.state == InstanceStateName::Running {
            prop_assert!(it.running_since.is_some() && it.power_off.is_none());
        }
        let names: BTreeSet<&String> = it.block_devices.iter().map(|device| &device.device_name).collect();
        prop_assert_eq!(names.len(), it.block_devices.len(), "a device name is used twice");
        for device in &it.block_devices {
            let volume = ec2.volumes.get(&device.volume_id);
            let at = volume.and_then(|volume| volume.attachment.as_ref());
            prop_assert!(at.is_some_and(|at| at.instance_id == it.instance_id && at.device == device.device_name));
            prop_assert_eq!(volume.map(|volume| &volume.zone), Some(&it.zone));
        }
    }
    for volume in ec2.volumes.values() {
        prop_assert_eq!(volume.attachment.is_some(), volume.state == VolumeState::InUse, "{}", volume.state);
        if let Some(at) = &volume.attachment {
            let holder = ec2.instances.get(&at.instance_id);
            let held =
                holder.is_some_and(|it| it.block_devices.iter().any(|device| device.volume_id == volume.volume_id));
            prop_assert!(held, "a volume is attached to an instance that does not have it");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_account_stays_in_one_piece(steps in prop::collection::vec(step(), 1..60)) {
        let mut cloud = Cloud::new();
        for step in steps {
            take(&mut cloud, step);
            check(&cloud.ec2)?;
        }
        // And comes to rest: every transition ends, but a detachment that a running machine holds back.
        cloud.pass(2 * 3600);
        let held_back = |event: &HostEvent| matches!(event, HostEvent::DetachVolume { .. });
        prop_assert!(cloud.ec2.unfinished().iter().all(held_back));
        prop_assert_eq!(cloud.ec2.next_due(), None);
    }
}
