//! A commit that nobody acknowledged is never answered OK, whatever happens to the agent, to mysqld and to the machine; and a
//! leader that died under it stays closed, but for a set of one.

use std::time::Duration;

use anyhow::{Context, bail};
use drover_api::{Slot, conditions::ConditionType};
use drover_e2e::{Clock, Cloud, Operator, Waiter, heading, manifest, scenario, within};
use drover_plan::SetReport;

/// Eleven machines boot on two cores.
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);
/// What a client prints after the OK of its commit.
const ACKNOWLEDGED: &str = "ACKNOWLEDGED";
/// What the sets' settings say, for each account.
const CONNECTIONS: u32 = 12;

/// Who waits for a commit, and what it may besides. Ordinary clients are cut off by offline_mode, with an error, before anything else
/// can happen to them; whoever may go past it sees what mysqld itself says in the end.
const CLIENTS: [(&str, &str); 2] = [("keeper", "CONNECTION_ADMIN"), ("buyer", "USAGE")];

/// Settings that people make, and that would be in the way of Drover's own sessions and accounts.
const HARDENED: &str = r#"  mysql:
    settings:
      default_password_lifetime: "90"
      password_history: "6"
      password_reuse_interval: "365"
      password_require_current: "ON"
      sql_require_primary_key: "ON"
      sql_mode: ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH
      transaction_isolation: SERIALIZABLE
      default_time_zone: "+14:00"
      lock_wait_timeout: "1"
      innodb_lock_wait_timeout: "1"
      wait_timeout: "2"
      max_connections: "12"
      net_read_timeout: "2"
      net_write_timeout: "2"
"#;

/// One machine of a set.
#[derive(Clone, Debug)]
struct Node {
    instance: String,
    address: String,
}

#[test]
fn what_nobody_acknowledged_is_never_answered_ok() -> anyhow::Result<()> {
    scenario("hang", |cloud| {
        // A read replica takes the place of no acknowledger.
        let sets = [("reboots", 3, 1), ("stops", 3, 0), ("starves", 3, 0), ("single", 1, 0)];
        let manifests =
            sets.map(|(name, members, readers)| (format!("{name}.yaml"), manifest(name, members, readers) + HARDENED));
        let manifests = manifests.each_ref().map(|(file, text)| (file.as_str(), text.as_str()));
        let mut operator = Operator::start(cloud, "operator", &manifests)?;
        for (name, members, readers) in sets {
            operator.await_ready(name, (u16::from(members) + readers).into(), LAUNCH)?;
        }
        a_set_of_one(cloud, &mut operator)?;
        the_agent(cloud, &mut operator)?;
        the_machine(cloud, &mut operator, "reboots", |node| {
            cloud.ec2("RebootInstances", &[("InstanceId.1", &node.instance)]).map(drop)
        })?;
        the_machine(cloud, &mut operator, "stops", |node| {
            cloud.ec2("StopInstances", &[("InstanceId.1", &node.instance)]).map(drop)
        })?;
        the_machine(cloud, &mut operator, "starves", |node| starve(cloud, node))
    })
}

fn a_set_of_one(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a set of one whose mysqld was killed opens again under a new epoch, with its data");
    let set = operator.set("single")?;
    let node = node(&set, "m0")?;
    cloud.sql(
        &node.instance,
        "CREATE DATABASE shop; CREATE TABLE shop.t (n INT PRIMARY KEY); INSERT INTO shop.t VALUES (7)",
    )?;
    cloud.inside(&node.instance, &["systemctl", "kill", "-s", "KILL", "drover-mysqld.service"])?;
    operator.await_set("single", SOON, "is ready in another epoch", |now| now.ready && now.epoch > set.epoch)?;
    assert_eq!(cloud.sql(&node.instance, "SELECT n FROM shop.t")?, "7");
    cloud.sql(&node.instance, "INSERT INTO shop.t VALUES (8)")?;
    Ok(())
}

