//! Sets declared by a real API server, driven by kubectl and helm as people do, on real machines: what is applied is kept, what is
//! lost is found again, and what is deleted ends as its policy says. The operator runs by the chart's own ServiceAccount.

use std::time::Duration;

use anyhow::{Context, ensure};
use drover_api::digest;
use drover_e2e::{Access, Clock, Cloud, ControlPlane, Facts, History, Operator, heading, manifest, scenario, within};
use serde_json::{Value, json};

mod argocd;

use argocd::ArgoCd;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
const SHOP: &str = "mrs/shop";
const TILL_USERS: &str = "  mysql: {databases: {till: {}}, users: {app: {database: till, access: ReadWrite, \
    passwordSecretRef: {name: chosen, key: password}}}}\n";
/// Longer than the Lease (5 s), the realm's lock (9 s) and a watch (60 s).
const OUTAGE: Duration = Duration::from_secs(75);

#[test]
fn sets_of_an_api_server_are_kept_and_the_cluster_is_disposable() -> anyhow::Result<()> {
    scenario("kubernetes-sets", |cloud| {
        let mut plane = ControlPlane::up(&cloud.dir.join("kubernetes"))?;
        install(&plane.admin)?;
        let operator = begin(cloud, &plane, "operator-0")?;
        applied(cloud, &plane.admin)?;
        idempotent(&plane.admin)?;
        scaled(cloud, &mut plane)?;
        let operator = followed(cloud, &plane, operator)?;
        let operator = disposable(cloud, &mut plane, operator)?;
        elsewhere(cloud, &plane.admin)?;
        retained(cloud, &plane.admin)?;
        deleted(cloud, &plane.admin)?;
        heading("the chart's roles hold exactly the verbs that were used");
        plane.must_use_what_is_granted("drover", "drover")?;
        operator.stop()
    })
}

/// The chart as a person installs it; its Pods would have no node here, so that the operator runs beside it.
fn install(admin: &Access) -> anyhow::Result<()> {
    let chart = format!("{REPOSITORY}/charts/drover");
    let values = ["--set", "realm=e2e,bucket=drover,replicas=0"];
    let place = ["upgrade", "--install", "drover", &chart, "--namespace", "drover", "--create-namespace"];
    admin.helm(&[place.as_slice(), &values].concat())?;
    admin
        .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd/mysqlreplicasets.drover.dev"])
        .map(drop)
}

fn begin(cloud: &Cloud, plane: &ControlPlane, name: &str) -> anyhow::Result<Operator> {
    Operator::start_in_cluster(cloud, name, &plane.service_account("drover", "drover")?)
}

fn apply_shop(admin: &Access) -> anyhow::Result<String> {
    admin.apply(&shop())
}

/// With a user, so that Secrets are written too.
fn shop() -> String {
    let users = "  mysql: {databases: {shop: {}}, users: {app: {database: shop, access: ReadWrite}}}\n";
    manifest("shop", 3, 1) + users
}

/// `kubectl wait` until the set is ready.
fn await_ready(admin: &Access, set: &str) -> anyhow::Result<()> {
    let limit = format!("--timeout={}s", LAUNCH.as_secs());
    let waited = admin.kubectl(&["wait", "--for=condition=Ready", &limit, set]);
    waited.map(drop).or_else(|error| Err(error.context(admin.kubectl(&["describe", set])?)))
}

