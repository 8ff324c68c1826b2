//! Who this machine is: instance metadata (IMDSv2) gives its tags, the bucket gives its bundle. Both are waited for, as long
//! as it takes: a machine that does not know who it is can do nothing else.

use std::time::Duration;

use drover_api::{
    Realm,
    bucket::{IncarnationKeys, RealmKeys},
    records::Bundle,
    tags::{self, Identity, TagVerdict, Tags},
};
use drover_cloud::Objects;

use crate::edge;

/// Where EC2 answers on every machine (EC2 documentation, "Instance metadata").
pub const IMDS: &str = "http://169.254.169.254";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("instance metadata does not answer: {0}")]
    Metadata(#[from] reqwest::Error),
    #[error("instance metadata answers {status} for {path}; are tags allowed in it?")]
    Status { path: String, status: u16 },
    #[error("this machine's tags are not ours: {0}")]
    NotOurs(String),
    #[error("the bundle is not in the bucket yet")]
    NoBundle,
    #[error("the bundle could not be read: {0}")]
    Bundle(String),
}

const REQUEST: Duration = Duration::from_secs(3);
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Seconds that a metadata token is asked for; it is used at once.
const TOKEN_SECONDS: &str = "60";

/// Reads the tags until they are those of a machine of this realm.
pub async fn identify(imds: &str, realm: &Realm) -> Result<Identity, IdentityError> {
    let client = reqwest::Client::builder().timeout(REQUEST).no_proxy().build()?;
    Ok(until(|| read_identity(&client, imds, realm)).await)
}

/// Waits for the bundle of this machine's slot.
pub async fn bundle<O: Objects>(objects: &O, keys: &RealmKeys, identity: &Identity) -> Bundle {
    let keys = keys.set(&identity.key).of(&identity.incarnation);
    until(|| read_bundle(objects, &keys, identity)).await
}

async fn read_bundle<O: Objects>(
    objects: &O,
    keys: &IncarnationKeys,
    identity: &Identity,
) -> Result<Bundle, IdentityError> {
    let key = keys.bundle(identity.slot);
    let read = tokio::time::timeout(REQUEST, objects.get(&key)).await;
    let object = read
        .map_err(|_| IdentityError::Bundle("no answer in time".into()))?
        .map_err(|error| IdentityError::Bundle(error.to_string()))?
        .ok_or(IdentityError::NoBundle)?;
    serde_json::from_slice(&object.body).map_err(|error| IdentityError::Bundle(error.to_string()))
}

async fn read_identity(client: &reqwest::Client, imds: &str, realm: &Realm) -> Result<Identity, IdentityError> {
    let token = client
        .put(format!("{imds}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    let base = "/latest/meta-data/tags/instance";
    let mut found = Tags::new();
    for key in get(client, imds, base, &token).await?.lines() {
        let value = get(client, imds, &format!("{base}/{key}"), &token).await?;
        found.insert(key.to_owned(), value);
    }
    match tags::read(realm, &found) {
        TagVerdict::Ours { identity, .. } => Ok(identity),
        TagVerdict::HandsOff { reason } => Err(IdentityError::NotOurs(reason)),
    }
}

async fn get(client: &reqwest::Client, imds: &str, path: &str, token: &str) -> Result<String, IdentityError> {
    let reply = client.get(format!("{imds}{path}")).header("x-aws-ec2-metadata-token", token).send().await?;
    let status = reply.status();
    if !status.is_success() {
        return Err(IdentityError::Status { path: path.into(), status: status.as_u16() });
    }
    Ok(reply.text().await?)
}

/// Asks until it is answered, ever less often, and says why not each time that the reason changes.
async fn until<T, F: Future<Output = Result<T, IdentityError>>>(mut ask: impl FnMut() -> F) -> T {
    let (mut pause, mut said) = (PAUSE_FIRST, String::new());
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                let reason = error.to_string();
                if reason != said {
                    tracing::warn!(%reason, "waiting to learn who this machine is");
                    said = reason;
                }
            }
        }
        edge::pause(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
