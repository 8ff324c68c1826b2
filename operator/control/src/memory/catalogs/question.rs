//! One question about what can be launched: what its selectors find, and what of that is taken.

use std::cmp::Reverse;

use drover_api::{
    SecurityGroupId,
    defaults::ResolvedSet,
    set::{ImageSelector, NetworkSelector},
};
use drover_cloud::{
    Class, CloudError, Machines,
    machines::{Image, InstanceType, Selector, Subnet},
};
use drover_plan::observed::{Catalog, CatalogImage, CatalogSubnet};

/// The tag an image must carry besides those asked for, equal to the set's version.
const VERSION_TAG: &str = "mysql-version";

/// Everything that a catalog depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    image: Selector,
    owners: Vec<String>,
    subnets: Selector,
    security_groups: Selector,
    instance_types: Vec<String>,
}

// === impl Question ===

impl Question {
    pub fn of(set: &ResolvedSet) -> Self {
        let (image, owners) = image_selector(&set.image, Some(&set.version));
        Self {
            image,
            owners,
            subnets: network_selector(&set.subnets),
            security_groups: network_selector(&set.security_groups),
            instance_types: set.instance_types.clone(),
        }
    }

    /// The answer, and every instance type that it tells of.
    pub async fn ask(&self, cloud: &impl Machines) -> Result<(Catalog, Vec<InstanceType>), CloudError> {
        let (images, subnets, groups, types) = futures::join!(
            cloud.images(&self.image, &self.owners),
            cloud.subnets(&self.subnets),
            cloud.security_groups(&self.security_groups),
            cloud.instance_types(&self.instance_types),
        );
        let (images, subnets, groups, types) = (said(images)?, said(subnets)?, said(groups)?, said(types)?);
        let known = types.clone().unwrap_or_default();
        let image = images.and_then(|images| pick_image(images, &self.image));
        let instance_types = match (&image, types) {
            (_, Err(why)) => Err(why),
            (Err(_), Ok(types)) => pick_types(&self.instance_types, &types, None),
            (Ok(image), Ok(types)) => pick_types(&self.instance_types, &types, Some(&image.architecture)),
        };
        let subnets = subnets.and_then(|subnets| some(in_order(subnets), "subnet", &self.subnets));
        let security_groups = groups.and_then(|groups| {
            let mut groups: Vec<SecurityGroupId> = groups.into_iter().map(|group| group.id).collect();
            groups.sort();
            some(groups, "security group", &self.security_groups)
        });
        Ok((Catalog { image, subnets, security_groups, instance_types }, known))
    }
}

/// A cloud that answered "there is no such thing" answered; any other failure says nothing about the selector.
fn said<T>(result: Result<T, CloudError>) -> Result<Result<T, String>, CloudError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if matches!(error.class, Class::NotFound | Class::Invalid) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Without a version: of any.
pub(crate) fn image_selector(image: &ImageSelector, version: Option<&str>) -> (Selector, Vec<String>) {
    match &image.id {
        Some(id) => (Selector::Ids(vec![id.clone()]), vec![]),
        None => {
            let mut tags = image.tags.clone().unwrap_or_default();
            tags.extend(version.map(|version| (VERSION_TAG.to_owned(), version.to_owned())));
            let owners = image.owners.clone().unwrap_or_else(|| vec!["self".to_owned()]);
            (Selector::Tags(tags), owners)
        }
    }
}

pub(crate) fn network_selector(selector: &NetworkSelector) -> Selector {
    match &selector.ids {
        Some(ids) => Selector::Ids(ids.clone()),
        None => Selector::Tags(selector.tags.clone().unwrap_or_default()),
    }
}

/// The newest available one; of two made in the same instant the one with the greater id, so that the choice is stable.
pub(crate) fn pick_image(images: Vec<Image>, selector: &Selector) -> Result<CatalogImage, String> {
    images
        .into_iter()
        .filter(|image| image.available)
        .max_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)))
        .map(|image| CatalogImage { id: image.id, architecture: image.architecture })
        .ok_or_else(|| format!("no available image has {}", words(selector)))
}

/// By zone, those with the most free addresses first, and otherwise in an order that stays.
pub(crate) fn in_order(mut subnets: Vec<Subnet>) -> Vec<CatalogSubnet> {
    subnets.sort_by_key(|subnet| (subnet.zone.clone(), Reverse(subnet.free_addresses), subnet.id.clone()));
    subnets.into_iter().map(|subnet| CatalogSubnet { zone: subnet.zone, id: subnet.id }).collect()
}

