//! What is said of what the selectors find.

use drover_api::defaults::Defaults;

use super::{
    super::{Level, of_defaults, sections::tests},
    *,
};

fn image(id: &str, architecture: &str, available: bool) -> Image {
    Image {
        id: id.parse().expect("an image"),
        name: "debian".into(),
        architecture: architecture.into(),
        created: "2026-01-01T00:00:00Z".into(),
        available,
        tags: BTreeMap::new(),
    }
}

fn subnet(id: &str, zone: &str, vpc: &str, free_addresses: u32) -> Subnet {
    Subnet { id: id.parse().expect("a subnet"), zone: zone.parse().expect("a zone"), vpc: vpc.into(), free_addresses }
}

fn group(id: &str, vpc: &str) -> SecurityGroup {
    SecurityGroup { id: id.parse().expect("a group"), vpc: vpc.into() }
}

fn instance_type(name: &str, architecture: &str) -> InstanceType {
    InstanceType { name: name.into(), architecture: architecture.into(), vcpus: 2, memory_mib: 8192 }
}

fn error<T>(class: Class, call: &'static str, code: &str) -> Answer<T> {
    Some(Err(CloudError::new(class, call, code, "as it is")))
}

/// All that `tests::defaults` asks for.
fn good() -> Seen {
    let zones = ["a", "b", "c"];
    Seen {
        images: Some(Ok(vec![image("ami-1", "x86_64", true)])),
        subnets: Some(Ok(zones.map(|zone| subnet(&format!("subnet-{zone}"), zone, "vpc-1", 9)).into())),
        groups: Some(Ok(vec![group("sg-1", "vpc-1")])),
        types: Some(Ok(vec![instance_type("m7i.large", "x86_64")])),
    }
}

fn section() -> Section {
    of_defaults(&tests::defaults())
}

/// One part of a good world is otherwise: which finding is not ok, and what it says.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_thing_that_is_wrong_is_said_once_with_what_to_do() {
    let in_configuration = |part: &str| format!("defaults.machine.{part} in the configuration");
    let table: Vec<(&str, Seen, Level, &str, &str, String)> = vec![
        (
            "image",
            Seen { images: Some(Ok(vec![])), ..good() },
            Level::Fail,
            "no available image has the tags app=db",
            "aws ec2 create-tags --resources AMI-ID --tags Key=app,Value=db; or select others in ",
            in_configuration("image"),
        ),
        (
            "image",
            Seen { images: error(Class::Denied, "DescribeImages", "UnauthorizedOperation"), ..good() },
            Level::Fail,
            "DescribeImages failed: UnauthorizedOperation",
            "allow these credentials DescribeImages in their policy",
            String::new(),
        ),
        (
            "image",
            Seen { images: Some(Ok(vec![image("ami-1", "x86_64", false)])), ..good() },
            Level::Fail,
            "no available image",
            "aws ec2 create-tags",
            in_configuration("image"),
        ),
        (
            "instance types",
            Seen { types: Some(Ok(vec![])), ..good() },
            Level::Fail,
            "EC2 knows none of the instance types m7i.large in this Region",
            "name others in defaults.machine.instanceTypes in the configuration: aws ec2 describe-instance-types",
            "Values=x86_64".into(),
        ),
        (
            "instance types",
            Seen { types: Some(Ok(vec![instance_type("m7i.large", "arm64")])), ..good() },
            Level::Fail,
            "none of the instance types m7i.large is x86_64, as the image is",
            "name others in ",
            in_configuration("instanceTypes"),
        ),
        (
            "subnets",
            Seen { subnets: Some(Ok(vec![])), ..good() },
            Level::Fail,
            "no subnet has the tags tier=db",
            "aws ec2 create-tags --resources SUBNET-ID --tags Key=tier,Value=db; or select others in ",
            in_configuration("subnets"),
        ),
        (
            "subnets",
            Seen { subnets: error(Class::NotFound, "DescribeSubnets", "InvalidSubnetID.NotFound"), ..good() },
            Level::Fail,
            "DescribeSubnets failed: InvalidSubnetID.NotFound",
            "name subnets of this Region in ",
            in_configuration("subnets"),
        ),
        (
            "subnets",
            Seen { subnets: Some(Ok(vec![subnet("subnet-1", "a", "vpc-1", 9)])), ..good() },
            Level::Warn,
            "in a (9 free addresses) of vpc-1: members need 3 zones",
            "select subnets in 3 zones in ",
            "or set defaults.machine.zoneSpread in the configuration to Preferred".into(),
        ),
        (
            "subnets",
            Seen {
                subnets: Some(Ok(vec![subnet("subnet-1", "a", "vpc-1", 0), subnet("subnet-2", "b", "vpc-1", 1)])),
                ..good()
            },
            Level::Fail,
            "no address is free in a",
            "free addresses there, or select further subnets in ",
            in_configuration("subnets"),
        ),
        (
            "subnets",
            Seen {
                subnets: Some(Ok(vec![subnet("subnet-1", "a", "vpc-1", 9), subnet("subnet-2", "b", "vpc-2", 9)])),
                ..good()
            },
            Level::Fail,
            "they are in 2 VPCs: vpc-1, vpc-2",
            "select subnets of one VPC in ",
            in_configuration("subnets"),
        ),
        (
            "security groups",
            Seen { groups: error(Class::NotFound, "DescribeSecurityGroups", "InvalidGroup.NotFound"), ..good() },
            Level::Fail,
            "InvalidGroup.NotFound",
            "name security groups of this Region in ",
            in_configuration("securityGroups"),
        ),
        (
            "security groups",
            Seen { groups: Some(Ok(vec![group("sg-1", "vpc-2")])), ..good() },
            Level::Fail,
            "sg-1 is in vpc-2, and the subnets are in vpc-1",
            "select security groups of vpc-1 in ",
            in_configuration("securityGroups"),
        ),
    ];
    for (name, seen, level, found, remedy, and) in table {
        let (findings, launchable) = judge(&section(), seen, &["x86_64".to_owned()]);
        let wrong: Vec<&Finding> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        let [finding] = wrong[..] else { panic!("{name}: {wrong:#?}") };
        assert_eq!((finding.level, &finding.name), (level, &format!("{name} of defaults")));
        assert!(finding.found.contains(found), "{finding:?}");
        let told = finding.remedy.as_deref().unwrap_or_default();
        assert!(told.starts_with(remedy) && told.contains(&and), "{finding:?}");
        // What is full or crowded can still be tried.
        assert_eq!(launchable.is_some(), found.contains("free"), "{name}: {found}");
    }
}

