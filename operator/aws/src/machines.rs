//! EC2 instances, and what a launch refers to.

use std::collections::BTreeMap;

use aws_sdk_ec2::{
    Client,
    operation::run_instances::builders::RunInstancesFluentBuilder,
    types::{
        AttributeBooleanValue, Filter, HttpTokensState, IamInstanceProfileSpecification, InstanceMetadataEndpointState,
        InstanceMetadataOptionsRequest, InstanceMetadataTagsState, InstanceType as SdkInstanceType, ResourceType,
        ShutdownBehavior, Tag,
    },
};
use base64::prelude::{BASE64_STANDARD, Engine};
use drover_api::{ClientToken, InstanceId, Realm, launch::LaunchRequest, tags};
use drover_cloud::{
    Class, Machines, Result,
    machines::{Image, InstanceType, Machine, Protection, SecurityGroup, Selector, Subnet},
};

use crate::{
    calls::{
        CREATE_TAGS, DELETE_TAGS, DESCRIBE_IMAGES, DESCRIBE_INSTANCE_TYPES, DESCRIBE_INSTANCES,
        DESCRIBE_INSTANCES_BY_ID, DESCRIBE_SECURITY_GROUPS, DESCRIBE_SUBNETS, MODIFY_INSTANCE_ATTRIBUTE, RUN_INSTANCES,
        TERMINATE_INSTANCES,
    },
    classify::failed,
    convert,
    selectors::{PAGE_MAX, Wanted, any_filter, filter, sdk_tags, tag_filter, tagged},
    send::{Sender, pages, unreadable},
};

/// EC2 of one account and Region; cheap to clone, all clones share their rate lanes.
#[derive(Clone, Debug)]
pub struct Ec2 {
    pub(crate) client: Client,
    pub(crate) sender: Sender,
}

/// Names that are asked for at a time: as many as a page of DescribeInstanceTypes may have (a filter takes 200 values).
const TYPES_MAX: u8 = 100;

impl Machines for Ec2 {
    async fn list(&self, realm: &Realm) -> Result<Vec<Machine>> {
        self.filtered(tag_filter(tags::REALM, realm.as_str())).await
    }

    async fn get(&self, id: &InstanceId) -> Result<Machine> {
        let call = &DESCRIBE_INSTANCES_BY_ID;
        let request = self.client.describe_instances().instance_ids(id.as_str());
        let answer = self.sender.send(call, request.send()).await?;
        let instance = answer.reservations().iter().flat_map(|reservation| reservation.instances()).next();
        let instance = instance.ok_or_else(|| failed(Class::NotFound, call, "NotFound", id.as_str()))?;
        convert::machine(instance).map_err(|error| unreadable(call, error))
    }

