//! What people get wrong, with the real binary: each mistake is said in a sentence that names the field or the command and what
//! to do, nothing is launched twice, and what was wrong for a while only is gone on with once it is mended.

use std::{collections::BTreeMap, fs, net::TcpListener, time::Duration};

use anyhow::{Context, ensure};
use drover_e2e::{CONFIG, Cloud, Operator, drover, heading, manifest, scenario_without_machines, within};

/// Longer than the lease of these operators, and a pass.
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "kept";
const FILE: &str = "kept.yaml";

type Environment = BTreeMap<&'static str, String>;

/// A start that goes wrong: what is different from a good one, and what is said.
struct Start {
    what: &'static str,
    change: Box<dyn Fn(&mut Environment)>,
    said: &'static [&'static str],
}

fn start(what: &'static str, said: &'static [&'static str], change: impl Fn(&mut Environment) + 'static) -> Start {
    Start { what, change: Box::new(change), said }
}

#[test]
fn what_is_wrong_at_the_start_is_said_in_a_sentence_and_nothing_is_sent() -> anyhow::Result<()> {
    scenario_without_machines("wrong-start", |cloud| {
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let silent = format!("http://{}", silent.local_addr()?);
        let network = &["check the network, and the endpoint", "GetObject"];
        let unknown = &["AWS does not know these credentials here: check AWS_ACCESS_KEY_ID"];
        for case in [
            start(
                "a bucket that does not exist",
                &["make the bucket in this Region, or name another with --bucket", "\"records\""],
                |env| {
                    env.insert("DROVER_BUCKET", "records".into());
                },
            ),
            start("another secret", unknown, |env| {
                env.insert("AWS_SECRET_ACCESS_KEY", "wrong".into());
            }),
            start("another key", unknown, |env| {
                env.insert("AWS_ACCESS_KEY_ID", "AKIAWRONG".into());
            }),
            start("no credentials", &["give AWS credentials: AWS_ACCESS_KEY_ID"], |env| {
                env.remove("AWS_ACCESS_KEY_ID");
            }),
            start("no Region", &["set AWS_REGION, --region"], |env| {
                env.remove("AWS_REGION");
            }),
            start("an endpoint where nobody listens", network, |env| {
                env.insert("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1".into());
            }),
            start("an endpoint that does not answer", network, move |env| {
                env.insert("AWS_ENDPOINT_URL_S3", silent.clone());
            }),
        ] {
            must_refuse(cloud, &case)?;
        }
        heading("a clock that is wrong");
        for (seconds, side) in [(1_200, "behind"), (-1_200, "ahead of")] {
            cloud.fault(&format!("clock-skew {seconds}"))?;
            let wrong = start(
                "a clock that is wrong",
                &["set this machine's clock right", "this machine's clock is 1"],
                |_| (),
            );
            let error = must_refuse(cloud, &wrong)?;
            assert!(error.contains(side), "{error}");
            cloud.mend(&format!("clock-skew {seconds}"))?;
        }
        assert!(cloud.mutating(0)?.is_empty(), "{:?}", cloud.mutating(0)?);
        Ok(())
    })
}

/// `run`, `plan` and `status` all end with 1 and the sentence, which is answered.
fn must_refuse(cloud: &Cloud, case: &Start) -> anyhow::Result<String> {
    heading(case.what);
    let manifests = cloud.dir.join("wanted");
    fs::create_dir_all(&manifests)?;
    fs::write(manifests.join(FILE), manifest(SET, 1, 0))?;
    let mut environment = environment(cloud, CONFIG)?;
    environment.insert("DROVER_MANIFESTS", manifests.display().to_string());
    (case.change)(&mut environment);
    let mut last = String::new();
    for command in ["run", "plan", "status"] {
        let asked = drover(&environment, &[command])?;
        assert_eq!(asked.status.code(), Some(1), "{command}: {asked:?}");
        assert!(asked.error.starts_with("drover: ") && asked.error.lines().count() == 1, "{command}: {asked:?}");
        for said in case.said {
            assert!(asked.error.contains(said), "{command} does not say {said:?}: {}", asked.error);
        }
        last = asked.error;
    }
    eprintln!("{}", last.trim_end());
    Ok(last)
}

/// A good environment, with this configuration and a state directory in which no operator runs.
fn environment(cloud: &Cloud, config: &str) -> anyhow::Result<Environment> {
    let path = cloud.dir.join("drover.yaml");
    fs::write(&path, config)?;
    let mut environment = cloud.environment();
    environment.extend([
        ("DROVER_CONFIG", path.display().to_string()),
        ("DROVER_STATE", cloud.dir.join("nobody").display().to_string()),
        // Where these tests run on EC2, the machine's own role is nothing to them.
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
    ]);
    Ok(environment)
}

#[test]
fn a_configuration_that_is_not_understood_is_told_with_line_and_field() -> anyhow::Result<()> {
    scenario_without_machines("wrong-configuration", |cloud| {
        let manifests = cloud.dir.join("wanted");
        fs::create_dir_all(&manifests)?;
        let tags: String = (0..37).map(|n| format!("      t{n}: x\n")).collect();
        let owned = "    dataVolume: {sizeGiB: 4}\n    tags:\n      drover:role: primary\n      Name: mine\n";
        for (text, said) in [
            ("realm: [\n".to_owned(), vec!["drover.yaml:1:8: "]),
            (
                format!("{CONFIG}buckets: x\n"),
                vec!["drover.yaml:12:1: buckets is not a field; the object has allow, bucket,"],
            ),
            (CONFIG.replace("Seconds: 9", "Seconds: 5"), vec!["drover.yaml:3:1: leaseSeconds must be 9 to 600"]),
            (CONFIG.replace("realm: e2e", "realm: E2E"), vec!["drover.yaml:1:1: realm \"E2E\" is not valid"]),
            (
                CONFIG.replace("    dataVolume: {sizeGiB: 4}\n", owned),
                vec![
                    "drover.yaml:13:7: defaults.machine.tags: drover:role",
                    "drover.yaml:14:7: defaults.machine.tags: Name",
                ],
            ),
            (
                CONFIG.replace("    dataVolume: {sizeGiB: 4}\n", &format!("    tags:\n{tags}")),
                vec!["drover.yaml:11:5: defaults.machine.tags must have at most 36 entries"],
            ),
            (
                CONFIG.replace("sizeGiB: 4", "sizeGiB: four"),
                vec!["drover.yaml:11:18: defaults.machine.dataVolume.sizeGiB must be"],
            ),
        ] {
            let mut environment = environment(cloud, &text)?;
            environment.insert("DROVER_MANIFESTS", manifests.display().to_string());
            for command in ["run", "plan", "status"] {
                let asked = drover(&environment, &[command])?;
                assert_eq!(asked.status.code(), Some(1), "{command}: {asked:?}");
                for said in &said {
                    assert!(asked.error.contains(said), "{command} does not say {said:?}: {}", asked.error);
                }
            }
        }
        heading("files and directories that are not there");
        let good = environment(cloud, CONFIG)?;
        for (name, path, said) in [
            ("DROVER_CONFIG", "none.yaml", "give a file with --config"),
            ("DROVER_CONFIG", "", "give a file with --config"),
            ("DROVER_MANIFESTS", "none", "give the directory of the manifests with --manifests"),
            ("DROVER_MANIFESTS", "drover.yaml", "is not a directory"),
        ] {
            let mut environment = good.clone();
            environment.insert("DROVER_MANIFESTS", manifests.display().to_string());
            environment.insert(name, cloud.dir.join(path).display().to_string());
            for command in ["run", "plan"] {
                let asked = drover(&environment, &[command])?;
                assert!(asked.status.code() == Some(1) && asked.error.contains(said), "{command}: {asked:?}");
            }
        }
        assert!(cloud.mutating(0)?.is_empty());
        Ok(())
    })
}

/// Something that is wrong for a while.
struct Outage {
    what: &'static str,
    begin: fn(&Cloud) -> anyhow::Result<()>,
    end: fn(&Cloud) -> anyhow::Result<()>,
    said: &'static str,
}

const OUTAGES: [Outage; 4] = [
    Outage {
        what: "the credentials are revoked",
        begin: |cloud| cloud.fault("credentials"),
        end: |cloud| cloud.mend("credentials"),
        said: "AWS does not know these credentials here",
    },
    Outage {
        what: "the clock is 20 minutes behind",
        begin: |cloud| cloud.fault("clock-skew 1200"),
        end: |cloud| cloud.mend("clock-skew 1200"),
        said: "set this machine's clock right",
    },
    Outage {
        what: "the bucket is gone",
        begin: |cloud| cloud.lose_bucket(),
        end: |cloud| cloud.restore_bucket(),
        said: "make the bucket in this Region",
    },
    Outage {
        what: "nothing answers",
        begin: Cloud::freeze,
        end: Cloud::thaw,
        said: "check the network, and the endpoint",
    },
];

#[test]
fn a_running_operator_says_what_is_wrong_and_goes_on_when_it_is_mended() -> anyhow::Result<()> {
    scenario_without_machines("outages", |cloud| {
        let text = manifest(SET, 1, 0);
        let mut operator = Operator::start(cloud, "operator", &[(FILE, &text)])?;
        launched(cloud, 1)?;
        for (readers, outage) in (1..).zip(&OUTAGES) {
            heading(outage.what);
            (outage.begin)(cloud)?;
            operator.declare(FILE, &manifest(SET, 1, readers))?;
            let said = within(SOON, "the operator says so", || Ok(operator.status()?.lock.error))?;
            let told = operator.ask(cloud, &["status"])?.out;
            assert!(said.contains(outage.said) && told.contains(outage.said), "{said}\n{told}");
            assert!(told.starts_with("no operator acts: "), "{told}");
            (outage.end)(cloud)?;
            launched(cloud, usize::from(readers) + 1)?;
            within(SOON, "it acts again", || Ok(operator.status()?.lock.error.is_none().then_some(())))?;
        }
        operator.await_passes(3)?;
        launched(cloud, OUTAGES.len() + 1)
    })
}

/// Waits for exactly that many machines and volumes, each launched by one call.
fn launched(cloud: &Cloud, machines: usize) -> anyhow::Result<()> {
    within(SOON, format!("{machines} machines and volumes are there"), || {
        let there = (cloud.machines()?.len(), cloud.data_volumes()?.len());
        Ok((there == (machines, machines)).then_some(()))
    })?;
    let calls = cloud.mutating(0)?;
    for action in ["RunInstances", "CreateVolume"] {
        let applied = calls.iter().filter(|call| call.action == action && call.error.is_none()).count();
        ensure!(applied == machines, "{action} was applied {applied} times for {machines} machines");
    }
    Ok(())
}

#[test]
fn an_ec2_that_refuses_beside_a_bucket_that_does_not_stops_every_launch() -> anyhow::Result<()> {
    scenario_without_machines("refusing", |cloud| {
        let other = Cloud::without_machines("refusing-other")?;
        let mut environment = cloud.environment();
        environment.insert("AWS_ENDPOINT_URL_EC2", other.endpoints.ec2.clone());
        let text = manifest(SET, 1, 0);
        let mut operator = Operator::start_in(cloud, "first", &[(FILE, &text)], &environment)?;
        let waiting = within(SOON, "the operator says why it waits", || {
            let waiting = operator.status()?.waiting;
            Ok(waiting.into_iter().find(|line| line.starts_with("FleetUnknown: ")))
        })?;
        assert!(waiting.contains("AWS does not know these credentials here"), "{waiting}");
        assert!(waiting.contains("AuthFailure"), "{waiting}");
        operator.await_passes(3)?;
        environment.insert("DROVER_CONFIG", cloud.dir.join("first/drover.yaml").display().to_string());
        environment.insert("DROVER_STATE", cloud.dir.join("nobody").display().to_string());
        let planned = drover(&environment, &["plan", "--manifests", &operator.manifests.display().to_string()])?;
        assert_eq!(planned.status.code(), Some(1), "{planned:?}");
        assert!(planned.out.contains("AWS does not know these credentials here"), "{}", planned.out);
        operator.stop()?;
        assert_eq!(launches(cloud)? + launches(&other)?, 0);

        heading("with the right endpoint it is launched, once");
        let _operator = Operator::start(cloud, "second", &[(FILE, &text)])?;
        launched(cloud, 1)
    })
}

fn launches(cloud: &Cloud) -> anyhow::Result<usize> {
    Ok(cloud.mutating(0)?.iter().filter(|call| call.action == "RunInstances" && call.error.is_none()).count())
}

#[test]
fn manifests_that_are_not_understood_are_told_with_line_and_field_and_stop_nothing_else() -> anyhow::Result<()> {
    scenario_without_machines("wrong-manifests", |cloud| {
        let one = |name: &str, more: &str| manifest(name, 1, 0) + more;
        let tags: String = (0..37).map(|n| format!("      t{n}: x\n")).collect();
        let too_many = one("crowded", &format!("  machine:\n    tags:\n{tags}"));
        let cases = [
            ("a-good.yaml", one("good", ""), ""),
            ("broken.yaml", one("broken", "  machine: {\n"), "broken.yaml:9:12: "),
            ("crowded.yaml", too_many, "crowded.yaml:10:5: spec.machine.tags must have at most 36 entries, and has 37"),
            (
                "doubled.yaml",
                one("good", ""),
                "doubled.yaml:4:3: metadata.name default/good is declared already in a-good.yaml",
            ),
            (
                "owned.yaml",
                one("owned", "  machine:\n    tags: {drover:role: primary}\n"),
                "owned.yaml:10:12: spec.machine.tags: drover:role begins with a reserved prefix",
            ),
            (
                "twice.yaml",
                one("twice", "---\n") + &one("twice", ""),
                "twice.yaml:13:3: metadata.name default/twice is declared already at line 1",
            ),
            (
                "unknown.yaml",
                one("unknown", "  replicas: 2\n"),
                "unknown.yaml:9:3: spec.replicas is not a field; spec has",
            ),
        ];
        let files: Vec<(&str, &str)> = cases.iter().map(|(file, text, _)| (*file, text.as_str())).collect();
        let mut operator = Operator::start(cloud, "operator", &files)?;
        let problems = within(SOON, "a pass was made", || {
            let status = operator.status()?;
            Ok((status.lock.ours && !status.problems.is_empty()).then_some(status.problems))
        })?;
        let manifests = operator.manifests.display().to_string();
        let planned = operator.ask(cloud, &["plan", "--manifests", &manifests])?;
        assert_eq!(planned.status.code(), Some(1), "{planned:?}");
        for (file, _, said) in cases.iter().filter(|(_, _, said)| !said.is_empty()) {
            assert!(problems.iter().any(|line| line.starts_with(said)), "{file}: {problems:#?}");
            assert!(planned.out.contains(said), "{file}: {}", planned.out);
        }

        heading("what is good is launched, and what is mended follows");
        launched(cloud, 2)?;
        operator.withdraw("doubled.yaml")?;
        for name in ["broken", "crowded", "owned", "twice", "unknown"] {
            let tags: String = (0..36).map(|n| format!("      t{n}: x\n")).collect();
            let tags = if name == "crowded" { format!("  machine:\n    tags:\n{tags}") } else { String::new() };
            operator.declare(&format!("{name}.yaml"), &one(name, &tags))?;
        }
        launched(cloud, 6)?;
        within(SOON, "nothing is wrong any more", || Ok(operator.status()?.problems.is_empty().then_some(())))?;
        operator.await_passes(3)?;
        launched(cloud, 6)?;
        let crowded = cloud.machines()?.into_iter().find(|machine| machine.name == "crowded-m0");
        let crowded = crowded.context("the set with the most tags has its machine")?.id;
        let tags = cloud.tags()?.into_keys().filter(|(id, key)| *id == crowded && key.starts_with('t')).count();
        assert_eq!(tags, 36);
        Ok(())
    })
}
