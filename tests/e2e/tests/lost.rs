//! A leader whose machine ended. A set of three stays closed and says what is on which member, whatever became of the leader's
//! volume; a set of one opens again on its own volume, and only if that holds what it must.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use drover_api::{Epoch, Slot, conditions::ConditionType, records::RegisterState};
use drover_e2e::{Cloud, Operator, heading, manifest, scenario, within};
use drover_plan::SetReport;

/// Seven machines boot on two cores, and a volume that was let go is seen at the next list of them.
const LAUNCH: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(120);
/// The leader's data directory, and who the server on it is.
const IDENTITY: &str = "cd /var/lib/drover/volume; test ! -e data.tmp; stat -c %i data; cat data/auto.cnf";

#[test]
fn a_leader_whose_machine_ended_is_not_made_anew() -> anyhow::Result<()> {
    scenario("lost", |cloud| {
        let sets = [("ends", 3), ("older", 3), ("single", 1)];
        let manifests = sets.map(|(name, members)| (format!("{name}.yaml"), manifest(name, members, 0)));
        let manifests = manifests.each_ref().map(|(file, text)| (file.as_str(), text.as_str()));
        let mut operator = Operator::start(cloud, "operator", &manifests)?;
        for (name, members) in sets {
            operator.await_ready(name, members.into(), LAUNCH)?;
            let leader = &cloud.fleet_of(name)?["m0"];
            cloud.make_shop(leader)?;
            cloud.write_rows(leader, 1, 100)?;
            cloud.await_equal_rows(name, 100)?;
        }
        machine(cloud, &mut operator)?;
        volume(cloud, &mut operator)?;
        older(cloud, &mut operator)?;
        set_of_one(cloud, &mut operator)?;
        older_set_of_one(cloud, &mut operator)
    })
}

fn machine(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading(
        "a leader's host dies and its machine is ended: the set of three stays closed, and the data is left as it was",
    );
    let leader = cloud.fleet_of("ends")?["m0"].clone();
    let identity = cloud.inside(&leader, &["sh", "-ec", IDENTITY])?;
    cloud.fault(&format!("kill {leader}"))?;
    cloud.end_machine(&leader)?;
    await_loss(operator, "ends", "its machine")?;
    await_loss(operator, "ends", "the machine went down under it")?;
    // From the first word of it on, the loss was never taken back. A bucket that does not answer takes nothing back.
    let log = std::fs::read_to_string(&operator.log)?;
    let said =
        log.lines().filter(|line| line.contains("default/ends")).skip_while(|line| !line.contains("PrimaryLost"));
    let said: Vec<&str> = said.collect();
    let has = |line: &str, reason: &str| line.contains(&format!("reason=\"{reason}\""));
    let is_other = |pair: &&[&str]| has(pair[1], "Progressing") && !has(pair[0], "RecordsUnknown");
    let other: Vec<&[&str]> = said.windows(2).filter(is_other).collect();
    assert!(other.is_empty(), "{other:#?}");
    stays_closed(cloud, operator, "ends")?;
    let now = cloud.fleet_of("ends")?["m0"].clone();
    assert_ne!(now, leader);
    assert_eq!(cloud.inside(&now, &["sh", "-ec", IDENTITY])?, identity);
    let journal = cloud.inside(&now, &["journalctl", "-q", "-o", "cat", "-u", "drover-agent"])?;
    assert!(!journal.contains("task=Initialise") && !journal.contains("task=Seed"), "{journal}");
    Ok(())
}

fn volume(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("its volume goes too: nothing is made in its place");
    let leader = cloud.fleet_of("ends")?["m0"].clone();
    cloud.end_and_change(operator, &leader, |volume| {
        cloud.ec2("DeleteVolume", &[("VolumeId", volume)])?;
        let is_gone = || -> anyhow::Result<Option<()>> {
            Ok((!cloud.data_volumes()?.contains(&volume.to_owned())).then_some(()))
        };
        within(SOON, "the volume is deleted", is_gone)
    })?;
    let volumes = cloud.data_volumes()?;
    let machines = cloud.machines()?.len();
    operator.await_set("ends", SOON, "misses the volume", |set| {
        set.awaiting.iter().any(|line| line.starts_with("m0") && line.contains("is not shown by EC2"))
    })?;
    await_loss(operator, "ends", "its machine")?;
    stays_closed(cloud, operator, "ends")?;
    assert_eq!(cloud.data_volumes()?, volumes);
    // One that was launched while EC2's list still showed the volume.
    assert!(cloud.machines()?.len() <= machines + 1);
    Ok(())
}

fn older(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a leader that stops in order and starts again goes on in its epoch");
    let leader = cloud.fleet_of("older")?["m0"].clone();
    let copy = stopped_copy(cloud, operator, "older")?;
    assert_eq!(cloud.register("older")?.epoch, Epoch(1));

    heading(
        "one that comes back with what its volume held then does not: what was acknowledged since is on the others",
    );
    cloud.write_rows(&leader, 101, 200)?;
    cloud.await_equal_rows("older", 200)?;
    cloud.ec2("StopInstances", &[("InstanceId.1", &leader)])?;
    cloud.await_state(&leader, "stopped")?;
    cloud.end_and_change(operator, &leader, |volume| cloud.put_back(volume, &copy))?;
    await_loss(operator, "older", "another life")?;
    within(SOON, "its mysqld runs with what it held then", || {
        let fleet = cloud.fleet_of("older")?;
        let leader = fleet.get("m0").context("m0 has a machine")?;
        Ok(cloud.rows(leader)?.starts_with("100\t").then_some(()))
    })?;
    stays_closed(cloud, operator, "older")?;
    for slot in ["m1", "m2"] {
        ensure!(cloud.rows(&cloud.fleet_of("older")?[slot])?.starts_with("200\t"), "{slot} lost rows");
    }
    Ok(())
}

