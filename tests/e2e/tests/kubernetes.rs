//! A real API server, with the CRD in it: what it takes and refuses, and that a test can stop it, empty it and have two of it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use drover_api::crd;
use drover_e2e::{Access, Clock, ControlPlane, binary, heading, scenario_without_machines, within};
use serde_json::{Value, json};

#[path = "../../../operator/api/tests/cases/mod.rs"]
mod cases;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The controller manager finishes a namespace.
const SOON: Duration = Duration::from_secs(60);
const SET: &str =
    "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: shop}\nspec: {version: \"9.7\"}\n";

#[test]
fn an_api_server_takes_the_samples_and_refuses_every_mistake_in_our_words() -> anyhow::Result<()> {
    scenario_without_machines("kubernetes", |cloud| {
        let clock = Clock::start();
        let mut plane = ControlPlane::up(&cloud.dir.join("kubernetes"))?;
        eprintln!("a control plane was up after {:.1} s", clock.elapsed().as_secs_f64());
        install_crd(&plane.admin)?;
        structural(&plane.admin)?;
        samples(&plane.admin)?;
        twice(&plane.admin)?;
        chart_and_image(&plane.admin)?;
        mistakes(&plane.admin, &cloud.dir)?;
        changes(&plane.admin)?;
        namespaces(&plane.admin)?;
        users(&plane)?;
        two_clusters(&plane, &cloud.dir.join("other"))?;
        losses(&mut plane)
    })
}

fn install_crd(admin: &Access) -> anyhow::Result<()> {
    heading("the CRD is established");
    admin.kubectl(&["apply", "-f", &format!("{REPOSITORY}/{}", crd::FILE)])?;
    admin.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", CRD]).map(drop)
}

/// What an API server says of a schema that is not structural, and that it says so of one that is not.
fn structural(admin: &Access) -> anyhow::Result<()> {
    heading("its schema is structural");
    let crd = admin.get_json(&["crd", CRD])?;
    let conditions = crd["status"]["conditions"].as_array().context("conditions")?;
    ensure!(conditions.iter().all(|condition| condition["type"] != "NonStructuralSchema"), "{conditions:?}");
    let mut other = crd.clone();
    other["metadata"] = json!({ "name": "others.drover.example" });
    other["spec"]["group"] = json!("drover.example");
    other["spec"]["names"] =
        json!({ "kind": "Other", "plural": "others", "singular": "other", "listKind": "OtherList" });
    let schema = &mut other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    schema["properties"]["members"].as_object_mut().context("members")?.remove("type");
    let refused = admin.ask_kubectl(&["apply", "--dry-run=server", "-f", "-"], &other.to_string())?;
    ensure!(refused.error.contains("type: Required value"), "{refused:?}");
    ensure!(serde_json::to_string(&crd["spec"])?.len() < 200_000);
    Ok(())
}

/// The chart against this API server's own description of its kinds, and the image of this build.
fn chart_and_image(admin: &Access) -> anyhow::Result<()> {
    let scripts = Path::new(REPOSITORY).join("tests/kubernetes");
    heading("the chart is held to Helm and to the API server's schemas");
    eprint!("{}", admin.run(&scripts.join("chart.sh"), &[&admin.tools.display().to_string()])?);
    heading("and the operator's image to what a Pod may be");
    let clock = Clock::start();
    eprint!("{}", admin.run(&scripts.join("image.sh"), &[&binary("drover")?.display().to_string()])?);
    eprintln!("{:.1} s", clock.elapsed().as_secs_f64());
    Ok(())
}

const CRD: &str = "mysqlreplicasets.drover.dev";

fn samples(admin: &Access) -> anyhow::Result<()> {
    heading("the samples are taken");
    admin.kubectl(&["create", "namespace", "shop"])?;
    for sample in ["production.yaml", "quickstart"] {
        let said =
            admin.kubectl(&["apply", "--dry-run=server", "-f", &format!("{REPOSITORY}/crds/samples/{sample}")])?;
        ensure!(said.contains("created (server dry run)"), "{sample}: {said}");
    }
    Ok(())
}

