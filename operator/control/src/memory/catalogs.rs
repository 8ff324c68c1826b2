//! What selectors resolve to: asked for only where something is to be launched, and kept for a while. Images, subnets, security
//! groups and instance types change rarely, and asking for them in every pass would cost per set what must cost per realm.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    InstanceId, SecurityGroupId,
    defaults::ResolvedSet,
    set::{ImageSelector, NetworkSelector},
};
use drover_cloud::{
    Class, CloudError, Machines,
    machines::{Image, InstanceType, Machine, Selector, Subnet},
};
use drover_plan::observed::{Catalog, CatalogImage, CatalogSubnet, Seen};
use futures::{StreamExt, stream};

/// How long a resolution is used. A new image with the same tags is launched from within this time.
const FRESH: Duration = Duration::from_secs(300);
/// How soon after a failed look it is tried again; doubled after each further one, up to [`FRESH`].
const RETRY: Duration = Duration::from_secs(15);
/// Questions that are asked at the same time, each with four calls: a realm has a handful of different ones.
const ASKED_MAX: usize = 4;

/// The tag an image must carry besides those asked for, equal to the set's version.
pub const VERSION_TAG: &str = "mysql-version";

/// Resolutions by what was asked.
#[derive(Clone, Debug, Default)]
pub struct Catalogs {
    known: BTreeMap<Question, Answer>,
    /// Constant facts, never asked for twice.
    architectures: BTreeMap<String, String>,
    types: Tries,
}

/// Looks that failed in a row, and when the last was made.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    failed: u32,
    at: Duration,
}

/// Everything that a catalog depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    image: Selector,
    owners: Vec<String>,
    subnets: Selector,
    security_groups: Selector,
    instance_types: Vec<String>,
}

#[derive(Clone, Debug)]
struct Answer {
    catalog: Seen<Catalog>,
    tries: Tries,
}

// === impl Catalogs ===

impl Catalogs {
    /// The catalog of each set of `sets` that has one. It is asked for where the set is among those `launching`, and what is
    /// known is old. A failed look keeps the last answer.
    pub async fn resolve<K: Ord + Clone>(
        &mut self,
        cloud: &impl Machines,
        sets: &BTreeMap<K, &ResolvedSet>,
        launching: &BTreeSet<K>,
        now: Duration,
    ) -> BTreeMap<K, Seen<Catalog>> {
        let questions: BTreeMap<&K, Question> = sets.iter().map(|(key, set)| (key, Question::of(set))).collect();
        let wanted: BTreeSet<&Question> = questions.values().collect();
        self.known.retain(|question, _| wanted.contains(question));
        let due: BTreeSet<&Question> =
            questions.iter().filter(|(key, _)| launching.contains(*key)).map(|(_, question)| question).collect();
        let due = due.into_iter().filter(|question| self.known.get(*question).is_none_or(|known| known.is_due(now)));
        let asked: Vec<_> = stream::iter(due.cloned().collect::<Vec<_>>())
            .map(|question| async move { (question.ask(cloud).await, question) })
            .buffer_unordered(ASKED_MAX)
            .collect()
            .await;
        for (result, question) in asked {
            self.learn(question, result, now);
        }
        let catalog = |question: &Question| self.known.get(question).map(|answer| answer.catalog.clone());
        questions.into_iter().filter_map(|(key, question)| Some((key.clone(), catalog(&question)?))).collect()
    }

    /// Learns the architecture of machines whose type no catalog named, in one call.
    pub async fn learn_types(
        &mut self,
        cloud: &impl Machines,
        machines: &BTreeMap<InstanceId, Machine>,
        now: Duration,
    ) {
        let types = machines.values().map(|machine| &machine.instance_type);
        let unknown: BTreeSet<&String> = types.filter(|name| !self.architectures.contains_key(*name)).collect();
        if unknown.is_empty() || !self.types.may_again(now) {
            return;
        }
        let names: Vec<String> = unknown.into_iter().cloned().collect();
        match cloud.instance_types(&names).await {
            Ok(types) => self.architectures.extend(types.into_iter().map(|t| (t.name, t.architecture))),
            Err(error) => tracing::debug!(%error, "the architecture of some machines stays unknown"),
        }
        let is_answered = names.iter().all(|name| self.architectures.contains_key(name));
        self.types = self.types.tried(is_answered, now);
    }

