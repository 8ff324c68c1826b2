//! Secrets: how applications connect, written for each user; and passwords that somebody chose, read one by one. Secrets are
//! never listed and never watched: whoever may do that in a cluster may read everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use drover_api::{
    clients::{self, Password, SecretRef},
    wire::MYSQL_PORT,
};
use drover_plan::{Connection, observed::Seen};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{
    resource::Resource,
    services::{self, For},
    store::Store,
};
use crate::{Connections, passwords::Passwords};

/// A Secret's object, whole. Never printed.
#[derive(Clone, PartialEq)]
pub struct SecretObject(pub Value);

/// A password that somebody changed is used within this time.
const READ_EVERY: Duration = Duration::from_secs(30);
const READ_MAX: Duration = Duration::from_secs(10);

/// `<set>-<user>`.
pub fn name(resource: &Resource, user: &str) -> String {
    format!("{}-{user}", resource.key.name)
}

/// The Secrets of a set's users. One whose password is not in MySQL yet, or not known to be, is left as it is: who reads a Secret
/// must be able to connect with it.
pub fn connections(resource: &Resource, connections: &Connections) -> Vec<SecretObject> {
    let applied = connections.users.iter().filter(|user| user.applied);
    applied.map(|user| secret(resource, &connections.ca_pem, user)).collect()
}

fn secret(resource: &Resource, ca_pem: &str, user: &Connection) -> SecretObject {
    let host = |of: For| format!("{}.{}.svc", services::name(&resource.key, of), resource.key.namespace);
    let uri = |of: For| clients::uri(&user.user, &user.password, &host(of), &user.database);
    let data: BTreeMap<&str, ByteString> = [
        ("host", host(For::Primary)),
        ("port", MYSQL_PORT.to_string()),
        ("dbname", user.database.clone()),
        ("username", user.user.clone()),
        ("password", user.password.clone()),
        ("uri", uri(For::Primary)),
        ("reader-host", host(For::Replicas)),
        ("reader-uri", uri(For::Replicas)),
        ("ca.crt", ca_pem.to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key, ByteString(value.into_bytes())))
    .collect();
    SecretObject(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": services::metadata(resource, &name(resource, &user.user), "connection", &[]),
        "type": "Opaque",
        "data": data,
    }))
}

/// Reads the passwords that declared users name, again and again, and keeps them in the store.
pub async fn keep_passwords(store: Arc<Store>, client: Client) {
    loop {
        let wanted = wanted(&store);
        let mut passwords = Passwords::new();
        for reference in wanted {
            let read = read(&client, &reference).await;
            passwords.insert(reference, read);
        }
        store.learn_passwords(passwords);
        tokio::select! {
            () = store.asked_anew() => {}
            () = pause(READ_EVERY) => {}
        }
    }
}

fn wanted(store: &Store) -> BTreeSet<SecretRef> {
    let resources = store.resources();
    let specs = resources.all().values().filter_map(|resource| Some((resource, resource.spec.as_ref().as_ref().ok()?)));
    let keys = specs.flat_map(|(resource, spec)| {
        let keys = spec.mysql.users.values().filter_map(|user| user.password_secret_ref.as_ref());
        keys.map(|key| SecretRef::of(&resource.key.namespace, key))
    });
    keys.collect()
}

async fn read(client: &Client, reference: &SecretRef) -> Seen<Password> {
    let api: Api<Secret> = Api::namespaced(client.clone(), reference.namespace.as_str());
    let told = |why: String| Seen::Unknown { why: format!("Secret {}/{}: {why}", reference.namespace, reference.name) };
    let answer = tokio::time::timeout(READ_MAX, api.get_opt(&reference.name)).await;
    let secret = match answer {
        Ok(Ok(Some(secret))) => secret,
        Ok(Ok(None)) => return told(format!("make it, with the password in its key {}", reference.key)),
        Ok(Err(error)) => return told(format!("it cannot be read: {error}")),
        Err(_) => return told("the API server did not answer in time".to_owned()),
    };
    match secret.data.unwrap_or_default().get(&reference.key) {
        None => told(format!("put the password into its key {}", reference.key)),
        Some(bytes) => match Password::of_bytes(&bytes.0) {
            Ok(password) => Seen::Known(password),
            Err(why) => told(format!("key {}: {why}: put another password into it", reference.key)),
        },
    }
}

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretObject({}, content hidden)", self.0["metadata"]["name"])
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace of reading; nothing tells of a changed Secret that is not watched"
)]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
