//! Security groups: made, deleted, described, and what they keep apart. A group's rules are those it begins with: everything out;
//! in, nothing, or all that comes from its own members in the two groups that an account begins with. The actions that change
//! rules are not modelled.

use std::collections::BTreeSet;

use super::{
    ApiError, CreateSecurityGroup, CreatedSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups, Ec2,
    IpPermission, Page, ResourceType, SecurityGroup, Tags,
    calls::{action, sealed::Run},
    describe::narrowed,
    fields, ids,
    pages::{USUAL, page},
    tags::CreationTags,
};

action!(CreateSecurityGroup, mutating);
action!(DeleteSecurityGroup, mutating);
action!(DescribeSecurityGroups, describing);

/// Characters of a name or description.
const TEXT_MAX: usize = 255;
/// "Security groups per network interface", the default quota.
const PER_INTERFACE_MAX: usize = 5;

impl Run for CreateSecurityGroup {
    type Reply = CreatedSecurityGroup;

    fn try_out(&self, ec2: &Ec2) -> Result<(), ApiError> {
        ec2.require_tagging(&self.tag_specifications, "security-group")
    }

    fn run(&self, ec2: &mut Ec2) -> Result<CreatedSecurityGroup, ApiError> {
        let tags = CreationTags::parse(&self.tag_specifications, &[ResourceType::SecurityGroup])?;
        self.try_out(ec2)?;
        check_text("GroupName", &self.group_name)?;
        check_text("GroupDescription", &self.description)?;
        if self.group_name.starts_with("sg-") {
            let message = format!(
                "Value ({}) for parameter GroupName is invalid. Group names may not be in the format sg-*.",
                self.group_name
            );
            return Err(ApiError::value(message));
        }
        let vpc_id = self.vpc_id.clone().unwrap_or_else(|| ec2.vpc_id.clone());
        ids::VPC.check_all(std::slice::from_ref(&vpc_id), |id| ec2.vpcs.contains_key(id))?;
        if self.group_name == "default" {
            return Err(ApiError::new("InvalidGroup.Reserved", "The security group 'default' is reserved"));
        }
        if ec2.groups.values().any(|it| it.vpc_id == vpc_id && it.group_name == self.group_name) {
            let message = format!("The security group '{}' already exists for VPC '{vpc_id}'", self.group_name);
            return Err(ApiError::new("InvalidGroup.Duplicate", message));
        }
        let tags = tags.of(ResourceType::SecurityGroup);
        let group_id = ec2.found_group(&self.group_name, &self.description, &vpc_id, tags.clone());
        let arn = ec2.groups.get(&group_id).expect("it was just made").arn.clone();
        Ok(CreatedSecurityGroup { group_id, arn, tags })
    }
}

impl Run for DeleteSecurityGroup {
    type Reply = String;

    /// Answers the id of the deleted group.
    fn run(&self, ec2: &mut Ec2) -> Result<String, ApiError> {
        let group_id = match (&self.group_id, &self.group_name) {
            (Some(_), Some(_)) => {
                return Err(ApiError::combination("The parameters groupId and groupName cannot be used together"));
            }
            (Some(id), None) => id.clone(),
            (None, Some(name)) => ec2.group_named(name)?.group_id.clone(),
            (None, None) => return Err(ApiError::missing("groupName or groupId")),
        };
        let group = ec2.find_group(&group_id)?;
        if group.group_name == "default" {
            let message = format!("the specified group: \"{group_id}\" name: \"default\" cannot be deleted by a user");
            return Err(ApiError::new("CannotDelete", message));
        }
        let in_use = ec2.interfaces.values().any(|it| it.groups.contains(&group_id));
        let referenced = ec2
            .groups
            .values()
            .filter(|it| it.group_id != group_id)
            .any(|it| it.ingress.iter().chain(&it.egress).any(|rule| rule.groups.contains(&group_id)));
        if in_use || referenced {
            return Err(ApiError::new("DependencyViolation", format!("resource {group_id} has a dependent object")));
        }
        ec2.groups.remove(&group_id);
        Ok(group_id)
    }
}

impl Run for DescribeSecurityGroups {
    type Reply = Page<SecurityGroup>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<SecurityGroup>, ApiError> {
        let filters = fields::GROUP.compile(&self.paged.filters)?;
        ids::GROUP.check_all(&self.group_ids, |id| ec2.visible_group(id).is_some())?;
        self.group_names.iter().try_for_each(|name| ec2.group_named(name).map(|_| ()))?;
        let all = self.group_ids.is_empty() && self.group_names.is_empty();
        let named = |it: &SecurityGroup| {
            self.group_ids.contains(&it.group_id) || self.group_names.iter().any(|name| it.goes_by(name))
        };
        let found = ec2
            .groups
            .values()
            .filter(|it| ec2.visible(it.created) && (all || named(it)) && filters.matches(it))
            .cloned();
        page("DescribeSecurityGroups", &self.paged, USUAL, found, |it| &it.group_id)
    }

