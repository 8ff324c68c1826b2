//! Security groups between machines, as a person with any tool of EC2 meets them on drover-local.

use std::time::Duration;

use anyhow::ensure;
use drover_e2e::{Cloud, heading, scenario, within};

/// Three machines boot on two cores.
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);

struct Machine {
    id: String,
    address: String,
}

#[test]
fn a_group_without_rules_lets_nothing_in() -> anyhow::Result<()> {
    scenario("groups", |cloud| {
        let about = [("GroupName", "closed"), ("GroupDescription", "nothing in")];
        let closed = cloud.ec2("CreateSecurityGroup", &about)?.text("groupId");
        let named = [("Filter.1.Name", "group-name"), ("Filter.1.Value.1", "default")];
        let default = cloud.ec2("DescribeSecurityGroups", &named)?.text("groupId");
        let (a, b, c) = (launch(cloud, &default)?, launch(cloud, &default)?, launch(cloud, &closed)?);
        within(LAUNCH, "all three run", || {
            let all = cloud.machines()?;
            Ok((all.len() == 3 && all.iter().all(|it| it.state == "running")).then_some(()))
        })?;

        heading("members of one group that lets its own in reach each other, and nobody else");
        // A machine that runs may have no address for a moment.
        within(SOON, "they do", || Ok((reaches(cloud, &a, &b) && reaches(cloud, &b, &a)).then_some(())))?;
        ensure!(!reaches(cloud, &a, &c) && !reaches(cloud, &c, &a));

        heading("groups that are replaced are in force without a reboot");
        set_group(cloud, &c, &default)?;
        within(SOON, "the third is let in", || Ok((reaches(cloud, &a, &c) && reaches(cloud, &c, &b)).then_some(())))?;
        set_group(cloud, &a, &closed)?;
        within(SOON, "the first is kept out", || Ok((!reaches(cloud, &a, &c)).then_some(())))?;
        ensure!(!reaches(cloud, &b, &a) && reaches(cloud, &b, &c));
        Ok(())
    })
}

fn launch(cloud: &Cloud, group: &str) -> anyhow::Result<Machine> {
    let mysql = [("Filter.1.Name", "tag:drover:image"), ("Filter.1.Value.1", "mysql"), ("Owner.1", "self")];
    let image = cloud.ec2("DescribeImages", &mysql)?.text("imageId");
    let asked = [
        ("ImageId", image.as_str()),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SecurityGroupId.1", group),
    ];
    let told = cloud.ec2("RunInstances", &asked)?;
    Ok(Machine { id: told.text("instanceId"), address: told.text("privateIpAddress") })
}

fn set_group(cloud: &Cloud, machine: &Machine, group: &str) -> anyhow::Result<()> {
    let asked = [("InstanceId", machine.id.as_str()), ("GroupId.1", group)];
    cloud.ec2("ModifyInstanceAttribute", &asked).map(drop)
}

fn reaches(cloud: &Cloud, from: &Machine, to: &Machine) -> bool {
    cloud.inside(&from.id, &["ping", "-c", "1", "-W", "1", &to.address]).is_ok()
}
