//! The Describe actions: records joined into what EC2 shows, filtered, in pages.

use drover_api::Millis;

use super::{
    ApiError, CheckStatus, DescribeImages, DescribeInstanceStatus, DescribeInstanceTypes, DescribeInstances,
    DescribeTags, DescribedInstance, DescribedInterface, Ec2, GroupIdentifier, Image, Instance, InstanceStateName,
    InstanceStatus, InstanceTypeInfo, NetworkInterface, Page, Paged, Reservation, ResourceType, TagDescription, Tags,
    calls::{action, sealed::Run},
    fields, ids,
    pages::{USUAL, not_with_ids, page},
};

action!(DescribeInstances, describing);
action!(DescribeInstanceStatus, describing);
action!(DescribeImages, describing);
action!(DescribeInstanceTypes, describing);
action!(DescribeTags, describing);

/// Of DescribeInstanceStatus (API reference).
const STATUS_IDS_MAX: usize = 100;

/// Whether a describe draws from the larger of the two request buckets.
pub(super) fn narrowed(paged: &Paged) -> bool {
    !paged.filters.is_empty() || paged.max_results.is_some() || paged.next_token.is_some()
}

impl Run for DescribeInstances {
    type Reply = Page<Reservation>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<Reservation>, ApiError> {
        not_with_ids(&self.instance_ids, "instancesSet", &self.paged)?;
        let filters = fields::INSTANCE.compile(&self.paged.filters)?;
        let found = ec2.select_instances(&self.instance_ids)?;
        let found = found.into_iter().map(|it| ec2.show_instance(it)).filter(|it| filters.matches(it));
        let page = page("DescribeInstances", &self.paged, USUAL, found, |it| &it.instance.instance_id)?;
        let mut items: Vec<Reservation> = Vec::new();
        for it in page.items {
            match items.iter_mut().find(|items| items.reservation_id == it.instance.reservation_id) {
                Some(reservation) => reservation.instances.push(it),
                None => items.push(Reservation {
                    reservation_id: it.instance.reservation_id.clone(),
                    owner_id: it.owner_id.clone(),
                    instances: vec![it],
                }),
            }
        }
        Ok(Page { items, next_token: page.next_token })
    }

    fn narrowed(&self) -> bool {
        narrowed(&self.paged)
    }
}

impl Run for DescribeInstanceStatus {
    type Reply = Page<InstanceStatus>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<InstanceStatus>, ApiError> {
        not_with_ids(&self.instance_ids, "instancesSet", &self.paged)?;
        if self.instance_ids.len() > STATUS_IDS_MAX {
            return Err(ApiError::value(format!("At most {STATUS_IDS_MAX} instances can be named in one request")));
        }
        let filters = fields::INSTANCE_STATUS.compile(&self.paged.filters)?;
        let found = ec2.select_instances(&self.instance_ids)?;
        let found = found
            .into_iter()
            .filter(|it| self.include_all_instances || it.state == InstanceStateName::Running)
            .map(|it| ec2.status(it))
            .filter(|it| filters.matches(it));
        page("DescribeInstanceStatus", &self.paged, USUAL, found, |it| &it.instance_id)
    }

    fn narrowed(&self) -> bool {
        narrowed(&self.paged)
    }
}

impl Run for DescribeImages {
    type Reply = Page<Image>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<Image>, ApiError> {
        let filters = fields::IMAGE.compile(&self.paged.filters)?;
        ids::IMAGE.check_all(&self.image_ids, |id| ec2.images.contains_key(id))?;
        let mine = |owner: &String| owner == "self" || *owner == ec2.account.owner_id;
        let found = ec2
            .images
            .values()
            .filter(|it| self.image_ids.is_empty() || self.image_ids.contains(&it.image_id))
            .filter(|_| self.owners.is_empty() || self.owners.iter().any(mine))
            // Those whose launch permissions name somebody; an owner needs none, and no image here is shared.
            .filter(|_| self.executable_by.is_empty())
            .filter(|it| filters.matches(it))
            .cloned();
        page("DescribeImages", &self.paged, USUAL, found, |it| &it.image_id)
    }
}