/// The sample with every list and selector in it: no field is defaulted inside list items, so that nobody who applies it sees a diff.
fn twice(admin: &Access) -> anyhow::Result<()> {
    heading("a second apply of a manifest with lists and selectors changes nothing, and a diff shows none");
    let sample = fs::read_to_string(format!("{REPOSITORY}/crds/samples/production.yaml"))?;
    let by_server = ["--server-side", "--field-manager=gitops"];
    for (namespace, how) in [("by-client", &[] as &[&str]), ("by-server", &by_server)] {
        admin.kubectl(&["create", "namespace", namespace])?;
        let text = sample.replace("namespace: shop", &format!("namespace: {namespace}"));
        let apply = || admin.ask_kubectl(&[["apply", "-f", "-"].as_slice(), how].concat(), &text);
        let shown = || admin.get_json(&["mrs", "--namespace", namespace, "--show-managed-fields"]);
        // What is created has no status; the next apply by the server stores the schema's default for it, once.
        for _ in ["it is created", "its status is there"] {
            let first = apply()?;
            ensure!(first.status.success(), "{first:?}");
        }
        let before = shown()?["items"].clone();
        ensure!(before.as_array().is_some_and(|items| items.len() == 1), "{before}");
        let second = apply()?;
        ensure!(second.status.success(), "{second:?}");
        assert_eq!(shown()?["items"], before, "{how:?}");
        let diff = admin.ask_kubectl(&[["diff", "-f", "-"].as_slice(), how].concat(), &text)?;
        ensure!(diff.status.code() == Some(0) && diff.out.is_empty(), "{diff:?}");
        admin.kubectl(&["delete", "--namespace", namespace, "mrs", "--all"])?;
    }
    Ok(())
}

/// All at once: one kubectl is quicker than two hundred.
fn mistakes(admin: &Access, dir: &Path) -> anyhow::Result<()> {
    let cases = cases::cases();
    heading(&format!("{} mistakes are refused, those that break a CEL rule in its words", cases.len()));
    let (good, bad) = (dir.join("good"), dir.join("bad"));
    for (n, case) in cases.iter().enumerate() {
        for (dir, value) in [(&good, &case.good), (&bad, &case.bad)] {
            fs::create_dir_all(dir)?;
            fs::write(dir.join(format!("{n:03}.json")), cases::object(&case.at, value).to_string())?;
        }
    }
    let apply = |dir: &Path| admin.ask_kubectl(&["apply", "--dry-run=server", "-f", &dir.display().to_string()], "");
    let taken = apply(&good)?;
    ensure!(taken.status.success() && taken.error.is_empty(), "good ones are refused: {}", taken.error);
    assert_eq!(taken.out.lines().count(), cases.len());
    let refused = apply(&bad)?;
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let told = told(&refused.error, &bad.join(format!("{n:03}.json")));
        // An API server leaves a null in a map out, where a directory of manifests has it refused.
        let has_null = case.bad.as_object().is_some_and(|map| map.values().any(Value::is_null));
        let right = match case.breaks == cases::RULE {
            _ if has_null => told.is_empty(),
            true => told.contains(&case.says),
            false => !told.is_empty() && told.contains(case.field.split(['[', '.']).next_back().unwrap_or_default()),
        };
        if !right {
            wrong.push(format!("{} = {} must be told {:?}, and is told {told:?}", case.at, case.bad, case.says));
        }
    }
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

/// What kubectl says of one file.
fn told(said: &str, file: &Path) -> String {
    let mark = format!("\"{}\"", file.display());
    let from = said.split_once(&mark).map(|(_, rest)| rest).unwrap_or_default();
    from.split("Error from server").next().unwrap_or_default().to_owned()
}

fn changes(admin: &Access) -> anyhow::Result<()> {
    heading("a change that cannot be made is refused");
    for (n, (old, new, _, message)) in cases::changes().into_iter().enumerate() {
        let named = |spec: &Value| {
            let mut object = cases::object("spec", spec);
            object["metadata"]["name"] = json!(format!("change-{n}"));
            object.to_string()
        };
        admin.apply(&named(&old))?;
        let refused = admin.ask_kubectl(&["apply", "-f", "-"], &named(&new))?;
        ensure!(!refused.status.success() && refused.error.contains(message), "{message:?}: {refused:?}");
    }
    admin.kubectl(&["delete", "mrs", "--all"]).map(drop)
}

