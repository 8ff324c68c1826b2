//! Secondary private addresses: assigned, moved, taken away; and which addresses of a subnet are free.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    ApiError, AssignPrivateIpAddresses, AssignedPrivateIpAddresses, Cidr, Ec2, HostEvent, NetworkInterface, Subnet,
    UnassignPrivateIpAddresses,
    calls::{action, sealed::Run},
    host::Due,
};

action!(AssignPrivateIpAddresses, mutating);
action!(UnassignPrivateIpAddresses, mutating);

impl Run for AssignPrivateIpAddresses {
    type Reply = AssignedPrivateIpAddresses;

    fn run(&self, ec2: &mut Ec2) -> Result<AssignedPrivateIpAddresses, ApiError> {
        let interface = ec2.find_interface(&self.network_interface_id)?.clone();
        let subnet = ec2.subnet_of(&interface);
        let wanted = match (self.private_ip_addresses.is_empty(), self.secondary_private_ip_address_count) {
            (false, Some(_)) => {
                let message = "Either privateIpAddresses or secondaryPrivateIpAddressCount can be specified, not both";
                return Err(ApiError::combination(message));
            }
            (true, None) => return Err(ApiError::missing("privateIpAddress or secondaryPrivateIpAddressCount")),
            (false, None) => self.private_ip_addresses.clone(),
            (true, Some(count)) => ec2.pick_addresses(&subnet, count)?,
        };
        for address in &wanted {
            check_in_subnet(&subnet, address)?;
        }
        let new: Vec<String> =
            wanted.iter().filter(|it| !interface.private_ip_addresses.contains(*it)).cloned().collect();
        let max = ec2.addresses_max(&interface);
        if interface.private_ip_addresses.len() + new.len() > max {
            let message = format!("Number of private addresses will exceed limit: {max}");
            return Err(ApiError::new("PrivateIpAddressLimitExceeded", message));
        }
        // Conflicts are looked for before anything moves.
        let holders: Vec<Option<String>> = new.iter().map(|address| ec2.holder(address)).collect();
        for (address, holder) in new.iter().zip(&holders) {
            if let Some(holder) = holder {
                ec2.check_movable(address, holder, self.allow_reassignment)?;
            }
        }
        for (address, holder) in new.iter().zip(holders) {
            match holder {
                None => ec2.move_address(address, &self.network_interface_id),
                Some(_) => {
                    let to = self.network_interface_id.clone();
                    let after = ec2.account.timings.address_move;
                    ec2.schedule(after, Due::AddressMoved { address: address.clone(), to });
                }
            }
        }
        let network_interface_id = self.network_interface_id.clone();
        Ok(AssignedPrivateIpAddresses { network_interface_id, assigned: wanted })
    }
}

impl Run for UnassignPrivateIpAddresses {
    type Reply = ();

    fn run(&self, ec2: &mut Ec2) -> Result<(), ApiError> {
        let interface = ec2.find_interface(&self.network_interface_id)?;
        if self.private_ip_addresses.is_empty() {
            return Err(ApiError::missing("privateIpAddress"));
        }
        for address in &self.private_ip_addresses {
            if address == interface.primary_address() {
                let message = format!("The primary private IP address {address} cannot be unassigned");
                return Err(ApiError::value(message));
            }
            if !interface.private_ip_addresses.contains(address) {
                let message = format!("Some of the specified addresses are not assigned to the interface: {address}");
                return Err(ApiError::value(message));
            }
        }
        for address in &self.private_ip_addresses {
            ec2.interface_mut(&self.network_interface_id).private_ip_addresses.retain(|it| it != address);
            let from = Some(self.network_interface_id.clone());
            ec2.tell(HostEvent::AddressMoved { address: address.clone(), from, to: None });
        }
        Ok(())
    }
}

