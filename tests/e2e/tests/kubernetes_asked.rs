//! What people ask of sets through a real API server, what an installation refuses them, and how Argo CD judges all that: requests,
//! pauses, limits, an object that an older definition let in. Argo CD's script judges every object that the API server ever showed.
//! The chart is installed for a few namespaces, with a role in each.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use argocd::ArgoCd;
use clients::{CHOSEN, USERS};
use drover_api::crd;
use drover_e2e::{
    Access, Asked, CONFIG, Cloud, ControlPlane, History, Installed, Operator, drover, heading, manifest, scenario,
    within,
};
use serde_json::Value;

mod argocd;
#[path = "kubernetes_asked/clients.rs"]
mod clients;
#[path = "kubernetes_asked/states.rs"]
mod states;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
const SHOP: &str = "mrs/shop";
const CRD: &str = "mysqlreplicasets.drover.dev";
/// What is said in values ends in the operator's configuration.
const VALUES: &str = r#"
realm: e2e
bucket: drover
leaseSeconds: 9
replicas: 0
watchNamespaces: [default, guests, strangers]
defaults:
  machine:
    image: {tags: {"drover:image": mysql}, owners: [self]}
    instanceTypes: [t3.small]
    subnets: {tags: {"drover:network": machines}}
    securityGroups: {tags: {"drover:network": machines}}
    instanceProfile: drover-machine
    dataVolume: {sizeGiB: 4}
allow:
  default: {instanceProfiles: [drover-machine]}
  guests: {instanceProfiles: [guest-machine]}
limits:
  maxMachines: 3
"#;
/// What the chart labels everything with.
const INSTANCE: &str = "app.kubernetes.io/instance=drover";
/// Of other types than the definition has, and against its rules.
const BROKEN: &str = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: broken}\n\
    spec: {members: three, version: 7, more: {of: it}}\n";
const CRACKED: &str = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: cracked}\n\
    spec: {members: 1, version: \"9.7\", readReplicas: 5000}\n";

/// The installation, and a person before it.
struct Place<'a> {
    cloud: &'a Cloud,
    admin: &'a Access,
    argo: ArgoCd,
}

#[test]
fn what_people_ask_for_is_done_and_answered_and_argo_cd_sees_how_it_is() -> anyhow::Result<()> {
    scenario("kubernetes-asked", |cloud| {
        let plane = ControlPlane::up(&cloud.dir.join("kubernetes"))?;
        let place = Place { cloud, admin: &plane.admin, argo: ArgoCd::new()? };
        place.is_given_a_malformed_object()?;
        let installed = place.install()?;
        let seen = History::begin(&plane.admin, &cloud.dir.join("seen.json"))?;
        place.admin.kubectl(&["create", "secret", "generic", "shop-app", "--from-literal=theirs=kept"])?;
        place.admin.apply(&(manifest("shop", 3, 0) + USERS))?;
        let account = plane.service_account("drover", "drover")?;
        let operator = place.awaits_the_realm(|| Operator::start_installed(cloud, "operator", &account, &installed))?;
        place.refuses()?;
        place.makes()?;
        let password = place.connects()?;
        place.keeps_to_the_limit()?;
        place.holds()?;
        place.pauses()?;
        place.works_and_is_ready()?;
        place.replaces_what_is_lost()?;
        place.restarts()?;
        place.drops()?;
        place.goes_on_beside_the_malformed(&plane)?;
        place.leaves_other_namespaces_alone()?;
        place.loses_its_primary()?;
        place.every_object_was_judged(seen)?;
        place.nothing_leaked(&operator, password)?;
        heading("what the chart's roles do not grant was never asked for");
        plane.must_not_be_refused("drover", "drover")?;
        operator.stop()
    })
}