fn namespaces(admin: &Access) -> anyhow::Result<()> {
    heading("a namespace with a set in it ends");
    admin.kubectl(&["create", "namespace", "short"])?;
    admin.apply(&SET.replace("{name: shop}", "{name: shop, namespace: short}"))?;
    admin.kubectl(&["delete", "namespace", "short", "--wait=false"])?;
    within(SOON, "the namespace is gone", || {
        let asked = admin.ask_kubectl(&["get", "namespace", "short"], "")?;
        Ok(asked.error.contains("NotFound").then_some(()))
    })
}

fn users(plane: &ControlPlane) -> anyhow::Result<()> {
    heading("a service account may what its role says, and the audit log has both answers");
    plane.admin.kubectl(&["create", "serviceaccount", "reader"])?;
    let reader = plane.service_account("default", "reader")?;
    let asked = reader.ask_kubectl(&["get", "mrs"], "")?;
    ensure!(asked.error.contains("cannot list resource \"mysqlreplicasets\""), "{asked:?}");
    plane.admin.kubectl(&["create", "role", "reader", "--verb=list", &format!("--resource={CRD}")])?;
    plane.admin.kubectl(&["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader"])?;
    within(SOON, "it may list", || Ok(reader.kubectl(&["get", "mrs"]).ok()))?;
    let audit = plane.audit()?;
    let lists = audit.iter().filter(|entry| {
        entry.user == "system:serviceaccount:default:reader"
            && (entry.verb.as_str(), entry.resource.as_str()) == ("list", "mysqlreplicasets")
            && (entry.api_group.as_str(), entry.namespace.as_str()) == ("drover.dev", "default")
    });
    let codes: Vec<u16> = lists.map(|entry| entry.code).collect();
    ensure!(codes.first() == Some(&403) && codes.last() == Some(&200), "{codes:?}");
    Ok(())
}

fn two_clusters(plane: &ControlPlane, dir: &Path) -> anyhow::Result<()> {
    heading("a second cluster beside it knows nothing of the first, and helm installs into it");
    let other = ControlPlane::up(dir)?;
    assert_ne!(other.url(), plane.url());
    ensure!(other.admin.kubectl(&["get", "crd", CRD]).is_err());
    let chart = dir.join("chart");
    fs::create_dir_all(chart.join("templates"))?;
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: note\nversion: 1.0.0\nkubeVersion: \">=1.31.0\"\n")?;
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\ndata: {text: {{ .Release.Name }}}\n";
    fs::write(chart.join("templates/note.yaml"), note)?;
    other.admin.helm(&["install", "first", &chart.display().to_string(), "--wait", "--timeout=60s"])?;
    assert_eq!(other.admin.get_json(&["configmap", "note"])?["data"]["text"], "first");
    Ok(())
}

fn losses(plane: &mut ControlPlane) -> anyhow::Result<()> {
    heading("what it knew is there after a stop and a start of the API server");
    plane.admin.apply(SET)?;
    let uid = |plane: &ControlPlane| {
        Ok::<_, anyhow::Error>(plane.admin.get_json(&["mrs", "shop"])?["metadata"]["uid"].clone())
    };
    let before = uid(plane)?;
    plane.stop_api_server();
    let asked = plane.admin.ask_kubectl(&["get", "mrs"], "")?;
    ensure!(asked.error.contains("refused"), "{asked:?}");
    plane.start_api_server()?;
    assert_eq!(uid(plane)?, before);

    heading("and nothing of it after the loss of its data");
    let clock = Clock::start();
    plane.lose_everything()?;
    eprintln!("an empty one was up after {:.1} s", clock.elapsed().as_secs_f64());
    ensure!(plane.admin.kubectl(&["get", "crd", CRD]).is_err());
    install_crd(&plane.admin)?;
    plane.admin.apply(SET)?;
    ensure!(uid(plane).context("the new set")? != before);
    Ok(())
}
