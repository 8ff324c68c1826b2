//! Whether a launch would be allowed, in each zone: EC2's dry run of the very request that the operator sends.

use std::collections::BTreeMap;

use drover_api::{
    ClientToken, ResourceKey, Slot, SubnetId, Zone,
    launch::LaunchRequest,
    tags::{Identity, SpecHash, machine_tags},
};
use drover_cloud::{Class, CloudError};

use super::{Context, Examined, Finding, POLICY, Section, machines::Launchable};

/// Zones are tried one after the other: RunInstances is the scarcest of EC2's buckets.
pub(super) async fn launches<C: Examined>(
    context: &Context<C>,
    section: &Section,
    launchable: &Launchable,
) -> Vec<Finding> {
    let mut results = BTreeMap::new();
    let instance_type = launchable.types.first().cloned().unwrap_or_default();
    for (zone, subnet) in &launchable.zones {
        let request = request(context, section, launchable, &instance_type, zone, subnet);
        results.insert(zone, context.cloud.may_launch(&request).await);
    }
    let judged = |(zone, result): (&Zone, Result<(), CloudError>)| judge(section, zone, &instance_type, &result);
    results.into_iter().map(judged).collect()
}

/// As the operator would send it for a set that has no name yet: a policy that asks for our tags is asked with them.
fn request<C: Examined>(
    context: &Context<C>,
    section: &Section,
    launchable: &Launchable,
    instance_type: &str,
    zone: &Zone,
    subnet: &SubnetId,
) -> LaunchRequest {
    let identity = Identity {
        realm: context.realm.clone(),
        key: ResourceKey {
            namespace: "default".parse().expect("it is a valid namespace"),
            name: "doctor".parse().expect("it is a valid name"),
        },
        incarnation: context.entropy.incarnation(),
        slot: Slot::Member(0),
    };
    let token = format!("drover-doctor-{}", context.entropy.hex(16));
    LaunchRequest {
        token: ClientToken::new(token).expect("46 letters, digits and dashes are a valid token"),
        image: launchable.image.id.clone(),
        instance_type: instance_type.to_owned(),
        zone: zone.clone(),
        subnet: subnet.clone(),
        security_groups: launchable.groups.clone(),
        instance_profile: section.instance_profile.clone().unwrap_or_default(),
        user_data: context.user_data.clone(),
        tags: machine_tags(&identity, 1, &SpecHash("0-doctor".into()), &section.tags),
        termination_protection: true,
    }
}

fn judge(section: &Section, zone: &Zone, instance_type: &str, result: &Result<(), CloudError>) -> Finding {
    let name = section.name(&format!("launch in {zone}"));
    let profile = section.instance_profile.as_deref().unwrap_or_default();
    let error = match result {
        Ok(()) => return Finding::ok(name, format!("{instance_type} with the profile {profile} would be allowed")),
        Err(error) => error,
    };
    let field = |part: &str| section.field(part);
    match error.class {
        Class::Denied if error.code == "UnauthorizedOperation" => match refused_permission(&error.message) {
            Some((action, resource)) => {
                let remedy = format!("allow these credentials {action} on {resource}: {POLICY}");
                Finding::fail(name, format!("not allowed: {action} on {resource}"), remedy)
            }
            None => {
                let remedy = format!(
                    "allow these credentials ec2:RunInstances, ec2:CreateTags and iam:PassRole: {POLICY}; which of them is missing \
                     says `aws sts decode-authorization-message` of the message"
                );
                Finding::fail(name, error.failure(), remedy)
            }
        },
        Class::NotVisibleYet => {
            let remedy = format!(
                "make the profile and put a role into it (aws iam create-instance-profile --instance-profile-name {profile}; aws iam \
                 add-role-to-instance-profile --instance-profile-name {profile} --role-name ROLE), or name another in {}",
                field("instanceProfile")
            );
            Finding::fail(name, format!("there is no instance profile {profile}"), remedy)
        }
        Class::Quota => {
            let remedy = format!(
                "ask for more (aws service-quotas list-service-quotas --service-code ec2), or name smaller types in {}",
                field("instanceTypes")
            );
            Finding::fail(name, error.failure(), remedy)
        }
        Class::Capacity => Finding::warn(
            name,
            error.failure(),
            format!("name further types in {}, or further zones in {}", field("instanceTypes"), field("subnets")),
        ),
        _ => {
            let otherwise = format!("set right in {} what EC2 names here", field("image").replace(".image", ""));
            Finding::failed(name, error, &otherwise)
        }
    }
}

