//! No secret is where people and other machines can read it: not in tags, user data, logs, journals, process arguments or status.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use drover_api::{
    Epoch, Slot,
    secrets::{AccountKind, SetSecret},
};
use drover_e2e::{Cloud, Operator, heading, manifest, scenario};
use serde_json::Value;

const LAUNCH: Duration = Duration::from_secs(180);
const SET: &str = "quiet";
const READABLE: [&str; 3] =
    ["journalctl -q --no-pager", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "cat /var/log/cloud-init*.log"];

#[test]
fn no_secret_is_where_it_can_be_read() -> anyhow::Result<()> {
    scenario("secrets", |cloud| {
        let text = manifest(SET, 1, 1);
        let mut operator = Operator::start(cloud, "operator", &[("quiet.yaml", &text)])?;
        operator.await_ready(SET, 2, LAUNCH)?;
        let asked = operator.ask(cloud, &["mysql", SET, "--", "-e", "CREATE DATABASE shop"])?;
        assert!(asked.status.success(), "{asked:?}");

        heading("every secret that the bucket holds, and every password made of one");
        let secrets = secrets(&cloud.dir.join("cloud/objects"))?;
        // The set's secret, its CA's key, two machines' keys, and a password for each kind of account.
        assert!(secrets.len() >= 4 + 4, "{} secrets are too few", secrets.len());

        heading("none is found");
        let places = places(cloud, &operator)?;
        for (place, text) in &places {
            assert!(text.len() > 20, "{place} is empty, so nothing could be found there: {text}");
            let found = secrets.iter().position(|(_, secret)| text.contains(secret.as_str()));
            assert_eq!(found.map(|n| &secrets[n].0), None, "in {place}");
        }

        heading("and the search finds what is planted, wherever that is");
        let (_, canary) = &secrets[0];
        for instance in cloud.fleet()?.values() {
            cloud.inside(instance, &["sh", "-c", "echo \"$0\" | systemd-cat", canary])?;
            cloud
                .ec2("CreateTags", &[("ResourceId.1", instance), ("Tag.1.Key", "planted"), ("Tag.1.Value", canary)])?;
        }
        let found = self::places(cloud, &operator)?.into_iter().filter(|(_, text)| text.contains(canary.as_str()));
        let found: Vec<String> = found.map(|(place, _)| place).collect();
        assert!(found.contains(&"tags".to_owned()), "{found:?}");
        assert_eq!(found.iter().filter(|place| place.contains("journalctl")).count(), 2, "{found:?}");
        Ok(())
    })
}

/// Every place that somebody may read who may not know a secret, with what is there.
fn places(cloud: &Cloud, operator: &Operator) -> anyhow::Result<Vec<(String, String)>> {
    let mut places = vec![
        ("tags".to_owned(), format!("{:?}", cloud.tags()?)),
        ("the operator's log".to_owned(), fs::read_to_string(&operator.log)?),
        ("drover status".to_owned(), operator.ask(cloud, &["status"])?.out),
        ("drover status --json".to_owned(), operator.ask(cloud, &["status", "--json"])?.out),
    ];
    for instance in cloud.fleet()?.values() {
        let attribute = [("InstanceId", instance.as_str()), ("Attribute", "userData")];
        let user_data = cloud.ec2("DescribeInstanceAttribute", &attribute)?.text("value");
        places.push((format!("user data of {instance}, as it is sent"), user_data.clone()));
        places.push((
            format!("user data of {instance}"),
            cloud.inside(instance, &["sh", "-c", "echo \"$0\" | base64 -d", &user_data])?,
        ));
        for command in READABLE {
            places.push((format!("{command} of {instance}"), cloud.inside(instance, &["sh", "-c", command])?));
        }
    }
    Ok(places)
}

/// What it is, and its text; of a key, a line from its middle.
fn secrets(objects: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(objects)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(secrets(&path)?);
            continue;
        }
        let name = path.display().to_string();
        if !name.ends_with("ca.json") && !name.ends_with("bundle.json") {
            continue;
        }
        let record: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let key = record["key_pem"].as_str().context("a record with a key")?;
        found.push((format!("the key of {name}"), key.lines().nth(1).context("a key of several lines")?.to_owned()));
        if let Some(secret) = record["secret"].as_str() {
            found.push((format!("the secret of {name}"), secret.to_owned()));
            let kinds = [
                AccountKind::Admin,
                AccountKind::Clone,
                AccountKind::Voter(Slot::Member(0)),
                AccountKind::Learner(Slot::Reader(0)),
            ];
            for kind in kinds {
                let credential = SetSecret(secret.to_owned()).credential(kind, Epoch(1));
                found.push((format!("the password of {}", credential.user), credential.password));
            }
        }
    }
    Ok(found)
}
