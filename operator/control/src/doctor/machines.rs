//! What machines are launched from and into: image, instance types, subnets, security groups.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{SecurityGroupId, SubnetId, Zone};
use drover_cloud::{
    Class, CloudError, Machines,
    machines::{Image, InstanceType, SecurityGroup, Selector, Subnet},
};
use drover_plan::observed::{CatalogImage, CatalogSubnet};
use futures::future::OptionFuture;

use super::{Context, Examined, Finding, Section, launch};
use crate::{
    memory::catalogs::question::{image_selector, in_order, network_selector, pick_image, pick_types, words},
    observe::current_builds,
};

/// Everything that a launch names, once all of it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launchable {
    pub image: CatalogImage,
    /// Those that fit the image, in order of preference: at least one.
    pub types: Vec<String>,
    /// The first subnet of each zone.
    pub zones: BTreeMap<Zone, SubnetId>,
    pub groups: Vec<SecurityGroupId>,
}

/// The subnets' VPC, and of each zone the subnet that is tried first.
#[derive(Clone, Debug)]
struct Ground {
    vpc: String,
    zones: BTreeMap<Zone, SubnetId>,
}

/// What the selectors of one section found; `None` where there is no selector.
#[derive(Clone, Debug, Default)]
struct Seen {
    images: Answer<Image>,
    subnets: Answer<Subnet>,
    groups: Answer<SecurityGroup>,
    types: Answer<InstanceType>,
}

type Answer<T> = Option<Result<Vec<T>, CloudError>>;

pub(super) async fn machines<C: Examined>(context: &Context<C>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut architectures = context.architectures.clone();
    // What an operator has published serves too, whatever this program brings. That the bucket cannot be read was said before.
    let published = current_builds(context.cloud.as_ref(), &context.keys).await.unwrap_or_default();
    architectures.extend(published.into_keys().filter(|published| !context.architectures.contains(published)));
    for section in &context.sections {
        let seen = look(context.cloud.as_ref(), section).await;
        let (judged, launchable) = judge(section, seen, &architectures);
        findings.extend(judged);
        if let Some(launchable) = launchable {
            findings.extend(launch::launches(context, section, &launchable).await);
        }
    }
    findings
}

async fn look(cloud: &impl Machines, section: &Section) -> Seen {
    let version = section.version.as_deref();
    let image = section.image.as_ref().map(|image| image_selector(image, version));
    let (subnets, groups) =
        (section.subnets.as_ref().map(network_selector), section.security_groups.as_ref().map(network_selector));
    let (images, subnets, groups, types) = futures::join!(
        OptionFuture::from(image.as_ref().map(|(selector, owners)| cloud.images(selector, owners))),
        OptionFuture::from(subnets.as_ref().map(|selector| cloud.subnets(selector))),
        OptionFuture::from(groups.as_ref().map(|selector| cloud.security_groups(selector))),
        OptionFuture::from(section.instance_types.as_ref().map(|names| cloud.instance_types(names))),
    );
    Seen { images, subnets, groups, types }
}

/// What there is to say of a section, and what a launch would name where all of it is there.
fn judge(section: &Section, seen: Seen, architectures: &[String]) -> (Vec<Finding>, Option<Launchable>) {
    let Seen { images, subnets, groups, types } = seen;
    let mut findings = missing(section);
    let mut told = |finding: Finding| findings.push(finding);
    let image = images.and_then(|images| {
        let (finding, image) = image(section, images, architectures);
        told(finding);
        image
    });
    let types = types.and_then(|types| {
        let (finding, types) = instance_types(section, types, image.as_ref());
        told(finding);
        types
    });
    let ground = subnets.and_then(|subnets| {
        let (finding, zones) = subnets_of(section, subnets);
        told(finding);
        zones
    });
    let vpc = ground.as_ref().map(|ground| ground.vpc.as_str());
    let groups = groups.and_then(|groups| {
        let (finding, groups) = groups_of(section, groups, vpc);
        told(finding);
        groups
    });
    let launchable = match (image, types, ground, groups) {
        (Some(image), Some(types), Some(Ground { zones, .. }), Some(groups)) => {
            Some(Launchable { image, types, zones, groups })
        }
        _ => None,
    };
    (findings, launchable.filter(|_| section.instance_profile.is_some()))
}

