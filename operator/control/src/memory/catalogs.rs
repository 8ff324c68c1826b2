//! What selectors resolve to: asked for only where something is to be launched, and kept for a while. Images, subnets, security
//! groups and instance types change rarely, and asking for them in every pass would cost per set what must cost per realm.

pub(crate) mod question;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{InstanceId, defaults::ResolvedSet};
use drover_cloud::{
    CloudError, Machines,
    machines::{InstanceType, Machine},
};
use drover_plan::observed::{Catalog, Seen};
use futures::{StreamExt, stream};
use question::Question;

/// How long a resolution is used. A new image with the same tags is launched from within this time.
const FRESH: Duration = Duration::from_secs(300);
/// How soon after a failed look it is tried again; doubled after each further one, up to the second. A look is four calls, and
/// one that is throttled fails all of it: with one call of five throttled, a launch waits for minutes and not for hours.
const RETRY: Duration = Duration::from_secs(15);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Questions that are asked at the same time, each with four calls: a realm has a handful of different ones.
const ASKED_MAX: usize = 4;

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
        let pause = |failed: u32| RETRY.saturating_mul(1 << (failed - 1).min(10)).min(RETRY_MAX);
        self.failed == 0 || now.saturating_sub(self.at) >= pause(self.failed)
    }

    fn tried(self, succeeded: bool, at: Duration) -> Self {
        Self { failed: if succeeded { 0 } else { self.failed + 1 }, at }
    }
}

#[cfg(test)]
mod tests {
    use drover_api::{ImageId, Millis, Zone, defaults::Terms, manifest};
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
        let set = manifests[0].resolve(&Terms::default()).expect("whole");
        let sets = BTreeMap::from([("orders", &set)]);
        let look = |launching: BTreeSet<&'static str>| {
            let sets = &sets;
            calls(async move |catalogs, cloud, now| drop(catalogs.resolve(cloud, sets, &launching, now).await))
        };
        // After 0, 15 and 45 s, and then every minute; four calls each.
        assert_eq!(look(BTreeSet::from(["orders"])), 12 * 4);
        assert_eq!(look(BTreeSet::new()), 0);
        let machine = Machine {
            id: InstanceId::new("i-1").expect("an instance"),
            state: MachineState::Running,
            state_reason: None,
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
        assert_eq!(types, 12);
    }
}
