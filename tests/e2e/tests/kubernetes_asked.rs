//! What people ask of sets through a real API server, what an installation refuses them, and how Argo CD judges all that: requests,
//! pauses, limits, an object that an older definition let in. Argo CD's script judges every object that the API server ever showed.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use drover_api::crd;
use drover_e2e::{
    Access, Asked, CONFIG, Cloud, ControlPlane, History, Operator, drover, heading, manifest, scenario, within,
};
use serde_json::Value;

#[path = "../../../operator/api/tests/argocd/script.rs"]
mod script;

use script::Script;

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
/// Of other types than the definition has, and against its rules.
const BROKEN: &str = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: broken}\n\
    spec: {members: three, version: 7, more: {of: it}}\n";
const CRACKED: &str = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: cracked}\n\
    spec: {members: 1, version: \"9.7\", readReplicas: 5000}\n";
const USERS: &str = "  mysql:\n    databases: {shop: {}}\n    users:\n      app: {database: shop, access: ReadWrite}\n      \
    report: {database: shop, access: ReadOnly, passwordSecretRef: {name: report, key: password}}\n";
/// Of user `report`, one after the other.
const CHOSEN: [&str; 2] = ["correct horse battery", "staple of another kind"];

/// The installation, and a person before it.
struct Place<'a> {
    cloud: &'a Cloud,
    admin: &'a Access,
    argo: Script,
}