/// The parts that are written nowhere.
fn missing(section: &Section) -> Vec<Finding> {
    let parts = [
        ("image", section.image.is_none()),
        ("instanceTypes", section.instance_types.is_none()),
        ("subnets", section.subnets.is_none()),
        ("securityGroups", section.security_groups.is_none()),
        ("instanceProfile", section.instance_profile.is_none()),
    ];
    let missing = parts.into_iter().filter(|(_, is_missing)| *is_missing).map(|(part, _)| {
        let remedy = format!(
            "set {}, or look at the manifests, which then have to say it: drover doctor --manifests DIR",
            section.field(part)
        );
        Finding::warn(section.name(part), "written nowhere, so no launch was tried", remedy)
    });
    missing.collect()
}

fn image(
    section: &Section,
    images: Result<Vec<Image>, CloudError>,
    architectures: &[String],
) -> (Finding, Option<CatalogImage>) {
    let (name, field) = (section.name("image"), section.field("image"));
    let images = match answered(&name, images, || format!("name an image of this Region in {field}")) {
        Ok(images) => images,
        Err(finding) => return (finding, None),
    };
    let Some(selector) = section.image.as_ref().map(|image| image_selector(image, section.version.as_deref()).0) else {
        return (Finding::ok(name, "not asked for"), None);
    };
    let unavailable = images.iter().find(|image| !image.available).map(|image| image.id.clone());
    let picked = match (pick_image(images.clone(), &selector), &selector) {
        (Ok(picked), _) => picked,
        (Err(why), Selector::Ids(ids)) => {
            let remedy = match unavailable {
                Some(id) => {
                    format!("wait for it (aws ec2 wait image-available --image-ids {id}), or name another in {field}")
                }
                None => format!("name an image of this Region in {field}, not {}", ids.join(", ")),
            };
            return (Finding::fail(name, why, remedy), None);
        }
        (Err(why), Selector::Tags(tags)) => {
            let remedy = format!("{}; or select others in {field}", tag_command("AMI-ID", tags));
            return (Finding::fail(name, why, remedy), None);
        }
    };
    let what = images.iter().find(|image| image.id == picked.id).map(|image| image.name.clone()).unwrap_or_default();
    let found = format!("{} {what} ({})", picked.id, picked.architecture);
    let finding = if architectures.contains(&picked.architecture) {
        Finding::ok(name, found)
    } else {
        let (wanted, known) = (&picked.architecture, architectures.join(" or "));
        let remedy = format!(
            "give the operator an agent for {wanted} (its image: make image ARGS='--agent {wanted}=FILE'; elsewhere: drover run --agents), \
             or select an image for {known} in {field}"
        );
        Finding::fail(name, format!("{found}, and the operator's agents are for {known}"), remedy)
    };
    (finding, Some(picked))
}

fn instance_types(
    section: &Section,
    types: Result<Vec<InstanceType>, CloudError>,
    image: Option<&CatalogImage>,
) -> (Finding, Option<Vec<String>>) {
    let (name, field) = (section.name("instance types"), section.field("instanceTypes"));
    let types = match answered(&name, types, || format!("name types of this Region in {field}")) {
        Ok(types) => types,
        Err(finding) => return (finding, None),
    };
    let wanted = section.instance_types.as_deref().unwrap_or_default();
    let architecture = image.map(|image| image.architecture.as_str());
    let listed = format!(
        "name others in {field}: aws ec2 describe-instance-types --filters Name=processor-info.supported-architecture,Values={} \
         --query InstanceTypes[].InstanceType",
        architecture.unwrap_or("x86_64,arm64")
    );
    let fitting = match pick_types(wanted, &types, architecture) {
        Ok(fitting) => fitting,
        Err(why) => return (Finding::fail(name, why, listed), None),
    };
    let told = |name: &String| {
        let known = types.iter().find(|known| known.name == *name);
        known.map_or(name.clone(), |it| format!("{name} ({} vCPUs, {} MiB)", it.vcpus, it.memory_mib))
    };
    let found = fitting.iter().map(told).collect::<Vec<_>>().join(", ");
    let others: Vec<&str> = wanted.iter().filter(|it| !fitting.contains(it)).map(String::as_str).collect();
    let finding = if others.is_empty() {
        Finding::ok(name, found)
    } else {
        let remedy = format!("take {} out of {field}", others.join(", "));
        Finding::warn(name, format!("{found}; never taken, for the Region or the image: {}", others.join(", ")), remedy)
    };
    (finding, Some(fitting))
}