fn the_agent(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("with all acknowledgers cut a commit hangs, and goes on hanging whatever happens to the agent");
    let set = operator.set("reboots")?;
    let primary = node(&set, "m0")?;
    let mut clients = hang(cloud, operator, "reboots", 1)?;
    let mysqld = cloud.mysqld(&primary.instance)?;

    heading("clients that come again and again take no connection from whoever has to get in");
    let single = operator.set("single")?;
    let login = format!("mysql --host={} --user=buyer --password=waits --ssl-mode=REQUIRED", primary.address);
    let flood = format!(
        "for n in $(seq 100 {}); do {login} -e \"INSERT INTO shop.t VALUES ('buyer', $n)\" & done; wait",
        100 + CONNECTIONS
    );
    let flood = cloud.begin_inside(&node(&single, "m0")?.instance, &["sh", "-c", &flood])?;
    let taken = "SELECT COUNT(*) FROM performance_schema.processlist WHERE user = 'buyer'";
    within(SOON, "an account has all of its connections", || {
        Ok((cloud.sql(&primary.instance, taken)? == CONNECTIONS.to_string()).then_some(()))
    })?;

    heading("it goes on hanging when no acknowledger is connected any more, and a read replica is");
    for peer in ["m1", "m2"] {
        let address = node(&set, peer)?.address;
        let threads = format!(
            "SELECT id FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%' AND host LIKE '{address}:%'"
        );
        for id in cloud.sql(&primary.instance, &threads)?.lines() {
            cloud.sql(&primary.instance, &format!("KILL {id}"))?;
        }
    }
    let state = "SELECT variable_value FROM performance_schema.global_status WHERE variable_name IN \
                 ('Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_status') ORDER BY variable_name";
    let alone = || Ok((cloud.sql(&primary.instance, state)? == "0\nON").then_some(()));
    within(SOON, "mysqld has no acknowledger, and semi-sync is on", alone)?;
    let dumps = "SELECT COUNT(*) FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    assert_eq!(cloud.sql(&primary.instance, dumps)?, "1", "the read replica is connected");
    operator.await_passes(2)?;
    assert!(all_wait(&mut clients)?, "without an acknowledger");

    // Sessions that begin now have no autocommit; the agent's must commit what they write all the same.
    cloud.sql(&primary.instance, "SET GLOBAL autocommit = 0")?;
    for act in [
        "systemctl restart drover-agent",
        "systemctl kill --kill-whom=main -s KILL drover-agent",
        "systemctl stop drover-agent",
    ] {
        let clock = Clock::start();
        cloud.inside(&primary.instance, &["sh", "-c", act])?;
        if act.contains("stop") {
            operator.await_passes(1)?;
            assert!(all_wait(&mut clients)?, "while the agent is stopped");
            cloud.inside(&primary.instance, &["systemctl", "start", "drover-agent"])?;
        }
        // What a new agent would do wrong, it does when it has looked around and got its first orders.
        operator.await_set("reboots", SOON, &format!("hears the agent again after {act}"), |set| {
            let m0 = set.members.iter().find(|row| row.slot == Slot::Member(0));
            m0.and_then(|row| row.report_age_ms).is_some_and(|age| u128::from(age) < clock.elapsed().as_millis() / 2)
        })?;
        operator.await_passes(2)?;
        assert!(all_wait(&mut clients)?, "{act}");
        assert_eq!(cloud.mysqld(&primary.instance)?, mysqld, "{act}");
    }
    heading("it is answered OK when an acknowledger is there again");
    for peer in ["m1", "m2"] {
        cloud.mend(&cut(&set, peer)?)?;
    }
    for client in clients {
        let (code, said) = client.end(SOON)?;
        assert!(code == Some(0) && said.contains(ACKNOWLEDGED), "{code:?} {said}");
    }

    let (code, said) = flood.end(SOON)?;
    let refused = said.matches("max_user_connections").count();
    assert!(code == Some(0) && refused == 2, "one more than were left, and the client before: {code:?} {said}");

    heading("the agent commits its heartbeats whatever new sessions begin with");
    let beat = || cloud.sql(&node(&set, "m1")?.instance, "SELECT MAX(at_ms) FROM drover.heartbeat");
    let before: u64 = beat()?.parse()?;
    within(SOON, "a later heartbeat is on a replica", || Ok((beat()?.parse::<u64>()? > before + 5_000).then_some(())))?;
    cloud.sql(&primary.instance, "SET GLOBAL autocommit = 1").map(drop)
}

/// A commit waits, its machine or mysqld ends by `act`: no OK, the loss is reported, and nobody is opened.
fn the_machine(
    cloud: &Cloud,
    operator: &mut Operator,
    name: &str,
    act: impl FnOnce(&Node) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    heading(&format!("no OK: the primary {name}"));
    let set = operator.set(name)?;
    let primary = node(&set, "m0")?;
    let clients = hang(cloud, operator, name, 2)?;
    let mysqld = cloud.mysqld(&primary.instance)?;
    act(&primary)?;
    operator.await_set(name, SOON * 2, "reports the loss of its primary", |set| {
        let lost = set.condition(ConditionType::PrimaryLost);
        lost.is_some_and(|lost| ["m1 holds", "m2 holds"].iter().all(|holds| lost.message.contains(holds)))
    })?;
    // A client whose peer vanished may wait for ever, which is no OK either.
    for mut client in clients {
        if !client.is_waiting()? {
            let (code, said) = client.end(SOON)?;
            assert!(code != Some(0) && !said.contains(ACKNOWLEDGED), "{code:?} {said}");
        }
    }
    operator.await_passes(3)?;
    for (slot, instance) in cloud.fleet_of(name)? {
        if slot == "m0" {
            assert_ne!(cloud.mysqld(&instance)?, mysqld, "the old mysqld still runs");
        }
        let pid = cloud.inside(&instance, &["systemctl", "show", "-p", "MainPID", "--value", "drover-mysqld"])?;
        if pid.trim() != "0" {
            assert_eq!(cloud.sql(&instance, "SELECT @@super_read_only")?, "1", "{slot} of {name} is open");
        }
    }
    Ok(())
}