#[test]
fn what_people_ask_for_is_done_and_answered_and_argo_cd_sees_how_it_is() -> anyhow::Result<()> {
    scenario("kubernetes-asked", |cloud| {
        let plane = ControlPlane::up(&cloud.dir.join("kubernetes"))?;
        let argo = Script::new(&fs::read_to_string(format!("{REPOSITORY}/charts/drover/files/argocd/health.lua"))?);
        let place = Place { cloud, admin: &plane.admin, argo };
        place.is_given_a_malformed_object()?;
        let config = place.install()?;
        let seen = History::begin(&plane.admin, &cloud.dir.join("seen.json"))?;
        place.admin.kubectl(&["create", "secret", "generic", "shop-app", "--from-literal=theirs=kept"])?;
        place.admin.apply(&(manifest("shop", 3, 0) + USERS))?;
        place.judged("shop", "Progressing", "the operator has not looked at it yet")?;
        let operator =
            Operator::start_configured(cloud, "operator", &plane.service_account("drover", "drover")?, &config)?;
        place.refuses()?;
        place.makes()?;
        let password = place.connects()?;
        place.keeps_to_the_limit()?;
        place.holds()?;
        place.pauses()?;
        place.restarts()?;
        place.drops()?;
        place.goes_on_beside_the_malformed(&plane)?;
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

    /// The operator's configuration, as the chart makes it.
    fn install(&self) -> anyhow::Result<String> {
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
        let shown = self.admin.get_json(&["--namespace", "drover", "configmap", "drover"])?;
        Ok(shown["data"]["drover.yaml"].as_str().context("the configuration")?.to_owned())
    }

    fn refuses(&self) -> anyhow::Result<()> {
        heading("a namespace gets what it is allowed, and one that is not named gets nothing");
        for (namespace, field) in [("guests", "spec.machine.instanceProfile"), ("strangers", "metadata.namespace")] {
            self.admin.kubectl(&["create", "namespace", namespace])?;
            self.admin.apply(
                &manifest("greedy", 1, 0).replace("name: greedy", &format!("name: greedy\n  namespace: {namespace}")),
            )?;
            let told = self.condition(&["--namespace", namespace, "mrs/greedy"], "Stalled", "InvalidSpec")?;
            ensure!(told.contains(field) && told.contains(namespace), "{told}");
            let object = self.admin.get_json(&["--namespace", namespace, "mrs/greedy"])?;
            assert_eq!(self.argo.judge(&object), ("Degraded".into(), told));
        }
        ensure!(self.cloud.fleet_of("greedy")?.is_empty());
        Ok(())
    }

    fn makes(&self) -> anyhow::Result<()> {
        let limit = format!("--timeout={}s", LAUNCH.as_secs());
        self.admin.kubectl(&["wait", "--for=condition=Ready", &limit, SHOP])?;
        self.judged("shop", "Healthy", "every machine serves in its role")
    }

    /// The password that was made for user `app`.
    fn connects(&self) -> anyhow::Result<String> {
        heading("a name that somebody else has is left alone, and told");
        within(SOON, "an event says whose it is", || {
            Ok(self.admin.kubectl(&["describe", SHOP])?.contains("NameTaken").then_some(()))
        })?;
        assert_eq!(self.secret("shop-app")?, BTreeMap::from([("theirs".into(), "kept".into())]));
        self.admin.kubectl(&["delete", "secret", "shop-app"])?;
        let app = within(SOON, "the name is free, and taken", || Ok(self.secret("shop-app").ok()))?;

        heading("a user's Secret says how to connect, and one whose password is chosen waits for it and says so");
        let text = |key: &str| app.get(key).map(String::as_str).unwrap_or_default();
        let keys = ["ca.crt", "dbname", "host", "password", "port", "reader-host", "reader-uri", "uri", "username"];
        assert_eq!(app.keys().collect::<Vec<_>>(), keys);
        let (writes, reads) = ("shop-primary.default.svc", "shop-replicas.default.svc");
        assert_eq!(
            ["host", "port", "dbname", "username", "reader-host"].map(text),
            [writes, "3306", "shop", "app", reads]
        );
        for (key, host) in [("uri", writes), ("reader-uri", reads)] {
            assert_eq!(text(key), format!("mysql://app:{}@{host}:3306/shop", text("password")), "{key}");
        }
        ensure!(text("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"), "{}", text("ca.crt"));
        let told = self.condition(&[SHOP], "ClientsReady", "PasswordAwaited")?;
        ensure!(told.contains("Secret default/report: make it, with the password in its key password"), "{told}");
        self.admin.kubectl(&["create", "secret", "generic", "report", "--from-literal=word=a good password"])?;
        within(SOON, "the key is named", || {
            let told = self.condition(&[SHOP], "ClientsReady", "PasswordAwaited")?;
            Ok(told.contains("Secret default/report: put the password into its key password").then_some(()))
        })?;
        let host = format!("--host={}", self.address("m0")?);
        let from = self.machine("m1")?;
        let connect = |password: &str| {
            let password = format!("MYSQL_PWD={password}");
            let ask = "SELECT CURRENT_USER()";
            self.cloud
                .inside(&from, &["env", &password, "mysql", &host, "--user=report", "--ssl-mode=REQUIRED", "-Ne", ask])
        };
        for (n, chosen) in CHOSEN.into_iter().enumerate() {
            let data = serde_json::json!({ "stringData": { "password": chosen } });
            self.admin.kubectl(&["patch", "secret", "report", "-p", &data.to_string()])?;
            within(SOON, "the Secret of the user has it", || {
                let said = self.secret("shop-report").unwrap_or_default();
                Ok((said.get("password").map(String::as_str) == Some(chosen)).then_some(()))
            })?;
            // Who still has the one before goes on by it.
            for password in &CHOSEN[..=n] {
                assert_eq!(connect(password)?.trim(), "report@%");
            }
        }
        self.condition(&[SHOP], "ClientsReady", "ClientsMade")?;
        let owners = self.admin.get_json(&["secret", "report"])?["metadata"]["ownerReferences"].clone();
        ensure!(owners.is_null(), "a person's Secret is theirs: {owners}");
        Ok(text("password").to_owned())
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

    fn pauses(&self) -> anyhow::Result<()> {
        heading("a paused set is suspended, and refuses what is asked for");
        self.patch(r#"{"spec":{"paused":true}}"#)?;
        self.judged("shop", "Suspended", "spec.paused is true")?;
        self.asked("hold", "by-hand-3 m1", "refused: nothing is changed while spec.paused is true")?;
        self.patch(r#"{"spec":{"paused":false}}"#)?;
        self.judged("shop", "Healthy", "")
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

    fn drops(&self) -> anyhow::Result<()> {
        heading("a user and a database are dropped when it is asked for, and not while they are declared");
        for (verb, name) in [("drop-user", "app"), ("drop-database", "shop")] {
            let said = self.drover(&[verb, "shop", name])?;
            ensure!(!said.status.success() && said.out.contains("is declared"), "{said:?}");
        }
        self.admin.apply(&manifest("shop", 3, 0))?;
        let m1 = self.machine("m1")?;
        let here = "SELECT CONCAT((SELECT COUNT(*) FROM mysql.user WHERE user = 'app'), \
             (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'shop'))";
        within(SOON, "the operator knows of the change", || {
            let shown = self.admin.get_json(&[SHOP])?;
            Ok((shown["metadata"]["generation"] == shown["status"]["observedGeneration"]).then_some(()))
        })?;
        assert_eq!(self.cloud.sql(&m1, here)?, "11", "nothing is dropped by itself");
        for (verb, name, left) in [("drop-user", "app", "01"), ("drop-database", "shop", "00")] {
            let said = self.drover(&[verb, "shop", name])?;
            ensure!(said.status.success() && said.out.starts_with("done: "), "{said:?}");
            within(SOON, "a replica has what is left", || Ok((self.cloud.sql(&m1, here)? == left).then_some(())))?;
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

    fn loses_its_primary(&self) -> anyhow::Result<()> {
        heading("a set that lost its primary is degraded");
        let served = |name: &str| -> anyhow::Result<usize> {
            let slice = self.admin.get_json(&["endpointslice", name])?;
            Ok(slice["endpoints"].as_array().map_or(0, Vec::len))
        };
        within(SOON, "all of it serves", || {
            Ok(((served("shop-primary")?, served("shop-replicas")?) == (1, 2)).then_some(()))
        })?;
        self.cloud.end_machine(&self.machine("m0")?)?;
        within(SOON, "it is told", || {
            let (health, told) = self.argo.judge(&self.admin.get_json(&[SHOP])?);
            Ok((health == "Degraded" && told.contains("restore")).then_some(()))
        })?;
        // How old a replica's data is nobody can say then, so reads stop too.
        within(SOON, "nobody is sent anywhere", || {
            Ok(((served("shop-primary")?, served("shop-replicas")?) == (0, 0)).then_some(()))
        })?;
        self.admin.kubectl(&["delete", "--wait=false", SHOP])?;
        // It is retained: gone at once, with nothing ended.
        within(SOON, "it is gone", || Ok(self.admin.kubectl(&["get", SHOP]).is_err().then_some(())))
    }

    fn every_object_was_judged(&self, seen: History) -> anyhow::Result<()> {
        heading("every object that the API server showed has a health, and the histories are what people expect");
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for object in seen.end()? {
            let (health, message) = self.argo.judge(&object);
            ensure!(!message.is_empty(), "no word: {object}");
            is_as_kstatus_wants(&object)?;
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let history = histories.entry(name).or_default();
            if history.last() != Some(&health) {
                history.push(health);
            }
        }
        let shop = &histories["shop"];
        for (health, why) in
            [("Progressing", "launched"), ("Healthy", "ready"), ("Suspended", "held"), ("Degraded", "lost")]
        {
            ensure!(shop.iter().any(|seen| seen == health), "never {health} when it was {why}: {shop:?}");
        }
        assert_eq!(shop[..2], ["Progressing", "Healthy"], "{shop:?}");
        // A sync is given up over Degraded: nothing that mends itself may be.
        assert_eq!(shop.iter().filter(|health| *health == "Degraded").count(), 1, "{shop:?}");
        let is_ever = |name: &str, health: &str| histories[name].iter().any(|seen| seen == health);
        ensure!(is_ever("greedy", "Degraded"), "{histories:?}");
        ensure!(!is_ever("broken", "Healthy") && !is_ever("cracked", "Healthy"), "{histories:?}");
        Ok(())
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

    /// What a Secret holds, decoded.
    fn secret(&self, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let template =
            r#"go-template={{range $k, $v := .data}}{{$k}}={{$v | base64decode | printf "%q"}}{{"\n"}}{{end}}"#;
        let text = self.admin.kubectl(&["get", "secret", name, "-o", template])?;
        let entry = |line: &str| {
            let (key, value) = line.split_once('=').with_context(|| format!("{name}: {line}"))?;
            Ok((key.to_owned(), serde_json::from_str(value)?))
        };
        text.lines().map(entry).collect()
    }

    fn address(&self, slot: &str) -> anyhow::Result<String> {
        let told = self.cloud.inside(&self.machine(slot)?, &["hostname", "-I"])?;
        told.split_whitespace().next().map(str::to_owned).context("an address")
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

    /// Waits until Argo CD would say that, with these words among its message.
    fn judged(&self, set: &str, health: &str, words: &str) -> anyhow::Result<()> {
        let mut last = (String::new(), String::new());
        let waited = within(SOON, format!("{set} is {health}"), || {
            last = self.argo.judge(&self.admin.get_json(&[&format!("mrs/{set}")])?);
            Ok((last.0 == health && last.1.contains(words)).then_some(()))
        });
        waited.with_context(|| format!("{} {}", last.0, last.1))
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

/// As kstatus reads an object (sigs.k8s.io/cli-utils, pkg/kstatus): only what is at the newest generation can be done, and the
/// conditions that are against it are there while they are true, and never otherwise.
fn is_as_kstatus_wants(object: &Value) -> anyhow::Result<()> {
    let status = &object["status"];
    let observed = status["observedGeneration"].as_i64().context("observedGeneration has a default")?;
    let generation = object["metadata"]["generation"].as_i64().context("a generation")?;
    ensure!(observed <= generation, "{observed} of {generation}");
    let mut is = BTreeMap::new();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let (kind, said) =
            (condition["type"].as_str().context("a type")?, condition["status"].as_str().context("a status")?);
        ensure!(is.insert(kind, said).is_none(), "{kind} twice: {status}");
        ensure!(condition["observedGeneration"] == observed, "{condition}");
    }
    for kind in ["Reconciling", "Stalled"] {
        ensure!(is.get(kind).is_none_or(|said| *said == "True"), "{kind} is there and not true: {status}");
    }
    ensure!(observed < 0 || is.contains_key("Ready"), "nothing says whether it is ready: {status}");
    ensure!(!is.contains_key("Stalled") || is.get("Ready") != Some(&"True"), "ready and stalled: {status}");
    Ok(())
}