    fn narrowed(&self) -> bool {
        narrowed(&self.paged)
    }
}

fn check_text(parameter: &str, text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::missing(parameter));
    }
    // The characters that the API reference allows in a VPC.
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if text.chars().count() > TEXT_MAX || !text.chars().all(allowed) {
        let message = format!(
            "Value ({text}) for parameter {parameter} is invalid. Character sets beyond ASCII are not supported, \
             and at most {TEXT_MAX} of a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{{}}!$* are allowed."
        );
        return Err(ApiError::value(message));
    }
    Ok(())
}

impl SecurityGroup {
    fn goes_by(&self, name: &str) -> bool {
        self.group_name == name || self.group_id == name
    }
}

impl Ec2 {
    /// A group as every group begins: nothing in, everything out.
    pub(super) fn found_group(&mut self, name: &str, description: &str, vpc_id: &str, tags: Tags) -> String {
        let group_id = self.mint("sg");
        let everywhere =
            IpPermission { ip_protocol: "-1".into(), ports: None, cidrs: vec!["0.0.0.0/0".into()], groups: Vec::new() };
        let group = SecurityGroup {
            group_id: group_id.clone(),
            arn: format!("arn:aws:ec2:{}:{}:security-group/{group_id}", self.account.region, self.account.owner_id),
            group_name: name.into(),
            description: description.into(),
            owner_id: self.account.owner_id.clone(),
            vpc_id: vpc_id.into(),
            ingress: Vec::new(),
            egress: vec![everywhere],
            created: self.now,
            tags,
        };
        self.groups.insert(group_id.clone(), group);
        group_id
    }

    /// Lets the members of a group talk to each other, as the default group does.
    pub(super) fn allow_within(&mut self, group_id: &str) {
        if let Some(group) = self.groups.get_mut(group_id) {
            let rule = IpPermission {
                ip_protocol: "-1".into(),
                ports: None,
                cidrs: Vec::new(),
                groups: vec![group_id.into()],
            };
            group.ingress.push(rule);
        }
    }

    /// Which instances no rule lets through to which others, from and to. Everything goes out and every rule for what comes in is
    /// about all protocols and ports, so groups are all that counts.
    pub fn kept_apart(&self) -> BTreeSet<(String, String)> {
        let attached: Vec<(&String, &Vec<String>)> = self
            .interfaces
            .values()
            .filter_map(|it| Some((&it.attachment.as_ref()?.instance_id, &it.groups)))
            .collect();
        let lets_in = |to: &[String], from: &[String]| {
            let rules = to.iter().filter_map(|id| self.groups.get(id)).flat_map(|group| &group.ingress);
            rules.flat_map(|rule| &rule.groups).any(|group| from.contains(group))
        };
        let mut apart = BTreeSet::new();
        for (to, its_groups) in &attached {
            for (from, groups) in attached.iter().filter(|(from, _)| from != to) {
                if !lets_in(its_groups, groups) {
                    apart.insert(((*from).clone(), (*to).clone()));
                }
            }
        }
        apart
    }

    /// What a network interface may be given: one to five visible groups of its VPC, each once.
    pub(super) fn check_groups(&self, group_ids: &[String]) -> Result<(), ApiError> {
        if group_ids.is_empty() {
            return Err(ApiError::value("At least one security group is required"));
        }
        ids::GROUP.check_all(group_ids, |id| self.visible_group(id).is_some())?;
        let mut distinct = group_ids.to_vec();
        distinct.sort();
        distinct.dedup();
        if distinct.len() != group_ids.len() {
            return Err(ApiError::new("InvalidParameterValue", "The same security group is named more than once"));
        }
        if distinct.len() > PER_INTERFACE_MAX {
            let message =
                format!("The maximum number of security groups per interface has been reached: {PER_INTERFACE_MAX}");
            return Err(ApiError::new("SecurityGroupsPerInterfaceLimitExceeded", message));
        }
        Ok(())
    }

    pub(super) fn visible_group(&self, id: &str) -> Option<&SecurityGroup> {
        self.groups.get(id).filter(|it| self.visible(it.created))
    }

    fn find_group(&self, id: &str) -> Result<&SecurityGroup, ApiError> {
        ids::GROUP.check(id)?;
        self.visible_group(id)
            .ok_or_else(|| ApiError::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist")))
    }

    /// Names work in the default VPC, the only one of this account; an id is as good as a name.
    pub(super) fn group_named(&self, name: &str) -> Result<&SecurityGroup, ApiError> {
        let found = self.groups.values().find(|it| it.goes_by(name) && self.visible(it.created));
        found.ok_or_else(|| {
            ApiError::new("InvalidGroup.NotFound", format!("The security group '{name}' does not exist in default VPC"))
        })
    }
}
