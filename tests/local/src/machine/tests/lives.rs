//! How machines begin, what they know, and how they end.

use super::*;

/// Runs inside until systemd stops it in order, and leaves a trace then.
const CLEAN_STOP: &str = "systemd-run -q --unit=witness -p ExecStop='/bin/touch /root/stopped-cleanly' sleep infinity";

async fn boot_id(world: &World, id: &InstanceId) -> String {
    world.sh(id, "cat /proc/sys/kernel/random/boot_id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_runs_its_user_data_once_and_knows_itself() {
    let world = World::new().await;
    let id = world.boot(1).await;
    world.until(&id, "test -e /var/lib/cloud/instance/boot-finished").await;
    assert_eq!(world.sh(&id, "cat /root/user-data-ran").await, "first boot");
    assert_eq!(world.sh(&id, "hostname").await, hostname(world.range, &id).split('.').next().unwrap());
    assert_eq!(
        world.sh(&id, "hostname -i; hostname -f").await,
        format!("{}\n{}", address(world.range, &id), hostname(world.range, &id))
    );
    assert!(std::fs::read_to_string(world.host.console(&id)).unwrap().contains("Welcome to"));
    assert_eq!(world.sh(&id, "cloud-init query platform").await, "ec2");
    assert_eq!(world.sh(&id, "cat /run/cloud-init/cloud-id").await, "aws", "strictly identified, not assumed");
    assert_eq!(world.sh(&id, "systemctl list-units --failed --no-legend").await, "");
    let version = world.sh(&id, "mysqld --version").await;
    assert!(version.contains(&format!("Ver {}", world.images.base.mysql_version.as_ref().unwrap())), "{version}");
    assert!(version.contains("Ver 9.7."), "{version}");

    world.host.stop(&id, Stop::Graceful).await.unwrap();
    world.host.boot(&world.spec(1)).await.unwrap();
    world.until(&id, "test -e /var/lib/cloud/instance/boot-finished").await;
    assert_eq!(world.sh(&id, "cat /root/user-data-ran").await, "first boot", "user data runs at the first boot only");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_service_asks_for_a_token_and_tells_the_truth() {
    let world = World::new().await;
    let id = world.boot(1).await;
    let status = async |arguments: &str| {
        world.sh(&id, &format!("curl -s -m 10 -o /dev/null -w '%{{http_code}}' {arguments} || true")).await
    };
    let at = "http://169.254.169.254/latest";
    let ttl = "-H 'X-aws-ec2-metadata-token-ttl-seconds: 60'";
    assert_eq!(status(&format!("{at}/meta-data/instance-id")).await, "401");
    assert_eq!(status(&format!("-H 'X-aws-ec2-metadata-token: x' {at}/meta-data/instance-id")).await, "401");
    assert_eq!(status(&format!("-X PUT {at}/api/token")).await, "400");
    assert_eq!(status(&format!("-X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 21601' {at}/api/token")).await, "400");
    assert_eq!(status(&format!("-X PUT {ttl} -H 'X-Forwarded-For: 10.0.0.1' {at}/api/token")).await, "403");

    let get = async |path: &str| {
        let token = format!("$(curl -sf -m 10 -X PUT {ttl} {at}/api/token)");
        world
            .sh(&id, &format!("curl -sf -m 10 -H \"X-aws-ec2-metadata-token: {token}\" {at}/{path} || echo none"))
            .await
    };
    assert_eq!(get("meta-data/instance-id").await, id.as_str());
    assert_eq!(get("meta-data/local-ipv4").await, address(world.range, &id).to_string());
    assert_eq!(get("meta-data/placement/availability-zone").await, "us-east-1b");
    assert_eq!(get("meta-data/tags/instance/drover:slot").await, "m0");
    assert_eq!(get("meta-data/tags/instance").await, "drover:slot");
    assert_eq!(get("meta-data/network/interfaces/macs/").await, format!("{}/", mac(&id)));
    assert_eq!(get("meta-data/iam/security-credentials/").await, "machine");
    assert_eq!(get("user-data").await, USER_DATA.trim());
    assert_eq!(get("meta-data/public-keys/").await, "none");
    let role: serde_json::Value =
        serde_json::from_str(&get("meta-data/iam/security-credentials/machine").await).unwrap();
    assert_eq!((&role["Code"], &role["AccessKeyId"]), (&"Success".into(), &"ASIATEST".into()));
    let document: serde_json::Value = serde_json::from_str(&get("dynamic/instance-identity/document").await).unwrap();
    assert_eq!((&document["instanceId"], &document["region"]), (&id.as_str().into(), &"us-east-1".into()));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_a_token_only_where_the_hop_limit_allows_it() {
    let world = World::new().await;
    let container =
        "ip netns add pod; ip link add v0 type veth peer name eth0 netns pod; ip addr add 172.30.0.1/30 dev v0
        ip link set v0 up; ip -n pod addr add 172.30.0.2/30 dev eth0; ip -n pod link set eth0 up
        ip -n pod route add default via 172.30.0.1";
    let ask =
        "curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token";
    for hop_limit in [1, 2] {
        let spec = MachineSpec { metadata_hop_limit: hop_limit, ..world.spec(u32::from(hop_limit)) };
        world.host.boot(&spec).await.unwrap();
        world.sh(&spec.id, container).await;
        world.until(&spec.id, ask).await;
        let own_address = format!("-sf --interface {}", address(world.range, &spec.id));
        world.until(&spec.id, &ask.replace("-sf", &own_address)).await;
        let from_container = format!("ip netns exec pod {ask}");
        match hop_limit {
            2 => world.until(&spec.id, &from_container).await,
            _ => assert!(!world.succeeds(&spec.id, &from_container).await),
        }
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_enters_a_machine_by_the_directory() {
    let world = World::new().await;
    let id = world.boot(1).await;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    let entrance = entrance_to(world.dir.path(), &id).unwrap();
    let inside = std::process::Command::new(&entrance[0])
        .args(&entrance[1..])
        .args(["sh", "-c", "hostname; echo $HOME; ps -o comm= 1"])
        .output();
    let name = hostname(world.range, &id);
    let expected = format!("{}\n/root\nsystemd\n", name.split('.').next().unwrap());
    assert_eq!(String::from_utf8(inside.unwrap().stdout).unwrap(), expected);
    world.host.stop(&id, Stop::Forced).await.unwrap();
    assert!(matches!(entrance_to(world.dir.path(), &id), Err(Error::NotRunning(_))));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_changes_none_of_the_host_s_settings() {
    let world = World::new().await;
    let id = world.boot(1).await;
    let refused = ["echo 1 >/proc/sys/vm/drop_caches", "echo h >/proc/sysrq-trigger", "date -s 2001-01-01"];
    for attempt in refused {
        let unit = format!("systemd-run -q --wait sh -c '{attempt}'");
        world.until(&id, "systemctl is-active -q multi-user.target").await;
        assert!(!world.succeeds(&id, &unit).await, "{attempt}");
    }
    world.sh(&id, "systemd-run -q --wait sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'").await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_shuts_down_in_order_and_a_forced_one_does_not() {
    let world = World::new().await;
    let id = world.boot(1).await;
    for (how, cleanly) in [(Stop::Graceful, true), (Stop::Forced, false)] {
        world.until(&id, "systemctl is-active -q multi-user.target").await;
        world.sh(&id, &format!("rm -f /root/stopped-cleanly; {CLEAN_STOP}; echo {how:?} >/root/kept")).await;
        let before = boot_id(&world, &id).await;
        world.host.stop(&id, how).await.unwrap();
        assert!(matches!(world.host.pid(&id), Err(Error::NotRunning(_))));
        world.host.stop(&id, how).await.unwrap();
        world.host.boot(&world.spec(1)).await.unwrap();
        assert_ne!(boot_id(&world, &id).await, before);
        assert_eq!(world.succeeds(&id, "test -e /root/stopped-cleanly").await, cleanly, "{how:?}");
        assert_eq!(world.sh(&id, "cat /root/kept").await, format!("{how:?}"), "the root file system is kept");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_gives_a_new_boot_id_and_keeps_the_root() {
    let mut world = World::new().await;
    let id = world.boot(1).await;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    world.sh(&id, &format!("{CLEAN_STOP}; echo here >/root/kept")).await;
    let first = boot_id(&world, &id).await;
    world.host.reboot(&id).await.unwrap();
    let second = boot_id(&world, &id).await;
    assert_ne!(first, second);
    assert_eq!(world.sh(&id, "cat /root/kept; ls /root/stopped-cleanly").await, "here\n/root/stopped-cleanly");
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    assert!(world.host.exec(&id, &["systemctl", "reboot"], PATIENCE).await.is_ok());
    assert_eq!(world.event().await, HostEvent::Rebooted(id.clone()));
    assert_ne!(boot_id(&world, &id).await, second);
    // Asked for while systemd is only just starting; what does not hear it is killed later than this waits.
    assert!(world.host.site.limits.graceful_stop > PATIENCE);
    let soon = tokio::time::timeout(PATIENCE, world.host.reboot(&id));
    soon.await.expect("an early request to reboot is heard").unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_does_by_itself_is_told() {
    let mut world = World::new().await;
    let id = world.boot(1).await;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    assert!(world.host.exec(&id, &["systemctl", "poweroff"], PATIENCE).await.is_ok());
    assert_eq!(world.event().await, HostEvent::PoweredOff(id.clone()));
    world.host.boot(&world.spec(1)).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(world.host.pid(&id).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(matches!(world.event().await, HostEvent::Died { id: died, .. } if died == id));
    assert!(matches!(world.host.pid(&id), Err(Error::NotRunning(_))));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_stop_ends_a_graceful_one_that_hangs() {
    let world = World::new().await;
    let id = world.boot(1).await;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    let stubborn = "systemd-run -q --unit=stubborn -p TimeoutStopSec=infinity -p ExecStop='/bin/sh -c \"touch /root/hangs; sleep infinity\"' \
                    sleep infinity";
    world.sh(&id, stubborn).await;
    let (host, slow) = (world.host.clone(), id.clone());
    let graceful = tokio::spawn(async move { host.stop(&slow, Stop::Graceful).await });
    world.until(&id, "test -e /root/hangs").await;
    assert!(!graceful.is_finished());
    world.host.stop(&id, Stop::Forced).await.unwrap();
    graceful.await.unwrap().unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_no_more_memory_than_its_type_has() {
    let world = World::new().await;
    let spec = MachineSpec { memory_max: Some(200 << 20), ..world.spec(1) };
    world.host.boot(&spec).await.unwrap();
    let id = spec.id;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    assert!(world.succeeds(&id, "grep -q '^MemTotal: 204800 kB$' /proc/meminfo").await);
    assert!(world.succeeds(&id, "head -c 50M /dev/zero | tail >/dev/null").await);
    // tail keeps the one endless line in memory.
    assert!(
        !world
            .succeeds(
                &id,
                "set -o pipefail 2>/dev/null; head -c 400M /dev/zero | tail -n 1 | wc -c | grep -q 419430400"
            )
            .await
    );
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_machine_stands_still_and_can_be_killed() {
    let world = World::new().await;
    let id = world.boot(1).await;
    let entrance = world.host.entrance(&id).unwrap();
    world.host.freeze(&id).unwrap();
    // What is run inside joins the freeze: this cannot answer until the machine is thawed.
    let mut inside = tokio::process::Command::new(&entrance[0]).args(&entrance[1..]).arg("true").spawn().unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(500), inside.wait()).await;
    assert!(waited.is_err(), "a frozen machine answered");
    world.host.thaw(&id).unwrap();
    assert!(!world.host.is_frozen(&id));
    assert!(tokio::time::timeout(PATIENCE, inside.wait()).await.unwrap().unwrap().success());
    world.host.freeze(&id).unwrap();
    assert!(world.host.is_frozen(&id));
    world.host.stop(&id, Stop::Forced).await.unwrap();
    world.boot(1).await;
    assert!(!world.host.is_frozen(&id), "a freeze ends with its boot");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn termination_deletes_the_root_and_leaves_volumes() {
    let world = World::new().await;
    let spec = MachineSpec { volumes: vec![volume("0a")], ..world.spec(1) };
    world.host.create_volume(&volume("0a"), 32 << 20).unwrap();
    world.host.boot(&spec).await.unwrap();
    assert!(matches!(world.host.delete_volume(&volume("0a")), Err(Error::VolumeInUse { .. })));
    world.host.terminate(&spec.id).await.unwrap();
    world.host.terminate(&spec.id).await.unwrap();
    assert!(!world.dir.path().join("machines").join(spec.id.as_str()).exists());
    assert!(matches!(world.host.stop(&spec.id, Stop::Forced).await, Err(Error::NoSuchMachine(_))));
    world.host.delete_volume(&volume("0a")).unwrap();
    assert!(matches!(world.host.delete_volume(&volume("0a")), Err(Error::NoSuchVolume(_))));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_mysqld_or_with_another_version_boot_too() {
    let world = World::new().await;
    let (without, other) = (world.images.without_mysqld.clone(), world.images.other_mysql.clone());
    assert_eq!((&without.mysql_version, other.mysql_version.as_deref()), (&None, Some("9.6.0")));
    world.host.boot(&MachineSpec { image: without, ..world.spec(1) }).await.unwrap();
    world.host.boot(&MachineSpec { image: other, ..world.spec(2) }).await.unwrap();
    assert!(!world.succeeds(&instance(1), "command -v mysqld || test -e /etc/drover-image/mysql-version").await);
    assert!(world.sh(&instance(2), "mysqld --version").await.contains("Ver 9.6.0"));
    assert_eq!(world.sh(&instance(2), "cat /etc/drover-image/mysql-version").await, "9.6.0");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_room_refuses_before_anything_is_made() {
    let dir = Home::new();
    let mut config = config(dir.path(), free_range().await);
    config.limits.memory_reserve = u64::MAX;
    let world = World::open(config, dir).await;
    let refused = world.host.boot(&world.spec(1)).await;
    assert!(matches!(&refused, Err(Error::Capacity(_))), "{refused:?}");
    assert!(!world.dir.path().join("machines/i-01").exists());
    world.close().await;
}
