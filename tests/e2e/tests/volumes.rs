//! What a replacement finds in its slot's volume: a file system or data that were cut short are made again, and an older state
//! of the volume never counts as the voter that it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, bail};
use drover_api::{Slot, records::Voter};
use drover_e2e::{Cloud, Operator, device, heading, manifest, scenario, within};

/// Three machines boot on two cores, and three more in their places.
const LAUNCH: Duration = Duration::from_secs(300);
const SET: &str = "made";
/// Stands in for mkfs: the whole file system is made elsewhere, a part of it comes to the device, and then nothing more. mke2fs
/// writes the superblock last, but for what it wipes.
const MKFS: &str = "#!/bin/sh
for word; do
    shift
    case $word in /dev/*) device=$word word=/var/tmp/whole ;; esac
    set -- \"$@\" \"$word\"
done
truncate -s \"$(blockdev --getsize64 \"$device\")\" /var/tmp/whole
/usr/sbin/mkfs.ext4 \"$@\"
dd if=/var/tmp/whole of=\"$device\" bs=64K PART conv=notrunc,fsync
touch /run/mkfs-stands
exec sleep infinity
";
const WITHOUT_SUPERBLOCK: &str = "skip=1 seek=1 count=256";
const LITTLE_ELSE: &str = "count=1";

#[test]
fn a_replacement_goes_by_what_it_finds_in_its_slots_volume() -> anyhow::Result<()> {
    scenario("volumes", |cloud| {
        let text = manifest(SET, 3, 0);
        let mut operator = Operator::start(cloud, "operator", &[("made.yaml", &text)])?;
        cut_short(cloud, &mut operator)?;
        older(cloud, &mut operator)?;
        blank(cloud, &mut operator)
    })
}

fn cut_short(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading(
        "what machines leave that end in the middle of mkfs or of initialising data is made again on the same volumes",
    );
    let mut hooked = BTreeSet::new();
    let mut ended = BTreeMap::new();
    within(LAUNCH, "every member's machine was ended in the middle of making something", || {
        for (slot, instance) in cloud.fleet_of(SET)?.into_iter().filter(|(slot, _)| slot != "m0") {
            let part = if slot == "m1" { WITHOUT_SUPERBLOCK } else { LITTLE_ELSE };
            if !hooked.contains(&slot) && replace_mkfs(cloud, &instance, part).is_ok() {
                hooked.insert(slot);
            }
        }
        for (slot, instance) in cloud.fleet_of(SET)? {
            if !ended.contains_key(&slot) && is_making(cloud, &slot, &instance) {
                ended.insert(slot, (cloud.volume_of(&instance)?, instance.clone()));
                cloud.end_machine(&instance)?;
            }
        }
        Ok((ended.len() == 3).then_some(()))
    })?;
    operator.await_ready(SET, 3, LAUNCH)?;
    for (slot, instance) in cloud.fleet_of(SET)? {
        let (volume, before) = &ended[&slot];
        assert!(instance != *before && cloud.volume_of(&instance)? == *volume, "{slot}");
        let journal = cloud.inside(&instance, &["journalctl", "-q", "-o", "cat", "-u", "drover-agent"])?;
        let again = if slot == "m0" { "begins task=Initialise" } else { "begins task=Format" };
        assert!(journal.contains(again), "what was cut short in {slot} was whole");
        cloud.inside(&instance, &["test", "!", "-e", "/var/lib/drover/volume/data.tmp"])?;
    }
    assert_eq!((cloud.machines()?.len(), cloud.data_volumes()?.len()), (6, 3));
    Ok(())
}

fn older(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a member that stops in order and starts again is who it was");
    let (primary, member) = (cloud.fleet_of(SET)?["m0"].clone(), cloud.fleet_of(SET)?["m1"].clone());
    cloud.make_shop(&primary)?;
    cloud.write_rows(&primary, 1, 1000)?;
    cloud.await_equal_rows(SET, 1000)?;
    let (volume, voter) = (cloud.volume_of(&member)?, voter(cloud, 1)?);
    cloud.ec2("StopInstances", &[("InstanceId.1", &member)])?;
    cloud.await_state(&member, "stopped")?;
    operator.await_set(SET, LAUNCH, "misses it", |set| !set.ready)?;
    let copy = cloud.copy_volume(&volume, "earlier")?;
    cloud.ec2("StartInstances", &[("InstanceId.1", &member)])?;
    operator.await_ready(SET, 3, LAUNCH)?;
    assert_eq!(self::voter(cloud, 1)?, voter);

    heading("one that finds what the volume held before is not, though that state ended in order; it catches up first");
    cloud.write_rows(&primary, 1001, 2000)?;
    cloud.end_and_change(operator, &member, |volume| cloud.put_back(volume, &copy))?;
    operator.await_set(SET, LAUNCH, "has another m1 and is ready", |set| {
        let m1 = set.members.iter().find(|row| row.slot == Slot::Member(1));
        set.ready && m1.and_then(|row| row.instance.as_ref()).is_some_and(|id| id.as_str() != member)
    })?;
    let returned = self::voter(cloud, 1)?;
    assert_eq!((&returned.voter_id, returned.generation), (&voter.voter_id, voter.generation));
    assert_ne!(returned.life, voter.life, "it votes as the voter that it was");
    let journal =
        cloud.inside(&cloud.fleet_of(SET)?["m1"], &["journalctl", "-q", "-o", "cat", "-u", "drover-agent"])?;
    let follows = journal.lines().find(|line| line.contains("begins task=Follow")).context("it follows the leader")?;
    assert!(follows.contains("drover_learner_m1"), "it came back as a voter: {follows}");
    cloud.await_equal_rows(SET, 2000)
}

fn blank(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("one that finds nothing where a voter was leaves it alone and calls for a person; the others go on");
    let fleet = cloud.fleet_of(SET)?;
    let volume = cloud.volume_of(&fleet["m2"])?;
    cloud.end_and_change(operator, &fleet["m2"], |volume| cloud.blank(volume))?;
    operator.await_set(SET, LAUNCH, "says that the volume is blank, and serves", |set| {
        let mut all = set.conditions.iter();
        let is_told = all.any(|it| it.reason == "ForeignVolume" && it.message.contains("a blank volume"));
        is_told && set.primary == Some(Slot::Member(0))
    })?;
    operator.await_passes(3)?;
    let now = cloud.fleet_of(SET)?["m2"].clone();
    assert_eq!(cloud.volume_of(&now)?, volume);
    let looked = cloud.inside(&now, &["sh", "-c", "blkid -p \"$0\"; echo $?", &device(&volume)])?;
    assert_eq!(looked.trim(), "2", "something was made on it");
    cloud.write_rows(&fleet["m0"], 2001, 2100)
}

/// Before the machine's agent can have got an order: it boots.
fn replace_mkfs(cloud: &Cloud, instance: &str, part: &str) -> anyhow::Result<()> {
    let install =
        "mkdir -p /usr/local/sbin; printf %s \"$0\" >/usr/local/sbin/mkfs.ext4; chmod 755 /usr/local/sbin/mkfs.ext4";
    cloud.inside(instance, &["sh", "-ec", install, &MKFS.replace("PART", part)]).map(drop)
}

/// A member's mkfs stands in the middle of its device, or the first leader's data is being initialised.
fn is_making(cloud: &Cloud, slot: &str, instance: &str) -> bool {
    let making = match slot {
        "m0" => "test -d /var/lib/drover/volume/data.tmp/data -a ! -e /var/lib/drover/volume/data",
        _ => "test -e /run/mkfs-stands",
    };
    cloud.inside(instance, &["sh", "-c", making]).is_ok()
}

fn voter(cloud: &Cloud, member: u8) -> anyhow::Result<Voter> {
    let register = cloud.register(SET)?;
    match register.voters.into_iter().find(|voter| voter.slot == Slot::Member(member)) {
        Some(voter) if register.joining.is_none() => Ok(voter),
        other => bail!("the register of a ready set names every member: {other:?}"),
    }
}