    /// The architecture of an instance type, once known.
    pub fn architecture(&self, instance_type: &str) -> Option<&String> {
        self.architectures.get(instance_type)
    }

    fn learn(&mut self, question: Question, result: Result<(Catalog, Vec<InstanceType>), CloudError>, now: Duration) {
        let before = self.known.remove(&question);
        let tries = before.as_ref().map(|answer| answer.tries).unwrap_or_default().tried(result.is_ok(), now);
        let catalog = match (result, before.map(|answer| answer.catalog)) {
            (Ok((catalog, types)), _) => {
                self.architectures.extend(types.into_iter().map(|t| (t.name, t.architecture)));
                Seen::Known(catalog)
            }
            (Err(_), Some(Seen::Known(catalog))) => Seen::Known(catalog),
            (Err(error), Some(Seen::Unknown { .. }) | None) => Seen::Unknown { why: error.to_string() },
        };
        self.known.insert(question, Answer { catalog, tries });
    }
}

// === impl Answer, Tries ===

impl Answer {
    fn is_due(&self, now: Duration) -> bool {
        match self.tries.failed {
            0 => now.saturating_sub(self.tries.at) >= FRESH,
            _ => self.tries.may_again(now),
        }
    }
}

impl Tries {
    fn may_again(&self, now: Duration) -> bool {
        let pause = |failed: u32| RETRY.saturating_mul(1 << (failed - 1).min(10)).min(FRESH);
        self.failed == 0 || now.saturating_sub(self.at) >= pause(self.failed)
    }

    fn tried(self, succeeded: bool, at: Duration) -> Self {
        Self { failed: if succeeded { 0 } else { self.failed + 1 }, at }
    }
}

// === impl Question ===

impl Question {
    fn of(set: &ResolvedSet) -> Self {
        let (image, owners) = image_selector(&set.image, &set.version);
        Self {
            image,
            owners,
            subnets: network_selector(&set.subnets),
            security_groups: network_selector(&set.security_groups),
            instance_types: set.instance_types.clone(),
        }
    }

