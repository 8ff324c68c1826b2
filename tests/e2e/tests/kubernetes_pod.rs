//! The whole of it as a user has it: `helm install` on a real cluster starts the operator as the chart's own Pod from our image, a set
//! is applied, and an application's Pod reads and writes through the Services as the user of its Secret. (No DNS runs here: where the
//! Services are it knows from kubelet's variables.)

use std::time::Duration;

use anyhow::{Context, ensure};
use drover_e2e::{Access, Clock, Cloud, Demo, Traces, heading, kubernetes_traces, reference, traces, within};
use serde_json::Value;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const SOON: Duration = Duration::from_secs(120);
/// An image is built, a cluster starts, four machines boot; on two cores beside others.
const DEMO: Duration = Duration::from_secs(600);
/// What bash answers for SIGINT.
const INTERRUPTED: Option<i32> = Some(130);
const HEADINGS: [&str; 5] = [
    "The operator is installed by its chart",
    "A set is applied, and becomes ready",
    "writes through shop-primary and reads through shop-replicas",
    "It is yours",
    "Left running; make demo-kubernetes-down ends it.",
];
const OPERATORS: &str = "app.kubernetes.io/component=operator";
/// A release, in the words of helm.
const RELEASE: [&str; 3] = ["drover", "--namespace", "drover"];

#[test]
fn an_application_reads_and_writes_and_the_operator_is_the_charts_own_pod() -> anyhow::Result<()> {
    let clock = Clock::start();
    interrupted()?;
    heading("make demo-kubernetes leaves a cluster with the operator, a set and an application");
    let demo = left_running()?;
    let cloud = Cloud::of_another(&demo.home)?;
    let outcome = walk(&demo, &cloud);
    if outcome.is_err() {
        eprintln!("{}\n{}", demo.output(), cloud.tails());
    }
    outcome?;
    crashed(demo)?;
    eprintln!("kubernetes-pod: {:.1} s", clock.elapsed().as_secs_f64());
    Ok(())
}

fn interrupted() -> anyhow::Result<()> {
    heading("Ctrl-C while the cluster is only starting ends everything");
    let mut demo = Demo::start_kubernetes("kubernetes", &[])?;
    demo.await_server("kubernetes", DEMO)?;
    within(SOON, "there is something of a node", || {
        let traces = kubernetes_traces(&demo.home.join("kubernetes"))?;
        Ok((traces.contains_key("link") && traces.contains_key("cgroup")).then_some(()))
    })?;
    demo.interrupt()?;
    assert_eq!(demo.end(SOON)?, INTERRUPTED, "{}", demo.output());
    nothing_is_left(&demo)
}

fn nothing_is_left(demo: &Demo) -> anyhow::Result<()> {
    assert_eq!(traces(&demo.home)?, Traces::new());
    assert_eq!(kubernetes_traces(&demo.home.join("kubernetes"))?, Traces::new());
    Ok(())
}

fn left_running() -> anyhow::Result<Demo> {
    let clock = Clock::start();
    let mut demo = Demo::start_kubernetes("kubernetes", &[("DETACH", "1")])?;
    let code = demo.end(DEMO)?;
    let output = demo.output();
    ensure!(code == Some(0), "{output}");
    for heading in HEADINGS {
        ensure!(output.contains(heading), "{heading:?} is not in {output}");
    }
    eprintln!("the demo was there after {:.1} s", clock.elapsed().as_secs_f64());
    Ok(demo)
}

fn walk(demo: &Demo, cloud: &Cloud) -> anyhow::Result<()> {
    let output = demo.output();
    let printed = output.lines().find_map(|line| line.strip_prefix("kubeconfig: "));
    let admin = &Access::of_another(printed.context("the demo prints where its kubeconfig is")?.into())?;
    admin.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", "mrs/shop"])?;
    restricted(admin)?;
    answers(cloud, admin)?;
    used(cloud, admin)?;
    rotated(admin)?;
    tested(admin)?;
    upgraded(cloud, admin)
}

