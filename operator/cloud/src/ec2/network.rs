//! VPC, subnets, zones and network interfaces.

use super::{
    ApiError, AvailabilityZone, DescribeAvailabilityZones, DescribeNetworkInterfaces, DescribeSubnets, DescribeVpcs,
    DescribedInterface, DescribedSubnet, DescribedZone, Ec2, HostEvent, InterfaceChange,
    ModifyNetworkInterfaceAttribute, NetworkInterface, Page, Subnet, Tags, Vpc,
    calls::{action, sealed::Run},
    describe::narrowed,
    fields, ids,
    pages::{USUAL, not_with_ids, page},
};

action!(DescribeVpcs, describing);
action!(DescribeSubnets, describing);
action!(DescribeAvailabilityZones, describing);
action!(DescribeNetworkInterfaces, describing);
action!(ModifyNetworkInterfaceAttribute, mutating);

impl Run for DescribeVpcs {
    type Reply = Page<Vpc>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<Vpc>, ApiError> {
        let filters = fields::VPC.compile(&self.paged.filters)?;
        ids::VPC.check_all(&self.vpc_ids, |id| ec2.vpcs.contains_key(id))?;
        let named = |it: &&Vpc| self.vpc_ids.is_empty() || self.vpc_ids.contains(&it.vpc_id);
        let found = ec2.vpcs.values().filter(named).filter(|it| filters.matches(it)).cloned();
        page("DescribeVpcs", &self.paged, USUAL, found, |it| &it.vpc_id)
    }
}

impl Run for DescribeSubnets {
    type Reply = Page<DescribedSubnet>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<DescribedSubnet>, ApiError> {
        let filters = fields::SUBNET.compile(&self.paged.filters)?;
        ids::SUBNET.check_all(&self.subnet_ids, |id| ec2.subnets.contains_key(id))?;
        let named = |it: &&Subnet| self.subnet_ids.is_empty() || self.subnet_ids.contains(&it.subnet_id);
        let show = |it: &Subnet| DescribedSubnet {
            subnet: it.clone(),
            subnet_arn: format!("arn:aws:ec2:{}:{}:subnet/{}", ec2.account.region, it.owner_id, it.subnet_id),
            zone_id: ec2.zone_id(&it.zone),
            available_ip_address_count: ec2.free_addresses(it),
        };
        let found = ec2.subnets.values().filter(named).map(show).filter(|it| filters.matches(it));
        page("DescribeSubnets", &self.paged, USUAL, found, |it| &it.subnet.subnet_id)
    }
}

impl Run for DescribeAvailabilityZones {
    type Reply = Vec<DescribedZone>;

    fn run(&self, ec2: &mut Ec2) -> Result<Vec<DescribedZone>, ApiError> {
        let filters = fields::ZONE.compile(&self.filters)?;
        let zones: Vec<DescribedZone> = ec2.account.subnets.iter().map(|spec| ec2.show_zone(&spec.zone)).collect();
        let unknown = |names: &[String], known: fn(&DescribedZone) -> &str| -> Option<String> {
            names.iter().find(|name| !zones.iter().any(|it| known(it) == name.as_str())).cloned()
        };
        let missing = unknown(&self.zone_names, |it| &it.zone.zone_name)
            .or_else(|| unknown(&self.zone_ids, |it| &it.zone.zone_id));
        if let Some(name) = missing {
            return Err(ApiError::value(format!("Invalid availability zone: [{name}]")));
        }
        let named = |it: &DescribedZone| {
            (self.zone_names.is_empty() || self.zone_names.contains(&it.zone.zone_name))
                && (self.zone_ids.is_empty() || self.zone_ids.contains(&it.zone.zone_id))
        };
        Ok(zones.into_iter().filter(|it| named(it) && filters.matches(it)).collect())
    }
}

impl Run for DescribeNetworkInterfaces {
    type Reply = Page<DescribedInterface>;

    fn run(&self, ec2: &mut Ec2) -> Result<Page<DescribedInterface>, ApiError> {
        not_with_ids(&self.network_interface_ids, "networkInterfaceIds", &self.paged)?;
        let filters = fields::INTERFACE.compile(&self.paged.filters)?;
        let wanted = &self.network_interface_ids;
        ids::INTERFACE.check_all(wanted, |id| ec2.visible_interface(id).is_some())?;
        if wanted.is_empty() {
            ec2.require_all_zones()?;
        }
        let mut found = Vec::new();
        for it in ec2.interfaces.values().filter(|it| ec2.visible(it.created)) {
            if wanted.is_empty() || wanted.contains(&it.network_interface_id) {
                ec2.require_zone(&it.zone)?;
                found.push(ec2.show_interface(it));
            }
        }
        let found = found.into_iter().filter(|it| filters.matches(it));
        page("DescribeNetworkInterfaces", &self.paged, USUAL, found, |it| &it.interface.network_interface_id)
    }

    fn narrowed(&self) -> bool {
        narrowed(&self.paged)
    }
}

