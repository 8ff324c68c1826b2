//! IAM policies, made from what the code does: what the operator may from the table of [`crate::calls()`], what machines read
//! from the one list of [`RealmKeys::read_by_machines`]. A new call without its resources and conditions does not compile.
//!
//! Each policy is one JSON document as `aws iam create-policy --policy-document` takes it; the grammar is the IAM User
//! Guide's ("Grammar of the IAM JSON policy language").

mod deny;
mod operator;
mod trust;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{
    Realm, ResourceKey,
    bucket::{KeyPattern, RealmKeys},
    tags,
};
use serde::Serialize;

pub use deny::deny;
pub use operator::operator;
pub use trust::{ServiceAccount, Trusted, trust};

use crate::calls::{Kind, Party, Scope, calls};

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: String,
    effect: Effect,
    /// In trust policies only.
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<BTreeMap<&'static str, String>>,
    action: BTreeSet<String>,
    /// Not in trust policies: there it is the role itself.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    resource: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: Conditions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Effect {
    Allow,
    Deny,
}

/// By operator, then by key: the values of which one must hold. All operators and keys must hold.
type Conditions = BTreeMap<&'static str, BTreeMap<String, BTreeSet<String>>>;

/// What an installation's names are, for the ARNs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Twelve digits; any account where it is not said: an identity's policy allows nothing outside its own.
    pub account: Option<String>,
    /// Any Region where it is not said.
    pub region: Option<String>,
    pub realm: Realm,
    pub bucket: String,
    pub prefix: String,
}

/// IAM's own version of its language; the other one, of 2008, knows less.
const VERSION: &str = "2012-10-17";

/// The longest managed policy, white space not counted (IAM User Guide, "IAM and AWS STS quotas").
pub const POLICY_CHARS_MAX: usize = 6_144;

/// What the instance profile of one set's machines allows: reading the objects that its agents ask for. Nothing else.
pub fn machine(names: &Names, set: &ResourceKey) -> Policy {
    let actions = permissions(&[Party::Machine]).filter(|(_, on)| *on == Scope::Objects).map(|(action, _)| action);
    let keys = names.keys().read_by_machines(set);
    let statement = Statement::new("ReadOwnSet", Effect::Allow)
        .actions(actions)
        .resources(keys.iter().map(|pattern| names.objects(pattern)));
    Policy::of(vec![statement])
}

/// What the table says that these parties need.
fn permissions(parties: &[Party]) -> impl Iterator<Item = (&'static str, Scope)> {
    let all = calls().iter().flat_map(|call| call.permissions);
    all.filter(move |it| it.by.iter().any(|by| parties.contains(by))).map(|it| (it.action, it.on))
}

// === impl Policy, Statement ===

impl Policy {
    fn of(statement: Vec<Statement>) -> Self {
        Self { version: VERSION, statement }
    }
}

impl Statement {
    fn new(sid: impl Into<String>, effect: Effect) -> Self {
        Self {
            sid: sid.into(),
            effect,
            principal: None,
            action: BTreeSet::new(),
            resource: BTreeSet::new(),
            condition: Conditions::new(),
        }
    }

    fn actions<T: Into<String>>(mut self, actions: impl IntoIterator<Item = T>) -> Self {
        self.action.extend(actions.into_iter().map(Into::into));
        self
    }

    fn resources(mut self, resources: impl IntoIterator<Item = String>) -> Self {
        self.resource.extend(resources);
        self
    }

    fn when<T: Into<String>>(
        mut self,
        operator: &'static str,
        key: impl Into<String>,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.condition.entry(operator).or_default().insert(key.into(), values);
        self
    }
}

// === impl Names ===

impl Names {
    fn keys(&self) -> RealmKeys {
        RealmKeys::new(&self.prefix, &self.realm)
    }

    /// Every resource of that kind. An image's ARN has no account, for it may be anybody's.
    fn ec2(&self, kind: Kind) -> String {
        let (word, account) = match kind {
            Kind::Instance => ("instance", self.account()),
            Kind::Volume => ("volume", self.account()),
            Kind::NetworkInterface => ("network-interface", self.account()),
            Kind::Subnet => ("subnet", self.account()),
            Kind::SecurityGroup => ("security-group", self.account()),
            Kind::Image => ("image", ""),
        };
        let region = self.region.as_deref().unwrap_or("*");
        format!("arn:{}:ec2:{region}:{account}:{word}/*", self.partition)
    }

    fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    fn objects(&self, pattern: &KeyPattern) -> String {
        format!("{}/{}", self.bucket(), pattern.as_str())
    }

    /// A role by its name, with its path where it has one.
    fn role(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:role/{name}", self.partition, self.account())
    }

    fn account(&self) -> &str {
        self.account.as_deref().unwrap_or("*")
    }

    /// The tag that everything of this realm carries, as a condition key of its own, under `aws:RequestTag` or another.
    fn realm_tag(key: &str) -> String {
        format!("{key}/{}", tags::REALM)
    }
}

/// EC2 as IAM calls it: in China it has a name of its own beside the usual one.
fn ec2_services(partition: &str) -> Vec<&'static str> {
    if partition == "aws-cn" { vec!["ec2.amazonaws.com", "ec2.amazonaws.com.cn"] } else { vec!["ec2.amazonaws.com"] }
}