fn applied(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("a set that is applied becomes ready, and its events tell the story");
    apply_shop(admin)?;
    await_ready(admin, SHOP)?;
    let table = admin.kubectl(&["get", "drover", "-A", "-o", "wide"])?;
    for column in ["READY", "REASON", "PRIMARY", "NODES", "VERSION", "AGE", "QUORUM", "ENDPOINT", "ZONES"] {
        ensure!(table.contains(column), "{column} is missing: {table}");
    }
    let row = table.lines().find(|line| line.contains("shop")).context("a row")?;
    for value in ["True", "Ready", "m0", "4/4", "9.7", "shop-primary.default.svc:3306", "local-1a,local-1b,local-1c"] {
        ensure!(row.contains(value), "{value} is missing: {table}");
    }
    let told = admin.kubectl(&["describe", SHOP])?;
    for reason in ["MachineLaunching", "PrimaryPromoted", "ReplicaJoined", "Ready", "PrimaryOpen"] {
        ensure!(told.contains(reason), "{reason} is not told: {told}");
    }
    ensure!(!told.contains("Adopted"), "{told}");
    let status = admin.get_json(&[SHOP])?["status"].clone();
    let observed = status["conditions"].as_array().into_iter().flatten();
    for condition in observed {
        assert_eq!(condition["observedGeneration"], status["observedGeneration"], "{condition}");
    }
    heading("its Services follow the roles");
    let primary = instance_of(cloud, "m0")?;
    let address = |slice: &Value| slice["endpoints"][0]["addresses"][0].as_str().map(str::to_owned);
    let writes = admin.get_json(&["endpointslice", "shop-primary"])?;
    let told = cloud.inside(&primary, &["hostname", "-I"])?;
    ensure!(address(&writes).is_some_and(|address| told.contains(&address)), "{writes} is not {told}");
    assert_eq!(writes["endpoints"].as_array().map(Vec::len), Some(1));
    // Those that lag while they are made come as soon as they are fresh.
    within(SOON, "every replica takes reads", || {
        let reads = admin.get_json(&["endpointslice", "shop-replicas"])?;
        Ok((reads["endpoints"].as_array().map(Vec::len) == Some(3)).then_some(()))
    })?;
    heading("a Service that somebody deletes comes back, and one that somebody changes is mended");
    admin.kubectl(&["delete", "service", "shop-primary"])?;
    within(SOON, "the Service is there again", || Ok(admin.get_json(&["service", "shop-primary"]).ok()))?;
    let patch = r#"{"spec":{"ports":[{"name":"mysql","port":3306,"targetPort":1}]}}"#;
    admin.kubectl(&["patch", "service", "shop-replicas", "--type=merge", "-p", patch])?;
    within(SOON, "the Service is mended", || {
        let port = admin.get_json(&["service", "shop-replicas"])?["spec"]["ports"][0]["targetPort"].clone();
        Ok((port == 3306).then_some(()))
    })
}

fn instance_of(cloud: &Cloud, slot: &str) -> anyhow::Result<String> {
    cloud.fleet_of("shop")?.remove(slot).with_context(|| format!("{slot} has a machine"))
}

fn idempotent(admin: &Access) -> anyhow::Result<()> {
    heading("a second apply changes nothing, and a diff shows none");
    let versions = || -> anyhow::Result<Value> {
        let metadata = admin.get_json(&[SHOP, "--show-managed-fields"])?["metadata"].clone();
        Ok(serde_json::json!([metadata["resourceVersion"], metadata["managedFields"], metadata["generation"]]))
    };
    let text = shop();
    let (by_client, by_server) =
        (&[] as &[&str], ["--server-side", "--force-conflicts", "--field-manager=gitops"].as_slice());
    for how in [by_client, by_server] {
        let apply = || admin.ask_kubectl(&[["apply", "-f", "-"].as_slice(), how].concat(), &text);
        ensure!(apply()?.status.success(), "{how:?}");
        // Words of the status may still change; what is applied must not.
        let before = within(SOON, "the status is at rest", || {
            let before = versions()?;
            Ok((before == versions()?).then_some(before))
        })?;
        ensure!(apply()?.status.success(), "{how:?}");
        assert_eq!(versions()?, before, "{how:?}");
        let diff = admin.ask_kubectl(&[["diff", "-f", "-"].as_slice(), how].concat(), &text)?;
        ensure!(diff.status.code() == Some(0) && diff.out.is_empty(), "{diff:?}");
    }
    owned(admin)
}

/// What each of our field managers owns, and that it is all of what is not the user's.
fn owned(admin: &Access) -> anyhow::Result<()> {
    let managers = admin.get_json(&[SHOP, "--show-managed-fields"])?["metadata"]["managedFields"].clone();
    let mut ours = Vec::new();
    for entry in managers.as_array().into_iter().flatten() {
        let (manager, fields) = (entry["manager"].as_str().unwrap_or_default(), &entry["fieldsV1"]);
        let by_people = ["kubectl-client-side-apply", "kubectl", "gitops"].contains(&manager);
        ensure!(by_people || fields.get("f:spec").is_none(), "{manager} writes to spec: {entry}");
        if !by_people {
            let top = fields.as_object().into_iter().flatten().map(|(field, _)| field.clone());
            ours.push((manager, entry["subresource"].as_str().unwrap_or_default(), top.collect::<Vec<_>>()));
        }
    }
    ours.sort();
    let metadata = ("drover-operator", "", vec!["f:metadata".to_owned()]);
    let status = ("drover-operator-status", "status", vec!["f:status".to_owned()]);
    assert_eq!(ours, [metadata, status], "{managers}");
    Ok(())
}

