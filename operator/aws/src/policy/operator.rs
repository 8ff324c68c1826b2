//! What the operator may: a statement for each scope of the table.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::tags;

use super::{Effect, Names, Policy, Statement, ec2_services, permissions};
use crate::calls::{Kind, Party, Scope};

/// The operator's policy, with what others of `parties` need beside it. `profile_roles` are the names of the roles in the
/// instance profiles: no other may be given to a machine.
pub fn operator(names: &Names, profile_roles: &[String], parties: &[Party]) -> Policy {
    let parties: Vec<Party> = parties.iter().copied().chain([Party::Operator]).collect();
    let mut by_scope: BTreeMap<Scope, BTreeSet<&str>> = BTreeMap::new();
    for (action, on) in permissions(&parties) {
        by_scope.entry(on).or_default().insert(action);
    }
    let statements =
        by_scope.into_iter().map(|(scope, actions)| statement(names, profile_roles, scope).actions(actions));
    Policy::of(statements.collect())
}

fn statement(names: &Names, profile_roles: &[String], scope: Scope) -> Statement {
    let allow = |word: &str, kinds: &[Kind]| {
        let sid = kinds.iter().fold(word.to_owned(), |sid, kind| format!("{sid}{kind:?}"));
        Statement::new(sid, Effect::Allow).resources(kinds.iter().map(|kind| names.ec2(*kind)))
    };
    let realm = [names.realm.as_str()];
    match scope {
        Scope::Everything => allow("Look", &[]).resources(["*".to_owned()]),
        Scope::Made(kinds) => allow("Make", kinds).when("StringEquals", Names::realm_tag("aws:RequestTag"), realm),
        Scope::Given(kinds) => allow("Use", kinds),
        Scope::TaggedBy(action, kinds) => allow(&format!("TagIn{action}"), kinds)
            .when("StringEquals", "ec2:CreateAction", [action])
            .when("StringEquals", Names::realm_tag("aws:RequestTag"), realm),
        Scope::Ours(kinds) => allow("Change", kinds).when("StringEquals", Names::realm_tag("aws:ResourceTag"), realm),
        Scope::Published(kinds) => allow("Publish", kinds)
            .when("StringEquals", Names::realm_tag("aws:ResourceTag"), realm)
            .when("ForAllValues:StringEquals", "aws:TagKeys", tags::PUBLISHED),
        // DeleteTags without a key takes every tag away, and "for all" holds for none.
        Scope::Held(kinds) => allow("Hold", kinds)
            .when("StringEquals", Names::realm_tag("aws:ResourceTag"), realm)
            .when("ForAllValues:StringEquals", "aws:TagKeys", [tags::HOLD])
            .when("Null", "aws:TagKeys", ["false"]),
        Scope::ProfileRoles => allow("GiveRole", &[])
            .resources(profile_roles.iter().map(|role| names.role(role)))
            .when("StringEquals", "iam:PassedToService", ec2_services(&names.partition)),
        Scope::Bucket => allow("Bucket", &[]).resources([names.bucket()]),
        Scope::Objects => allow("Objects", &[]).resources([names.objects(&names.keys().all())]),
    }
}
