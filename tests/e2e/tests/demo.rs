//! The demo from its first line to its last: no secret of it is where people or other machines can read it, and nothing is left
//! of it.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, ensure};
use drover_e2e::{
    Clock, Cloud, Demo, Instance, OPERATOR_KEY, Secret, Seen, Traces, Watch, heading, is_secret, objects, roles,
    secrets, traces, within,
};

/// Ten boots, on two cores, one after the other.
const WHOLE: Duration = Duration::from_secs(900);
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "quickstart";
const HEADINGS: [&str; 7] = [
    "A row written on the primary",
    "A replica's machine is destroyed",
    "Read replicas 1 -> 3 -> 1",
    "The operator is killed in the middle of a launch",
    "its whole local state deleted",
    "It is yours",
    "Left running; make demo-down ends it.",
];
/// What a demo that runs has on its host.
const KINDS: [&str; 7] = ["cgroup", "directory", "link", "loop device", "mount", "network namespace", "process"];
const IN_MACHINES: [(&str, &str); 3] = [
    ("journal", "journalctl -q --no-pager"),
    ("cloud-init's log", "cat /var/log/cloud-init*.log"),
    ("processes of now", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"),
];

/// Somewhere that somebody reads who may not know a secret.
struct Place {
    kind: &'static str,
    what: String,
    text: String,
}

#[test]
fn the_whole_demo_shows_no_secret_and_ends_with_nothing_left() -> anyhow::Result<()> {
    let clock = Clock::start();
    let watch = Watch::start();
    let mut demo = Demo::start("whole", &[("DETACH", "1")])?;
    demo.await_output(HEADINGS[0], WHOLE)?;
    // One of these machines ends before the demo does.
    let early = Cloud::of_another(&demo.home)?;
    let (early_roles, early_journals) = (roles(&early)?, in_machines(&early)?);
    let code = demo.end(WHOLE)?;
    let output = demo.output();
    assert_eq!(code, Some(0), "{output}");
    eprintln!("the demo took {:.0} s", clock.elapsed().as_secs_f64());
    for heading in HEADINGS {
        assert!(output.contains(heading), "{heading:?} is not in {output}");
    }
    let begins = output.split_once("== ").map(|(before, _)| before).unwrap_or_default();
    assert!(begins.contains("The demo needs 2 cores, ") && begins.contains("\nHere are "), "{output}");
    let cloud = Cloud::of_another(&demo.home)?;
    for words in [&["mysql", SET][..], &["mysql", SET, "--replica"]] {
        let asked = demo.drover(&cloud, &[words, &["--", "-e", "SELECT 1"]].concat())?;
        ensure!(asked.status.success(), "{asked:?}");
    }
    let mut secrets = secrets(&cloud)?;
    secrets.extend(early_roles);
    eprintln!("{} secrets", secrets.len());
    must_be_the_passwords(&cloud, &secrets)?;

    heading("no secret is found");
    let mut seen = watch.stop()?;
    for place in early_journals.into_iter().chain(places(&cloud, &demo, &seen)?) {
        ensure!(place.text.len() > 20, "{} is empty, so nothing could be found there: {}", place.what, place.text);
        for secret in &secrets {
            // Whoever starts the operator gives it the key so, and reads no other user's.
            let is_given = place.kind == "environments on the host" && secret.what == OPERATOR_KEY;
            ensure!(is_given || !place.text.contains(&secret.text), "{} is in {}", secret.what, place.what);
        }
    }

    heading("and one that is planted is found, wherever that is");
    let canary = secrets.iter().find(|secret| secret.what.starts_with("the secret of")).context("a set's secret")?;
    plant(&cloud, &demo, &canary.text, &mut seen)?;
    let all = places(&cloud, &demo, &seen)?;
    let kinds: BTreeSet<&str> = all.iter().map(|place| place.kind).collect();
    let found: BTreeSet<&str> =
        all.iter().filter(|place| place.text.contains(&canary.text)).map(|place| place.kind).collect();
    assert_eq!(found, kinds);

    heading("demo-down leaves nothing");
    let before = traces(&demo.home)?;
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), KINDS, "{before:#?}");
    demo.down()?;
    assert_eq!(traces(&demo.home)?, Traces::new());
    eprintln!("demo: {:.0} s", clock.elapsed().as_secs_f64());
    Ok(())
}

/// What is looked for are the passwords that are in use: MySQL keeps those of replication in clear.
fn must_be_the_passwords(cloud: &Cloud, secrets: &[Secret]) -> anyhow::Result<()> {
    let fleet = cloud.fleet()?;
    let replicas = fleet.iter().filter(|(slot, _)| *slot != "m0");
    for (slot, instance) in replicas {
        let used = cloud.sql(instance, "SELECT User_password FROM mysql.slave_master_info")?;
        ensure!(!used.is_empty() && secrets.iter().any(|secret| secret.text == used), "{slot} uses another password");
    }
    Ok(())
}

