//! A set's good days on real machines: it comes up, is found again by another operator, is updated, and ends.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use drover_api::conditions::ConditionType;
use drover_e2e::{
    Call, Clock, Cloud, Facts, Operator, Policy, drover, heading, image_cache, manifest, permission, scenario, within,
};

/// Four machines boot on two cores while mysqld is initialised and copied.
const LAUNCH: Duration = Duration::from_secs(300);
/// A change that needs no new machine.
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "quickstart";
const FILLED: [&str; 4] = ["quickstart/m0", "quickstart/m1", "quickstart/m2", "quickstart/r0"];
const FILE: &str = "quickstart.yaml";
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/samples/quickstart/quickstart.yaml");

#[test]
fn a_set_comes_up_and_is_kept() -> anyhow::Result<()> {
    scenario("fleet", |cloud| {
        let quickstart = fs::read_to_string(SAMPLE)?;
        let manifests = [(FILE, quickstart.as_str())];
        let mut operator = Operator::start(cloud, "first", &manifests)?;
        launch(cloud, &mut operator)?;
        plans(cloud, &operator)?;
        let facts = cloud.facts()?;
        let (config, state) = (operator.config.clone(), operator.state.clone());
        operator.kill()?;
        looked_at(cloud, &config, &state)?;
        let second = adoption(cloud, &facts, Operator::start(cloud, "second", &manifests)?)?;
        let third = two_operators(cloud, &facts, second, Operator::start(cloud, "third", &manifests)?)?;
        third.stop()?;
        let newer = Operator::newer_build(cloud)?;
        let mut fourth = update(cloud, &facts, Operator::start_build(cloud, "fourth", &manifests, &newer)?)?;
        replacement(cloud, &mut fourth)?;
        files(cloud, &mut fourth, &quickstart)?;
        deletion(cloud, &mut fourth, &quickstart)
    })
}

fn reads(cloud: &Cloud) -> anyhow::Result<()> {
    heading("its machines ask for nothing but what the printed policy of their profile allows");
    let mut environment = cloud.environment();
    environment.extend([("DROVER_REALM", "e2e".to_owned()), ("DROVER_BUCKET", "drover".to_owned())]);
    let profile = Policy::printed(&environment, &["--for", "machine", "--name", SET])?;
    let calls: Vec<Call> =
        cloud.calls_since(0)?.into_iter().filter(|call| call.access_key.starts_with("ASIA")).collect();
    let granted = |call: &Call| profile.allows(&permission(call), &call.target);
    for call in &calls {
        assert!(granted(call), "{call:?}");
    }
    for read in ["/bin/current", "/drover", "/register.json", "/bundle.json"] {
        assert!(
            calls.iter().any(|call| call.target.ends_with(read) && granted(call)),
            "no machine read {read}: {calls:#?}"
        );
    }
    Ok(())
}

