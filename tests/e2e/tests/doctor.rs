//! `drover doctor` and `drover iam-policy` with the real binary: a whole installation is all ok; each thing that is taken away
//! is told with what to do; nothing is changed by looking; and the printed policies are those that are enforced.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use cases::{Case, cases};
use drover_e2e::{
    Asked, CONFIG, Cloud, Operator, Policy, drover, heading, manifest, permission, scenario_without_machines, within,
};

#[path = "doctor/cases.rs"]
mod cases;

type Environment = BTreeMap<&'static str, String>;

/// An operator launches at once, and not after a lease that nobody holds.
const AT_ONCE: Duration = Duration::from_secs(8);
const LAUNCH: Duration = Duration::from_secs(60);

/// The words of `drover doctor` in an environment that is good but for what the case changes.
fn examine(cloud: &Cloud, config: &str, words: &[&str], change: impl Fn(&mut Environment)) -> anyhow::Result<Asked> {
    let path = cloud.dir.join("drover.yaml");
    fs::write(&path, config)?;
    let mut environment = cloud.environment();
    environment.insert("DROVER_CONFIG", path.display().to_string());
    // Where these tests run on EC2, the machine's own role is nothing to them.
    environment.insert("AWS_EC2_METADATA_DISABLED", "true".into());
    change(&mut environment);
    drover(&environment, &[&["doctor"], words].concat())
}

/// A `*` stands for anything.
fn is_like(said: &str, line: &str) -> bool {
    match said.split_once('*') {
        None => line == said,
        Some((begins, ends)) => line.starts_with(begins) && line.ends_with(ends),
    }
}

fn must_say(asked: &Asked, case: &Case) {
    assert_eq!(asked.status.code(), Some(case.code), "{}: {asked:?}", case.what);
    for said in case.said {
        assert!(asked.out.lines().any(|line| is_like(said, line)), "{}: no line {said:?} in\n{}", case.what, asked.out);
    }
    // Whatever is not well has something to do below it, and only that.
    let lines: Vec<&str> = asked.out.lines().collect();
    for (line, next) in lines.iter().zip(lines.iter().skip(1).map(Some).chain([None])) {
        let has_remedy = next.is_some_and(|next| next.starts_with("      do: "));
        let is_ill = line.starts_with("FAIL  ") || line.starts_with("warn  ");
        assert_eq!(is_ill, has_remedy, "{}: {line:?} in\n{}", case.what, asked.out);
    }
}

#[test]
fn a_whole_installation_is_all_ok_and_each_thing_that_is_wrong_is_told_with_what_to_do() -> anyhow::Result<()> {
    scenario_without_machines("doctor", |cloud| {
        versioning(cloud)?;
        whole(cloud)?;
        for case in cases()? {
            heading(case.what);
            let config = match case.config {
                Some((from, to)) => {
                    ensure!(CONFIG.contains(from), "{from} is not in the configuration");
                    CONFIG.replace(from, to)
                }
                None => CONFIG.to_owned(),
            };
            case.fault.map(|fault| cloud.fault(fault)).transpose()?;
            let asked = examine(cloud, &config, &[], &*case.environment)?;
            case.fault.map(|fault| cloud.mend(fault)).transpose()?;
            must_say(&asked, &case);
        }
        one_zone(cloud)?;
        heading("nothing was changed by looking but the one object that says nothing");
        for call in cloud.mutating(0)? {
            let is_test = call.action == "PutBucketVersioning";
            assert!(
                is_test || (call.action == "PutObject" && call.target == "drover/realms/e2e/doctor.json"),
                "{call:?}"
            );
        }
        operator_and_manifests(cloud)?;
        policies(cloud)?;
        heading("a lock that is none");
        cloud.put_object("realms/e2e/lock.json", "{}")?;
        let asked = examine(cloud, CONFIG, &[], |_| ())?;
        assert!(
            asked.status.code() == Some(1) && asked.out.contains("FAIL  realm: lock.json is not a lock"),
            "{asked:?}"
        );
        Ok(())
    })
}

fn versioning(cloud: &Cloud) -> anyhow::Result<()> {
    let command = "      do: aws s3api put-bucket-versioning --bucket drover --versioning-configuration Status=Enabled";
    for (status, said) in [
        (None, "FAIL  bucket versioning: not enabled: what is deleted or overwritten by mistake is lost for good"),
        (
            Some("Suspended"),
            "FAIL  bucket versioning: suspended: what is deleted or overwritten by mistake is lost for good",
        ),
    ] {
        heading("a bucket without versions");
        status.map(|status| cloud.version_bucket(status)).transpose()?;
        let asked = examine(cloud, CONFIG, &[], |_| ())?;
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
        let lines: Vec<&str> = asked.out.lines().collect();
        assert!(lines.windows(2).any(|pair| pair == [said, command]), "{}", asked.out);
    }
    cloud.version_bucket("Enabled")
}

