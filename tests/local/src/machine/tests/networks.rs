//! What reaches whom. Each claim that something does not arrive is followed by something that does, on the same way.

use super::*;

/// Datagrams that arrived, one a line.
const LISTEN: &str = "systemd-run -q --unit=ears sh -c 'exec nc -u -l -k 7000 >/root/heard'";

async fn listening(world: &World, n: u32) -> InstanceId {
    let id = world.boot(n).await;
    world.until(&id, "systemctl is-active -q multi-user.target").await;
    world.sh(&id, LISTEN).await;
    world.until(&id, "ss -Hlun 'sport = 7000' | grep -q 7000").await;
    id
}

async fn say(world: &World, from: &InstanceId, to: &InstanceId, word: &str) {
    let to = address(world.range, to);
    let done =
        world.host.exec(from, &["bash", "-c", &format!("echo {word} >/dev/udp/{to}/7000")], PATIENCE).await.unwrap();
    // The kernel may say that an earlier datagram was refused; what counts is what is heard.
    drop(done);
}

/// Says the word until it is heard: a datagram may be lost while an address is resolved.
async fn is_heard(world: &World, from: &InstanceId, to: &InstanceId, word: &str) {
    let mut pace = Pace::new(PATIENCE);
    loop {
        say(world, from, to, word).await;
        if world.succeeds(to, &format!("grep -qx {word} /root/heard")).await {
            return;
        }
        pace.wait(|| format!("{to} hearing {word} from {from}")).await.unwrap();
    }
}

