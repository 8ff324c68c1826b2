//! The rules of the model, one table or claim each. Every test begins with a new account and says what is asked and answered.

mod describe;
mod extras;
mod faults;
mod host;
mod launch;
mod network;
mod states;
mod tags;
mod volumes;
mod walk;

use std::time::Duration;

use drover_api::Millis;

use super::*;

/// 2026-01-31T12:00:00Z, so that times in answers look like times.
const START: Millis = Millis(1_769_860_800_000);

/// An account with one image of each architecture, and a clock.
pub(super) struct Cloud {
    pub ec2: Ec2,
    pub now: Millis,
}

impl Cloud {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Account)) -> Self {
        let mut account = Account::new("eu-test-1");
        let image = |architecture, name: &str| ImageSpec {
            name: name.into(),
            description: "for tests".into(),
            architecture,
            root_size_gib: 8,
            tags: Tags::from([("os".into(), name.into())]),
        };
        account.images = vec![image(Architecture::Arm64, "arm"), image(Architecture::X86_64, "intel")];
        change(&mut account);
        let mut ec2 = Ec2::new(account, 7);
        ec2.advance(START);
        Self { ec2, now: START }
    }

    pub fn run<A: Action>(&mut self, action: &A) -> Result<A::Reply, ApiError> {
        self.ec2.call(self.now, &Caller::operator(), Mode::Run, action)
    }

    /// For what must succeed.
    pub fn ok<A: Action>(&mut self, action: &A) -> A::Reply {
        self.run(action).unwrap_or_else(|error| panic!("{} failed: {error}", A::NAME))
    }

    /// The error code, or "ok".
    pub fn code<A: Action>(&mut self, action: &A) -> String {
        self.run(action).err().map_or("ok".into(), |error| error.code)
    }

    pub fn pass(&mut self, seconds: u64) -> Vec<HostEvent> {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.ec2.advance(self.now)
    }

    /// A launch that every rule allows: one instance in the first zone.
    pub fn request(&self) -> RunInstances {
        self.request_in(0)
    }

    pub fn request_in(&self, zone: usize) -> RunInstances {
        RunInstances {
            image_id: Some(self.image("arm")),
            instance_type: Some("m7g.large".into()),
            min_count: 1,
            max_count: 1,
            subnet_id: Some(self.subnet(zone)),
            ..RunInstances::default()
        }
    }

    pub fn image(&self, name: &str) -> String {
        self.ec2.images.values().find(|it| it.name == name).expect("an image of this name").image_id.clone()
    }

    pub fn subnet(&self, zone: usize) -> String {
        self.ec2.subnets()[zone].subnet_id.clone()
    }

    pub fn group(&self, name: &str) -> String {
        self.ec2.group_named(name).expect("a group of this name").group_id.clone()
    }

    /// Launches it and answers the ids.
    pub fn launch(&mut self, request: &RunInstances) -> Vec<String> {
        let instances = self.ok(request).instances;
        instances.into_iter().map(|it| it.instance.instance_id).collect()
    }

    pub fn launched(&mut self) -> String {
        let request = self.request();
        self.launch(&request).remove(0)
    }

    /// Launched in the zone, and up.
    pub fn running_in(&mut self, zone: usize) -> String {
        let request = self.request_in(zone);
        let id = self.launch(&request).remove(0);
        self.pass(60);
        assert_eq!(self.state(&id), "running");
        id
    }

    pub fn running(&mut self) -> String {
        self.running_in(0)
    }

    /// The state, or "none" where it is not listed any more.
    pub fn state(&mut self, instance_id: &str) -> &'static str {
        self.ec2.settle(self.now);
        self.ec2.instance(instance_id).map_or("none", |it| it.state.as_str())
    }

    pub fn describe(&mut self, instance_id: &str) -> DescribedInstance {
        let reply = self.ok(&DescribeInstances { instance_ids: one(instance_id), paged: Paged::default() });
        reply.items[0].instances[0].clone()
    }

    /// The ids of the instances that these filters leave.
    pub fn filtered(&mut self, filters: &[(&str, &[&str])]) -> Result<Vec<String>, ApiError> {
        let paged = Paged { filters: self::filters(filters), ..Paged::default() };
        let page = self.run(&DescribeInstances { instance_ids: Vec::new(), paged })?;
        Ok(page.items.into_iter().flat_map(|it| it.instances).map(|it| it.instance.instance_id).collect())
    }

    /// A gp3 volume of 10 GiB in the zone, available.
    pub fn volume_in(&mut self, zone: usize) -> String {
        let request = self.volume_request(zone);
        let id = self.ok(&request).volume_id;
        self.pass(60);
        id
    }

    pub fn volume_request(&self, zone: usize) -> CreateVolume {
        CreateVolume {
            availability_zone: Some(self.ec2.account().subnets[zone].zone.clone()),
            size: Some(10),
            volume_type: Some("gp3".into()),
            ..CreateVolume::default()
        }
    }

    /// State and attachment of a volume: "in-use attached", "available", "none".
    pub fn volume(&mut self, volume_id: &str) -> String {
        self.ec2.settle(self.now);
        match self.ec2.volume(volume_id) {
            None => "none".into(),
            Some(it) => match &it.attachment {
                None => it.state.to_string(),
                Some(at) => format!("{} {}", it.state, at.state),
            },
        }
    }
}

pub(super) fn one(id: &str) -> Vec<String> {
    vec![id.into()]
}

pub(super) fn filters(filters: &[(&str, &[&str])]) -> Vec<Filter> {
    let filter = |(name, values): &(&str, &[&str])| Filter {
        name: (*name).into(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    filters.iter().map(filter).collect()
}

pub(super) fn tag_list(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs.iter().map(|(key, value)| Tag { key: (*key).into(), value: (*value).into() }).collect()
}

pub(super) fn tagged(resource_type: &str, pairs: &[(&str, &str)]) -> TagSpecification {
    TagSpecification { resource_type: resource_type.into(), tags: tag_list(pairs) }
}