fn set_of_one(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a set of one whose machine ended opens on its own volume under a new epoch, with its rows");
    let leader = cloud.fleet_of("single")?["m0"].clone();
    let volume = cloud.volume_of(&leader)?;
    cloud.end_machine(&leader)?;
    operator
        .await_set("single", LAUNCH, "is ready in another epoch", |now| now.ready && now.epoch == Some(Epoch(2)))?;
    let now = cloud.fleet_of("single")?["m0"].clone();
    assert!(now != leader && cloud.volume_of(&now)? == volume);
    cloud.await_equal_rows("single", 100)?;
    cloud.write_rows(&now, 101, 200)
}

fn older_set_of_one(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("it does not open with less than it had when its last epoch began, and does when that is back");
    let copy = stopped_copy(cloud, operator, "single")?;
    let leader = cloud.fleet_of("single")?["m0"].clone();
    cloud.write_rows(&leader, 201, 300)?;
    let epoch = operator.set("single")?.epoch.map(|epoch| epoch.next());
    cloud.inside(&leader, &["systemctl", "kill", "-s", "KILL", "drover-mysqld.service"])?;
    await_epoch(operator, "single", epoch)?;
    let mut latest = None;
    cloud.end_and_change(operator, &leader, |volume| {
        latest = Some(cloud.copy_volume(volume, "latest")?);
        cloud.put_back(volume, &copy)
    })?;
    let set = operator.await_set("single", LAUNCH, "calls for a person", |set| {
        set.condition(ConditionType::Stalled).is_some_and(|stalled| stalled.reason == "DataOlder")
    })?;
    assert_eq!(set.primary, None, "{}", set.verdict);
    stays_closed(cloud, operator, "single")?;
    assert_eq!(cloud.register("single")?.state, RegisterState::Fencing);
    let leader = cloud.fleet_of("single")?["m0"].clone();
    cloud.end_and_change(operator, &leader, |volume| cloud.put_back(volume, &latest.context("just made")?))?;
    operator.await_set("single", LAUNCH, "is ready", |set| set.ready)?;
    cloud.await_equal_rows("single", 300)
}

fn await_epoch(operator: &mut Operator, name: &str, epoch: Option<Epoch>) -> anyhow::Result<SetReport> {
    operator.await_set(name, LAUNCH, &format!("is ready in {epoch:?}"), |set| set.ready && set.epoch == epoch)
}

/// What the leader's volume holds after its machine stopped in order; the machine is started again.
fn stopped_copy(cloud: &Cloud, operator: &mut Operator, name: &str) -> anyhow::Result<PathBuf> {
    let leader = cloud.fleet_of(name)?["m0"].clone();
    let volume = cloud.volume_of(&leader)?;
    cloud.ec2("StopInstances", &[("InstanceId.1", &leader)])?;
    cloud.await_state(&leader, "stopped")?;
    operator.await_set(name, SOON, "has missed it", |set| !set.ready)?;
    let copy = cloud.copy_volume(&volume, "earlier")?;
    cloud.ec2("StartInstances", &[("InstanceId.1", &leader)])?;
    operator.await_set(name, LAUNCH, "is ready again", |set| set.ready)?;
    Ok(copy)
}

/// Waits until the loss is reported for that reason, with what is on which member.
fn await_loss(operator: &mut Operator, name: &str, how: &str) -> anyhow::Result<SetReport> {
    operator.await_set(name, LAUNCH, &format!("has lost its primary: {how}"), |set| {
        set.condition(ConditionType::PrimaryLost).is_some_and(|lost| {
            let words = ["m1 holds", "m2 holds", how];
            words.iter().all(|word| lost.message.contains(word))
        })
    })
}

/// After more passes nobody is open, and nobody is asked to be.
fn stays_closed(cloud: &Cloud, operator: &mut Operator, name: &str) -> anyhow::Result<()> {
    operator.await_passes(3)?;
    let set = operator.await_set(name, SOON, "is known", |set| !set.members.is_empty())?;
    ensure!(!set.ready && set.primary.is_none(), "{}", set.verdict);
    // Machines come and go, and mysqld with them, while they are asked.
    let open = within(SOON, "every machine says whether it is open", || Ok(Some(open_in(cloud, name)?)))?;
    ensure!(open.is_empty(), "open in {name}: {open:?}");
    let leader = set.members.iter().find(|row| row.slot == Slot::Member(0)).context("a slot has a row")?;
    ensure!(!leader.ready, "{leader:?}");
    Ok(())
}

/// The slots that say that they are primary, or take writes.
fn open_in(cloud: &Cloud, name: &str) -> anyhow::Result<Vec<String>> {
    let mut open = Vec::new();
    for (slot, instance) in cloud.fleet_of(name)? {
        // A machine that still boots answers nothing yet.
        let ask = "curl -s -o /dev/null -w '%{http_code}' -m 3 http://127.0.0.1:7071/primary || true";
        let is_primary = cloud.inside(&instance, &["sh", "-c", ask])? == "200";
        let runs = cloud.inside(&instance, &["sh", "-c", "systemctl is-active drover-mysqld || true"])?;
        if is_primary || runs.trim() == "active" && cloud.sql(&instance, "SELECT @@super_read_only")? != "1" {
            open.push(slot);
        }
    }
    Ok(open)
}