/// The five addresses that EC2 keeps are refused like those of another subnet.
fn check_in_subnet(subnet: &Subnet, address: &str) -> Result<(), ApiError> {
    let parsed: Result<Ipv4Addr, _> = address.parse();
    let parsed = parsed.map_err(|_| ApiError::value(format!("invalid value for parameter address: {address}")))?;
    if cidr(subnet).is_usable(parsed) {
        return Ok(());
    }
    let message = format!("Address {address} does not fall within the subnet's address range");
    Err(ApiError::value(message))
}

fn cidr(subnet: &Subnet) -> Cidr {
    Cidr::try_from(subnet.cidr_block.clone()).expect("a subnet's range was written by `Cidr` itself")
}

impl Ec2 {
    /// The interface that has the address now.
    fn holder(&self, address: &str) -> Option<String> {
        let held = |it: &&NetworkInterface| it.private_ip_addresses.iter().any(|held| held == address);
        self.interfaces.values().find(held).map(|it| it.network_interface_id.clone())
    }

    fn check_movable(&self, address: &str, holder: &str, allow_reassignment: bool) -> Result<(), ApiError> {
        if self.interfaces.get(holder).is_some_and(|it| it.primary_address() == address) {
            let message = format!("{address} is the primary address of {holder} and cannot be moved");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        if !allow_reassignment {
            let message = format!("[{address}] is already assigned to {holder}, but move is not allowed");
            return Err(ApiError::value(message));
        }
        Ok(())
    }

    /// Takes the address from whoever has it now and gives it to `to`. Nothing happens where `to` is gone or it became someone's
    /// primary address meanwhile.
    pub(super) fn move_address(&mut self, address: &str, to: &str) {
        let from = self.holder(address);
        let primary =
            from.as_ref().and_then(|id| self.interfaces.get(id)).is_some_and(|it| it.primary_address() == address);
        if primary || !self.interfaces.contains_key(to) || from.as_deref() == Some(to) {
            return;
        }
        if let Some(from) = &from {
            self.interface_mut(from).private_ip_addresses.retain(|it| it != address);
        }
        self.interface_mut(to).private_ip_addresses.push(address.into());
        self.tell(HostEvent::AddressMoved { address: address.into(), from, to: Some(to.into()) });
    }

    fn addresses_max(&self, interface: &NetworkInterface) -> usize {
        let instance = interface.attachment.as_ref().and_then(|at| self.instances.get(&at.instance_id));
        let info = instance.and_then(|it| self.type_info(&it.instance_type));
        info.map_or(1, |info| usize::try_from(info.ipv4_addresses_per_interface).unwrap_or(usize::MAX))
    }

    pub(super) fn free_addresses(&self, subnet: &Subnet) -> u32 {
        if self.faults.full_subnets.contains(&subnet.subnet_id) {
            return 0;
        }
        let in_subnet = self.interfaces.values().filter(|it| it.subnet_id == subnet.subnet_id);
        let used: usize = in_subnet.map(|it| it.private_ip_addresses.len()).sum();
        cidr(subnet).usable_count().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// The lowest free addresses of a subnet.
    pub(super) fn pick_addresses(&self, subnet: &Subnet, count: u32) -> Result<Vec<String>, ApiError> {
        if self.free_addresses(subnet) < count {
            let message = format!("There are not enough free addresses in subnet '{}'", subnet.subnet_id);
            return Err(ApiError::new("InsufficientFreeAddressesInSubnet", message));
        }
        let used: BTreeSet<&String> = self
            .interfaces
            .values()
            .filter(|it| it.subnet_id == subnet.subnet_id)
            .flat_map(|it| &it.private_ip_addresses)
            .collect();
        let free = cidr(subnet).usable().map(|it| it.to_string()).filter(|it| !used.contains(it));
        Ok(free.take(usize::try_from(count).unwrap_or(usize::MAX)).collect())
    }

    /// A launch's own choice of primary address.
    pub(super) fn check_free_address(&self, subnet: &Subnet, address: &str) -> Result<(), ApiError> {
        check_in_subnet(subnet, address)?;
        match self.holder(address) {
            Some(_) => Err(ApiError::new("InvalidIPAddress.InUse", format!("Address {address} is in use."))),
            None => Ok(()),
        }
    }
}
