//! What is written to a volume outlives machines, and what may befall a disk.

use super::*;

const LINK: &str = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0a";

/// The unit `writer` is in uninterruptible sleep, which is what a write to a stalled disk is.
pub(super) const WRITER_HANGS: &str = "grep -q '^State:.D' /proc/$(systemctl show -p MainPID --value writer)/status";

/// A machine with the volume mounted at /data.
pub(super) async fn formatted(world: &World) -> InstanceId {
    world.host.create_volume(&volume("0a"), 64 << 20).unwrap();
    let id = world.boot(1).await;
    world.host.attach(&volume("0a"), &id).await.unwrap();
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    world.sh(&id, &format!("mkfs.ext4 -q {LINK}; mkdir -p /data; mount {LINK} /data; echo one >/data/row; sync")).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_survives_its_machine_and_moves_to_another() {
    let world = World::new().await;
    let id = formatted(&world).await;
    let device =
        world.sh(&id, &format!("readlink {LINK}; findmnt -no SOURCE /data; stat -c %F $(readlink -f {LINK})")).await;
    assert_eq!(device, "../../nvme1n1\n/dev/nvme1n1\nblock special file");
    let attached = MachineSpec { volumes: vec![volume("0a")], ..world.spec(1) };
    for how in [Stop::Graceful, Stop::Forced] {
        world.host.stop(&id, how).await.unwrap();
        world.host.boot(&attached).await.unwrap();
        assert_eq!(world.sh(&id, &format!("mount {LINK} /data; cat /data/row")).await, "one", "{how:?}");
    }
    world.host.reboot(&id).await.unwrap();
    assert_eq!(world.sh(&id, &format!("mount {LINK} /data; cat /data/row")).await, "one");
    world.host.terminate(&id).await.unwrap();
    let other = world.boot(2).await;
    world.host.attach(&volume("0a"), &other).await.unwrap();
    assert_eq!(world.sh(&other, &format!("mkdir /data; mount {LINK} /data; cat /data/row")).await, "one");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_detached_only_when_unmounted_and_has_one_machine() {
    let world = World::new().await;
    let id = formatted(&world).await;
    let (volume, other) = (volume("0a"), world.boot(2).await);
    assert!(matches!(world.host.attach(&volume, &other).await, Err(Error::VolumeInUse { .. })));
    assert!(matches!(world.host.detach(&volume, &other, Detach::WhenFree).await, Err(Error::NotAttached { .. })));
    assert!(
        matches!(world.host.detach(&volume, &id, Detach::WhenFree).await, Err(Error::VolumeInUse { .. })),
        "mounted"
    );
    world.sh(&id, "umount /data").await;
    world.host.detach(&volume, &id, Detach::WhenFree).await.unwrap();
    assert!(!world.succeeds(&id, &format!("test -L {LINK} || test -e /dev/nvme1n1")).await);
    world.host.attach(&volume, &other).await.unwrap();
    world.sh(&other, &format!("test -b {LINK}")).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_was_given_up_half_the_way_is_tried_again_and_comes_to_the_same() {
    let world = World::new().await;
    let (id, volume) = (world.boot(1).await, volume("0a"));
    world.host.create_volume(&volume, 32 << 20).unwrap();
    give_up_attaching(&world, &volume, &id).await;
    world.host.attach(&volume, &id).await.unwrap();
    assert_eq!(world.sh(&id, &format!("ls /dev/nvme*; readlink -f {LINK}")).await, "/dev/nvme1n1\n/dev/nvme1n1");
    world.host.detach(&volume, &id, Detach::WhenFree).await.unwrap();

    give_up_attaching(&world, &volume, &id).await;
    world.host.detach(&volume, &id, Detach::WhenFree).await.expect("what a failed attachment bound is let go");
    world.host.delete_volume(&volume).unwrap();
    world.close().await;
}

/// In a frozen machine nothing runs that would show the device: the attempt comes as far as binding it.
async fn give_up_attaching(world: &World, volume: &VolumeId, id: &InstanceId) {
    world.host.freeze(id).unwrap();
    let attempt = tokio::spawn({
        let (host, volume, id) = (world.host.clone(), volume.clone(), id.clone());
        async move { host.attach(&volume, &id).await }
    });
    let mut pace = Pace::new(PATIENCE);
    while world.host.site.volumes.held(volume).is_none() {
        pace.wait(|| "the device".into()).await.unwrap();
    }
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    world.host.thaw(id).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_torn_away_ends_what_uses_it_and_goes_on_elsewhere() {
    let world = World::new().await;
    let id = formatted(&world).await;
    let (volume, other) = (volume("0a"), world.boot(2).await);
    // One that stands in it, one that has a file open, and one that sees it by a mount of its own.
    for (unit, more, does) in [
        ("stands", "", "cd /data; exec sleep infinity"),
        ("reads", "", "exec 3</data/row; cd /; exec sleep infinity"),
        ("sees", "-p PrivateMounts=yes", "exec sleep infinity"),
    ] {
        world.sh(&id, &format!("systemd-run -q --unit={unit} {more} sh -c '{does}'")).await;
        world.until(&id, &format!("grep -q sleep /proc/$(systemctl show -p MainPID --value {unit})/comm")).await;
    }
    world.host.detach(&volume, &id, Detach::Forced).await.unwrap();
    assert!(!world.succeeds(&id, &format!("findmnt /data || test -e {LINK}")).await);
    for (unit, lives) in [("stands", false), ("reads", false), ("sees", true)] {
        assert_eq!(world.succeeds(&id, &format!("systemctl is-active -q {unit}")).await, lives, "{unit}");
    }
    world.host.attach(&volume, &other).await.unwrap();
    assert_eq!(world.sh(&other, &format!("mkdir /data; mount {LINK} /data; cat /data/row")).await, "one");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_disk_hangs_writes_until_it_goes_on() {
    let world = World::new().await;
    let id = formatted(&world).await;
    let volume = volume("0a");
    let write = "systemd-run -q --unit=writer sh -c 'echo two >/data/row; sync -f /data/row; touch /root/written'";
    world.host.stall_volume(&volume).await.unwrap();
    world.host.stall_volume(&volume).await.unwrap();
    world.sh(&id, write).await;
    world.until(&id, WRITER_HANGS).await;
    assert!(!world.succeeds(&id, "test -e /root/written").await);
    world.host.resume_volume(&volume).await.unwrap();
    world.until(&id, "test -e /root/written").await;

    world.host.stall_volume(&volume).await.unwrap();
    world.sh(&id, &write.replace("writer", "writer2").replace("/root/written", "/root/written2")).await;
    world.until(&id, "grep -q '^State:.D' /proc/$(systemctl show -p MainPID --value writer2)/status").await;
    world.host.stop(&id, Stop::Forced).await.unwrap();
    assert!(!world.host.is_stalled(&volume).await, "a stall ends with its boot");
    // The write may have reached the disk; nobody was told.
    world.boot(1).await;
    world.sh(&id, "test -e /root/written; ! test -e /root/written2").await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_until_it_is_emptied() {
    let world = World::new().await;
    let id = formatted(&world).await;
    let volume = volume("0a");
    world.host.fill_volume(&volume).await.unwrap();
    let write = "dd if=/dev/zero of=/data/more bs=64k count=4 conv=fsync 2>&1";
    let refused = world.host.exec(&id, &["sh", "-c", write], PATIENCE).await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stdout).contains("No space left on device"));
    world.host.empty_volume(&volume).await.unwrap();
    world.sh(&id, write).await;
    assert_eq!(world.sh(&id, "cat /data/row").await, "one");

    // It is emptied wherever it is: unmounted in its machine, and with no machine at all.
    world.host.fill_volume(&volume).await.unwrap();
    world.sh(&id, "umount /data").await;
    world.host.empty_volume(&volume).await.unwrap();
    // Not the same file, which would give back what it takes.
    world.sh(&id, &format!("mount {LINK} /data; {}", write.replace("more", "more2"))).await;
    world.host.fill_volume(&volume).await.unwrap();
    world.host.stop(&id, Stop::Graceful).await.unwrap();
    world.host.empty_volume(&volume).await.unwrap();
    world.host.boot(&MachineSpec { volumes: vec![volume.clone()], ..world.spec(1) }).await.unwrap();
    world.sh(&id, &format!("mount {LINK} /data; {}", write.replace("more", "more3"))).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_volume_that_is_not_mounted_say_so() {
    let world = World::new().await;
    let id = world.boot(1).await;
    world.host.create_volume(&volume("0a"), 32 << 20).unwrap();
    assert!(matches!(world.host.stall_volume(&volume("0a")).await, Err(Error::NotMounted(_))));
    world.host.attach(&volume("0a"), &id).await.unwrap();
    assert!(matches!(world.host.stall_volume(&volume("0a")).await, Err(Error::NotMounted(_))));
    assert!(matches!(world.host.fill_volume(&volume("0a")).await, Err(Error::NotMounted(_))));
    assert!(matches!(world.host.attach(&volume("0b"), &id).await, Err(Error::NoSuchVolume(_))));
    world.close().await;
}