fn scaled(cloud: &Cloud, plane: &mut ControlPlane) -> anyhow::Result<()> {
    heading("read replicas are scaled by kubectl and by an HPA");
    let machines = cloud.machines()?.len();
    let seen = History::begin(&plane.admin, &cloud.dir.join("scaled.json"))?;
    plane.admin.kubectl(&["scale", SHOP, "--replicas=2"])?;
    within(LAUNCH, "the second read replica is launched, and told", || {
        let is_told = plane.admin.get_json(&[SHOP])?["status"]["members"].as_array().map(Vec::len) == Some(5);
        Ok((is_told && cloud.fleet_of("shop")?.contains_key("r1")).then_some(()))
    })?;
    let shown = seen.end(|object| object["status"]["members"].as_array().map(Vec::len) == Some(5))?;
    let healths = ArgoCd::new()?.judge_all(&shown, &["ready", "scaling"])?;
    ensure!(healths["default/shop"].ends_with(&["Healthy".into(), "Progressing".into()]), "{healths:?}");
    heading("an API server that goes away in the middle of a launch stops nothing, and nothing is launched twice");
    plane.stop_api_server();
    let away = Clock::start();
    within(LAUNCH, "the read replica replicates", || {
        let id = instance_of(cloud, "r1")?;
        let channel = cloud.sql(&id, "SELECT service_state FROM performance_schema.replication_connection_status")?;
        Ok((channel == "ON").then_some(()))
    })?;
    // The one wait here for nothing but time: an outage that is that long is what is claimed.
    within(OUTAGE * 2, "every time-out has passed", || Ok((away.elapsed() > OUTAGE).then_some(())))?;
    plane.start_api_server()?;
    within(SOON, "the status says so", || {
        let status = plane.admin.get_json(&[SHOP])?["status"].clone();
        Ok((status["nodes"] == "5/5" && status["readReplicas"] == 2).then_some(()))
    })?;
    // Those that have ended are counted too: one was launched, and one only.
    assert_eq!((cloud.facts()?.machines.len(), cloud.machines()?.len()), (5, machines + 1));
    let hpa = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: shop}\nspec:\n  \
        scaleTargetRef: {apiVersion: drover.dev/v1alpha1, kind: MySQLReplicaSet, name: shop}\n  minReplicas: 1\n  maxReplicas: 5\n  \
        metrics: [{type: External, external: {metric: {name: reads}, target: {type: AverageValue, averageValue: 100}}}]\n";
    plane.admin.apply(hpa)?;
    // Nothing measures `reads` here: that this is what it lacks, and not the selector, is the proof that the selector is taken.
    within(SOON, "the HPA can scale it", || {
        let status = plane.admin.get_json(&["hpa", "shop"])?["status"].clone();
        let reason = |kind: &str| condition_of(&status, kind)["reason"].clone();
        let is_asked = reason("ScalingActive") == "FailedGetExternalMetric";
        let is_able = condition_of(&status, "AbleToScale")["status"] == "True";
        Ok((status["currentReplicas"] == 2 && is_able && is_asked).then_some(()))
    })?;
    let scale = "/apis/drover.dev/v1alpha1/namespaces/default/mysqlreplicasets/shop/scale";
    let scale: Value = serde_json::from_str(&plane.admin.kubectl(&["get", "--raw", scale])?)?;
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!(2), &json!("drover.dev/set=shop"))
    );
    plane.admin.kubectl(&["delete", "hpa", "shop"])?;
    plane.admin.kubectl(&["scale", SHOP, "--replicas=1"])?;
    within(LAUNCH, "the read replica has ended, with its volume", || {
        let is_over = cloud.fleet_of("shop")?.len() == 4 && cloud.data_volumes()?.len() == 4;
        let status = plane.admin.get_json(&[SHOP])?["status"].clone();
        Ok((is_over && status["nodes"] == "4/4").then_some(()))
    })?;
    await_ready(&plane.admin, SHOP)
}