fn launch(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a set of 3 + 1 becomes ready from the quickstart's manifest");
    let set = operator.await_ready(SET, 4, LAUNCH)?;
    let facts = cloud.facts()?;
    assert_eq!(facts.machines.keys().collect::<Vec<_>>(), FILLED);
    assert_eq!((cloud.machines()?.len(), facts.volumes.len()), (4, 4), "{facts:?}");

    heading("its tags say who is what");
    for (slot, machine) in &facts.machines {
        let tag = |key: &str| facts.tags.get(&(machine.instance.clone(), key.to_owned())).cloned().unwrap_or_default();
        let role = match slot.as_str() {
            "quickstart/m0" => "primary",
            "quickstart/r0" => "reader",
            _ => "replica",
        };
        assert_eq!((tag("drover:role").as_str(), tag("drover:epoch").as_str()), (role, "1"), "{slot}");
    }

    reads(cloud)?;

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

    heading("a client that is installed here is told whom to trust, and reaches the same");
    let client = client_of_image(&cloud.dir)?;
    let here = |statement| operator.ask(cloud, &["mysql", SET, "--client", &client, "--", "-Ne", statement]);
    let asked = here("SELECT n, USER() FROM shop.t; SHOW STATUS LIKE 'Ssl_cipher'")?;
    let host = cloud.endpoints.ec2.trim_start_matches("http://").split(':').next().context("an address")?;
    let said: Vec<&str> = asked.out.split_whitespace().collect();
    let [n, user, _, cipher] = said[..] else { bail!("{asked:?}") };
    assert!(n == "1" && user == format!("drover_admin@{host}") && cipher.starts_with("TLS_"), "{asked:?}");

    people(cloud, operator, &facts.machines["quickstart/m0"].instance)?;

    heading("load balancers are told the truth");
    for row in &set.members {
        let (address, is_primary) =
            (row.address.expect("a ready machine has an address"), row.slot.to_string() == "m0");
        let answer = |path: &str| -> anyhow::Result<String> {
            let url = format!("http://{address}:7071{path}");
            cloud.inside(
                &facts.machines["quickstart/r0"].instance,
                &["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url],
            )
        };
        let expected = if is_primary { ["200", "503"] } else { ["503", "200"] };
        // On a busy host a replica may lag for a while, and says so.
        within(SOON, format!("{} answers {expected:?}", row.slot), || {
            Ok(([answer("/primary")?, answer("/replica?lag=2s")?] == expected).then_some(()))
        })?;
        assert_eq!(answer("/replica?lag=soon")?, "400");
    }
    Ok(())
}

/// What the account for people may not do.
fn people(cloud: &Cloud, operator: &Operator, primary: &str) -> anyhow::Result<()> {
    heading("people may do everything but take the set's protection away");
    for statement in [
        "RESET BINARY LOGS AND GTIDS",
        "SET GLOBAL super_read_only = ON",
        "UPDATE mysql.user SET Super_priv = 'Y'",
        "INSTALL COMPONENT 'file://component_validate_password'",
        "DROP USER drover_voter_m1",
        "DELETE FROM drover.marker",
        "SELECT User_password FROM mysql.slave_master_info",
    ] {
        let asked = operator.ask(cloud, &["mysql", SET, "--", "-e", statement])?;
        assert!(!asked.status.success() && asked.error.contains("denied"), "{statement}: {asked:?}");
    }
    let asked = operator.ask(
        cloud,
        &["mysql", SET, "--", "-e", "CREATE USER joe IDENTIFIED BY 'joe'; GRANT ALL ON shop.* TO joe; FLUSH TABLES"],
    )?;
    assert!(asked.status.success(), "{asked:?}");
    // Nor may whoever they let read everything.
    let watcher =
        "CREATE USER watcher IDENTIFIED BY 'watcher'; GRANT SELECT ON *.* TO watcher; SELECT COUNT(*) FROM mysql.user";
    let asked = operator.ask(cloud, &["mysql", SET, "--", "-e", watcher])?;
    assert!(asked.status.success(), "{asked:?}");
    let login = ["mysql", "--host=127.0.0.1", "--user=watcher", "--password=watcher", "-Ne"];
    let read = |statement| cloud.inside(primary, &[&login[..], &[statement]].concat());
    assert_eq!(read("SELECT n FROM shop.t")?.trim(), "1");
    let refused = read("SELECT User_password FROM mysql.slave_master_info").expect_err("it is nobody's to read");
    assert!(format!("{refused:#}").contains("denied"), "{refused:#}");

    heading("tables that a restart empties, or that are not copied, cannot be made");
    for engine in ["MEMORY", "CSV", "MyISAM"] {
        let make = format!("CREATE TABLE shop.other (n INT NOT NULL PRIMARY KEY) ENGINE = {engine}");
        let asked = operator.ask(cloud, &["mysql", SET, "--", "-e", &make])?;
        assert!(!asked.status.success() && asked.error.contains("disabled"), "{engine}: {asked:?}");
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

fn adoption(cloud: &Cloud, facts: &Facts, mut second: Operator) -> anyhow::Result<Operator> {
    heading("an operator that knows nothing adopts what one that was killed left, and changes nothing");
    let calls = cloud.calls_so_far()?;
    second.await_ready(SET, 4, SOON)?;
    second.await_passes(3)?;
    assert_eq!(&cloud.facts()?, facts);
    nothing_changed(cloud, calls)?;
    Ok(second)
}

fn two_operators(cloud: &Cloud, facts: &Facts, mut second: Operator, mut third: Operator) -> anyhow::Result<Operator> {
    heading("a second operator of the realm says who acts, and does nothing");
    let calls = cloud.calls_so_far()?;
    let holder = within(SOON, "the third knows the holder", || {
        let lock = third.status()?.lock;
        Ok((!lock.holder.is_empty()).then_some(lock))
    })?;
    assert!(!holder.ours && holder.holder == second.status()?.lock.holder, "{holder:?}");
    third.await_passes(2)?;
    nothing_changed(cloud, calls)?;

    heading("a holder that stands still past its lease wakes up to do nothing, though it has something to do");
    second.freeze()?;
    second.declare(FILE, &manifest(SET, 3, 2))?;
    third.await_ready(SET, 4, SOON)?;
    let calls = cloud.calls_so_far()?;
    second.thaw()?;
    let lock = within(SOON, "the second knows that it lost the lock", || {
        let lock = second.status()?.lock;
        Ok((!lock.ours && !lock.holder.is_empty()).then_some(lock))
    })?;
    assert_eq!(lock.holder, third.status()?.lock.holder);
    second.await_passes(3)?;
    nothing_changed(cloud, calls)?;
    let refused: Vec<Call> = cloud.mutating(calls)?.into_iter().filter(|call| call.error.is_some()).collect();
    assert!(refused.is_empty(), "the second tried to write: {refused:#?}");
    assert_eq!(&cloud.facts()?, facts);
    Ok(third)
}

fn update(cloud: &Cloud, facts: &Facts, mut newer: Operator) -> anyhow::Result<Operator> {
    heading("agents become the operator's newer build, one after the other, and no mysqld notices");
    let calls = cloud.calls_so_far()?;
    let build = sha256(&cloud.dir.join("newer-drover"))?;
    for machine in facts.machines.values() {
        within(LAUNCH, format!("{} runs the newer build", machine.instance), || {
            let current = cloud.inside(&machine.instance, &["sha256sum", "/opt/drover/bin/current"])?;
            Ok(current.starts_with(&build).then_some(()))
        })?;
    }
    newer.await_ready(SET, 4, SOON)?;
    assert_eq!(&cloud.facts()?, facts);
    let is_build = |call: &Call| call.service == "s3" && call.target.contains("/bin/");
    let other: Vec<Call> =
        cloud.mutating(calls)?.into_iter().filter(|call| !is_build(call) && !is_lease(call)).collect();
    assert!(other.is_empty(), "{other:#?}");
    let mut turns = Vec::new();
    for machine in facts.machines.values() {
        let journal =
            cloud.inside(&machine.instance, &["journalctl", "-q", "-u", "drover-agent", "-o", "short-unix"])?;
        let at = |line: &str| line.split(' ').next().and_then(|time| time.parse::<f64>().ok());
        let begins = journal.lines().rfind(|line| line.contains("becomes another build")).and_then(at);
        let ends = journal.lines().rfind(|line| line.contains("this machine is known")).and_then(at);
        turns.push((begins.expect("the journal says when"), ends.expect("the journal says when")));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(turns.windows(2).all(|pair| pair[0].1 < pair[1].0), "agents were updated at once: {turns:?}");
    Ok(newer)
}

fn replacement(cloud: &Cloud, operator: &mut Operator) -> anyhow::Result<()> {
    heading("a replica's machine that ends is replaced, with its volume, and has every acknowledged row");
    let before = cloud.facts()?;
    let (primary, lost) = (&before.machines["quickstart/m0"], &before.machines["quickstart/m1"]);
    cloud.sql(&primary.instance, "INSERT INTO shop.t VALUES (2), (3), (4)")?;
    cloud.end_machine(&lost.instance)?;
    cloud.sql(&primary.instance, "INSERT INTO shop.t VALUES (5)")?;
    operator.await_set(SET, LAUNCH, "has another m1 and is ready", |set| {
        let m1 = set.members.iter().find(|row| row.slot.to_string() == "m1");
        set.ready && m1.and_then(|row| row.instance.as_ref()).is_some_and(|id| id.as_str() != lost.instance)
    })?;
    let after = cloud.facts()?;
    let found = &after.machines["quickstart/m1"];
    assert_eq!((&found.volume, after.volumes.len()), (&lost.volume, 4));
    for slot in ["quickstart/m0", "quickstart/m2", "quickstart/r0"] {
        assert_eq!(after.machines[slot], before.machines[slot], "{slot} was touched");
    }
    within(SOON, "the new m1 has every row", || {
        Ok((cloud.sql(&found.instance, "SELECT GROUP_CONCAT(n ORDER BY n) FROM shop.t")? == "1,2,3,4,5").then_some(()))
    })?;

    heading("read replicas 1 -> 3 -> 1");
    operator.declare(FILE, &manifest(SET, 3, 3))?;
    operator.await_ready(SET, 6, LAUNCH)?;
    let readers = cloud.fleet()?;
    assert_eq!(cloud.sql(&readers["r2"], "SELECT COUNT(*) FROM shop.t")?, "5");
    operator.declare(FILE, &manifest(SET, 3, 1))?;
    operator.await_ready(SET, 4, LAUNCH)?;
    let facts = cloud.facts()?;
    assert_eq!(facts.machines.keys().collect::<Vec<_>>(), FILLED);
    assert_eq!(facts.volumes.len(), 4);
    Ok(())
}

fn files(cloud: &Cloud, operator: &mut Operator, quickstart: &str) -> anyhow::Result<()> {
    heading("a file's change is seen within a second");
    let mut fastest = Duration::MAX;
    for paused in [true, false, true, false] {
        operator.declare(FILE, &format!("{quickstart}  paused: {paused}\n"))?;
        let clock = Clock::start();
        operator.await_set(SET, SOON, "heeds the change", |set| {
            set.condition(ConditionType::Suspended).is_some() == paused
        })?;
        fastest = fastest.min(clock.elapsed());
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");

    heading("a malformed file is named with line and field, and stops nothing");
    let before = cloud.facts()?;
    operator.declare("broken.yaml", &manifest("broken", 4, 0))?;
    let problems = within(SOON, "the malformed file is named", || {
        let problems = operator.status()?.problems;
        Ok((!problems.is_empty()).then_some(problems))
    })?;
    assert!(problems[0].contains("broken.yaml:6:") && problems[0].contains("spec.members"), "{problems:?}");
    operator.await_ready(SET, 4, SOON)?;
    operator.withdraw("broken.yaml")?;
    within(SOON, "nothing is malformed", || Ok(operator.status()?.problems.is_empty().then_some(())))?;

    heading("a file that is removed leaves its machines, and they are reported as unclaimed");
    let calls = cloud.calls_so_far()?;
    operator.withdraw(FILE)?;
    let unclaimed = within(SOON, "the machines are reported", || {
        let unclaimed = operator.status()?.unclaimed;
        Ok((!unclaimed.is_empty()).then_some(unclaimed))
    })?;
    assert!(unclaimed.iter().any(|line| line.contains(SET)), "{unclaimed:?}");
    operator.await_passes(3)?;
    assert_eq!(cloud.facts()?, before);
    nothing_changed(cloud, calls)
}

/// `drover status` where no operator answers.
fn looked_at(cloud: &Cloud, config: &Path, state: &Path) -> anyhow::Result<()> {
    heading("without an operator drover status reads cloud, bucket and agents itself, and says so");
    let calls = cloud.calls_so_far()?;
    let mut environment = cloud.environment();
    environment.insert("DROVER_CONFIG", config.display().to_string());
    environment.insert("DROVER_STATE", state.display().to_string());
    let said = drover(&environment, &["status", SET])?;
    assert!(said.status.success(), "{said:?}");
    let (by, sets) = said.out.split_once("\n\n").context("who says so, and then the sets")?;
    assert!(by.contains("this is what cloud, bucket and agents say"), "{by}");
    assert!(sets.contains("m0 is primary, 4/4 machines ready"), "{sets}");
    nothing_changed(cloud, calls)
}

fn deletion(cloud: &Cloud, operator: &mut Operator, quickstart: &str) -> anyhow::Result<()> {
    heading("a set that is declared is not deleted; one that is not ends whole");
    operator.declare(FILE, quickstart)?;
    operator.await_ready(SET, 4, SOON)?;
    let refused = operator.ask(cloud, &["delete", SET, "--yes"])?;
    assert!(!refused.status.success() && refused.error.contains("declared"), "{refused:?}");
    operator.withdraw(FILE)?;
    within(SOON, "nobody declares it", || Ok((!operator.status()?.unclaimed.is_empty()).then_some(())))?;
    let deleted = operator.ask(cloud, &["delete", SET, "--yes"])?;
    assert!(deleted.status.success() && deleted.out.contains("nothing of it is left"), "{deleted:?}");
    assert_eq!(cloud.machines()?.into_iter().filter(|machine| machine.state != "terminated").count(), 0);
    assert_eq!(cloud.data_volumes()?, Vec::<String>::new());
    Ok(())
}

/// Nothing but the lease was written since.
fn nothing_changed(cloud: &Cloud, since: u64) -> anyhow::Result<()> {
    let changes: Vec<Call> = cloud.mutating(since)?.into_iter().filter(|call| !is_lease(call)).collect();
    ensure!(changes.is_empty(), "{changes:#?}");
    Ok(())
}

fn is_lease(call: &Call) -> bool {
    call.service == "s3" && call.target.ends_with("/lock.json")
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let output = std::process::Command::new("sha256sum").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split(' ').next().context("sha256sum answers a hash")?.to_owned())
}

/// MySQL's own client as a program of this host: the one in the machine image, with the libraries that are beside it there.
fn client_of_image(dir: &Path) -> anyhow::Result<String> {
    let images = fs::read_dir(image_cache())?.filter_map(|entry| Some(entry.ok()?.path().join("base")));
    let image = images.filter(|base| base.join("usr/bin/mysql").exists()).last().context("an image")?;
    let (image, client) = (image.display(), dir.join("mysql-client"));
    let script = format!(
        "#!/bin/sh\nexec {image}/lib64/ld-linux-x86-64.so.2 --library-path {image}/usr/lib/x86_64-linux-gnu {image}/usr/bin/mysql \"$@\"\n"
    );
    fs::write(&client, script)?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    Ok(client.display().to_string())
}