impl Run for DescribeInstanceTypes {
    type Reply = Page<InstanceTypeInfo>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<InstanceTypeInfo>, ApiError> {
        let filters = fields::INSTANCE_TYPE.compile(&self.paged.filters)?;
        if self.instance_types.len() > 100 {
            return Err(ApiError::value("At most 100 instance types can be named in one request"));
        }
        let known = |name: &String| ec2.account.instance_types.iter().any(|it| it.instance_type == *name);
        let unknown: Vec<&str> = self.instance_types.iter().filter(|it| !known(it)).map(String::as_str).collect();
        if !unknown.is_empty() {
            let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
            return Err(ApiError::new("InvalidInstanceType", message));
        }
        let mut found: Vec<InstanceTypeInfo> = ec2
            .account
            .instance_types
            .iter()
            .filter(|it| self.instance_types.is_empty() || self.instance_types.contains(&it.instance_type))
            .filter(|it| filters.matches(it))
            .cloned()
            .collect();
        found.sort_by(|a, b| a.instance_type.cmp(&b.instance_type));
        page("DescribeInstanceTypes", &self.paged, 5..=100, found, |it| &it.instance_type)
    }
}

impl Run for DescribeTags {
    type Reply = Page<TagDescription>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<TagDescription>, ApiError> {
        // `tag:<key>` asks for a tag of that key and value, not for the other tags beside it.
        let (by_tag, plain): (Vec<_>, Vec<_>) =
            self.paged.filters.iter().cloned().partition(|filter| filter.name.starts_with("tag:"));
        let filters = fields::TAG.compile(&plain)?;
        let by_tag = TAG_AS_TAGS.compile(&by_tag)?;
        let mut found: Vec<(String, TagDescription)> = ec2
            .tag_descriptions()
            .into_iter()
            .filter(|it| filters.matches(it) && by_tag.matches(&Tags::from([(it.key.clone(), it.value.clone())])))
            // The space is in no id and sorts before every character of a key, so the order is that of (id, key).
            .map(|it| (format!("{} {}", it.resource_id, it.key), it))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let page = page("DescribeTags", &self.paged, USUAL, found, |it| &it.0)?;
        Ok(Page { items: page.items.into_iter().map(|it| it.1).collect(), next_token: page.next_token })
    }
}

const TAG_AS_TAGS: super::filters::Fields<Tags> =
    super::filters::Fields { named: &[], absent: &[], tags: Some(|tags| tags) };

impl DescribedInterface {
    /// `in-use` while attached, `available` else.
    pub fn status(&self) -> &'static str {
        if self.interface.attachment.is_some() { "in-use" } else { "available" }
    }

    /// One per private address, the primary's first.
    pub fn private_dns_names(&self) -> Vec<String> {
        let name = |address: &String| fields::private_dns_name(address, &self.interface.zone);
        self.interface.private_ip_addresses.iter().map(name).collect()
    }
}

impl CheckStatus {
    /// The one detail of a status check.
    pub fn reachability(self) -> &'static str {
        match self {
            CheckStatus::Ok => "passed",
            CheckStatus::Impaired => "failed",
            CheckStatus::Initializing => "initializing",
            CheckStatus::NotApplicable => "insufficient-data",
        }
    }
}

impl Ec2 {
    /// The instances named, or all; what lag hides is missing from a list and NotFound by id.
    fn select_instances(&self, instance_ids: &[String]) -> Result<Vec<&Instance>, ApiError> {
        if instance_ids.is_empty() {
            self.require_all_zones()?;
            return Ok(self.instances.values().filter(|it| self.visible(it.created)).collect());
        }
        self.named_instances(instance_ids)
    }

    /// Every instance named, each once, in the order of ids; one that is unknown fails the call.
    pub(super) fn named_instances(&self, instance_ids: &[String]) -> Result<Vec<&Instance>, ApiError> {
        ids::INSTANCE.check_all(instance_ids, |id| self.visible_instance(id).is_some())?;
        let mut found: Vec<&Instance> = instance_ids.iter().filter_map(|id| self.visible_instance(id)).collect();
        found.sort_by(|a, b| a.instance_id.cmp(&b.instance_id));
        found.dedup_by(|a, b| a.instance_id == b.instance_id);
        found.iter().try_for_each(|it| self.require_zone(&it.zone))?;
        Ok(found)
    }

