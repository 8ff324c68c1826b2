//! Databases and users of applications on real mysqlds: made, kept, rotated without a refusal, and their passwords nowhere else.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use drover_e2e::{Clock, Cloud, Operator, drover, heading, is_secret, manifest, objects, scenario, within};
use serde_json::Value;

/// Four machines boot on two cores while mysqld is initialised and copied.
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "shop";
const FILE: &str = "shop.yaml";
/// What people chose; each is a canary of its own.
const CHOSEN: [&str; 2] = ["canary'one\"with\\quotes%20", "canary two, the next one"];
const USERS: &str = r#"  mysql:
    databases:
      my_shop: {characterSet: utf8mb4, collation: utf8mb4_bin}
    users:
      app: {database: my_shop, access: ReadWrite}
      report: {database: my_shop, access: ReadOnly, passwordSecretRef: {name: report, key: password}}
"#;

/// The set, and a program's place to connect from.
struct Shop<'a> {
    cloud: &'a Cloud,
    secrets: PathBuf,
    /// The primary's machine and address, and the machine of a replica.
    primary: String,
    address: String,
    replica: String,
}

#[test]
fn users_are_made_and_kept_and_their_passwords_rotate_without_a_refusal() -> anyhow::Result<()> {
    scenario("users", |cloud| {
        let secrets = cloud.dir.join("secrets");
        fs::create_dir_all(secrets.join("default/report"))?;
        let mut environment = cloud.environment();
        environment.insert("DROVER_SECRETS", secrets.display().to_string());
        let declared = manifest(SET, 3, 0) + USERS;
        let mut operator = Operator::start_in(cloud, "operator", &[(FILE, &declared)], &environment)?;
        let set = operator.await_ready(SET, 3, LAUNCH)?;
        let machine = |slot: &str| -> anyhow::Result<(String, String)> {
            let row =
                set.members.iter().find(|row| row.slot.to_string() == slot).context("a ready set has every slot")?;
            let (instance, address) = row.instance.as_ref().zip(row.address).context("a ready slot has a machine")?;
            Ok((instance.to_string(), address.to_string()))
        };
        let ((primary, address), (replica, _)) = (machine("m0")?, machine("m1")?);
        let shop = Shop { cloud, secrets, primary, address, replica };
        shop.awaits_a_file(&mut operator)?;
        shop.gives_what_is_declared(&mut operator)?;
        shop.rotates(&mut operator, &declared)?;
        shop.keeps(&mut operator)?;
        shop.is_handed_a_user(&mut operator, &declared)?;
        shop.shows_no_password(&operator)
    })
}

