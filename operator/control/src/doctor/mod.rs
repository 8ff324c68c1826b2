//! `drover doctor`: whether what an installation needs is there, and what to do where it is not. A check looks at the world and
//! then judges what it saw; the judging is pure. Nothing is launched and nothing is changed but one object that says nothing.

mod account;
mod bucket;
mod cluster;
mod launch;
mod machines;
mod quotas;
mod sections;

use std::sync::Arc;

use drover_api::{Realm, bucket::RealmKeys};
use drover_cloud::{Class, CloudError, Examine, Machines, Objects};
use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;

pub use cluster::cluster;
pub use sections::{Section, of_defaults, of_sets};

use crate::edge::Entropy;

/// What a check found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was looked at.
    pub name: String,
    pub found: String,
    /// What a person is to do: a command, or a field and what to write there.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works now, or for some; or it cannot be told.
    Warn,
    /// Drover does not work so.
    Fail,
}

/// A cloud that can be looked at from all sides.
pub trait Examined: Machines + Objects + Examine {}

impl<C: Machines + Objects + Examine> Examined for C {}

/// What checks look at, and with what.
pub struct Context<C> {
    pub cloud: Arc<C>,
    pub entropy: Arc<dyn Entropy>,
    pub realm: Realm,
    pub keys: RealmKeys,
    pub bucket: String,
    pub region: String,
    /// What the operator gives every machine.
    pub user_data: String,
    /// Of the agents that this build hands out, its own first.
    pub architectures: Vec<String>,
    pub sections: Vec<Section>,
    /// The most machines that the operator may make.
    pub machines_max: Option<u32>,
}

/// One check: from what there is to what it found, a finding for each thing. Another source of things to look at brings a
/// list of its own.
pub type Check<C> = for<'a> fn(&'a Context<C>) -> BoxFuture<'a, Vec<Finding>>;

/// The checks of cloud and bucket, in the order in which one builds on the other.
pub fn checks<C: Examined>() -> [Check<C>; 4] {
    [
        |context| account::clock(context).boxed(),
        |context| bucket::bucket(context).boxed(),
        |context| machines::machines(context).boxed(),
        |context| quotas::quotas(context).boxed(),
    ]
}

/// Runs the checks and tells each finding as soon as it is there. Without credentials nothing else is looked at.
pub async fn examine<C: Examined>(context: &Context<C>, mut tell: impl FnMut(&Finding)) {
    let credentials = account::credentials(context).await;
    tell(&credentials);
    if credentials.level == Level::Fail {
        return;
    }
    for check in checks() {
        check(context).await.iter().for_each(&mut tell);
    }
}

/// What AWS itself has to mend.
const AGAIN: &str = "run `drover doctor` again: AWS may be in trouble (https://health.aws.amazon.com)";

/// Where a missing permission is to be had.
const POLICY: &str = "`drover iam-policy --for operator` prints the policy";

// === impl Finding ===

impl Finding {
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, name: name.into(), found: found.into(), remedy: None }
    }

    pub fn warn(name: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, remedy: Some(remedy.into()), ..Self::ok(name, found) }
    }

    pub fn fail(name: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(name, found, remedy) }
    }

    /// A call that failed: with the advice that every such failure has, or else `otherwise`, where another try is none.
    pub fn failed(name: impl Into<String>, error: &CloudError, otherwise: &str) -> Self {
        Self::fail(name, error.failure(), remedy(error, otherwise))
    }
}

fn remedy(error: &CloudError, otherwise: &str) -> String {
    let is_passing = matches!(error.class, Class::Transient | Class::Throttled);
    let otherwise = if is_passing { AGAIN } else { otherwise };
    error.advice().unwrap_or_else(|| otherwise.to_owned())
}

// === impl Level ===

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        })
    }
}

impl<C> std::fmt::Debug for Context<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("realm", &self.realm).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
