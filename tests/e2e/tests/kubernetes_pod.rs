//! The whole of it as a user has it: `helm install` on a real cluster starts the operator as the chart's own Pod from our image, a set
//! is applied, and an application's Pod reads and writes through the Services with what its Secret says.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};
use drover_e2e::{Access, Clock, Cloud, Cluster, binary, heading, image_of_mysql, reference, scenario, within};
use serde_json::Value;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);
const IMAGE: &str = "drover.test/drover:1";

#[test]
fn an_application_reads_and_writes_and_the_operator_is_the_charts_own_pod() -> anyhow::Result<()> {
    scenario("kubernetes-pod", |cloud| {
        let cluster = Cluster::up(&cloud.dir.join("kubernetes"))?;
        cluster.join(cloud)?;
        cluster.import(&operators_image(&cloud.dir)?)?;
        cluster.import(&image_of_mysql(&cloud.dir)?)?;
        let admin = &cluster.plane.admin;
        install(cloud, admin)?;
        restricted(admin)?;
        served(admin)?;
        used(cloud, admin)?;
        rotated(admin)?;
        upgraded(cloud, admin)
    })
}

/// As `make image` makes it, of the binary that these scenarios run.
fn operators_image(dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    let (archive, stripped) = (dir.join("drover.tar"), dir.join("drover"));
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(binary("drover")?).status()?;
    ensure!(strip.success(), "strip ended with {strip}");
    let build = Command::new(format!("{REPOSITORY}/operator/image/build.sh"))
        .args(["--binary".as_ref(), stripped.as_os_str(), "--tag".as_ref(), IMAGE.as_ref()])
        .args(["--archive".as_ref(), archive.as_os_str()])
        .output()?;
    ensure!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    Ok(archive)
}

fn values(cloud: &Cloud) -> String {
    let environment: String = cloud
        .environment()
        .iter()
        .filter(|(name, _)| name.starts_with("AWS_") && **name != "AWS_REGION")
        .map(|(name, value)| format!("  - {{name: {name}, value: \"{value}\"}}\n"))
        .collect();
    let region = &cloud.endpoints.region;
    format!(
        "realm: e2e\nbucket: drover\nleaseSeconds: 9\naws: {{region: {region}}}\nleaderElection: {{leaseSeconds: 5}}\n\
         image: {{repository: drover.test/drover, tag: \"1\", pullPolicy: Never}}\nspread: ScheduleAnyway\nextraEnv:\n{environment}\
         defaults:\n  machine:\n    image: {{tags: {{\"drover:image\": mysql}}, owners: [self]}}\n    instanceTypes: [t3.small]\n    \
         subnets: {{tags: {{\"drover:network\": machines}}}}\n    securityGroups: {{tags: {{\"drover:network\": machines}}}}\n    \
         instanceProfile: drover-machine\n    dataVolume: {{sizeGiB: 4}}\n"
    )
}

fn install(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("helm installs the operator, and waits until its Pods are ready");
    let clock = Clock::start();
    let file = cloud.dir.join("values.yaml");
    fs::write(&file, values(cloud))?;
    let (chart, file) = (format!("{REPOSITORY}/charts/drover"), file.display().to_string());
    let place = ["--namespace", "drover", "--create-namespace", "--values", &file, "--wait", "--timeout", "240s"];
    let installed = admin.helm(&[["install", "drover", &chart].as_slice(), &place].concat());
    installed.or_else(|error| {
        let told = admin.kubectl(&["describe", "pods", "--namespace", "drover"])?;
        let logs = admin.ask_kubectl(&["logs", "--namespace", "drover", "deployment/drover", "--tail=30"], "")?;
        Err(error.context(format!("{told}\n{}", logs.out)))
    })?;
    eprintln!("the operator was ready after {:.1} s", clock.elapsed().as_secs_f64());
    Ok(())
}

/// What an admission policy of the level "restricted" asks for, and what the issue asks for besides.
fn restricted(admin: &Access) -> anyhow::Result<()> {
    heading(
        "the Pod has no host network, no privilege, UID 65532 and a read-only root, and is restricted as Kubernetes means it",
    );
    let pods = admin.get_json(&["pods", "--namespace", "drover", "-l", "app.kubernetes.io/instance=drover"])?;
    let pods = pods["items"].as_array().context("a list")?;
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let spec = &pod["spec"];
        let container = &spec["containers"][0];
        let security = |field: &str| match &container["securityContext"][field] {
            Value::Null => spec["securityContext"][field].clone(),
            own => own.clone(),
        };
        ensure!(spec["hostNetwork"] != true && security("privileged") != true, "{spec}");
        assert_eq!((security("runAsUser"), security("runAsNonRoot")), (65532.into(), true.into()));
        assert_eq!(security("readOnlyRootFilesystem"), true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    }
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let said = admin.ask_kubectl(&["label", "--dry-run=server", "--overwrite", "namespace", "drover", label], "")?;
    ensure!(said.status.success() && !said.error.contains("violate"), "{}", said.error);
    Ok(())
}

const SHOP: &str = "apiVersion: drover.dev/v1alpha1
kind: MySQLReplicaSet
metadata: {name: shop}
spec:
  members: 3
  readReplicas: 1
  version: \"9.7\"
  mysql:
    databases: {shop: {}}
    users: {app: {database: shop, access: ReadWrite}}
";