#[test]
fn all_is_well_where_all_is_there() {
    let (findings, launchable) = judge(&section(), good(), &["x86_64".to_owned()]);
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
    let found: Vec<&str> = findings.iter().map(|finding| finding.found.as_str()).collect();
    assert_eq!(
        found,
        [
            "ami-1 debian (x86_64)",
            "m7i.large (2 vCPUs, 8192 MiB)",
            "in a (9 free addresses), b (9 free addresses), c (9 free addresses) of vpc-1",
            "sg-1"
        ]
    );
    let launchable = launchable.expect("it can be launched");
    assert_eq!(
        launchable.zones.values().map(SubnetId::as_str).collect::<Vec<_>>(),
        ["subnet-a", "subnet-b", "subnet-c"]
    );
}

#[test]
fn an_image_of_another_architecture_than_the_agents_is_no_image() {
    let arm = || Seen {
        images: Some(Ok(vec![image("ami-1", "arm64", true)])),
        types: Some(Ok(vec![instance_type("m7i.large", "arm64")])),
        ..good()
    };
    let (findings, _) = judge(&section(), arm(), &["x86_64".to_owned()]);
    assert_eq!(
        (findings[0].level, findings[0].found.as_str()),
        (Level::Fail, "ami-1 debian (arm64), and the operator's agents are for x86_64")
    );
    assert!(findings[0].remedy.as_deref().is_some_and(|it| it.starts_with("give the operator an agent for arm64 (")));
    let both = ["x86_64".to_owned(), "arm64".to_owned()];
    assert_eq!(judge(&section(), arm(), &both).0[0].level, Level::Ok);
}

#[test]
fn a_type_that_is_never_taken_is_named_and_the_others_serve() {
    let mut section = section();
    section.instance_types = Some(vec!["m9x.large".into(), "m7g.large".into(), "m7i.large".into()]);
    let types = vec![instance_type("m7i.large", "x86_64"), instance_type("m7g.large", "arm64")];
    let (findings, launchable) = judge(&section, Seen { types: Some(Ok(types)), ..good() }, &["x86_64".to_owned()]);
    assert_eq!(findings[1].level, Level::Warn);
    let remedy = "take m9x.large, m7g.large out of defaults.machine.instanceTypes in the configuration";
    assert_eq!(findings[1].remedy.as_deref(), Some(remedy));
    assert_eq!(launchable.expect("it can be launched").types, ["m7i.large"]);
}

#[test]
fn what_the_configuration_leaves_to_manifests_is_said_and_no_launch_is_tried() {
    let section = of_defaults(&Defaults::default());
    let (findings, launchable) = judge(&section, Seen::default(), &["x86_64".to_owned()]);
    let names: Vec<&str> = findings.iter().map(|finding| finding.name.as_str()).collect();
    let parts = ["image", "instanceTypes", "subnets", "securityGroups", "instanceProfile"];
    assert_eq!(names, parts.map(|part| format!("{part} of defaults")));
    assert!(findings.iter().all(|finding| finding.level == Level::Warn) && launchable.is_none());
}