/// Every place, with what is there.
fn places(cloud: &Cloud, demo: &Demo, seen: &Seen) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut put = |kind, what: &str, text| places.push(Place { kind, what: format!("{kind} {what}"), text });
    put("tags", "of everything", format!("{:?}", cloud.tags()?));
    put("EC2's own record", "", fs::read_to_string(demo.home.join("cloud/account.json"))?);
    put("log of calls", "", cloud.calls()?);
    put("output", "of the demo", demo.output());
    put("log of the operator", "", fs::read_to_string(demo.home.join("log/operator.log"))?);
    put("log of the cloud", "", fs::read_to_string(demo.home.join("log/cloud.log"))?);
    for words in [&["status"][..], &["status", "--json"]] {
        put("status", &words.join(" "), demo.drover(cloud, words)?.out);
    }
    for words in [&["plan"][..], &["plan", "--json"]] {
        put("plan", &words.join(" "), demo.drover(cloud, words)?.out);
    }
    put("socket", "status", demo.socket("/v1/status")?);
    put("arguments", "of all processes", seen.arguments.iter().cloned().collect());
    put("environments on the host", "", seen.host_environments.iter().cloned().collect());
    put("environments in machines", "", seen.machine_environments.iter().cloned().collect());
    for path in objects(&cloud.bucket("drover"))?.iter().filter(|path| !is_secret(path)) {
        if path.file_name().is_some_and(|name| name != "drover") {
            put("objects that hold none", &path.display().to_string(), fs::read_to_string(path)? + &" ".repeat(20));
        }
    }
    // Those that have ended too.
    for Instance { id, .. } in cloud.machines()? {
        put("user data", &id, cloud.user_data(&id)?);
        let console = demo.home.join("cloud/hardware/machines").join(&id).join("console.log");
        if console.exists() {
            put("console", &id, String::from_utf8_lossy(&fs::read(console)?).into_owned());
        }
    }
    places.extend(in_machines(cloud)?);
    Ok(places)
}

/// What the machines that run have in their journals, logs and processes.
fn in_machines(cloud: &Cloud) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for instance in cloud.fleet()?.values() {
        for (kind, command) in IN_MACHINES {
            let text = cloud.inside(instance, &["sh", "-c", command])?;
            places.push(Place { kind, what: format!("{kind} of {instance}"), text });
        }
    }
    Ok(places)
}

/// Puts a secret into every kind of place, by the way that it would come there.
fn plant(cloud: &Cloud, demo: &Demo, canary: &str, seen: &mut Seen) -> anyhow::Result<()> {
    // A manifest's file name is in what the operator says of it: log, status, plan, socket.
    fs::write(demo.home.join("manifests").join(format!("{canary}.yaml")), "kind: [\n")?;
    within(SOON, "the operator names the file", || Ok(demo.socket("/v1/status")?.contains(canary).then_some(())))?;
    for log in [demo.home.join("log/cloud.log"), demo.home.with_extension("log")] {
        fs::write(&log, fs::read_to_string(&log)? + canary)?;
    }
    cloud.put_object("planted", canary)?;
    cloud.put_object(canary, "in the name")?;
    let fleet = cloud.fleet()?;
    let instance = fleet.values().next().context("a machine")?;
    cloud.ec2("CreateTags", &[("ResourceId.1", instance), ("Tag.1.Key", "planted"), ("Tag.1.Value", canary)])?;
    cloud.run_stranger(&format!("#!/bin/sh\n# {canary}\n"))?;
    let everywhere = "echo \"$0\" | systemd-cat; echo \"$0\" >>/var/log/cloud-init.log; echo \"$0\" >/dev/console";
    cloud.inside(instance, &["sh", "-ec", everywhere, canary])?;
    let _inside = cloud.begin_inside(instance, &["env", &format!("PLANTED={canary}"), "sleep", "60"])?;
    let _outside = Planted::start(canary)?;
    within(SOON, "what is planted is seen", || {
        seen.look()?;
        let all = [&seen.arguments, &seen.host_environments, &seen.machine_environments];
        Ok(all.iter().all(|texts| texts.iter().any(|text| text.contains(canary))).then_some(()))
    })
}

/// A process of the host with a secret in its environment.
struct Planted(Child);

impl Planted {
    fn start(canary: &str) -> anyhow::Result<Self> {
        Ok(Self(Command::new("sleep").arg("60").env("PLANTED", canary).spawn()?))
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