fn subnets_of(section: &Section, subnets: Result<Vec<Subnet>, CloudError>) -> (Finding, Option<Ground>) {
    let (name, field) = (section.name("subnets"), section.field("subnets"));
    let subnets = match answered(&name, subnets, || format!("name subnets of this Region in {field}")) {
        Ok(subnets) => subnets,
        Err(finding) => return (finding, None),
    };
    let selector = section.subnets.as_ref().map(network_selector);
    let vpcs: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.vpc.as_str()).collect();
    let vpc = match vpcs.iter().collect::<Vec<_>>()[..] {
        [vpc] => (*vpc).to_owned(),
        [] => return (none(name, "subnet", "SUBNET-ID", selector.as_ref(), &field), None),
        _ => {
            let found =
                format!("they are in {} VPCs: {}", vpcs.len(), vpcs.iter().copied().collect::<Vec<_>>().join(", "));
            return (Finding::fail(name, found, format!("select subnets of one VPC in {field}")), None);
        }
    };
    let mut free: BTreeMap<&Zone, u32> = BTreeMap::new();
    for subnet in &subnets {
        *free.entry(&subnet.zone).or_default() += subnet.free_addresses;
    }
    let full: Vec<&str> = free.iter().filter(|(_, free)| **free == 0).map(|(zone, _)| zone.as_str()).collect();
    let told = free.iter().map(|(zone, free)| format!("{zone} ({free} free addresses)")).collect::<Vec<_>>().join(", ");
    let finding = if !full.is_empty() {
        let remedy = format!("free addresses there, or select further subnets in {field}");
        Finding::fail(name, format!("no address is free in {}", full.join(", ")), remedy)
    } else if free.len() < section.zones {
        let found = format!("in {told} of {vpc}: members need {} zones, so a set that has more waits", section.zones);
        let remedy = format!(
            "select subnets in {} zones in {field}, or set {} to Preferred",
            section.zones,
            section.field("zoneSpread")
        );
        Finding { level: section.crowded, ..Finding::warn(name, found, remedy) }
    } else {
        Finding::ok(name, format!("in {told} of {vpc}"))
    };
    let mut zones = BTreeMap::new();
    for CatalogSubnet { zone, id } in in_order(subnets) {
        zones.entry(zone).or_insert(id);
    }
    (finding, Some(Ground { vpc, zones }))
}

fn groups_of(
    section: &Section,
    groups: Result<Vec<SecurityGroup>, CloudError>,
    vpc: Option<&str>,
) -> (Finding, Option<Vec<SecurityGroupId>>) {
    let (name, field) = (section.name("security groups"), section.field("securityGroups"));
    let groups = match answered(&name, groups, || format!("name security groups of this Region in {field}")) {
        Ok(groups) => groups,
        Err(finding) => return (finding, None),
    };
    if groups.is_empty() {
        let selector = section.security_groups.as_ref().map(network_selector);
        return (none(name, "security group", "SG-ID", selector.as_ref(), &field), None);
    }
    let elsewhere = groups.iter().find(|group| vpc.is_some_and(|vpc| group.vpc != vpc));
    if let (Some(SecurityGroup { id, vpc: other }), Some(vpc)) = (elsewhere, vpc) {
        let remedy = format!(
            "select security groups of {vpc} in {field}, or subnets of {other} in {}",
            section.field("subnets")
        );
        return (Finding::fail(name, format!("{id} is in {other}, and the subnets are in {vpc}"), remedy), None);
    }
    let ids: Vec<SecurityGroupId> = groups.into_iter().map(|group| group.id).collect();
    let found = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (Finding::ok(name, found), Some(ids))
}

/// What was found, or the finding that a call failed. Something that is named and not there is a mistake of the field.
fn answered<T>(
    name: &str,
    result: Result<Vec<T>, CloudError>,
    otherwise: impl FnOnce() -> String,
) -> Result<Vec<T>, Finding> {
    result.map_err(|error| match error.class {
        Class::NotFound => Finding::fail(name, error.failure(), otherwise()),
        _ => Finding::failed(name, &error, &otherwise()),
    })
}

fn none(name: String, what: &str, id: &str, selector: Option<&Selector>, field: &str) -> Finding {
    let found = format!("no {what} has {}", selector.map(words).unwrap_or_default());
    let remedy = match selector {
        Some(Selector::Tags(tags)) => format!("{}; or select others in {field}", tag_command(id, tags)),
        _ => format!("name those of this Region in {field}"),
    };
    Finding::fail(name, found, remedy)
}

fn tag_command(id: &str, tags: &BTreeMap<String, String>) -> String {
    let tags: Vec<String> = tags.iter().map(|(key, value)| format!("Key={key},Value={value}")).collect();
    format!("aws ec2 create-tags --resources {id} --tags {}", tags.join(" "))
}

#[cfg(test)]
mod tests;
