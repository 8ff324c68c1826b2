//! What is wrong with an image or on a volume is said in a condition, and what is wrong with clocks or the bucket by the operator;
//! nothing is launched twice, nothing is touched, and what serves goes on serving.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use drover_api::conditions::ConditionType;
use drover_e2e::{Cloud, Operator, heading, manifest, scenario, within};

const LAUNCH: Duration = Duration::from_secs(300);

#[test]
fn a_wrong_image_or_volume_is_named_and_nothing_is_lost() -> anyhow::Result<()> {
    scenario("mistakes", |cloud| {
        let [bare, other] = ["without-mysqld", "other-mysql"].map(|kind| image(cloud, kind));
        let (bare, other) = (with_image("bare", &bare?), with_image("other", &other?));
        let good = manifest("good", 3, 0);
        let manifests = [("bare.yaml", bare.as_str()), ("other.yaml", &other), ("good.yaml", &good)];
        let mut operator = Operator::start(cloud, "operator", &manifests)?;
        operator.await_ready("good", 3, LAUNCH)?;
        images(cloud, &mut operator)?;
        outages(cloud, &mut operator)?;
        foreign_volume(cloud, &mut operator)
    })
}

fn images(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("an image without mysqld, or with another version, is said to be so, and launched once");
    for (name, reason) in [("bare", "there is no mysqld"), ("other", "mysqld is 9.6.0")] {
        operator.await_set(name, LAUNCH, "says what is wrong with its image", |set| {
            set.condition(ConditionType::Ready).is_some_and(|ready| !ready.status && ready.message.contains(reason))
        })?;
        operator.await_passes(3)?;
        let machines = cloud.machines()?.into_iter().filter(|machine| machine.name.starts_with(name)).count();
        assert_eq!(machines, 1, "machines of {name}");
    }
    Ok(())
}

fn outages(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a machine whose requests are dated wrong at its first boot gets on once the clocks agree");
    let before = lives(cloud)?;
    let primary = before["m0"].0.clone();
    cloud.sql(&primary, "CREATE DATABASE shop; CREATE TABLE shop.t (n INT PRIMARY KEY)")?;
    operator.declare("late.yaml", &manifest("late", 1, 0))?;
    within(LAUNCH, "the machine is launched", || {
        Ok(cloud.machines()?.iter().any(|machine| machine.name == "late-m0").then_some(()))
    })?;
    let since = cloud.calls_so_far()?;
    cloud.fault("clock-skew 1200")?;
    within(LAUNCH, "the machine is refused", || {
        let calls = cloud.calls_since(since)?;
        Ok(calls.iter().any(|call| call.access_key.starts_with("ASIA") && call.error.is_some()).then_some(()))
    })?;
    goes_on(cloud, operator, &primary, "set this machine's clock right")?;
    cloud.mend("clock-skew 1200")?;
    operator.await_ready("late", 1, LAUNCH)?;
    assert_eq!(cloud.machines()?.iter().filter(|machine| machine.name == "late-m0").count(), 1);

    heading("a set serves on without its bucket, and with one that is empty; who is closed then stays closed");
    cloud.lose_bucket()?;
    goes_on(cloud, operator, &primary, "make the bucket")?;
    fs::create_dir(cloud.bucket("drover"))?;
    for name in ["good", "late"] {
        operator.await_set(name, LAUNCH, "stalls", |set| set.condition(ConditionType::Stalled).is_some())?;
    }
    let single = cloud.fleet_of("late")?["m0"].clone();
    let boot = || cloud.inside(&single, &["cat", "/proc/sys/kernel/random/boot_id"]);
    let before_reboot = boot()?;
    cloud.ec2("RebootInstances", &[("InstanceId.1", &single)])?;
    within(LAUNCH, "it has booted again, and its agent answers that it is no primary", || {
        Ok((boot()? != before_reboot && answer(cloud, &single)? == "503").then_some(()))
    })?;
    operator.await_passes(3)?;
    assert_ne!(answer(cloud, &single)?, "200", "it opened without a register");
    cloud.sql(&primary, "INSERT INTO shop.t SELECT COUNT(*) FROM shop.t")?;
    cloud.restore_bucket()?;
    operator.await_ready("good", 3, LAUNCH)?;
    operator.await_passes(3)?;
    assert_eq!(lives(cloud)?, before);
    Ok(())
}

/// Whether load balancers would take it for a primary, as HTTP's code; 000 where nothing answers.
fn answer(cloud: &Cloud, instance: &str) -> anyhow::Result<String> {
    let ask = "curl -s -o /dev/null -w '%{http_code}' -m 3 http://127.0.0.1:7071/primary || true";
    cloud.inside(instance, &["sh", "-c", ask])
}

/// The operator says what is wrong, and the set acknowledges a commit all the same.
fn goes_on(cloud: &Cloud, operator: &mut Operator, primary: &str, said: &str) -> anyhow::Result<()> {
    let error = within(LAUNCH, "the operator says so", || Ok(operator.status()?.lock.error))?;
    assert!(error.contains(said), "{error}");
    cloud.sql(primary, "INSERT INTO shop.t SELECT COUNT(*) FROM shop.t").map(drop)
}

/// The machines of the set that serves, and which mysqld runs in each.
fn lives(cloud: &Cloud) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let fleet = cloud.fleet_of("good")?.into_iter();
    fleet.map(|(slot, instance)| Ok((slot, (instance.clone(), cloud.mysqld(&instance)?)))).collect()
}

fn foreign_volume(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a replacement that finds something foreign in its slot's volume leaves it alone and says so");
    let before = cloud.fleet_of("good")?["m1"].clone();
    let volume = volume_of(cloud, &before)?;
    let overwrite = format!(
        "systemctl stop drover-agent; systemctl kill -s KILL drover-mysqld; \
         until umount /var/lib/drover/volume; do sleep 0.1; done; mkfs.ext4 -q -F -L theirs {}",
        device(&volume)
    );
    cloud.inside(&before, &["sh", "-ec", &overwrite])?;
    cloud.end_machine(&before)?;
    operator.await_set("good", LAUNCH, "says that the volume is foreign, and the others serve", |set| {
        let mut all = set.conditions.iter();
        let is_told = all.any(|it| it.reason == "ForeignVolume" && it.message.contains("theirs"));
        is_told && set.primary.is_some()
    })?;
    operator.await_passes(3)?;
    let now = cloud.fleet_of("good")?["m1"].clone();
    assert_eq!(volume_of(cloud, &now)?, volume);
    assert_eq!(cloud.inside(&now, &["blkid", "-o", "value", "-s", "LABEL", &device(&volume)])?.trim(), "theirs");
    Ok(())
}

fn volume_of(cloud: &Cloud, instance: &str) -> anyhow::Result<String> {
    let machine =
        cloud.machines()?.into_iter().find(|machine| machine.id == instance).context("EC2 shows the machine")?;
    machine.volumes.into_iter().next().context("a data volume is attached")
}

/// Where a Nitro machine shows a volume.
fn device(volume: &str) -> String {
    format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", volume.replace('-', ""))
}

/// The id of the image that is tagged for that purpose.
fn image(cloud: &Cloud, purpose: &str) -> anyhow::Result<String> {
    let filter = [("Filter.1.Name", "tag:drover:image"), ("Filter.1.Value.1", purpose)];
    Ok(cloud.ec2("DescribeImages", &filter)?.text("imageId"))
}

/// A set of one on that image.
fn with_image(name: &str, id: &str) -> String {
    format!("{}  machine:\n    image:\n      id: {id}\n", manifest(name, 1, 0))
}
