//! `Machines` on the EC2 model, with the requests that the real adapter sends.

use std::collections::BTreeMap;

use drover_api::{ClientToken, InstanceId, Realm, launch::LaunchRequest, tags};

use super::{Fake, convert};
use crate::{
    ec2::{
        self, CreateTags, DeleteTags, DescribeImages, DescribeInstanceTypes, DescribeInstances, DescribeSecurityGroups,
        DescribeSubnets, HttpTokens, InstanceChange, InstanceProfileSpecification, MetadataOptionsRequest, Mode,
        ModifyInstanceAttribute, Page, Paged, RunInstances, ShutdownBehavior, Switch, TagSpecification, TagToDelete,
        TerminateInstances,
    },
    error::{Class, CloudError, Result},
    machines::{Image, InstanceType, Machine, Machines, Protection, SecurityGroup, Selector, Subnet},
};

/// The largest page that DescribeInstances allows.
const PAGE_MAX: i64 = 1000;

impl Machines for Fake {
    async fn list(&self, realm: &Realm) -> Result<Vec<Machine>> {
        let paged = convert::filters(&[(&format!("tag:{}", tags::REALM), realm.as_str())]);
        self.machines(&paged)
    }

    async fn get(&self, id: &InstanceId) -> Result<Machine> {
        let request = DescribeInstances { instance_ids: vec![id.to_string()], ..DescribeInstances::default() };
        let found = self.call(&request)?;
        let instance = found.items.iter().flat_map(|reservation| &reservation.instances).next();
        instance.map(convert::machine).ok_or_else(|| {
            let message = format!("the answer about {id} is empty");
            CloudError::new(Class::NotFound, "DescribeInstances", "InvalidInstanceID.NotFound", message)
        })
    }

    async fn find_by_token(&self, token: &ClientToken) -> Result<Vec<Machine>> {
        self.machines(&convert::filters(&[("client-token", token.as_str())]))
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine> {
        let reservation = self.call(&run_instances(request))?;
        let instance = reservation.instances.first().expect("a launch of one that succeeds has one instance");
        Ok(convert::machine(instance))
    }

    async fn protect(&self, id: &InstanceId, protection: Protection) -> Result<()> {
        let change = InstanceChange::DisableApiTermination(protection == Protection::On);
        self.call(&ModifyInstanceAttribute { instance_id: id.to_string(), changes: vec![change] })
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        let instance_ids = vec![id.to_string()];
        self.call(&TerminateInstances { instance_ids, ..TerminateInstances::default() }).map(drop)
    }

    async fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> Result<()> {
        self.call(&CreateTags { resources: vec![id.to_string()], tags: convert::tags(tags) })
    }

    async fn untag(&self, id: &InstanceId, key: &str) -> Result<()> {
        let tags = vec![TagToDelete { key: key.to_owned(), value: None }];
        self.call(&DeleteTags { resources: vec![id.to_string()], tags })
    }

    async fn images(&self, selector: &Selector, owners: &[String]) -> Result<Vec<Image>> {
        let (image_ids, paged) = selected(selector);
        let found =
            self.call(&DescribeImages { image_ids, owners: owners.to_vec(), paged, ..DescribeImages::default() })?;
        Ok(found.items.iter().map(convert::image).collect())
    }

    async fn subnets(&self, selector: &Selector) -> Result<Vec<Subnet>> {
        let (subnet_ids, paged) = selected(selector);
        let found = self.call(&DescribeSubnets { subnet_ids, paged })?;
        Ok(found.items.iter().map(convert::subnet).collect())
    }

    async fn security_groups(&self, selector: &Selector) -> Result<Vec<SecurityGroup>> {
        let (group_ids, paged) = selected(selector);
        let found = self.call(&DescribeSecurityGroups { group_ids, group_names: Vec::new(), paged })?;
        let group = |group: &ec2::SecurityGroup| SecurityGroup {
            id: convert::security_group(&group.group_id),
            vpc: group.vpc_id.clone(),
        };
        Ok(found.items.iter().map(group).collect())
    }

    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>> {
        let request = DescribeInstanceTypes { instance_types: vec![], paged: convert::filter("instance-type", names) };
        Ok(self.call(&request)?.items.iter().map(convert::instance_type).collect())
    }

    async fn may_launch(&self, request: &LaunchRequest) -> Result<()> {
        match self.send(Mode::DryRun, &run_instances(request)) {
            Err(error) if error.code == "DryRunOperation" => Ok(()),
            Err(error) => Err(convert::error("RunInstances", error)),
            Ok(_) => unreachable!("a dry run never succeeds"),
        }
    }
}

impl Fake {
    /// Every instance that the filters leave, page by page.
    fn machines(&self, paged: &Paged) -> Result<Vec<Machine>> {
        let mut machines = Vec::new();
        let mut next_token = None;
        loop {
            let paged = Paged { max_results: Some(PAGE_MAX), next_token, ..paged.clone() };
            let Page { items, next_token: next } =
                self.call(&DescribeInstances { paged, ..DescribeInstances::default() })?;
            machines.extend(items.iter().flat_map(|reservation| &reservation.instances).map(convert::machine));
            match next {
                Some(token) => next_token = Some(token),
                None => return Ok(machines),
            }
        }
    }
}

fn selected(selector: &Selector) -> (Vec<String>, Paged) {
    match selector {
        Selector::Ids(ids) => (ids.clone(), Paged::default()),
        Selector::Tags(tags) => (Vec::new(), convert::tag_filters(tags)),
    }
}

fn instance_profile(name_or_arn: &str) -> InstanceProfileSpecification {
    let value = Some(name_or_arn.to_owned());
    if name_or_arn.starts_with("arn:") {
        InstanceProfileSpecification { arn: value, name: None }
    } else {
        InstanceProfileSpecification { arn: None, name: value }
    }
}

/// The parameters that the real adapter sends: the subnet says the zone.
fn run_instances(request: &LaunchRequest) -> RunInstances {
    let tags = convert::tags(&request.tags);
    let tagged = |kind: &str| TagSpecification { resource_type: kind.into(), tags: tags.clone() };
    let kinds = ["instance", "volume", "network-interface"];
    RunInstances {
        image_id: Some(request.image.to_string()),
        instance_type: Some(request.instance_type.clone()),
        min_count: 1,
        max_count: 1,
        client_token: Some(request.token.to_string()),
        subnet_id: Some(request.subnet.to_string()),
        security_group_ids: request.security_groups.iter().map(ToString::to_string).collect(),
        instance_profile: Some(instance_profile(&request.instance_profile)),
        metadata_options: MetadataOptionsRequest {
            http_tokens: Some(HttpTokens::Required),
            http_put_response_hop_limit: Some(1),
            http_endpoint: Some(Switch::Enabled),
            instance_metadata_tags: Some(Switch::Enabled),
        },
        user_data: (!request.user_data.is_empty()).then(|| request.user_data.clone().into_bytes()),
        tag_specifications: if tags.is_empty() { Vec::new() } else { kinds.map(tagged).into() },
        disable_api_termination: Some(request.termination_protection),
        disable_api_stop: Some(false),
        instance_initiated_shutdown_behavior: Some(ShutdownBehavior::Stop),
        ..RunInstances::default()
    }
}
