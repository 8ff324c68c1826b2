//! A set's good days on real machines: it comes up, is found again by another operator, is updated, and ends.

use std::{fs, time::Duration};

use anyhow::ensure;
use drover_e2e::{Call, Cloud, Facts, Operator, heading, manifest, scenario, within};

/// Four machines boot on two cores while mysqld is initialised and copied.
const LAUNCH: Duration = Duration::from_secs(180);
/// A change that needs no new machine.
const SOON: Duration = Duration::from_secs(30);
const SET: &str = "quickstart";

#[test]
fn a_set_comes_up_and_is_kept() -> anyhow::Result<()> {
    scenario("fleet", |cloud| {
        let mut operator = Operator::start(cloud, "first")?;
        launch(cloud, &mut operator)?;
        plans(cloud, &operator)?;
        Ok(())
    })
}

fn launch(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a set of 3 + 1 becomes ready from the quickstart's manifest");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/samples/quickstart/quickstart.yaml");
    operator.declare("quickstart.yaml", &fs::read_to_string(sample)?)?;
    let set = operator.await_ready(SET, 4, LAUNCH)?;
    let facts = cloud.facts()?;
    assert_eq!(facts.machines.keys().collect::<Vec<_>>(), ["m0", "m1", "m2", "r0"]);
    assert_eq!((cloud.machines()?.len(), facts.volumes.len()), (4, 4), "{facts:?}");

    heading("its tags say who is what");
    for (slot, machine) in &facts.machines {
        let tag = |key: &str| facts.tags.get(&(machine.instance.clone(), key.to_owned())).cloned().unwrap_or_default();
        let role = match slot.as_str() {
            "m0" => "primary",
            "r0" => "reader",
            _ => "replica",
        };
        assert_eq!((tag("drover:role").as_str(), tag("drover:epoch").as_str()), (role, "1"), "{slot}");
    }

    heading("a row that a client writes on the primary is read on every member");
    let asked = operator.ask(
        cloud,
        &[
            "mysql",
            SET,
            "--",
            "-e",
            "CREATE DATABASE shop; CREATE TABLE shop.t (n INT PRIMARY KEY); INSERT INTO shop.t VALUES (1)",
        ],
    )?;
    assert!(asked.status.success(), "{asked:?}");
    for machine in facts.machines.values() {
        within(SOON, format!("the row is on {}", machine.instance), || {
            Ok((cloud.sql(&machine.instance, "SELECT n FROM shop.t")? == "1").then_some(()))
        })?;
    }
    let replica = operator.ask(cloud, &["mysql", SET, "--replica", "--", "-e", "INSERT INTO shop.t VALUES (2)"])?;
    assert!(!replica.status.success() && replica.error.contains("read-only"), "{replica:?}");

    heading("load balancers are told the truth");
    for row in &set.members {
        let (address, is_primary) =
            (row.address.expect("a ready machine has an address"), row.slot.to_string() == "m0");
        let answer = |path: &str| -> anyhow::Result<String> {
            let url = format!("http://{address}:7071{path}");
            cloud.inside(
                &facts.machines["r0"].instance,
                &["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url],
            )
        };
        let expected = if is_primary { ["200", "503"] } else { ["503", "200"] };
        assert_eq!([answer("/primary")?, answer("/replica?lag=2s")?], expected, "{}", row.slot);
        assert_eq!(answer("/replica?lag=soon")?, "400");
    }
    Ok(())
}

fn plans(cloud: &Cloud, operator: &Operator) -> anyhow::Result<()> {
    heading("a plan of what is there is empty; one of an edited manifest is told, and nothing of it is done");
    let calls = cloud.calls_so_far()?;
    let manifests = operator.manifests.display().to_string();
    let same = operator.ask(cloud, &["plan", "--manifests", &manifests])?;
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let edited = cloud.dir.join("edited");
    fs::create_dir_all(&edited)?;
    fs::write(edited.join("quickstart.yaml"), manifest(SET, 3, 2))?;
    let other = operator.ask(cloud, &["plan", "--manifests", &edited.display().to_string()])?;
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    assert!(other.out.contains('+') && other.out.contains("r1"), "{}", other.out);
    nothing_changed(cloud, calls)
}

/// Nothing but the lease was written since.
fn nothing_changed(cloud: &Cloud, since: u64) -> anyhow::Result<()> {
    let is_lease = |call: &Call| call.service == "s3" && call.target.ends_with("/lock.json");
    let changes: Vec<Call> = cloud.mutating(since)?.into_iter().filter(|call| !is_lease(call)).collect();
    ensure!(changes.is_empty(), "{changes:#?}");
    Ok(())
}