fn served(admin: &Access) -> anyhow::Result<()> {
    heading("a set that is applied becomes ready");
    let clock = Clock::start();
    admin.apply(SHOP)?;
    let limit = format!("--timeout={}s", LAUNCH.as_secs());
    let ready = admin.kubectl(&["wait", "--for=condition=Ready", &limit, "mrs/shop"]);
    ready.or_else(|error| Err(error.context(admin.kubectl(&["describe", "mrs/shop"])?)))?;
    eprintln!("the set was ready after {:.1} s", clock.elapsed().as_secs_f64());
    Ok(())
}

/// A Pod of an application: what it needs comes from the Secret and the Services.
fn application(name: &str, host: &str, statement: &str) -> String {
    let image = reference("mysql");
    let secret = |key: &str| format!("{{secretKeyRef: {{name: shop-app, key: {key}}}}}");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n    - name: app\n      \
         image: {image}\n      imagePullPolicy: Never\n      env:\n        - {{name: MYSQL_PWD, valueFrom: {password}}}\n        \
         - {{name: APP_USER, valueFrom: {user}}}\n        - {{name: APP_DATABASE, valueFrom: {database}}}\n      \
         args: [\"--host=$({host})\", \"--user=$(APP_USER)\", --ssl-mode=VERIFY_CA, --ssl-ca=/secret/ca.crt, -N, -e, \"{statement}\", \
         $(APP_DATABASE)]\n      volumeMounts: [{{name: secret, mountPath: /secret}}]\n  volumes:\n    \
         - {{name: secret, secret: {{secretName: shop-app}}}}\n",
        password = secret("password"),
        user = secret("username"),
        database = secret("dbname"),
    )
}

/// Runs a Pod of the application to its end; what it said.
fn run(admin: &Access, name: &str, host: &str, statement: &str) -> anyhow::Result<String> {
    admin.apply(&application(name, host, statement))?;
    let pod = format!("pod/{name}");
    let ended = within(SOON, format!("{name} ends"), || {
        let phase = admin.get_json(&[&pod])?["status"]["phase"].as_str().unwrap_or_default().to_owned();
        Ok(["Succeeded", "Failed"].contains(&phase.as_str()).then_some(phase))
    })?;
    let said = admin.kubectl(&["logs", name])?;
    admin.kubectl(&["delete", &pod, "--now"])?;
    ensure!(ended == "Succeeded", "{name}: {said}");
    Ok(said.trim().to_owned())
}

fn used(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("an application writes through shop-primary and reads it through shop-replicas");
    within(SOON, "the Secret is there", || Ok(admin.get_json(&["secret", "shop-app"]).ok()))?;
    let write = "CREATE TABLE orders (id INT PRIMARY KEY); INSERT INTO orders VALUES (1), (2); SELECT @@hostname";
    let primary = run(admin, "writer", "SHOP_PRIMARY_SERVICE_HOST", write)?;
    let m0 = cloud.fleet_of("shop")?.remove("m0").context("m0 has a machine")?;
    assert_eq!(primary, cloud.inside(&m0, &["hostname"])?.trim());
    within(SOON, "every replica has it", || {
        let fleet = cloud.fleet_of("shop")?;
        let counts = fleet.values().map(|id| cloud.sql(id, "SELECT COUNT(*) FROM shop.orders"));
        Ok(counts.collect::<anyhow::Result<Vec<_>>>()?.iter().all(|count| count == "2").then_some(()))
    })?;
    let read = run(admin, "reader", "SHOP_REPLICAS_SERVICE_HOST", "SELECT COUNT(*), @@hostname FROM orders")?;
    ensure!(read.starts_with('2') && !read.ends_with(&primary), "{read}");
    let refused = run(admin, "intruder", "SHOP_REPLICAS_SERVICE_HOST", "INSERT INTO orders VALUES (3)");
    ensure!(refused.is_err_and(|error| error.to_string().contains("read-only")), "a replica takes writes");
    Ok(())
}

fn rotated(admin: &Access) -> anyhow::Result<()> {
    heading("a password that is rotated reaches the Secret once MySQL takes it, and the old one works on");
    let secret = || Ok::<_, anyhow::Error>(admin.get_json(&["secret", "shop-app"])?["data"]["password"].clone());
    let old = secret()?;
    let patch = r#"{"spec":{"mysql":{"users":{"app":{"rotation":1}}}}}"#;
    admin.kubectl(&["patch", "mrs/shop", "--type=merge", "-p", patch])?;
    let new = within(SOON, "the Secret has another password", || Ok(Some(secret()?).filter(|new| *new != old)))?;
    ensure!(new.is_string(), "{new}");
    run(admin, "rotated", "SHOP_PRIMARY_SERVICE_HOST", "SELECT 1").map(drop)
}

/// Upgrade and uninstall with live resources: machines, and what declares them, stay.
fn upgraded(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("an upgrade of the chart and its removal leave resources and machines as they are");
    let before = cloud.facts()?;
    let (chart, file) = (format!("{REPOSITORY}/charts/drover"), cloud.dir.join("values.yaml").display().to_string());
    let place = ["--namespace", "drover", "--values", &file, "--set", "log.level=debug", "--wait", "--timeout", "240s"];
    admin.helm(&[["upgrade", "drover", &chart].as_slice(), &place].concat())?;
    admin.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "mrs/shop"])?;
    admin.helm(&["uninstall", "drover", "--namespace", "drover", "--wait"])?;
    ensure!(admin.kubectl(&["get", "drover", "-A"])?.contains("shop"), "the resource is gone");
    assert_eq!(cloud.facts()?, before);
    Ok(())
}