fn whole(cloud: &Cloud) -> anyhow::Result<()> {
    heading("a whole installation is all ok, once and again");
    for _ in 0..2 {
        let asked = examine(cloud, CONFIG, &[], |_| ())?;
        assert!(asked.status.success() && asked.error.is_empty(), "{asked:?}");
        let names: Vec<&str> = asked.out.lines().map(|line| line.split(": ").next().unwrap_or_default()).collect();
        let launches =
            ["a", "b", "c"].map(|zone| format!("ok    launch in {}{zone} of defaults", cloud.endpoints.region));
        let mut expected = vec![
            "ok    credentials",
            "ok    clock",
            "ok    bucket",
            "ok    bucket versioning",
            "ok    bucket list",
            "ok    conditional writes",
            "ok    realm",
            "ok    image of defaults",
            "ok    instance types of defaults",
            "ok    subnets of defaults",
            "ok    security groups of defaults",
        ];
        expected.extend(launches.iter().map(String::as_str));
        expected.extend(["ok    quota of Standard vCPUs", "ok    quota of gp3 storage"]);
        assert_eq!(names, expected, "{}", asked.out);
        eprint!("{}", asked.out);
    }
    let asked = examine(cloud, CONFIG, &["--json"], |_| ())?;
    let findings: Vec<serde_json::Value> = serde_json::from_str(&asked.out)?;
    assert!(
        findings.len() == 16 && findings.iter().all(|it| it["level"] == "ok" && it.get("do").is_none()),
        "{asked:?}"
    );
    Ok(())
}

fn one_zone(cloud: &Cloud) -> anyhow::Result<()> {
    heading("a subnet in one zone, and one that is full");
    let subnet = cloud.ec2("DescribeSubnets", &[])?.text("subnetId");
    let one =
        CONFIG.replace("subnets: {tags: {\"drover:network\": machines}}", &format!("subnets: {{ids: [{subnet}]}}"));
    let asked = examine(cloud, &one, &[], |_| ())?;
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let remedy = "      do: select subnets in 3 zones in defaults.machine.subnets in the configuration, or set \
                  defaults.machine.zoneSpread in the configuration to Preferred";
    assert!(asked.out.contains("warn  subnets of defaults: in local-1"), "{}", asked.out);
    assert!(asked.out.lines().any(|line| line == remedy), "{}", asked.out);
    let fault = format!("full-subnet {subnet}");
    cloud.fault(&fault)?;
    let asked = examine(cloud, CONFIG, &[], |_| ())?;
    cloud.mend(&fault)?;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(asked.out.contains("FAIL  subnets of defaults: no address is free in local-1"), "{}", asked.out);
    let remedy =
        "      do: free addresses there, or select further subnets in defaults.machine.subnets in the configuration";
    assert!(asked.out.lines().any(|line| line == remedy), "{}", asked.out);
    Ok(())
}

fn operator_and_manifests(cloud: &Cloud) -> anyhow::Result<()> {
    heading("what the doctor left keeps no operator from acting at once");
    let own = manifest("own", 1, 0) + "  machine:\n    instanceProfile: nobody\n";
    let files = [("kept.yaml", manifest("kept", 3, 1)), ("own.yaml", own), ("same.yaml", manifest("same", 1, 0))];
    let operator = Operator::start(cloud, "operator", &[("kept.yaml", files[0].1.as_str())])?;
    within(AT_ONCE, "the operator acts", || Ok(operator.status()?.lock.ours.then_some(())))?;
    within(LAUNCH, "its machines are there", || Ok((cloud.machines()?.len() == 4).then_some(())))?;

    heading("sets are looked at as they are launched, those that are alike once");
    let manifests = cloud.dir.join("wanted");
    fs::create_dir_all(&manifests)?;
    for (file, text) in &files {
        fs::write(manifests.join(file), text)?;
    }
    let manifests = manifests.display().to_string();
    let asked = examine(cloud, CONFIG, &["--manifests", &manifests], |_| ())?;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    for said in [
        "ok    image of default/kept, default/same: ",
        "ok    launch in local-1a of default/kept, default/same: t3.small with",
        "FAIL  launch in local-1a of default/own: there is no instance profile nobody",
        "or name another in spec.machine.instanceProfile of default/own",
        "ok    realm: the last to act is ",
        "ok    quota of Standard vCPUs: 12 vCPUs are wanted, and the quota is 1000000 vCPUs; what else is there",
        "ok    quota of gp3 storage: 24 GiB are wanted, and the quota is 50 TiB; what else is there in the account",
    ] {
        assert!(asked.out.contains(said), "no {said:?} in\n{}", asked.out);
    }
    quotas(cloud, &manifests)?;
    heading("a manifest that is not understood is told with its line");
    fs::write(cloud.dir.join("wanted/own.yaml"), manifest("own", 1, 0) + "  replicas: 1\n")?;
    let asked = examine(cloud, CONFIG, &["--manifests", &manifests], |_| ())?;
    let said = "FAIL  manifests: own.yaml:9:3: spec.replicas is not a field; spec has";
    assert!(asked.status.code() == Some(1) && asked.out.contains(said), "{asked:?}");
    operator.stop()
}

