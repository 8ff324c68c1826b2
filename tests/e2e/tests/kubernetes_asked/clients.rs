//! Databases and users of a set, their Secrets, and how one connects by them.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use drover_e2e::{heading, manifest, within};

use super::{Place, SHOP, SOON};

pub const USERS: &str = "  mysql:\n    databases: {shop: {}}\n    users:\n      app: {database: shop, access: ReadWrite}\n      \
    report: {database: shop, access: ReadOnly, passwordSecretRef: {name: report, key: password}}\n";
/// Of user `report`, one after the other.
pub const CHOSEN: [&str; 2] = ["correct horse battery", "staple of another kind"];

impl Place<'_> {
    /// The password that was made for user `app`.
    pub fn connects(&self) -> anyhow::Result<String> {
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

    pub fn drops(&self) -> anyhow::Result<()> {
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

    pub fn address(&self, slot: &str) -> anyhow::Result<String> {
        let told = self.cloud.inside(&self.machine(slot)?, &["hostname", "-I"])?;
        told.split_whitespace().next().map(str::to_owned).context("an address")
    }
}