impl Place<'_> {
    fn is_given_a_malformed_object(&self) -> anyhow::Result<()> {
        heading("an older definition lets in what no set can be");
        let mut definition: Value = serde_json::from_str(&self.admin.kubectl(&[
            "create",
            "--dry-run=client",
            "-o",
            "json",
            "-f",
            &format!("{REPOSITORY}/{}", crd::FILE),
        ])?)?;
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            serde_json::json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        // As an earlier release would have applied it.
        let applied = self
            .admin
            .ask_kubectl(&["apply", "--server-side", "--field-manager=helm", "-f", "-"], &definition.to_string())?;
        ensure!(applied.status.success(), "{applied:?}");
        self.admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", CRD])?;
        for object in [BROKEN, CRACKED] {
            within(SOON, "the API server knows the kind", || Ok(self.admin.apply(object).ok()))?;
        }
        let (server, definition) = self.doctor(self.admin)?;
        ensure!(server.starts_with("ok    API server: v1."), "{server}");
        ensure!(definition.starts_with("FAIL  resource definition: the schema of v1alpha1 is another"), "{definition}");
        Ok(())
    }

    /// What `drover doctor` says of the API server and of the definition.
    fn doctor(&self, access: &Access) -> anyhow::Result<(String, String)> {
        let mut environment = self.cloud.environment();
        environment.insert("KUBECONFIG", access.kubeconfig.display().to_string());
        let config = self.cloud.dir.join("doctor.yaml");
        fs::write(&config, CONFIG)?;
        let words = ["doctor", "--kubernetes", "--config", &config.display().to_string()];
        let said = drover(&environment, &words)?;
        let line = |name: &str| {
            let line = said.out.lines().find(|line| line.contains(name)).map(str::to_owned);
            line.with_context(|| format!("{name} is not told: {said:?}"))
        };
        Ok((line("  API server: ")?, line("  resource definition: ")?))
    }

    /// For some namespaces, which a role in each of them needs to be there.
    fn install(&self) -> anyhow::Result<Installed> {
        for namespace in ["guests", "strangers", "unwatched"] {
            self.admin.kubectl(&["create", "namespace", namespace])?;
        }
        let values = self.cloud.dir.join("values.yaml");
        fs::write(&values, VALUES)?;
        let (chart, values) = (format!("{REPOSITORY}/charts/drover"), values.display().to_string());
        let place = ["--namespace", "drover", "--create-namespace", "--values", &values];
        let install = ["upgrade", "--install", "--take-ownership", "drover", &chart];
        self.admin.helm(&[install.as_slice(), &place].concat())?;
        self.admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", CRD])?;
        let broken = self.admin.get_json(&["mrs/broken"])?;
        assert_eq!(broken["spec"]["members"], "three", "the API server shows what is stored");
        assert_eq!(self.doctor(self.admin)?.1, "ok    resource definition: v1alpha1 as this build has it");
        assert_eq!(self.admin.kubectl(&["get", "clusterrolebindings", "-l", INSTANCE, "-o", "name"])?, "");
        Installed::of(self.admin)
    }

    fn refuses(&self) -> anyhow::Result<()> {
        heading("a namespace gets what it is allowed, and one that is not named gets nothing");
        // As those below; seven steps later it is to be as it is now.
        self.admin.apply(&greedy("unwatched"))?;
        for (namespace, field) in [("guests", "spec.machine.instanceProfile"), ("strangers", "metadata.namespace")] {
            self.admin.apply(&greedy(namespace))?;
            let told = self.condition(&["--namespace", namespace, "mrs/greedy"], "Stalled", "InvalidSpec")?;
            ensure!(told.contains(field) && told.contains(namespace), "{told}");
            let object = self.admin.get_json(&["--namespace", namespace, "mrs/greedy"])?;
            assert_eq!(self.argo.judge(&object), ("Degraded".into(), told));
        }
        ensure!(self.cloud.fleet_of("greedy")?.is_empty());
        Ok(())
    }

    fn leaves_other_namespaces_alone(&self) -> anyhow::Result<()> {
        heading("a set of a namespace that is not watched is left alone, and ends at once when it is deleted");
        let set = ["--namespace", "unwatched", "mrs/greedy"];
        let object = self.admin.get_json(&set)?;
        assert_eq!(
            (&object["status"]["observedGeneration"], &object["metadata"]["finalizers"]),
            (&(-1).into(), &Value::Null)
        );
        self.admin.kubectl(&[["delete", "--timeout=60s"].as_slice(), &set].concat()).map(drop)
    }

    fn makes(&self) -> anyhow::Result<()> {
        let limit = format!("--timeout={}s", LAUNCH.as_secs());
        self.admin.kubectl(&["wait", "--for=condition=Ready", &limit, SHOP])?;
        self.judged("shop", "Healthy", "every machine serves in its role")
    }

    fn keeps_to_the_limit(&self) -> anyhow::Result<()> {
        heading("no machine is launched beyond limits.maxMachines");
        self.admin.kubectl(&["scale", SHOP, "--replicas=1"])?;
        let told = self.condition(&[SHOP], "Reconciling", "")?;
        within(SOON, "it says which limit", || {
            let told = self.condition(&[SHOP], "Ready", "")?;
            Ok(told.contains("limits.maxMachines").then_some(()))
        })
        .context(told)?;
        assert_eq!(self.cloud.fleet_of("shop")?.len(), 3);
        self.admin.kubectl(&["scale", SHOP, "--replicas=0"])?;
        self.makes()
    }

    fn holds(&self) -> anyhow::Result<()> {
        heading(
            "machines are held and given back, by the command and by an annotation, and the answer is in the status",
        );
        let said = self.drover(&["hold", "shop", "m1"])?;
        ensure!(said.status.success() && said.out.starts_with("done: m1 ("), "{said:?}");
        let instance = self.machine("m1")?;
        let is_held =
            || Ok::<_, anyhow::Error>(self.cloud.tags()?.contains_key(&(instance.clone(), "drover:hold".into())));
        ensure!(is_held()?, "{instance} carries no tag");
        self.judged("shop", "Suspended", &format!("m1 ({instance})"))?;
        self.asked("release", "by-hand-1 m1", "done: m1 (")?;
        ensure!(!is_held()?, "{instance} carries its tag still");
        self.judged("shop", "Healthy", "")?;
        self.asked("explode", "by-hand-2 m1", "refused: explode is not known")?;
        let managers = self.admin.get_json(&[SHOP, "--show-managed-fields"])?["metadata"]["managedFields"].clone();
        let by_command = managers.as_array().into_iter().flatten().find(|entry| entry["manager"] == "drover-cli");
        let fields = by_command.context("the command's own manager")?["fieldsV1"].to_string();
        ensure!(fields.contains("request-hold") && !fields.contains("f:spec"), "{fields}");
        Ok(())
    }

    fn restarts(&self) -> anyhow::Result<()> {
        heading("mysqld is restarted on every machine, one after another, and nothing that was committed is lost");
        let before = self.cloud.facts()?.machines;
        let primary = self.machine("m0")?;
        self.cloud
            .sql(&primary, "CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (1)")?;
        let said = self.drover(&["restart", "shop"])?;
        ensure!(said.status.success() && said.out.starts_with("done: mysqld of "), "{said:?}");
        let after = self.cloud.facts()?.machines;
        for (slot, machine) in &before {
            let now = &after[slot];
            assert_eq!(
                (&now.instance, &now.volume, &now.boot_id),
                (&machine.instance, &machine.volume, &machine.boot_id)
            );
            ensure!(now.mysqld != machine.mysqld, "{slot} runs the mysqld of before");
        }
        self.makes()?;
        let status = self.admin.get_json(&[SHOP])?["status"].clone();
        assert_eq!((&status["primary"], &status["nodes"]), (&"m0".into(), &"3/3".into()));
        self.cloud.sql(&primary, "INSERT INTO shop.orders VALUES (2)")?;
        for slot in ["m0", "m1", "m2"] {
            let machine = self.machine(slot)?;
            within(SOON, format!("{slot} has both rows"), || {
                Ok((self.cloud.sql(&machine, "SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.orders")? == "1,2")
                    .then_some(()))
            })?;
        }
        Ok(())
    }

    fn goes_on_beside_the_malformed(&self, plane: &ControlPlane) -> anyhow::Result<()> {
        heading("what the older definition let in held up nobody, is told why it cannot be used, and can be deleted");
        let told = self.condition(&["mrs/cracked"], "Stalled", "InvalidSpec")?;
        ensure!(told.contains("spec.readReplicas"), "{told}");
        ensure!(self.admin.get_json(&["mrs/cracked"])?["metadata"]["finalizers"][0] == "drover.dev/machines");
        // Nobody can write on this one: an event is what is left.
        let told = within(SOON, "an event says what is wrong with it", || {
            let told = self.admin.kubectl(&["describe", "mrs/broken"])?;
            Ok((told.contains("InvalidSpec") && told.contains("spec.members")).then_some(told))
        })?;
        ensure!(told.contains("delete it and apply it anew") && told.contains("spec.version"), "{told}");
        let writes = plane.audit()?.into_iter().filter(|entry| {
            entry.user == "system:serviceaccount:drover:drover" && entry.name == "broken" && entry.verb == "patch"
        });
        let writes = writes.count();
        ensure!(writes < 40, "{writes} writes to one object that cannot be used");
        self.admin.kubectl(&["delete", "--timeout=60s", "mrs/broken"])?;
        for name in ["broken", "cracked"] {
            self.admin.apply(&manifest(name, 1, 0))?;
            within(SOON, format!("{name} is a set like any other once it is mended"), || {
                let (health, told) = self.argo.judge(&self.admin.get_json(&[&format!("mrs/{name}")])?);
                Ok((health == "Progressing" && told.contains("limits.maxMachines")).then_some(()))
            })?;
        }
        self.admin.kubectl(&["delete", "--timeout=60s", "mrs/broken", "mrs/cracked"]).map(drop)
    }

    /// Neither objects, events nor the log have a password, or anything else that is secret.
    fn nothing_leaked(&self, operator: &Operator, password: String) -> anyhow::Result<()> {
        heading("no password is in an object, an event or the log");
        let mut secrets: Vec<String> = CHOSEN.map(str::to_owned).to_vec();
        secrets.push(password);
        secrets.extend(drover_e2e::secrets(self.cloud)?.into_iter().map(|secret| secret.text));
        let shown = [
            fs::read_to_string(self.cloud.dir.join("seen.json"))?,
            self.admin.kubectl(&["get", "events.events.k8s.io", "-A", "-o", "json"])?,
            self.admin.kubectl(&["get", "mrs,services,endpointslices,configmaps", "-A", "-o", "json"])?,
            fs::read_to_string(&operator.log)?,
        ];
        for text in shown {
            ensure!(!text.is_empty());
            let leaked = secrets.iter().filter(|secret| text.contains(secret.as_str()));
            assert_eq!(leaked.count(), 0, "a secret is in {}...", text.chars().take(200).collect::<String>());
        }
        Ok(())
    }

    /// Waits for a condition that is there, whatever its status, with that reason; its message.
    fn condition(&self, set: &[&str], kind: &str, reason: &str) -> anyhow::Result<String> {
        within(SOON, format!("{set:?} says {kind} {reason}"), || {
            let conditions = self.admin.get_json(set)?["status"]["conditions"].clone();
            let conditions = conditions.as_array().into_iter().flatten();
            let found = conditions.into_iter().find(|condition| condition["type"] == kind);
            let found = found.filter(|condition| reason.is_empty() || condition["reason"] == reason);
            Ok(found.and_then(|condition| condition["message"].as_str()).map(str::to_owned))
        })
    }

    /// A person asks by an annotation, and waits for the answer.
    fn asked(&self, verb: &str, text: &str, answer: &str) -> anyhow::Result<()> {
        self.admin.kubectl(&["annotate", "--overwrite", SHOP, &format!("drover.dev/request-{verb}={text}")])?;
        let token = text.split(' ').next().unwrap_or_default();
        within(SOON, format!("{verb} is answered"), || {
            let handled = self.admin.get_json(&[SHOP])?["status"]["handled"][verb].clone();
            let is_answered = handled["token"] == token;
            let outcome = handled["outcome"].as_str().unwrap_or_default();
            ensure!(!is_answered || outcome.starts_with(answer), "{handled}");
            Ok(is_answered.then_some(()))
        })
    }

    fn patch(&self, patch: &str) -> anyhow::Result<()> {
        self.admin.kubectl(&["patch", SHOP, "--type=merge", "-p", patch]).map(drop)
    }

    /// The command beside a kubeconfig.
    fn drover(&self, words: &[&str]) -> anyhow::Result<Asked> {
        let kubeconfig = self.admin.kubeconfig.display().to_string();
        drover(&BTreeMap::from([("KUBECONFIG", kubeconfig)]), &[words, &["--kubernetes"]].concat())
    }

    fn machine(&self, slot: &str) -> anyhow::Result<String> {
        self.cloud.fleet_of("shop")?.remove(slot).with_context(|| format!("{slot} has a machine"))
    }
}

fn greedy(namespace: &str) -> String {
    manifest("greedy", 1, 0).replace("name: greedy", &format!("name: greedy\n  namespace: {namespace}"))
}