/// The six machines of the manifests, with 12 vCPUs and 24 GiB together.
fn quotas(cloud: &Cloud, manifests: &str) -> anyhow::Result<()> {
    heading("quotas that are too small, and such as are just large enough");
    let limited = |max: u32| format!("{CONFIG}limits: {{maxMachines: {max}}}\n");
    let ask = "      do: ask for as much, and for what else is there in the account: aws service-quotas \
               request-service-quota-increase --region local-1";
    for (vcpus, tib, machines, said) in [
        (
            11,
            0,
            5,
            [
                "FAIL  quota of Standard vCPUs: 12 vCPUs are wanted, and the quota is 11 vCPUs".to_owned(),
                format!("{ask} --service-code ec2 --quota-code L-1216C47A --desired-value 12"),
                "FAIL  quota of gp3 storage: 24 GiB are wanted, and the quota is 0 TiB".to_owned(),
                format!("{ask} --service-code ebs --quota-code L-7A658B76 --desired-value 1"),
                "FAIL  limits.maxMachines: 6 machines are wanted, and the operator makes no more than 5".to_owned(),
                "      do: set limits.maxMachines in the configuration to 6 or more, or declare fewer machines"
                    .to_owned(),
            ]
            .to_vec(),
        ),
        (
            12,
            1,
            6,
            [
                ("quota of Standard vCPUs: 12 vCPUs are wanted, and the quota is 12 vCPUs", "account"),
                ("quota of gp3 storage: 24 GiB are wanted, and the quota is 1 TiB", "account"),
                ("limits.maxMachines: 6 machines are wanted, and the operator makes no more than 6", "realm"),
            ]
            .map(|(found, of)| format!("ok    {found}; what else is there in the {of} counts too"))
            .to_vec(),
        ),
    ] {
        let faults = [format!("quota L-1216C47A {vcpus}"), format!("quota L-7A658B76 {tib}")];
        faults.iter().try_for_each(|fault| cloud.fault(fault))?;
        let asked = examine(cloud, &limited(machines), &["--manifests", manifests], |_| ())?;
        faults.iter().try_for_each(|fault| cloud.mend(fault))?;
        for said in said {
            assert!(asked.out.lines().any(|line| line == said), "no line {said:?} in\n{}", asked.out);
        }
    }
    heading("what nobody can count is not called enough");
    let unknown = CONFIG.replace("[t3.small]", "[t9.huge]");
    let asked = examine(cloud, &unknown, &["--manifests", manifests], |_| ())?;
    let said = "warn  quota of vCPUs of default/kept, default/same: not compared for 5 machines: EC2 knows none of their instance types";
    assert!(asked.out.lines().any(|line| line == said) && !asked.out.contains("Standard vCPUs"), "{}", asked.out);
    Ok(())
}

fn policies(cloud: &Cloud) -> anyhow::Result<()> {
    let mut environment = cloud.environment();
    environment.extend([("DROVER_REALM", "e2e".to_owned()), ("DROVER_BUCKET", "drover".to_owned())]);

    heading("what operator and doctor called is what their printed policies name");
    let role = ["--for", "operator", "--profile-role", "drover-machine"];
    let operator = Policy::printed(&environment, &role)?;
    let both = Policy::printed(&environment, &[&role[..], &["--with", "doctor"]].concat())?;
    for call in
        cloud.calls_since(0)?.iter().filter(|call| !["PutBucketVersioning", "Refused"].contains(&call.action.as_str()))
    {
        let permission = permission(call);
        assert!(both.names(&permission), "{call:?}");
        let is_doctors = permission == "s3:GetBucketVersioning" || call.service == "servicequotas";
        assert_eq!(operator.names(&permission), !is_doctors, "{call:?}");
        if call.service == "s3" {
            assert!(both.allows(&permission, &call.target) || !call.target.starts_with("drover"), "{call:?}");
        }
    }

    heading("what a machine's role may read is what the printed policy of its profile allows");
    let profile = Policy::printed(&environment, &["--for", "machine", "--name", "kept"])?;
    let machine = cloud.machines()?.into_iter().find(|machine| machine.name == "kept-m0").context("a machine")?;
    let role = cloud.role(&machine.id)?;
    let objects = cloud.bucket("drover");
    let (mut read, mut refused) = (0, 0);
    for path in drover_e2e::objects(&objects)? {
        let key = path.strip_prefix(&objects)?.display().to_string();
        let target = format!("drover/{key}");
        let may = profile.allows("s3:GetObject", &target);
        let told = cloud.s3(&role, "GET", &target, "")?;
        assert_eq!(told, if may { "200" } else { "403" }, "{key}");
        *(if may { &mut read } else { &mut refused }) += 1;
        assert_eq!(cloud.s3(&role, "PUT", &target, "mine")?, "403", "{key}");
    }
    assert!(read >= 6 && refused >= 6, "{read} were read and {refused} were not");
    Ok(())
}
