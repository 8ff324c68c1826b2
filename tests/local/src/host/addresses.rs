//! Secondary addresses that move from machine to machine.

use drover_api::InstanceId;
use drover_cloud::ec2::{Ec2, NetworkInterface};

use super::{Host, HostError};
use crate::machine::{Error, Hypervisor};

impl Host {
    /// Brings about what the model says of the address by now, which a later order may have changed: it is on the interface that
    /// holds it, and on neither of the two that the order names else.
    pub(super) async fn move_address(
        &self,
        hypervisor: &Hypervisor,
        address: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), HostError> {
        let Ok(parsed) = address.parse() else { return Ok(()) };
        let Places { with, without } = self.cloud.look(|ec2, _| places(ec2, address, [from, to]));
        let unless_off = |result: Result<(), Error>| match result {
            Err(Error::NoSuchMachine(_)) => Ok(()),
            other => other,
        };
        for id in without {
            unless_off(hypervisor.unassign_address(&id, parsed).await)?;
        }
        if let Some(id) = with {
            unless_off(hypervisor.assign_address(&id, parsed).await)?;
        }
        Ok(())
    }
}

/// Where an address is to be by now, and which of the machines that an order names are to be without it.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    with: Option<InstanceId>,
    without: Vec<InstanceId>,
}

fn places(ec2: &Ec2, address: &str, named: [Option<&str>; 2]) -> Places {
    let machine_of = |it: &NetworkInterface| InstanceId::new(&it.attachment.as_ref()?.instance_id).ok();
    let holder = ec2.interfaces().find(|it| it.private_ip_addresses.iter().any(|held| held == address));
    let interfaces = named.into_iter().flatten().filter_map(|id| ec2.interface(id));
    let others =
        interfaces.filter(|it| holder.is_none_or(|holder| holder.network_interface_id != it.network_interface_id));
    // One that became a machine's primary address meanwhile is there by its boot.
    let as_secondary = holder.filter(|it| it.primary_address() != address);
    Places { with: as_secondary.and_then(machine_of), without: others.filter_map(machine_of).collect() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drover_api::Millis;
    use drover_cloud::ec2::{
        Account, AssignPrivateIpAddresses, Caller, ImageSpec, Mode, RunInstances, UnassignPrivateIpAddresses,
    };

    use super::*;

    /// An order that is carried out late finds the address where a later one has put it.
    #[test]
    fn an_address_goes_where_it_is_by_now_whatever_an_earlier_order_said() {
        let image = ImageSpec {
            name: "image".into(),
            description: String::new(),
            architecture: drover_cloud::ec2::Architecture::X86_64,
            root_size_gib: 8,
            tags: Default::default(),
        };
        let mut ec2 = Ec2::new(Account { images: vec![image], ..Account::new("local-1") }, 1);
        let (now, operator) = (Millis(0), Caller::operator());
        let launch = RunInstances {
            image_id: Some(ec2.register_image(now, ec2.account().images[0].clone())),
            instance_type: Some("t3.small".into()),
            min_count: 2,
            max_count: 2,
            subnet_id: Some(ec2.subnets()[0].subnet_id.clone()),
            ..RunInstances::default()
        };
        let launched = ec2.call(now, &operator, Mode::Run, &launch).unwrap();
        let [a, b] = [0, 1].map(|n| launched.instances[n].instance.clone());
        let id = |instance: &drover_cloud::ec2::Instance| InstanceId::new(&instance.instance_id).unwrap();
        let address = ec2.account().subnets[0].cidr.usable().last().unwrap().to_string();
        let named = [Some(a.network_interface_id.as_str()), Some(b.network_interface_id.as_str())];
        let assign = |to: &str| AssignPrivateIpAddresses {
            network_interface_id: to.into(),
            private_ip_addresses: vec![address.clone()],
            allow_reassignment: true,
            ..AssignPrivateIpAddresses::default()
        };
        for (minute, holder, other) in [(1, &a, &b), (2, &b, &a)] {
            ec2.call(now, &operator, Mode::Run, &assign(&holder.network_interface_id)).unwrap();
            ec2.advance(now.plus(Duration::from_secs(60 * minute)));
            assert_eq!(places(&ec2, &address, named), Places { with: Some(id(holder)), without: vec![id(other)] });
        }
        let unassign = UnassignPrivateIpAddresses {
            network_interface_id: b.network_interface_id.clone(),
            private_ip_addresses: vec![address.clone()],
        };
        ec2.call(now, &operator, Mode::Run, &unassign).unwrap();
        assert_eq!(places(&ec2, &address, named), Places { with: None, without: vec![id(&a), id(&b)] });
        let primary = a.private_ip_address.as_str();
        assert_eq!(places(&ec2, primary, [None, named[0]]), Places { with: None, without: vec![] });
    }
}
