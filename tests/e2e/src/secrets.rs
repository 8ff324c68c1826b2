//! Every secret of an installation. Each is made of random bytes, so each is a canary of its own: wherever its text is found, it
//! leaked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use drover_api::{
    Epoch, Slot,
    secrets::{AccountKind, SetSecret},
};
use serde_json::Value;

use crate::Cloud;

/// A text that nobody may find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub what: String,
    pub text: String,
}

/// Slots and epochs beyond all that a scenario reaches.
const MEMBERS: u8 = 5;
const READERS: u16 = 8;
const EPOCHS: u64 = 8;

/// What a machine's metadata service hands to whoever asks inside.
const SESSION: &str = "at=http://169.254.169.254/latest; \
    token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $at/api/token); \
    get() { curl -sf -m 5 -H \"X-aws-ec2-metadata-token: $token\" \"$at/meta-data/iam/security-credentials/$1\"; }; \
    get \"$(get)\"";

/// The operator's key.
pub const OPERATOR_KEY: &str = "the operator's AWS secret key";

/// All of a cloud: the operator's key, what the bucket keeps for the operator and the machines, every password made of it, and
/// the sessions of the machines' roles.
pub fn secrets(cloud: &Cloud) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = vec![secret(OPERATOR_KEY, &cloud.endpoints.secret_key)];
    for path in objects(&cloud.bucket("drover"))? {
        let name = path.display().to_string();
        if !is_secret(&path) {
            continue;
        }
        let record: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let key = record["key_pem"].as_str().context("a record with a key")?;
        // PKCS #8 of an elliptic curve: the private number is in the first two lines.
        let lines = key.lines().filter(|line| !line.starts_with('-')).take(2);
        secrets.extend(lines.map(|line| secret(&format!("the key of {name}"), line)));
        if let Some(text) = record["secret"].as_str() {
            secrets.push(secret(&format!("the secret of {name}"), text));
            secrets.extend(passwords(&SetSecret(text.to_owned())));
        }
    }
    secrets.extend(roles(cloud)?);
    for secret in &secrets {
        ensure!(secret.text.len() >= 32, "{} is too short to be looked for", secret.what);
    }
    Ok(secrets)
}

/// The sessions of the roles of the machines that run now.
pub fn roles(cloud: &Cloud) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for instance in cloud.fleet()?.values() {
        let session: Value = serde_json::from_str(&cloud.inside(instance, &["sh", "-ec", SESSION])?)?;
        for field in ["SecretAccessKey", "Token"] {
            let text = session[field].as_str().context("a session of the role")?;
            secrets.push(secret(&format!("{field} of the role of {instance}"), text));
        }
    }
    Ok(secrets)
}

/// Whether an object may hold a secret.
pub fn is_secret(object: &Path) -> bool {
    object.ends_with("ca.json") || object.ends_with("bundle.json")
}

/// Every file below.
pub fn objects(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(objects(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

fn passwords(set: &SetSecret) -> Vec<Secret> {
    let slots = (0..MEMBERS).map(Slot::Member).chain((0..READERS).map(Slot::Reader));
    let replicating = slots.flat_map(|slot| [AccountKind::Voter(slot), AccountKind::Learner(slot)]);
    let kinds = replicating.chain([AccountKind::Admin, AccountKind::Clone]);
    let of_epoch = |kind| (0..EPOCHS).map(move |epoch| set.credential(kind, Epoch(epoch)));
    let credentials = kinds.flat_map(of_epoch);
    credentials.map(|credential| secret(&format!("a password of {}", credential.user), &credential.password)).collect()
}

fn secret(what: &str, text: &str) -> Secret {
    Secret { what: what.to_owned(), text: text.to_owned() }
}