    async fn find_by_token(&self, token: &ClientToken) -> Result<Vec<Machine>> {
        self.filtered(filter("client-token", token.as_str())).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine> {
        let answer = self.sender.send(&RUN_INSTANCES, self.run_instances(request).send()).await?;
        match answer.instances() {
            [instance] => convert::machine(instance).map_err(|error| unreadable(&RUN_INSTANCES, error)),
            others => Err(unreadable(&RUN_INSTANCES, format_args!("{} instances for one", others.len()))),
        }
    }

    async fn protect(&self, id: &InstanceId, protection: Protection) -> Result<()> {
        let on = AttributeBooleanValue::builder().value(protection == Protection::On).build();
        let request = self.client.modify_instance_attribute().instance_id(id.as_str()).disable_api_termination(on);
        self.sender.send(&MODIFY_INSTANCE_ATTRIBUTE, request.send()).await.map(drop)
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        let request = self.client.terminate_instances().instance_ids(id.as_str());
        self.sender.send(&TERMINATE_INSTANCES, request.send()).await.map(drop)
    }

    async fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> Result<()> {
        let request = self.client.create_tags().resources(id.as_str()).set_tags(Some(sdk_tags(tags)));
        self.sender.send(&CREATE_TAGS, request.send()).await.map(drop)
    }

    async fn untag(&self, id: &InstanceId, key: &str) -> Result<()> {
        let request = self.client.delete_tags().resources(id.as_str()).tags(Tag::builder().key(key).build());
        self.sender.send(&DELETE_TAGS, request.send()).await.map(drop)
    }

    /// By tags only available ones; by id in any state, so that "still pending" can be told from "not there".
    async fn images(&self, selector: &Selector, owners: &[String]) -> Result<Vec<Image>> {
        let call = &DESCRIBE_IMAGES;
        let wanted = &Wanted::by(selector).and("state", "available");
        let owners = (wanted.ids.is_none() && !owners.is_empty()).then(|| owners.to_vec());
        let request = self.client.describe_images().set_max_results(wanted.page());
        let request = request.set_image_ids(wanted.ids.clone()).set_filters(wanted.filters.clone()).set_owners(owners);
        pages(call, |token| async {
            let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
            let images = answer.images().iter().map(convert::image).collect::<std::result::Result<_, _>>();
            Ok((images.map_err(|error| unreadable(call, error))?, answer.next_token))
        })
        .await
    }

    async fn subnets(&self, selector: &Selector) -> Result<Vec<Subnet>> {
        let call = &DESCRIBE_SUBNETS;
        let wanted = &Wanted::by(selector);
        let request = self.client.describe_subnets().set_max_results(wanted.page());
        let request = request.set_subnet_ids(wanted.ids.clone()).set_filters(wanted.filters.clone());
        pages(call, |token| async {
            let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
            let subnets = answer.subnets().iter().map(convert::subnet).collect::<std::result::Result<_, _>>();
            Ok((subnets.map_err(|error| unreadable(call, error))?, answer.next_token))
        })
        .await
    }

    async fn security_groups(&self, selector: &Selector) -> Result<Vec<SecurityGroup>> {
        let call = &DESCRIBE_SECURITY_GROUPS;
        let wanted = &Wanted::by(selector);
        let request = self.client.describe_security_groups().set_max_results(wanted.page());
        let request = request.set_group_ids(wanted.ids.clone()).set_filters(wanted.filters.clone());
        pages(call, |token| async {
            let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
            let groups = answer.security_groups().iter().map(convert::security_group);
            let groups = groups.collect::<std::result::Result<_, _>>();
            Ok((groups.map_err(|error| unreadable(call, error))?, answer.next_token))
        })
        .await
    }

    /// By filter: one name in InstanceType.N that the Region does not know makes EC2 refuse the whole request.
    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>> {
        let call = &DESCRIBE_INSTANCE_TYPES;
        let mut types = Vec::with_capacity(names.len());
        for some in names.chunks(usize::from(TYPES_MAX)) {
            let request = self.client.describe_instance_types().max_results(i32::from(TYPES_MAX));
            let request = request.filters(any_filter("instance-type", some));
            let found = pages(call, |token| async {
                let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
                let types = answer.instance_types().iter().map(convert::instance_type);
                let types = types.collect::<std::result::Result<_, _>>();
                Ok((types.map_err(|error| unreadable(call, error))?, answer.next_token))
            });
            types.extend(found.await?);
        }
        Ok(types)
    }

    async fn may_launch(&self, request: &LaunchRequest) -> Result<()> {
        let request = self.run_instances(request).dry_run(true);
        match self.sender.send(&RUN_INSTANCES, request.send()).await {
            // EC2's way to say yes.
            Err(error) if error.code == "DryRunOperation" => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(unreadable(&RUN_INSTANCES, "a dry run was taken for a launch")),
        }
    }
}

// === impl Ec2 ===

impl Ec2 {
    pub(crate) fn new(client: Client, sender: Sender) -> Self {
        Self { client, sender }
    }

    /// Every machine that one filter lets through, in every state.
    async fn filtered(&self, by: Filter) -> Result<Vec<Machine>> {
        let call = &DESCRIBE_INSTANCES;
        let request = self.client.describe_instances().filters(by).max_results(PAGE_MAX);
        pages(call, |token| async {
            let answer = self.sender.send(call, request.clone().set_next_token(token).send()).await?;
            let instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
            let machines = instances.map(convert::machine).collect::<std::result::Result<_, _>>();
            Ok((machines.map_err(|error| unreadable(call, error))?, answer.next_token))
        })
        .await
    }

    /// The same request always gives the same parameters, or EC2 would answer IdempotentParameterMismatch. The subnet says
    /// the zone. No data volume is among the block devices: those are made by CreateVolume and outlive the machine.
    fn run_instances(&self, request: &LaunchRequest) -> RunInstancesFluentBuilder {
        let groups = request.security_groups.iter().map(|group| group.as_str().to_owned()).collect();
        let user_data = (!request.user_data.is_empty()).then(|| BASE64_STANDARD.encode(&request.user_data));
        self.client
            .run_instances()
            .client_token(request.token.as_str())
            .min_count(1)
            .max_count(1)
            .image_id(request.image.as_str())
            .instance_type(SdkInstanceType::from(request.instance_type.as_str()))
            .subnet_id(request.subnet.as_str())
            .set_security_group_ids(Some(groups))
            .iam_instance_profile(instance_profile(&request.instance_profile))
            .set_user_data(user_data)
            .metadata_options(metadata_options())
            .tag_specifications(tagged(ResourceType::Instance, &request.tags))
            .tag_specifications(tagged(ResourceType::Volume, &request.tags))
            .tag_specifications(tagged(ResourceType::NetworkInterface, &request.tags))
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
            .disable_api_termination(request.termination_protection)
            // Stop protection would block the fence.
            .disable_api_stop(false)
    }
}

fn instance_profile(name_or_arn: &str) -> IamInstanceProfileSpecification {
    let profile = IamInstanceProfileSpecification::builder();
    if name_or_arn.starts_with("arn:") { profile.arn(name_or_arn).build() } else { profile.name(name_or_arn).build() }
}

/// All of it said, because account defaults would fill what is left open. The agent reads its identity from the metadata
/// tags; one hop keeps containers on the machine away from its role.
fn metadata_options() -> InstanceMetadataOptionsRequest {
    InstanceMetadataOptionsRequest::builder()
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .http_tokens(HttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .instance_metadata_tags(InstanceMetadataTagsState::Enabled)
        .build()
}