pub(crate) fn pick_types(
    wanted: &[String],
    types: &[InstanceType],
    architecture: Option<&str>,
) -> Result<Vec<String>, String> {
    let fits = |name: &&String| {
        let known = types.iter().find(|t| t.name == **name);
        known.is_some_and(|t| architecture.is_none_or(|architecture| t.architecture == architecture))
    };
    let fitting: Vec<String> = wanted.iter().filter(fits).cloned().collect();
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(String::as_str).partition(|name| types.iter().any(|t| t.name == *name));
    match (fitting.is_empty(), known.is_empty(), architecture) {
        (false, ..) => Ok(fitting),
        (true, false, Some(architecture)) => {
            let beside =
                if unknown.is_empty() { String::new() } else { format!(", and {} unknown here", are(&unknown)) };
            Err(format!("none of the instance types {} is {architecture}, as the image is{beside}", known.join(", ")))
        }
        (true, ..) => Err(format!("EC2 knows none of the instance types {} in this Region", wanted.join(", "))),
    }
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn some<T>(found: Vec<T>, what: &str, selector: &Selector) -> Result<Vec<T>, String> {
    if found.is_empty() { Err(format!("no {what} has {}", words(selector))) } else { Ok(found) }
}

pub(crate) fn words(selector: &Selector) -> String {
    match selector {
        Selector::Ids(ids) => format!("the id {}", ids.join(" or ")),
        Selector::Tags(tags) => {
            let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("the tags {}", tags.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use drover_api::ImageId;

    use super::*;

    fn image(id: &str, created: &str, available: bool) -> Image {
        Image {
            id: ImageId::new(id).expect("image"),
            name: String::new(),
            architecture: "arm64".into(),
            created: created.into(),
            available,
            tags: BTreeMap::new(),
        }
    }

    fn instance_type(name: &str, architecture: &str) -> InstanceType {
        InstanceType { name: name.into(), architecture: architecture.into(), vcpus: 2, memory_mib: 1024 }
    }

    #[test]
    fn the_newest_available_image_is_taken() {
        let selector = Selector::Tags(BTreeMap::from([("role".into(), "db".into())]));
        let images = vec![
            image("ami-1", "2026-01-01T00:00:00Z", true),
            image("ami-2", "2026-03-01T00:00:00Z", true),
            image("ami-3", "2026-04-01T00:00:00Z", false),
        ];
        assert_eq!(pick_image(images, &selector).map(|i| i.id.to_string()), Ok("ami-2".into()));
        assert_eq!(pick_image(vec![], &selector), Err("no available image has the tags role=db".into()));
    }

    #[test]
    fn of_a_zones_subnets_the_one_with_the_most_free_addresses_comes_first() {
        let subnet = |id: &str, zone: &str, free_addresses| Subnet {
            id: id.parse().expect("a subnet"),
            zone: zone.parse().expect("a zone"),
            vpc: "vpc-1".into(),
            free_addresses,
        };
        let subnets = vec![
            subnet("subnet-4", "b", 250),
            subnet("subnet-1", "a", 3),
            subnet("subnet-3", "a", 90),
            subnet("subnet-2", "a", 3),
        ];
        let order: Vec<String> = in_order(subnets).into_iter().map(|subnet| subnet.id.to_string()).collect();
        assert_eq!(order, ["subnet-3", "subnet-1", "subnet-2", "subnet-4"]);
    }

    #[test]
    fn instance_types_keep_their_order_and_fit_the_image() {
        let wanted = ["m7i.large", "m7g.large", "m6g.large"].map(String::from);
        let known = [
            instance_type("m6g.large", "arm64"),
            instance_type("m7g.large", "arm64"),
            instance_type("m7i.large", "x86_64"),
        ];
        assert_eq!(pick_types(&wanted, &known, Some("arm64")), Ok(vec!["m7g.large".into(), "m6g.large".into()]));
        assert_eq!(
            pick_types(&wanted[..1], &known, Some("arm64")),
            Err("none of the instance types m7i.large is arm64, as the image is".into())
        );
    }

    #[test]
    fn a_type_that_the_region_does_not_know_is_passed_over() {
        let wanted = ["m9x.large", "m7g.large"].map(String::from);
        let known = [instance_type("m7g.large", "arm64")];
        assert_eq!(pick_types(&wanted, &known, Some("arm64")), Ok(vec!["m7g.large".into()]));
        assert_eq!(
            pick_types(&wanted, &known, Some("x86_64")),
            Err("none of the instance types m7g.large is x86_64, as the image is, and m9x.large is unknown here".into())
        );
        let nobody_knows = "EC2 knows none of the instance types m9x.large, m7g.large in this Region";
        for architecture in [Some("arm64"), None] {
            assert_eq!(pick_types(&wanted, &[], architecture), Err(nobody_knows.into()));
        }
    }

    #[test]
    fn an_image_by_tags_must_be_of_the_sets_version() {
        let by_tags =
            ImageSelector { tags: Some(BTreeMap::from([("role".into(), "db".into())])), ..ImageSelector::default() };
        let (selector, owners) = image_selector(&by_tags, Some("9.7"));
        assert_eq!(owners, ["self"]);
        let Selector::Tags(tags) = selector else { panic!("by tags") };
        assert_eq!(tags[VERSION_TAG], "9.7");
    }
}