async fn heard(world: &World, who: &InstanceId, word: &str) -> bool {
    world.succeeds(who, &format!("grep -qx {word} /root/heard")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_way_cut_is_truly_one_way() {
    let world = World::new().await;
    let (a, b) = (listening(&world, 1).await, listening(&world, 2).await);
    is_heard(&world, &a, &b, "before").await;
    is_heard(&world, &b, &a, "before").await;
    for (direction, deaf, speaker) in [(Direction::Send, &b, &a), (Direction::Receive, &a, &b)] {
        let cut = Cut { machine: a.clone(), direction, peer: None };
        let (during, after) = (format!("during-{direction:?}"), format!("after-{direction:?}"));
        world.host.cut(|| BTreeSet::from([cut])).await.unwrap();
        for _ in 0..3 {
            say(&world, speaker, deaf, &during).await;
        }
        // The other way still works, while this one is cut.
        is_heard(&world, deaf, speaker, &during).await;
        world.host.cut(BTreeSet::new).await.unwrap();
        is_heard(&world, speaker, deaf, &after).await;
        assert!(!heard(&world, deaf, &during).await, "{direction:?}: what was said during the cut arrived");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_between_two_leaves_a_third_alone() {
    let world = World::new().await;
    let (a, b, c) = (listening(&world, 1).await, listening(&world, 2).await, listening(&world, 3).await);
    is_heard(&world, &a, &b, "before").await;
    is_heard(&world, &b, &a, "before").await;
    let cut = Cut { machine: a.clone(), direction: Direction::Both, peer: Some(b.clone()) };
    world.host.cut(|| BTreeSet::from([cut])).await.unwrap();
    for (from, to) in [(&a, &b), (&b, &a)] {
        say(&world, from, to, "during").await;
    }
    is_heard(&world, &a, &c, "from-a").await;
    is_heard(&world, &c, &a, "from-c").await;
    is_heard(&world, &b, &c, "from-b").await;
    world.host.cut(BTreeSet::new).await.unwrap();
    is_heard(&world, &a, &b, "after").await;
    is_heard(&world, &b, &a, "after").await;
    assert!(!heard(&world, &a, "during").await && !heard(&world, &b, "during").await);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_groups_keep_apart_is_not_reached_and_an_open_connection_stays() {
    let world = World::new().await;
    let (a, b, c) = (listening(&world, 1).await, listening(&world, 2).await, listening(&world, 3).await);
    world.sh(&b, "systemd-run -q --unit=server sh -c 'exec nc -l -k 7001 >/root/got'").await;
    world.until(&b, "ss -Hltn 'sport = 7001' | grep -q 7001").await;
    let to_b = address(world.range, &b);
    let open = format!("systemd-run -q --unit=client sh -c 'tail -f -n +1 /root/words | exec nc {to_b} 7001'");
    world.sh(&a, &format!("echo before >/root/words; {open}")).await;
    world.until(&b, "grep -qx before /root/got").await;
    is_heard(&world, &a, &b, "before").await;

    let apart = |x: &InstanceId, y: &InstanceId| BTreeSet::from([(x.clone(), y.clone()), (y.clone(), x.clone())]);
    world.host.keep_apart(apart(&a, &b)).await.unwrap();
    let connect = format!("exec timeout 2 bash -c '</dev/tcp/{to_b}/7001'");
    assert!(!world.succeeds(&a, &connect).await, "a new connection");
    assert!(world.succeeds(&c, &connect).await, "from another machine");
    for _ in 0..3 {
        say(&world, &a, &b, "during").await;
    }
    is_heard(&world, &c, &b, "from-c").await;
    world.sh(&a, "echo during >>/root/words").await;
    world.until(&b, "grep -qx during /root/got").await;
    assert!(world.succeeds(&a, &gateway_answers(&world)).await, "the host is in no group");
    world.host.reboot(&b).await.unwrap();
    world.until(&b, "systemctl is-active -q multi-user.target").await;
    assert!(!world.succeeds(&a, &format!("exec ping -c 1 -W 2 {to_b}")).await, "it stays through a reboot");

    world.host.keep_apart(BTreeSet::new()).await.unwrap();
    assert!(world.succeeds(&a, &format!("exec ping -c 1 -W 2 {to_b}")).await);
    assert!(!heard(&world, &b, "during").await, "a datagram arrived");
    world.close().await;
}

fn gateway_answers(world: &World) -> String {
    format!("exec ping -c 1 -W 2 {}", world.host.gateway())
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_the_host_are_reached_and_cut_and_metadata_never_is() {
    let world = World::new().await;
    let id = world.boot(1).await;
    let listener = tokio::net::TcpListener::bind((world.host.gateway(), 0)).await.unwrap();
    let connect = format!(
        "exec timeout 2 bash -c '</dev/tcp/{}/{}'",
        world.host.gateway(),
        listener.local_addr().unwrap().port()
    );
    world.until(&id, &connect).await;
    let cut = Cut { machine: id.clone(), direction: Direction::Both, peer: None };
    world.host.cut(|| BTreeSet::from([cut])).await.unwrap();
    assert!(!world.succeeds(&id, &connect).await);
    world.host.reboot(&id).await.unwrap();
    assert!(!world.succeeds(&id, &connect).await, "a cut stays through a reboot");
    let token =
        "curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token";
    world.until(&id, token).await;
    world.host.cut(BTreeSet::new).await.unwrap();
    world.until(&id, &connect).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_address_moves() {
    let world = World::new().await;
    let (a, b, c) = (world.boot(1).await, world.boot(2).await, world.boot(3).await);
    let moving = world.range.host(200);
    let has = async |who: &InstanceId| {
        let seen = format!("ping -c 1 -W 2 {moving} >/dev/null && ip neigh show {moving} | grep -q {}", mac(who));
        world.until(&c, &seen).await;
    };
    world.host.assign_address(&a, moving).await.unwrap();
    has(&a).await;
    world.host.unassign_address(&a, moving).await.unwrap();
    // Its neighbours forget it at once, and need not find out by silence.
    assert_eq!(world.sh(&c, &format!("ip neigh show {moving}")).await, "");
    world.host.assign_address(&b, moving).await.unwrap();
    has(&b).await;
    world.metadata.secondary.lock().unwrap().insert(b.clone(), vec![moving]);
    world.host.reboot(&b).await.unwrap();
    has(&b).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_in_use_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let (dir, free) = (Home::new(), free_range().await);
    assert_eq!(first_free(&[world.range, free]).await.unwrap().0, free);
    let refused = Hypervisor::open(config(dir.path(), world.range), TestMetadata::new(world.range)).await;
    assert!(matches!(&refused, Err(Error::Unfit(sentence)) if sentence.contains("collides")), "{refused:?}");
    assert_eq!(sweep(dir.path()).await.unwrap(), Swept::default());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_chooses_a_range_is_alone_until_the_network_is_made() {
    let range = free_range().await;
    let (_, turn) = first_free(&[range]).await.unwrap();
    let mut other = tokio::spawn(async move { first_free(&[range]).await.map(|(range, _)| range) });
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut other).await.is_err(), "two choose at a time");
    drop(turn);
    assert_eq!(other.await.unwrap().unwrap(), range);
}