/// Action and resource of a refusal that names them ("is not authorized to perform: ACTION on resource: ARN because ...");
/// older ones hold them in an encoded message only.
fn refused_permission(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let (action, rest) = rest.split_once(" on resource: ")?;
    Some((action, rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Level, of_defaults, of_sets, sections::tests},
        *,
    };

    #[test]
    fn each_refusal_of_a_launch_says_what_to_do() {
        let named = "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform: \
                     iam:PassRole on resource: arn:aws:iam::1:role/db because no identity-based policy allows it. Encoded \
                     authorization failure message: abc";
        let encoded = "You are not authorized to perform this operation. Encoded authorization failure message: abc";
        let section = of_defaults(&tests::defaults());
        let zone: Zone = "eu-central-1a".parse().expect("a zone");
        for (class, code, message, level, found, remedy) in [
            (
                Class::Denied,
                "UnauthorizedOperation",
                named,
                Level::Fail,
                "not allowed: iam:PassRole on arn:aws:iam::1:role/db",
                "allow these credentials iam:PassRole on arn:aws:iam::1:role/db: `drover iam-policy --for operator` prints the policy",
            ),
            (
                Class::Denied,
                "UnauthorizedOperation",
                encoded,
                Level::Fail,
                "RunInstances failed: UnauthorizedOperation: ",
                "allow these credentials ec2:RunInstances, ec2:CreateTags and iam:PassRole: ",
            ),
            (
                Class::NotVisibleYet,
                "InvalidParameterValue",
                "Invalid IAM Instance Profile name",
                Level::Fail,
                "there is no instance profile db",
                "make the profile and put a role into it (aws iam create-instance-profile --instance-profile-name db; ",
            ),
            (
                Class::Quota,
                "VcpuLimitExceeded",
                "32",
                Level::Fail,
                "VcpuLimitExceeded",
                "ask for more (aws service-quotas ",
            ),
            (
                Class::Capacity,
                "Unsupported",
                "not there",
                Level::Warn,
                "Unsupported",
                "name further types in defaults.machine.instanceTypes in the configuration, or ",
            ),
            (
                Class::Invalid,
                "InvalidParameterValue",
                "no",
                Level::Fail,
                "InvalidParameterValue: no",
                "set right in defaults.machine in the configuration what EC2 names here",
            ),
            (
                Class::Denied,
                "AuthFailure",
                "no",
                Level::Fail,
                "AuthFailure",
                "AWS does not know these credentials here",
            ),
            (Class::Transient, "Connection", "no", Level::Fail, "Connection", "check the network"),
        ] {
            let error = CloudError::new(class, "RunInstances", code, message);
            let finding = judge(&section, &zone, "m7i.large", &Err(error));
            assert_eq!((finding.level, finding.name.as_str()), (level, "launch in eu-central-1a of defaults"));
            assert!(finding.found.starts_with(found) || finding.found.contains(found), "{finding:?}");
            assert!(finding.remedy.as_deref().is_some_and(|it| it.starts_with(remedy)), "{finding:?}");
        }
    }

    #[test]
    fn what_is_allowed_names_the_type_and_the_profile() {
        let set = tests::set("orders", serde_json::json!({ "machine": { "instanceProfile": "own" } }));
        let section = of_sets([&set]).remove(0);
        let finding = judge(&section, &"a".parse().expect("a zone"), "m7i.large", &Ok(()));
        assert_eq!(
            finding,
            Finding::ok("launch in a of shop/orders", "m7i.large with the profile own would be allowed")
        );
    }
}