impl Run for ModifyNetworkInterfaceAttribute {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        ec2.find_interface(&self.network_interface_id)?;
        let change = match self.changes.as_slice() {
            [change] => change,
            [] => return Err(ApiError::combination("No attributes specified.")),
            _ => return Err(ApiError::combination("Fields for multiple attribute types specified.")),
        };
        if let InterfaceChange::Groups(groups) = change {
            return ec2.replace_groups(&self.network_interface_id, groups);
        }
        let interface = ec2.interface_mut(&self.network_interface_id);
        match change {
            InterfaceChange::Groups(_) => {}
            InterfaceChange::Description(text) => interface.description.clone_from(text),
            InterfaceChange::SourceDestCheck(on) => interface.source_dest_check = *on,
            InterfaceChange::DeleteOnTermination { attachment_id, delete } => {
                match interface.attachment.as_mut().filter(|at| at.attachment_id == *attachment_id) {
                    Some(attachment) => attachment.delete_on_termination = *delete,
                    None => {
                        let message = format!("The attachment '{attachment_id}' does not exist");
                        return Err(ApiError::new("InvalidAttachmentID.NotFound", message));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Ec2 {
    /// The network that a new account has.
    pub(super) fn found_network(&mut self) {
        self.vpc_id = self.mint("vpc");
        let owner_id = self.account.owner_id.clone();
        let vpc = Vpc {
            vpc_id: self.vpc_id.clone(),
            owner_id: owner_id.clone(),
            cidr_block: self.account.vpc_cidr.to_string(),
            is_default: true,
            tags: Tags::new(),
        };
        self.vpcs.insert(self.vpc_id.clone(), vpc);
        let tags = self.account.network_tags.clone();
        for spec in self.account.subnets.clone() {
            let subnet = Subnet {
                subnet_id: self.mint("subnet"),
                owner_id: owner_id.clone(),
                vpc_id: self.vpc_id.clone(),
                zone: spec.zone,
                cidr_block: spec.cidr.to_string(),
                default_for_az: true,
                tags: tags.clone(),
            };
            self.subnets.insert(subnet.subnet_id.clone(), subnet);
        }
        let vpc_id = self.vpc_id.clone();
        let default = self.found_group("default", "default VPC security group", &vpc_id, Tags::new());
        self.allow_within(&default);
        let name = self.account.machine_group.clone();
        let machines = self.found_group(&name, "machines", &vpc_id, tags);
        self.allow_within(&machines);
    }

    /// The zone that a request names, by its name or by its id.
    pub(super) fn zone_asked(&self, name: Option<&String>, id: Option<&String>) -> Result<Option<String>, ApiError> {
        match (name, id) {
            (Some(_), Some(_)) => {
                let message = "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together";
                Err(ApiError::combination(message))
            }
            (name, None) => Ok(name.cloned()),
            (None, Some(id)) => {
                let found = self.account.subnets.iter().find(|spec| self.zone_id(&spec.zone) == *id);
                let missing = || ApiError::new("InvalidZone.NotFound", format!("The zone '{id}' does not exist."));
                found.map(|spec| Some(spec.zone.clone())).ok_or_else(missing)
            }
        }
    }

    /// Zone ids as AWS writes them, made from the region and the order of its zones: `use1-az1`.
    pub fn zone_id(&self, zone: &str) -> String {
        let short = |part: &str| match part {
            "northeast" => "ne".to_owned(),
            "northwest" => "nw".to_owned(),
            "southeast" => "se".to_owned(),
            "southwest" => "sw".to_owned(),
            _ if part.len() <= 2 => part.to_owned(),
            _ => part.chars().take(1).collect(),
        };
        let region: String = self.account.region.split('-').map(short).collect();
        format!("{region}-az{}", self.zone_index(zone).saturating_add(1))
    }

    fn show_zone(&self, zone: &str) -> DescribedZone {
        let out = self.faults.zone_outages.contains(zone);
        DescribedZone {
            zone: AvailabilityZone {
                region_name: self.account.region.clone(),
                zone_name: zone.into(),
                zone_id: self.zone_id(zone),
            },
            state: if out { "impaired" } else { "available" },
        }
    }

    pub(super) fn visible_interface(&self, id: &str) -> Option<&NetworkInterface> {
        self.interfaces.get(id).filter(|it| self.visible(it.created))
    }

    pub(super) fn find_interface(&self, id: &str) -> Result<&NetworkInterface, ApiError> {
        ids::INTERFACE.check(id)?;
        let interface = self.visible_interface(id).ok_or_else(|| ids::INTERFACE.missing(&[id]))?;
        self.require_zone(&interface.zone)?;
        Ok(interface)
    }

    pub(super) fn interface_mut(&mut self, id: &str) -> &mut NetworkInterface {
        self.interfaces.get_mut(id).expect("the interface was just found, and nothing ran in between")
    }

    pub(super) fn subnet_of(&self, interface: &NetworkInterface) -> Subnet {
        self.subnets.get(&interface.subnet_id).expect("subnets are never deleted").clone()
    }

    /// Exactly these groups from now on: none of the old ones stays.
    pub(super) fn replace_groups(&mut self, interface_id: &str, groups: &[String]) -> Result<(), ApiError> {
        self.check_groups(groups)?;
        self.interface_mut(interface_id).groups = groups.to_vec();
        let network_interface_id = interface_id.into();
        self.tell(HostEvent::GroupsReplaced { network_interface_id, groups: groups.to_vec() });
        Ok(())
    }

    /// At its instance's end: deleted, or left behind without an instance.
    pub(super) fn release_interface(&mut self, interface_id: &str) {
        let delete = self.interfaces.get(interface_id).and_then(|it| it.attachment.as_ref());
        match delete.map(|at| at.delete_on_termination) {
            Some(true) => {
                self.interfaces.remove(interface_id);
            }
            Some(false) => self.interface_mut(interface_id).attachment = None,
            None => {}
        }
    }
}