/// Power off, and `make demo-kubernetes-down`.
fn crashed(mut demo: Demo) -> anyhow::Result<()> {
    heading("after a crash of everything, demo-kubernetes-down leaves nothing");
    demo.kill_everything()?;
    ensure!(traces(&demo.home)?.contains_key("network namespace"), "there is nothing to sweep");
    demo.down()?;
    nothing_is_left(&demo)
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

/// What monitoring and people ask of the operator's Pod.
fn answers(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("the Pod is alive, logs JSON, has metrics of who leads, and drover doctor runs in it");
    let pods = admin.get_json(&["pods", "--namespace", "drover", "-l", OPERATORS])?;
    let names = pods["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str());
    let mut leaders = Vec::new();
    for name in names {
        ensure!(admin.fetch("drover", name, 8080, "/live")?.starts_with("ok"));
        let metrics = admin.fetch("drover", name, 8080, "/metrics")?;
        let leads =
            metrics.lines().find_map(|line| line.strip_prefix("leader_election_master_status{name=\"drover\"} "));
        leaders.push(leads.with_context(|| format!("nothing says who leads: {metrics}"))?.to_owned());
    }
    leaders.sort();
    assert_eq!(leaders, ["0", "1"]);
    let log = admin.kubectl(&["logs", "--namespace", "drover", "-l", OPERATORS, "--tail=-1"])?;
    let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(log)?;
    ensure!(!lines.is_empty() && lines.iter().all(|line| line["level"].is_string()), "{lines:?}");
    // Machines run what is in the image, and there is no other program in it.
    let published =
        lines.iter().find_map(|line| line["build"].as_str()).context("no log tells of the agent's build")?;
    let m0 = cloud.fleet_of("shop")?.remove("m0").context("m0 has a machine")?;
    let runs = cloud.inside(&m0, &["sha256sum", "/opt/drover/bin/current"])?;
    assert_eq!(runs.split(' ').next(), Some(published));
    let doctor = ["/drover", "doctor", "--kubernetes", "--config", "/etc/drover/drover.yaml"];
    let said = admin.ask_kubectl(
        &[["exec", "--namespace", "drover", "deployment/drover", "--"].as_slice(), &doctor].concat(),
        "",
    )?;
    let served = "ok    resource definition: v1alpha1 is served";
    for line in ["ok    credentials", "ok    clock", "ok    bucket", "ok    image", "ok    API server: v1.", served] {
        ensure!(said.out.contains(line), "{line} is not said: {said:?}");
    }
    // The demo's bucket keeps no versions.
    let rest: Vec<&str> =
        said.out.lines().filter(|line| line.starts_with("FAIL") || line.starts_with("warn")).collect();
    let [versions] = rest[..] else { anyhow::bail!("{said:?}") };
    ensure!(versions.starts_with("FAIL  bucket versioning: not enabled"), "{versions}");
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
    let write = "CREATE TABLE items (id INT PRIMARY KEY); INSERT INTO items VALUES (1), (2); SELECT @@hostname";
    let primary = run(admin, "writer", "SHOP_PRIMARY_SERVICE_HOST", write)?;
    let m0 = cloud.fleet_of("shop")?.remove("m0").context("m0 has a machine")?;
    assert_eq!(primary, cloud.inside(&m0, &["hostname"])?.trim());
    within(SOON, "every replica has it", || {
        let fleet = cloud.fleet_of("shop")?;
        let counts = fleet.values().map(|id| cloud.sql(id, "SELECT COUNT(*) FROM shop.items"));
        Ok(counts.collect::<anyhow::Result<Vec<_>>>()?.iter().all(|count| count == "2").then_some(()))
    })?;
    let read = run(admin, "reader", "SHOP_REPLICAS_SERVICE_HOST", "SELECT COUNT(*), @@hostname FROM items")?;
    ensure!(read.starts_with('2') && !read.ends_with(&primary), "{read}");
    let refused = run(admin, "intruder", "SHOP_REPLICAS_SERVICE_HOST", "INSERT INTO items VALUES (3)");
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
    run(admin, "rotated", "SHOP_PRIMARY_SERVICE_HOST", "SELECT 1")?;
    // The demo's Pod has the old one in its environment.
    admin.kubectl(&["exec", "app", "-c", "primary", "--", "/mysql", "-e", "SELECT 1"]).map(drop)
}

/// `helm upgrade` with these values and those that were given before, in its own words.
fn upgrade(admin: &Access, values: &[&str]) -> anyhow::Result<()> {
    let chart = format!("{REPOSITORY}/charts/drover");
    let words = [["upgrade"].as_slice(), &RELEASE, &[&chart, "--reuse-values", "--set"], values].concat();
    admin.helm(&words).map(drop)
}

/// `helm test` and readiness, each with words for whoever waits.
fn tested(admin: &Access) -> anyhow::Result<()> {
    let in_namespace = |words: &[&str]| admin.ask_kubectl(&[&["--namespace", "drover"], words].concat(), "");
    let test = || admin.ask_helm(&[["test"].as_slice(), &RELEASE, &["--logs", "--timeout=90s"]].concat());
    heading("helm test passes while an operator is ready");
    let asked = test()?;
    ensure!(asked.status.success() && asked.out.contains("Phase:          Succeeded"), "{asked:?}");

    heading("without an operator it fails, and says that nobody answers");
    upgrade(admin, &["replicas=0"])?;
    let gone = ["wait", "--for=delete", "pod", "-l", OPERATORS, "--timeout=60s"];
    ensure!(in_namespace(&gone)?.status.success(), "the operator's Pods do not end");
    let asked = test()?;
    ensure!(!asked.status.success() && asked.out.contains("nobody answers at "), "{asked:?}");

    heading("an operator without rights is not ready, and says what it waits for");
    upgrade(admin, &["replicas=1,rbac.create=false"])?;
    let asked = within(SOON, "it says that it is not ready", || {
        let asked = in_namespace(&["exec", "deployment/drover", "--", "/drover", "ready"])?;
        let refused = asked.out.lines().filter(|line| line.starts_with("[-] ") && line.contains("forbidden")).count();
        Ok(Some(asked).filter(|_| refused == 2))
    })?;
    ensure!(!asked.status.success(), "{asked:?}");
    ensure!(asked.out.contains("[-] resources: ") && asked.out.contains("[-] election: "), "{asked:?}");
    let told = within(SOON, "kubelet tells of it", || {
        let told = in_namespace(&["describe", "pods", "-l", OPERATORS])?.out;
        Ok(Some(told).filter(|told| told.contains("Readiness probe failed")))
    })?;
    ensure!(told.contains("statuscode: 503"), "{told}");

    heading("and it is once it has them");
    upgrade(admin, &["replicas=2,rbac.create=true", "--wait", "--timeout=240s"])?;
    let asked = test()?;
    ensure!(asked.status.success(), "{asked:?}");
    Ok(())
}

/// Upgrade and uninstall with live resources: machines, and what declares them, stay.
fn upgraded(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("an upgrade of the chart and its removal leave resources and machines as they are");
    let before = cloud.facts()?;
    upgrade(admin, &["log.level=debug", "--wait", "--timeout=240s"])?;
    admin.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "mrs/shop"])?;
    admin.helm(&[["uninstall"].as_slice(), &RELEASE, &["--wait"]].concat())?;
    ensure!(admin.kubectl(&["get", "drover", "-A"])?.contains("shop"), "the resource is gone");
    assert_eq!(cloud.facts()?, before);
    Ok(())
}