/// Memory runs out in the machine, by something bounded, and mysqld is the first that the kernel ends then.
///
/// It eats a step at a time until mysqld has ended: what else a machine holds differs from host to host. Until a process that was
/// killed has given its memory back the kernel may end another, and takes the eater.
fn starve(cloud: &Cloud, node: &Node) -> anyhow::Result<()> {
    let kills = || -> anyhow::Result<u64> {
        let text = cloud.inside(&node.instance, &["sed", "-n", "s/^oom_kill //p", "/proc/vmstat"])?;
        Ok(text.trim().parse()?)
    };
    let (before, mysqld) = (kills()?, cloud.mysqld(&node.instance)?);
    let eat = "mysqld=/proc/$(systemctl show -p MainPID --value drover-mysqld); echo 1000 >$mysqld/oom_score_adj; \
               for step in {1..128}; do [ ! -e $mysqld ] || head -c 32M /dev/zero; done | tail >/dev/null || true";
    let (code, said) = cloud.begin_inside(&node.instance, &["bash", "-euc", eat])?.end(SOON * 2)?;
    assert_eq!(code, Some(0), "{said}");
    within(SOON, "the kernel ends mysqld", || Ok((cloud.mysqld(&node.instance)? != mysqld).then_some(())))?;
    assert!(kills()? > before, "something else ended mysqld");
    Ok(())
}

/// Cuts the primary off from its acknowledgers and has every client begin a commit there, from a machine of another set.
fn hang(cloud: &Cloud, operator: &Operator, name: &str, n: u32) -> anyhow::Result<Vec<Waiter>> {
    let set = operator.set(name)?;
    let primary = node(&set, "m0")?;
    cloud.sql(
        &primary.instance,
        "CREATE DATABASE IF NOT EXISTS shop; CREATE TABLE IF NOT EXISTS shop.t (user CHAR(9), n INT, PRIMARY KEY (user, n))",
    )?;
    for (user, right) in CLIENTS {
        let user = format!("{user}@'%'");
        let made = format!(
            "CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'waits'; GRANT {right} ON *.* TO {user}; GRANT INSERT ON shop.* TO {user}"
        );
        cloud.sql(&primary.instance, &made)?;
    }
    for peer in ["m1", "m2"] {
        cloud.fault(&cut(&set, peer)?)?;
    }
    let host = format!("--host={}", primary.address);
    let bystander = node(&operator.set("single")?, "m0")?;
    let mut clients = Vec::new();
    for (user, _) in CLIENTS {
        let statement = format!("INSERT INTO shop.t VALUES ('{user}', {n}); SELECT '{ACKNOWLEDGED}'");
        let user_is = format!("--user={user}");
        let command = ["mysql", &host, &user_is, "--password=waits", "--ssl-mode=REQUIRED", "-e", &statement];
        let mut client = cloud.begin_inside(&bystander.instance, &command)?;
        // Behind a commit that waits for its acknowledgement, as a heartbeat's, the next one waits for its turn in mysqld's commit queue.
        let waits = within(SOON, "the commit waits for an acknowledgement", || {
            let states = format!("SELECT state FROM performance_schema.processlist WHERE user = '{user}'");
            let state = cloud.sql(&primary.instance, &states)?;
            let is_commit = state.contains("semi-sync ACK") || state == "waiting for handler commit";
            Ok((!client.is_waiting()? || is_commit).then_some(()))
        });
        if !client.is_waiting()? {
            bail!("{user} did not wait: {:?}", client.end(SOON)?);
        }
        waits?;
        clients.push(client);
    }
    Ok(clients)
}

fn all_wait(clients: &mut [Waiter]) -> anyhow::Result<bool> {
    let waiting: anyhow::Result<Vec<bool>> = clients.iter_mut().map(Waiter::is_waiting).collect();
    Ok(waiting?.into_iter().all(|waits| waits))
}

/// The fault that cuts the primary off from a peer.
fn cut(set: &SetReport, peer: &str) -> anyhow::Result<String> {
    Ok(format!("cut {} both --peer {}", node(set, "m0")?.instance, node(set, peer)?.instance))
}

fn node(set: &SetReport, slot: &str) -> anyhow::Result<Node> {
    let row = set.members.iter().find(|row| row.slot.to_string() == slot).context("a ready set has every slot")?;
    let (instance, address) = row.instance.as_ref().zip(row.address).context("a ready slot has a machine")?;
    Ok(Node { instance: instance.to_string(), address: address.to_string() })
}