/// Of two replicas one acts; when it ends or is killed the other follows, and changes nothing.
fn followed(cloud: &Cloud, plane: &ControlPlane, first: Operator) -> anyhow::Result<Operator> {
    let before = cloud.facts()?;
    let conditions = || -> anyhow::Result<(Value, Value)> {
        let status = plane.admin.get_json(&[SHOP])?["status"].clone();
        Ok((condition_of(&status, "Ready"), condition_of(&status, "Available")))
    };
    let was = conditions()?;
    let holder = || -> anyhow::Result<String> {
        let lease = plane.admin.get_json(&["lease", "drover", "--namespace", "drover"])?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let leads = |name: &str, operator: &Operator| -> anyhow::Result<()> {
        within(SOON, format!("{name} leads"), || Ok((holder()? == name).then_some(())))?;
        within(SOON, format!("{name} acts"), || Ok(operator.status()?.lock.ours.then_some(())))?;
        within(SOON, "the status is as it was", || Ok((conditions()? == was).then_some(())))?;
        assert_eq!(cloud.facts()?, before);
        Ok(())
    };
    heading("of two replicas the leader acts, and gives the Lease up when it ends in order");
    let second = begin(cloud, plane, "operator-1")?;
    assert_eq!(holder()?, "operator-0");
    first.stop()?;
    let left = holder()?;
    ensure!(left.is_empty() || left == "operator-1", "{left} is gone and holds the Lease");
    leads("operator-1", &second)?;

    heading("the other follows when it is killed");
    let third = begin(cloud, plane, "operator-3")?;
    second.kill()?;
    leads("operator-3", &third)?;
    Ok(third)
}

/// A condition as it is shown, whole; null where there is none.
fn condition_of(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// What people and applications see of a set, times aside.
fn shown(admin: &Access) -> anyhow::Result<Value> {
    let mut status = admin.get_json(&[SHOP])?["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let condition = condition.as_object_mut().context("a condition")?;
        condition.remove("lastTransitionTime");
        condition.remove("observedGeneration");
    }
    let fields = status.as_object_mut().context("a status")?;
    fields.remove("observedGeneration");
    fields.remove("handled");
    let slices = ["shop-primary", "shop-replicas"].map(|name| admin.get_json(&["endpointslice", name]));
    let [primary, replicas] = slices;
    // Not what is in it: this is printed when it differs.
    let secret = admin.get_json(&["secret", "shop-app"])?["data"].to_string();
    Ok(json!([status, primary?["endpoints"], replicas?["endpoints"], digest::sha256_hex(secret.as_bytes())]))
}

/// The flagship: etcd's data deleted, a new API server, chart and manifests again, and every machine is as it was.
fn disposable(cloud: &Cloud, plane: &mut ControlPlane, operator: Operator) -> anyhow::Result<Operator> {
    heading("the cluster is lost with all its data, made anew, and every machine is adopted as it is");
    let before = cloud.facts()?;
    let seen = within(SOON, "all of it serves, and is at rest", || {
        let seen = shown(&plane.admin)?;
        let is_whole =
            seen[2].as_array().map(Vec::len) == Some(3) && condition_of(&seen[0], "Ready")["status"] == "True";
        Ok((is_whole && shown(&plane.admin)? == seen).then_some(seen))
    })?;
    operator.kill()?;
    plane.lose_everything()?;
    ensure!(plane.admin.kubectl(&["get", "crd"])?.is_empty(), "the cluster is not empty");
    let calls = cloud.calls_so_far()?;
    install(&plane.admin)?;
    let operator = begin(cloud, plane, "operator-2")?;
    apply_shop(&plane.admin)?;
    await_ready(&plane.admin, SHOP)?;
    let again = within(SOON, "all of it is shown again", || {
        let again = shown(&plane.admin)?;
        ensure!(again == seen, "{again:#} is not {seen:#}");
        Ok(Some(again))
    })?;
    assert_eq!((&again[0]["primary"], &again[0]["nodes"]), (&"m0".into(), &"4/4".into()));
    let told = plane.admin.kubectl(&["describe", SHOP])?;
    ensure!(told.contains("Adopted") && !told.contains("MachineLaunching"), "{told}");
    assert_eq!(cloud.facts()?, before);
    let changes = cloud.mutating(calls)?.into_iter().filter(|call| call.service == "ec2");
    assert_eq!(changes.map(|call| call.action).collect::<Vec<_>>(), Vec::<String>::new());
    Ok(operator)
}

/// A second cluster with the same realm does nothing and says who acts.
fn elsewhere(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("an operator in another cluster with the same realm does nothing, and says who holds it");
    let other = ControlPlane::up(&cloud.dir.join("other"))?;
    install(&other.admin)?;
    let before = cloud.facts()?;
    let second = begin(cloud, &other, "elsewhere")?;
    other.admin.apply(&manifest("shop", 1, 0))?;
    let message = within(SOON, "the other cluster says who holds the realm", || {
        let ready = condition_of(&other.admin.get_json(&[SHOP])?["status"], "Ready");
        let is_told = ready["reason"] == "RealmHeldByOther" && ready["status"] == "Unknown";
        Ok(is_told.then(|| ready["message"].to_string()))
    })?;
    ensure!(message.contains("pid"), "{message}");
    other.admin.kubectl(&["delete", "--timeout=60s", SHOP])?;
    assert_eq!(cloud.facts()?, before);
    second.stop()?;
    assert_eq!(condition_of(&admin.get_json(&[SHOP])?["status"], "Ready")["status"], "True");
    Ok(())
}

fn retained(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("a namespace is gone within a minute, its set's machines run on, and the name adopts them again");
    admin.kubectl(&["create", "namespace", "till"])?;
    // Its Secret goes with the namespace, maybe first: nothing of a deletion needs it.
    let chosen = ["--from-literal=password=correct horse battery"];
    admin.kubectl(&[&["create", "secret", "generic", "chosen", "--namespace", "till"], chosen.as_slice()].concat())?;
    let till = manifest("till", 1, 0).replace("name: till", "name: till\n  namespace: till") + TILL_USERS;
    admin.apply(&till)?;
    let limit = format!("--timeout={}s", LAUNCH.as_secs());
    admin.kubectl(&["wait", "--namespace", "till", "--for=condition=Ready", &limit, "mrs/till"])?;
    let facts: Facts = cloud.facts()?;
    admin.kubectl(&["delete", "namespace", "till", "--timeout=60s"])?;
    assert_eq!(cloud.facts()?, facts);
    admin.kubectl(&["create", "namespace", "till"])?;
    admin.kubectl(&[&["create", "secret", "generic", "chosen", "--namespace", "till"], chosen.as_slice()].concat())?;
    admin.apply(&till)?;
    admin.kubectl(&["wait", "--namespace", "till", "--for=condition=Ready", "--timeout=60s", "mrs/till"])?;
    assert_eq!(cloud.facts()?, facts);

    heading("with Delete a namespace is gone when its machines were seen to end");
    let patch = r#"{"spec":{"deletionPolicy":"Delete"}}"#;
    admin.kubectl(&["patch", "--namespace", "till", "mrs/till", "--type=merge", "-p", patch])?;
    let limit = format!("--timeout={}s", LAUNCH.as_secs());
    admin.kubectl(&["delete", "namespace", "till", &limit])?;
    ensure!(cloud.fleet_of("till")?.is_empty(), "machines of till run on");
    let left = cloud.machines()?.into_iter().filter(|it| it.name.starts_with("till") && it.state != "terminated");
    assert_eq!(left.count(), 0);
    Ok(())
}

fn deleted(cloud: &Cloud, admin: &Access) -> anyhow::Result<()> {
    heading("a set is deleted for good when its resource says so, and its Services go with it");
    let seen = History::begin(admin, &cloud.dir.join("deleted.json"))?;
    let patch = r#"{"spec":{"deletionPolicy":"Delete"}}"#;
    admin.kubectl(&["patch", SHOP, "--type=merge", "-p", patch])?;
    let limit = format!("--timeout={}s", LAUNCH.as_secs());
    admin.kubectl(&["delete", &limit, SHOP])?;
    let is_ending = |object: &Value| {
        let is_asked = object["metadata"]["deletionTimestamp"].is_string();
        is_asked && condition_of(&object["status"], "Ready")["status"] == "False"
    };
    let shown = seen.end(is_ending)?;
    ArgoCd::new()?.judge_all(&shown, &["deleting", "deleting-asked"])?;
    let stalled = shown.iter().find(|object| !condition_of(&object["status"], "Stalled").is_null());
    ensure!(stalled.is_none(), "stalled while it was deleted: {stalled:#?}");
    ensure!(cloud.fleet()?.is_empty() && cloud.data_volumes()?.is_empty(), "something is left");
    within(SOON, "its Services are gone", || {
        let left = admin.get_json(&["service,endpointslice", "-l", "drover.dev/set=shop"])?;
        Ok(left["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
}