impl Shop<'_> {
    fn awaits_a_file(&self, operator: &mut Operator) -> anyhow::Result<()> {
        heading("a missing file of a password is named, holds up its user alone, and is found when it comes");
        let file = self.secrets.join("default/report/password");
        operator.await_set(SET, SOON, "has made one user and names the file of the other", |set| {
            let ready = set.users.iter().filter(|user| user.ready).map(|user| user.name.as_str());
            let is_told = set.awaiting.iter().any(|line| line.contains(&file.display().to_string()));
            ready.eq(["app"]) && is_told && set.ready
        })?;
        fs::write(&file, format!("{}\n", CHOSEN[0]))?;
        await_users(operator, 2)
    }

    fn gives_what_is_declared(&self, operator: &mut Operator) -> anyhow::Result<()> {
        heading(
            "ReadWrite writes, ReadOnly reads, each in its database only, by TLS only, and the server proves itself",
        );
        let credentials = |user: &str| self.credentials(operator, user);
        let (app, report) = (credentials("app")?, credentials("report")?);
        ensure!(app["host"] == self.address.as_str() && app["database"] == "my_shop", "{app}");
        ensure!(report["password"] == CHOSEN[0] && app["readerHosts"].as_array().is_some_and(|all| all.len() == 2));
        self.put_ca(operator)?;
        self.connect(
            "app",
            text(&app)?,
            "CREATE TABLE my_shop.t (n INT PRIMARY KEY); INSERT INTO my_shop.t VALUES (1)",
        )?;
        ensure!(self.connect("report", CHOSEN[0], "SELECT n FROM my_shop.t")?.trim() == "1");
        let refused = |user, password, statement: &str| -> anyhow::Result<()> {
            let said = self.connect(user, password, statement).expect_err(statement);
            ensure!(format!("{said:#}").contains("denied"), "{statement}: {said:#}");
            Ok(())
        };
        refused("report", CHOSEN[0], "INSERT INTO my_shop.t VALUES (2)")?;
        refused("report", CHOSEN[0], "CREATE TABLE my_shop.u (n INT)")?;
        // An underscore is a wildcard where MySQL takes a pattern.
        self.cloud.sql(&self.primary, "CREATE DATABASE myxshop; CREATE TABLE myxshop.t (n INT PRIMARY KEY)")?;
        for (user, password) in [("app", text(&app)?), ("report", CHOSEN[0])] {
            refused(user, password, "SELECT * FROM myxshop.t")?;
            refused(user, password, "SELECT * FROM drover.marker")?;
            refused(user, password, "SELECT user FROM mysql.user")?;
        }
        let plain = self.client("report", CHOSEN[0], "--ssl-mode=DISABLED", "SELECT 1").expect_err("without TLS");
        ensure!(format!("{plain:#}").contains("ERROR"), "{plain:#}");
        let collation = "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'my_shop'";
        ensure!(self.cloud.sql(&self.primary, collation)? == "utf8mb4_bin");

        heading("replicas let the same users read");
        within(SOON, "the replica has the user", || {
            let told =
                self.cloud.sql(&self.replica, "SELECT COUNT(*) FROM mysql.user WHERE user IN ('app', 'report')")?;
            Ok((told == "2").then_some(()))
        })
    }

    fn rotates(&self, operator: &mut Operator, declared: &str) -> anyhow::Result<()> {
        heading(
            "a password changes while a program connects all the time, first by the old one and then by the new: no refusal",
        );
        let before = text(&self.credentials(operator, "app")?)?.to_owned();
        let program = self.cloud.begin_inside(&self.replica, &["sh", "-c", &self.program(&before)])?;
        within(SOON, "the program connects", || Ok((self.connected()? > 5).then_some(())))?;
        operator.declare(FILE, &declared.replace("app: {", "app: {rotation: 1, "))?;
        fs::write(self.secrets.join("default/report/password"), CHOSEN[1])?;
        let after = within(SOON, "the new password is applied", || {
            let now = self.credentials(operator, "app")?;
            Ok((text(&now)? != before && now["applied"] == true).then_some(now))
        })?;
        let so_far = self.connected()?;
        within(SOON, "the program connects by the old one", || Ok((self.connected()? > so_far + 5).then_some(())))?;
        self.write("/run/new-password", text(&after)?)?;
        let so_far = self.connected()?;
        within(SOON, "the program connects by the new one", || Ok((self.connected()? > so_far + 5).then_some(())))?;
        self.cloud.inside(&self.replica, &["touch", "/run/enough"])?;
        let (code, said) = program.end(SOON)?;
        ensure!(code == Some(0) && !said.contains("ERROR"), "{code:?} {said}");
        await_users(operator, 2)?;
        // The newer first: it is there only when the older has become the one before.
        for password in CHOSEN.iter().rev() {
            within(SOON, "the user connects by both", || {
                Ok(self.connect("report", password, "SELECT 1").is_ok().then_some(()))
            })?;
        }

        heading("after its hour the old one is refused");
        let older = r#"ALTER USER report@'%' ATTRIBUTE '{"drover": {"changed": 0}}'"#;
        self.cloud.sql(&self.primary, older)?;
        within(SOON, "the old password is refused", || {
            Ok(self.connect("report", CHOSEN[0], "SELECT 1").is_err().then_some(()))
        })?;
        self.connect("report", CHOSEN[1], "SELECT 1")?;
        self.connect("app", &before, "SELECT 1").map(drop)
    }

    fn keeps(&self, operator: &mut Operator) -> anyhow::Result<()> {
        heading("a user and a database that are dropped by hand come back");
        self.cloud.sql(&self.primary, "DROP USER app@'%'; DROP DATABASE my_shop")?;
        let app = self.credentials(operator, "app")?;
        within(SOON, "both are there again", || {
            Ok(self.connect("app", text(&app)?, "CREATE TABLE my_shop.t (n INT PRIMARY KEY)").is_ok().then_some(()))
        })?;

        heading("a change of access is one of rights alone, and a user that is not declared any more stays");
        let only =
            "    databases: {my_shop: {}}\n    users:\n      app: {database: my_shop, access: ReadOnly, rotation: 1}\n";
        operator.declare(FILE, &(manifest(SET, 3, 0) + "  mysql:\n" + only))?;
        operator.await_set(SET, SOON, "has app alone, and keeps the other", |set| {
            let is_made = set.users.len() == 1 && set.users.iter().all(|user| user.ready);
            is_made && set.kept_users == ["report"] && set.ready
        })?;
        let said = self.connect("app", text(&app)?, "INSERT INTO my_shop.t VALUES (1)").expect_err("ReadOnly");
        ensure!(format!("{said:#}").contains("denied"), "{said:#}");
        self.connect("app", text(&app)?, "SELECT * FROM my_shop.t")?;
        self.connect("report", CHOSEN[1], "SELECT 1")?;

        heading("so does a database");
        operator.declare(FILE, &manifest(SET, 3, 0))?;
        operator.await_set(SET, SOON, "keeps users and database", |set| {
            set.users.is_empty() && set.kept_users == ["app", "report"] && set.kept_databases == ["my_shop"]
        })?;
        self.connect("app", text(&app)?, "SELECT * FROM my_shop.t").map(drop)
    }

    fn is_handed_a_user(&self, operator: &mut Operator, declared: &str) -> anyhow::Result<()> {
        heading("somebody else's account is left alone and named, until it is handed over");
        let theirs = "CREATE USER theirs@'%' IDENTIFIED BY 'somebody elses'";
        self.cloud.sql(&self.primary, theirs)?;
        let declared = format!("{declared}      theirs: {{database: my_shop, access: ReadOnly}}\n");
        operator.declare(FILE, &declared)?;
        operator.await_set(SET, SOON, "names the account", |set| {
            let is_named = |line: &String| line.contains("user theirs: somebody else made the account theirs@%");
            set.ready && set.awaiting.iter().any(is_named)
        })?;
        let handed = r#"ALTER USER theirs@'%' ATTRIBUTE '{"drover": {}}'"#;
        self.cloud.sql(&self.primary, handed)?;
        await_users(operator, 3)?;
        let credentials = self.credentials(operator, "theirs")?;
        for password in [text(&credentials)?, "somebody elses"] {
            self.connect("theirs", password, "SELECT * FROM my_shop.t")?;
        }
        Ok(())
    }

    fn shows_no_password(&self, operator: &Operator) -> anyhow::Result<()> {
        heading("no password is in a log, in status, in tags or in the bucket");
        let users = ["app", "report", "theirs"].map(|user| self.credentials(operator, user));
        let mut passwords: Vec<String> = CHOSEN.map(str::to_owned).to_vec();
        for user in users {
            passwords.push(text(&user?)?.to_owned());
        }
        let status = |words: &[&str]| Ok::<_, anyhow::Error>(self.ask(operator, words)?.out);
        let manifests = operator.manifests.display().to_string();
        let mut places = BTreeMap::from([
            ("the operator's log".to_owned(), fs::read_to_string(&operator.log)?),
            ("the log of calls".into(), self.cloud.calls()?),
            ("tags".into(), format!("{:?}", self.cloud.tags()?)),
            ("status".into(), status(&["status"])? + &status(&["status", "--json"])?),
            ("plan".into(), status(&["plan", "--json", "--manifests", &manifests])?),
        ]);
        for instance in self.cloud.fleet()?.values() {
            let journal = self.cloud.inside(instance, &["journalctl", "-q", "--no-pager"])?;
            places.insert(format!("the journal of {instance}"), journal);
        }
        for path in objects(&self.cloud.bucket("drover"))?.iter().filter(|path| !is_secret(path)) {
            if path.file_name().is_some_and(|name| name != "drover") {
                places.insert(path.display().to_string(), fs::read_to_string(path)?);
            }
        }
        for (place, text) in &places {
            for password in &passwords {
                // In JSON some of them are spelled otherwise.
                let spelled = serde_json::to_string(password)?;
                ensure!(
                    !text.contains(password) && !text.contains(spelled.trim_matches('"')),
                    "a password is in {place}"
                );
            }
        }
        ensure!(places.values().all(|text| !text.is_empty()), "nothing could be found in an empty place");
        Ok(())
    }

    /// Another command of `drover`, which finds manifests and passwords as the operator does.
    fn ask(&self, operator: &Operator, words: &[&str]) -> anyhow::Result<drover_e2e::Asked> {
        let mut environment = self.cloud.environment();
        environment.insert("DROVER_SECRETS", self.secrets.display().to_string());
        environment.insert("DROVER_MANIFESTS", operator.manifests.display().to_string());
        environment.insert("DROVER_CONFIG", operator.config.display().to_string());
        environment.insert("DROVER_STATE", operator.state.display().to_string());
        drover(&environment, words)
    }

    fn credentials(&self, operator: &Operator, user: &str) -> anyhow::Result<Value> {
        let asked = self.ask(operator, &["credentials", SET, user, "--json"])?;
        ensure!(asked.status.success(), "{}", asked.error);
        Ok(serde_json::from_str(&asked.out)?)
    }

    fn put_ca(&self, operator: &Operator) -> anyhow::Result<()> {
        let asked = self.ask(operator, &["credentials", SET, "app", "--ca"])?;
        ensure!(asked.status.success(), "{}", asked.error);
        self.write("/run/ca.pem", &asked.out)
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.cloud
            .inside(&self.replica, &["sh", "-c", "printf %s \"$1\" >\"$0.new\" && mv \"$0.new\" \"$0\"", path, text])
            .map(drop)
    }

    /// As an application does: from another machine, by the certificate of the set's authority.
    fn connect(&self, user: &str, password: &str, statement: &str) -> anyhow::Result<String> {
        self.client(user, password, "--ssl-mode=VERIFY_CA", statement)
    }

    fn client(&self, user: &str, password: &str, tls: &str, statement: &str) -> anyhow::Result<String> {
        let (host, user) = (format!("--host={}", self.address), format!("--user={user}"));
        let password = format!("MYSQL_PWD={password}");
        let command = ["env", &password, "mysql", &host, &user, tls, "--ssl-ca=/run/ca.pem", "-Ne", statement];
        self.cloud.inside(&self.replica, &command)
    }

    /// Connects again and again, by the file of the new password as soon as that is there; counts, and says every refusal.
    fn program(&self, old: &str) -> String {
        format!(
            "echo 0 >/run/connected; n=0; while [ ! -e /run/enough ]; do \
             password='{old}'; [ ! -e /run/new-password ] || password=$(cat /run/new-password); \
             MYSQL_PWD=$password mysql --host={} --user=app --ssl-mode=VERIFY_CA --ssl-ca=/run/ca.pem -Ne 'SELECT 1' >/dev/null 2>/run/said || cat /run/said; \
             n=$((n + 1)); echo $n >/run/connected; done",
            self.address
        )
    }

    fn connected(&self) -> anyhow::Result<u64> {
        let count = self.cloud.inside(&self.replica, &["sh", "-c", "cat /run/connected 2>/dev/null || echo 0"])?;
        Ok(count.trim().parse().unwrap_or(0))
    }
}

fn await_users(operator: &mut Operator, count: usize) -> anyhow::Result<()> {
    let clock = Clock::start();
    operator.await_set(SET, SOON, "has its users", |set| {
        set.users.len() == count && set.users.iter().all(|user| user.ready)
    })?;
    eprintln!("{count} users after {:.1} s", clock.elapsed().as_secs_f64());
    Ok(())
}

fn text(credentials: &Value) -> anyhow::Result<&str> {
    credentials["password"].as_str().context("a password")
}