    /// The answer, and every instance type that it tells of.
    async fn ask(&self, cloud: &impl Machines) -> Result<(Catalog, Vec<InstanceType>), CloudError> {
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
        let security_groups = groups.and_then(|mut groups: Vec<SecurityGroupId>| {
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

fn image_selector(image: &ImageSelector, version: &str) -> (Selector, Vec<String>) {
    match &image.id {
        Some(id) => (Selector::Ids(vec![id.clone()]), vec![]),
        None => {
            let mut tags = image.tags.clone().unwrap_or_default();
            tags.insert(VERSION_TAG.to_owned(), version.to_owned());
            let owners = image.owners.clone().unwrap_or_else(|| vec!["self".to_owned()]);
            (Selector::Tags(tags), owners)
        }
    }
}

fn network_selector(selector: &NetworkSelector) -> Selector {
    match &selector.ids {
        Some(ids) => Selector::Ids(ids.clone()),
        None => Selector::Tags(selector.tags.clone().unwrap_or_default()),
    }
}

/// The newest available one; of two made in the same instant the one with the greater id, so that the choice is stable.
fn pick_image(images: Vec<Image>, selector: &Selector) -> Result<CatalogImage, String> {
    images
        .into_iter()
        .filter(|image| image.available)
        .max_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)))
        .map(|image| CatalogImage { id: image.id, architecture: image.architecture })
        .ok_or_else(|| format!("no available image has {}", words(selector)))
}

/// By zone, those with the most free addresses first, and otherwise in an order that stays.
fn in_order(mut subnets: Vec<Subnet>) -> Vec<CatalogSubnet> {
    subnets.sort_by_key(|subnet| (subnet.zone.clone(), Reverse(subnet.free_addresses), subnet.id.clone()));
    subnets.into_iter().map(|subnet| CatalogSubnet { zone: subnet.zone, id: subnet.id }).collect()
}

fn pick_types(wanted: &[String], types: &[InstanceType], architecture: Option<&str>) -> Result<Vec<String>, String> {
    let fits = |name: &&String| {
        let known = types.iter().find(|t| t.name == **name);
        known.is_some_and(|t| architecture.is_none_or(|architecture| t.architecture == architecture))
    };
    let fitting: Vec<String> = wanted.iter().filter(fits).cloned().collect();
    match (fitting.is_empty(), architecture) {
        (false, _) => Ok(fitting),
        (true, Some(architecture)) => {
            Err(format!("none of the instance types {} is {architecture}, as the image is", wanted.join(", ")))
        }
        (true, None) => Err(format!("the cloud knows none of the instance types {}", wanted.join(", "))),
    }
}

fn some<T>(found: Vec<T>, what: &str, selector: &Selector) -> Result<Vec<T>, String> {
    if found.is_empty() { Err(format!("no {what} has {}", words(selector))) } else { Ok(found) }
}

fn words(selector: &Selector) -> String {
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
    use drover_api::{
        ImageId, Millis, Zone,
        defaults::{Defaults, resolve},
        manifest,
    };
    use drover_cloud::{
        ec2::Account,
        fake::Fake,
        flaky::{Counted, Flaky, Odds, Plan},
        machines::MachineState,
    };
    use futures::executor::block_on;

    use super::*;

    const MANIFEST: &str = r#"
apiVersion: drover.dev/v1alpha1
kind: MySQLReplicaSet
metadata: {name: orders}
spec:
  members: 1
  version: "9.7"
  machine:
    image: {tags: {role: db}}
    instanceTypes: [m7g.large]
    subnets: {tags: {role: db}}
    securityGroups: {tags: {role: db}}
    instanceProfile: machine
"#;

    /// Looks every second for ten minutes, none of which reaches the cloud; the calls that were made.
    fn calls(mut look: impl AsyncFnMut(&mut Catalogs, &Flaky<Fake>, Duration)) -> u64 {
        let cloud = Flaky::new(Fake::new(Account::new("eu-test-1"), 1, Millis(1)), Plan::new(1));
        cloud.plan().set_odds(Odds { unsent: 1000, ..Odds::default() });
        let mut catalogs = Catalogs::default();
        for second in 0..600 {
            block_on(look(&mut catalogs, &cloud, Duration::from_secs(second)));
        }
        cloud.plan().calls(Counted::All)
    }

    #[test]
    fn what_cannot_be_looked_up_is_asked_for_ever_more_rarely_and_only_where_something_is_launched() {
        let (manifests, errors) = manifest::parse("a.yaml", MANIFEST);
        assert_eq!(errors, []);
        let set = resolve(manifests[0].key.clone(), &manifests[0].spec, &Defaults::default()).expect("whole");
        let sets = BTreeMap::from([("orders", &set)]);
        let look = |launching: BTreeSet<&'static str>| {
            let sets = &sets;
            calls(async move |catalogs, cloud, now| drop(catalogs.resolve(cloud, sets, &launching, now).await))
        };
        // After 0, 15, 45, 105, 225 and 465 s, four calls each.
        assert_eq!(look(BTreeSet::from(["orders"])), 6 * 4);
        assert_eq!(look(BTreeSet::new()), 0);
        let machine = Machine {
            id: InstanceId::new("i-1").expect("an instance"),
            state: MachineState::Running,
            zone: Zone::new("a").expect("a zone"),
            subnet: None,
            private_ip: None,
            instance_type: "m7i.large".into(),
            image: ImageId::new("ami-1").expect("an image"),
            token: None,
            launched: Millis(0),
            tags: BTreeMap::new(),
            volumes: vec![],
        };
        let machines = BTreeMap::from([(machine.id.clone(), machine)]);
        let types = calls(async |catalogs, cloud, now| catalogs.learn_types(cloud, &machines, now).await);
        assert_eq!(types, 6);
    }

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
    fn an_image_by_tags_must_be_of_the_sets_version() {
        let by_tags =
            ImageSelector { tags: Some(BTreeMap::from([("role".into(), "db".into())])), ..ImageSelector::default() };
        let (selector, owners) = image_selector(&by_tags, "9.7");
        assert_eq!(owners, ["self"]);
        let Selector::Tags(tags) = selector else { panic!("by tags") };
        assert_eq!(tags[VERSION_TAG], "9.7");
    }
}
