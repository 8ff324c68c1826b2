//! After the process that runs machines was killed: nothing is left, and nothing else is touched.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::volumes::{WRITER_HANGS, formatted};
use super::*;

/// Set for the process that is to be killed: where it runs its machines, and in which range (a /24).
const ROLE: &str = "DROVER_TEST_KILLED_HOST";
const RANGE: &str = "DROVER_TEST_KILLED_RANGE";

/// The part of the killed process: a machine with a mounted, stalled volume that is being written to, and one that is frozen. It does
/// something only where the test below starts it.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::disallowed_methods,
    reason = "how a test tells the process that it starts from itself which part to play"
)]
async fn the_host_that_is_killed() {
    let Ok(dir) = std::env::var(ROLE) else { return };
    let range = Subnet { address: std::env::var(RANGE).unwrap().parse().unwrap(), prefix: 24 };
    let world = World::open(config(Path::new(&dir), range), Home::new()).await;
    let (a, b) = (formatted(&world).await, world.boot(2).await);
    world.host.stall_volume(&volume("0a")).await.unwrap();
    world.sh(&a, "systemd-run -q --unit=writer sh -c 'echo two >/data/other'").await;
    world.until(&a, WRITER_HANGS).await;
    let cut = Cut { machine: a, direction: Direction::Both, peer: None };
    world.host.cut(|| BTreeSet::from([cut])).await.unwrap();
    world.host.freeze(&b).unwrap();
    println!("\nready");
    std::future::pending::<()>().await;
}

/// Everything of the kernel's that names the directory or its tag, and every process that sees a mount of it.
fn traces(dir: &Path) -> Vec<String> {
    let names = super::super::names::Names::of(dir).unwrap();
    let (path, tag) = (names.dir().to_str().unwrap().to_owned(), names.switch());
    let link = names.host_link();
    let run = |command: &str| {
        let done = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let listings = [
        run("ip netns list"),
        run("losetup -a"),
        run("cat /proc/self/mounts"),
        run("ip -o link"),
        run("find /sys/fs/cgroup -type d -name 'drover-*'"),
        run("grep -lF workdir= /proc/[0-9]*/mountinfo 2>/dev/null | xargs grep -HF workdir= 2>/dev/null"),
        run("grep -H . /proc/[0-9]*/cgroup 2>/dev/null"),
    ];
    // A removed cgroup can hold only zombies, which wait for the host's init.
    let ours = |line: &&str| {
        (line.contains(&path) || line.contains(&tag) || line.contains(&link)) && !line.ends_with("(deleted)")
    };
    listings.iter().flat_map(|listing| listing.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_after_sigkill_leaves_nothing_and_touches_nothing_else() {
    let bystander = World::new().await;
    let neighbour = bystander.boot(1).await;
    // Its processes come and go; what was made for it does not.
    let made = |world: &World| {
        traces(world.dir.path()).into_iter().filter(|trace| !trace.starts_with("/proc/")).collect::<Vec<_>>()
    };
    let before = made(&bystander);
    let (dir, range) = (Home::new(), free_range().await);
    assert_eq!(traces(dir.path()), Vec::<String>::new());

    let mut host = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "machine::tests::sweeping::the_host_that_is_killed", "--nocapture"])
        .env(ROLE, dir.path())
        .env(RANGE, range.address.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == "ready" {
                return;
            }
        }
        panic!("the host ended before it was ready");
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let there = traces(dir.path());
    for kind in ["drover-", "/volumes/vol-0a.img", "workdir=", "0::/"] {
        assert!(there.iter().any(|trace| trace.contains(kind)), "the search for traces finds {kind}: {there:#?}");
    }
    let refused = sweep(dir.path()).await;
    assert!(matches!(refused, Err(Error::Unfit(_))), "a living host is not swept away: {refused:?}");

    host.start_kill().unwrap();
    assert_eq!(host.wait().await.unwrap().signal(), Some(nix::libc::SIGKILL));
    // Its machine dies with it, and the keeper of its stalled disk lets go; only what is frozen waits for the sweep.
    let mut pace = Pace::new(PATIENCE);
    while traces(dir.path())
        .iter()
        .any(|trace| trace.contains("cgroup:") && (trace.contains("/i-01/") || trace.contains("/keepers")))
    {
        pace.wait(|| "the end of the killed host's machine".into()).await.unwrap();
    }
    let swept = sweep(dir.path()).await.unwrap();
    assert_eq!((swept.namespaces, swept.loop_devices), (3, 1), "{swept:?}");
    assert_eq!(traces(dir.path()), Vec::<String>::new());
    assert_eq!(sweep(dir.path()).await.unwrap(), Swept::default());

    assert_eq!(made(&bystander), before);
    bystander.sh(&neighbour, "true").await;

    // What machines wrote is kept: the next host goes on with it.
    let world = World::open(config(dir.path(), range), dir).await;
    world.host.boot(&MachineSpec { volumes: vec![volume("0a")], ..world.spec(1) }).await.unwrap();
    let row = world
        .sh(&instance(1), "mount /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0a /data; cat /data/row")
        .await;
    assert_eq!(row, "one", "what was written before the stall");
    world.close().await;
    bystander.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_disk_whose_keeper_was_killed_is_swept_too() {
    let world = World::new().await;
    let id = formatted(&world).await;
    world.host.stall_volume(&volume("0a")).await.unwrap();
    world.sh(&id, "systemd-run -q --unit=writer sh -c 'echo two >/data/other'").await;
    world.until(&id, WRITER_HANGS).await;
    let keepers = world.host.site.cgroup_root().child(super::super::stall::KEEPERS);
    assert!(keepers.kill(PATIENCE).await.unwrap() > 0);
    let World { host, dir, .. } = world;
    drop(host);
    assert_eq!(sweep_soon(dir.path()).await.unwrap().loop_devices, 1);
    assert_eq!(traces(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_dies_with_a_hypervisor_that_is_dropped() {
    let (dir, range, images) = (Home::new(), free_range().await, images().await);
    let (host, _events) = Hypervisor::open(config(dir.path(), range), TestMetadata::new(range)).await.unwrap();
    host.boot(&spec(&images, range, 1)).await.unwrap();
    drop(host);
    let mut pace = Pace::new(PATIENCE);
    while traces(dir.path()).iter().any(|trace| trace.contains("workdir=")) {
        pace.wait(|| "the machine's end".into()).await.unwrap();
    }
    assert!(sweep(dir.path()).await.unwrap().namespaces > 0);
    assert_eq!(traces(dir.path()), Vec::<String>::new());
}