    pub(super) fn visible_instance(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id).filter(|it| self.visible(it.created))
    }

    /// Joins an instance with its interface and its volumes' attachments. EC2 shows launch times in whole seconds, and
    /// finds them as it shows them.
    pub(super) fn show_instance(&self, instance: &Instance) -> DescribedInstance {
        let gone = instance.state == InstanceStateName::Terminated;
        let interface = self.interfaces.get(&instance.network_interface_id).filter(|_| !gone);
        DescribedInstance {
            instance: Instance {
                tags: self.shown_tags(instance).clone(),
                launch_time: Millis(instance.launch_time.0 / 1000 * 1000),
                ..instance.clone()
            },
            owner_id: self.account.owner_id.clone(),
            network_interfaces: interface.map(|it| self.show_interface(it)).into_iter().collect(),
            block_device_mappings: self.block_device_mappings(instance),
        }
    }

    pub(super) fn show_interface(&self, interface: &NetworkInterface) -> DescribedInterface {
        DescribedInterface { interface: interface.clone(), groups: self.group_identifiers(&interface.groups) }
    }

    pub(super) fn group_identifiers(&self, group_ids: &[String]) -> Vec<GroupIdentifier> {
        let name = |id: &String| self.groups.get(id).map(|group| group.group_name.clone()).unwrap_or_default();
        group_ids.iter().map(|id| GroupIdentifier { group_id: id.clone(), group_name: name(id) }).collect()
    }

    fn status(&self, instance: &Instance) -> InstanceStatus {
        let check = match (instance.state, instance.running_since) {
            (InstanceStateName::Running, _) if instance.host_lost => CheckStatus::Impaired,
            (InstanceStateName::Running, Some(since))
                if self.now.since(since) >= self.account.timings.status_checks =>
            {
                CheckStatus::Ok
            }
            (InstanceStateName::Running, _) => CheckStatus::Initializing,
            _ => CheckStatus::NotApplicable,
        };
        InstanceStatus {
            instance_id: instance.instance_id.clone(),
            zone: instance.zone.clone(),
            zone_id: instance.zone_id.clone(),
            state: instance.state,
            instance_status: check,
            system_status: check,
        }
    }

    fn tag_descriptions(&self) -> Vec<TagDescription> {
        let describe = |resource_type: ResourceType, id: &str, tags: &Tags| -> Vec<TagDescription> {
            let one = |(key, value): (&String, &String)| TagDescription {
                resource_id: id.into(),
                resource_type,
                key: key.clone(),
                value: value.clone(),
            };
            tags.iter().map(one).collect()
        };
        let mut all = Vec::new();
        for it in self.instances.values().filter(|it| self.visible(it.created)) {
            all.extend(describe(ResourceType::Instance, &it.instance_id, self.shown_tags(it)));
        }
        for it in self.volumes.values().filter(|it| self.visible(it.create_time)) {
            all.extend(describe(ResourceType::Volume, &it.volume_id, &it.tags));
        }
        for it in self.interfaces.values().filter(|it| self.visible(it.created)) {
            all.extend(describe(ResourceType::NetworkInterface, &it.network_interface_id, &it.tags));
        }
        for it in self.groups.values().filter(|it| self.visible(it.created)) {
            all.extend(describe(ResourceType::SecurityGroup, &it.group_id, &it.tags));
        }
        for it in self.images.values() {
            all.extend(describe(ResourceType::Image, &it.image_id, &it.tags));
        }
        for it in self.subnets.values() {
            all.extend(describe(ResourceType::Subnet, &it.subnet_id, &it.tags));
        }
        for it in self.vpcs.values() {
            all.extend(describe(ResourceType::Vpc, &it.vpc_id, &it.tags));
        }
        all
    }
}
