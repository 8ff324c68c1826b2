"""The network an account has: DescribeVpcs, DescribeSubnets, DescribeAvailabilityZones; and its security groups."""

import ipaddress

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, differs, refused, spec, tags, unique, where, where_named

NO_GROUP = "sg-0123456789abcdef0"


def test_there_are_three_zones_with_a_subnet_each(cloud, ec2):
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert len(cloud.zones) == 3
    for zone in zones:
        assert zone["State"] == "available" and zone["RegionName"] == cloud.region
        assert zone["ZoneName"].startswith(cloud.region)
        assert zone["ZoneId"] and zone["ZoneType"] == "availability-zone"
    assert set(cloud.subnets) >= set(cloud.zones)


@pytest.mark.parametrize("name", ["zone-name", "zone-id", "state", "region-name", "zone-type"])
def test_zone_filters(cloud, ec2, name):
    [zone] = ec2.describe_availability_zones(ZoneNames=[cloud.zones[1]])["AvailabilityZones"]
    field = {"zone-name": "ZoneName", "zone-id": "ZoneId", "state": "State", "region-name": "RegionName"}
    value = zone[field.get(name, "ZoneType")]
    found = [
        it["ZoneName"]
        for it in ec2.describe_availability_zones(Filters=[where_named(name, value)])["AvailabilityZones"]
    ]
    assert found == [cloud.zones[1]] if name in ("zone-name", "zone-id") else cloud.zones[1] in found


@differs("unknown zones and filters are ignored")
@pytest.mark.parametrize(
    "asked", [{"ZoneNames": ["nowhere-1a"]}, {"ZoneIds": ["nw1-az1"]}, {"Filters": where(no_such="x")}], ids=str
)
def test_unknown_zones_and_filters_are_refused(ec2, asked):
    with refused("InvalidParameterValue", "InvalidZone.NotFound"):
        ec2.describe_availability_zones(**asked)


def test_a_zone_by_its_id(cloud, ec2):
    [zone] = ec2.describe_availability_zones(ZoneNames=[cloud.zones[2]])["AvailabilityZones"]
    found = ec2.describe_availability_zones(ZoneIds=[zone["ZoneId"]])["AvailabilityZones"]
    assert [it["ZoneName"] for it in found] == [cloud.zones[2]]


@differs("what all zones have in common is not told")
@pytest.mark.parametrize(("name", "field"), [("opt-in-status", "OptInStatus"), ("group-name", "GroupName")])
def test_zone_filters_of_all_zones(cloud, ec2, name, field):
    [zone] = ec2.describe_availability_zones(ZoneNames=[cloud.zones[1]])["AvailabilityZones"]
    assert zone["OptInStatus"] == "opt-in-not-required"
    found = ec2.describe_availability_zones(Filters=[where_named(name, zone[field])])["AvailabilityZones"]
    assert {it["ZoneName"] for it in found} >= set(cloud.zones)
    assert ec2.describe_availability_zones(Filters=[where_named(name, "nothing-like-it")])["AvailabilityZones"] == []


def test_zones_by_name_and_id_must_both_hold(cloud, ec2):
    ids = {it["ZoneName"]: it["ZoneId"] for it in ec2.describe_availability_zones()["AvailabilityZones"]}
    assert len(set(ids.values())) == len(ids)
    found = ec2.describe_availability_zones(
        ZoneNames=cloud.zones[:2], ZoneIds=[ids[cloud.zones[1]], ids[cloud.zones[2]]]
    )["AvailabilityZones"]
    assert [it["ZoneName"] for it in found] == [cloud.zones[1]]


def test_named_subnets_only(cloud, ec2):
    [subnet] = ec2.describe_subnets(SubnetIds=[cloud.subnet["SubnetId"]])["Subnets"]
    assert subnet["SubnetId"] == cloud.subnet["SubnetId"] and subnet["DefaultForAz"] is True
    assert subnet["MapPublicIpOnLaunch"] in (True, False)


def test_the_vpc(cloud, ec2):
    [vpc] = ec2.describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"]
    assert vpc["State"] == "available" and vpc["IsDefault"] is True
    network = ipaddress.ip_network(vpc["CidrBlock"])
    for subnet in cloud.subnets.values():
        assert ipaddress.ip_network(subnet["CidrBlock"]).subnet_of(network)


def test_the_addresses_of_the_vpc(cloud, ec2):
    [vpc] = ec2.describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"]
    [association] = vpc["CidrBlockAssociationSet"]
    assert association["CidrBlock"] == vpc["CidrBlock"]
    assert association["CidrBlockState"]["State"] == "associated"
    for name, value in [("cidr-block", vpc["CidrBlock"]), ("association-id", association["AssociationId"])]:
        for asked, found in [(value, [cloud.vpc]), ("nothing-like-it", [])]:
            filters = [where_named(f"cidr-block-association.{name}", asked)]
            assert [it["VpcId"] for it in ec2.describe_vpcs(Filters=filters)["Vpcs"]] == found


VPC_FILTERS = {
    "vpc-id": "VpcId",
    "cidr": "CidrBlock",
    "state": "State",
    "is-default": "IsDefault",
    "isDefault": "IsDefault",
    "owner-id": "OwnerId",
}


@pytest.mark.parametrize("name", VPC_FILTERS)
def test_vpc_filters(cloud, ec2, name):
    [vpc] = ec2.describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"]
    value = vpc[VPC_FILTERS[name]]
    asked = [where_named(name, "true" if value is True else value)]
    assert cloud.vpc in [it["VpcId"] for it in ec2.describe_vpcs(Filters=asked)["Vpcs"]]
    assert ec2.describe_vpcs(Filters=[where_named(name, "nothing-like-it")])["Vpcs"] == []


def test_a_subnet(cloud):
    subnet = cloud.subnet
    size = ipaddress.ip_network(subnet["CidrBlock"]).num_addresses
    assert subnet["State"] == "available" and subnet["VpcId"] == cloud.vpc
    # Five addresses of each subnet are AWS's own.
    assert 0 < subnet["AvailableIpAddressCount"] <= size - 5
    assert len(subnet["OwnerId"]) == 12
    assert subnet["SubnetArn"].endswith(f"subnet/{subnet['SubnetId']}")


@differs("a terminated instance keeps its interface and address")
def test_free_addresses_are_counted(cloud, ec2, yard):
    def free():
        [subnet] = ec2.describe_subnets(SubnetIds=[cloud.subnets[cloud.zones[2]]["SubnetId"]])["Subnets"]
        return subnet["AvailableIpAddressCount"]

    leaving = where(availability_zone=cloud.zones[2], instance_state_name="shutting-down")
    cloud.until(lambda: not cloud.found(*leaving), "the instances of earlier cases are gone")
    before = free()
    instance = yard.new(SubnetId=cloud.subnets[cloud.zones[2]]["SubnetId"])
    assert free() == before - 1
    # A secondary address is one as well.
    interface = cloud.interface(instance)["NetworkInterfaceId"]
    ec2.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=1)
    cloud.until(lambda: free() == before - 2, "the secondary address is not free")
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    cloud.until(lambda: free() == before, "the address is free again")


SUBNET_FILTERS = {
    "subnet-id": ("SubnetId", True),
    "availability-zone": ("AvailabilityZone", True),
    "availabilityZone": ("AvailabilityZone", True),
    "cidr-block": ("CidrBlock", True),
    "cidrBlock": ("CidrBlock", True),
    "vpc-id": ("VpcId", False),
    "state": ("State", False),
    "availability-zone-id": ("AvailabilityZoneId", True),
    "availabilityZoneId": ("AvailabilityZoneId", True),
    "subnet-arn": ("SubnetArn", True),
    "cidr": ("CidrBlock", True),
    "owner-id": ("OwnerId", False),
    "default-for-az": ("DefaultForAz", False),
    "defaultForAz": ("DefaultForAz", False),
    "map-public-ip-on-launch": ("MapPublicIpOnLaunch", False),
}
UNKNOWN_TO_MOTO = {"subnet-arn", "availabilityZoneId"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[differs("filter not known")] if n in UNKNOWN_TO_MOTO else []) for n in SUBNET_FILTERS],
)
def test_subnet_filters(cloud, ec2, name):
    field, only = SUBNET_FILTERS[name]
    value = cloud.subnet[field]
    value = str(value).lower() if isinstance(value, bool) else value
    found = [it["SubnetId"] for it in ec2.describe_subnets(Filters=[where_named(name, value)])["Subnets"]]
    assert found == [cloud.subnet["SubnetId"]] if only else cloud.subnet["SubnetId"] in found
    assert ec2.describe_subnets(Filters=[where_named(name, "nothing-like-it")])["Subnets"] == []


def test_subnets_by_free_addresses(cloud, ec2):
    def agrees():
        [subnet] = ec2.describe_subnets(SubnetIds=[cloud.subnet["SubnetId"]])["Subnets"]
        wanted = where(available_ip_address_count=str(subnet["AvailableIpAddressCount"]))
        return cloud.subnet["SubnetId"] in [it["SubnetId"] for it in ec2.describe_subnets(Filters=wanted)["Subnets"]]

    cloud.until(agrees, "the filter finds what the description shows")
    assert ec2.describe_subnets(Filters=where(available_ip_address_count="100000"))["Subnets"] == []


def test_subnets_and_vpcs_are_found_by_tag(cloud, ec2):
    name = unique()
    ids = {"subnets": cloud.subnet["SubnetId"], "vpcs": cloud.vpc}
    ec2.create_tags(Resources=list(ids.values()), Tags=tags({"contract": name}))
    wanted = [where_named("tag:contract", name)]
    assert [it["SubnetId"] for it in ec2.describe_subnets(Filters=wanted)["Subnets"]] == [ids["subnets"]]
    assert [it["VpcId"] for it in ec2.describe_vpcs(Filters=wanted)["Vpcs"]] == [ids["vpcs"]]
    ec2.delete_tags(Resources=list(ids.values()), Tags=[{"Key": "contract"}])


REFUSED = [
    ("describe_vpcs", {"VpcIds": ["vpc-0123456789abcdef0"]}, ["InvalidVpcID.NotFound"], None),
    ("describe_vpcs", {"VpcIds": ["vpc-xyz"]}, ["InvalidVpcID.Malformed", "InvalidVpcID.NotFound"], None),
    ("describe_vpcs", {"Filters": where(no_such="x")}, ["InvalidParameterValue"], "filter not known"),
    ("describe_vpcs", {"DryRun": True}, ["DryRunOperation"], None),
    ("describe_subnets", {"SubnetIds": ["subnet-0123456789abcdef0"]}, ["InvalidSubnetID.NotFound"], None),
    ("describe_subnets", {"Filters": where(no_such="x")}, ["InvalidParameterValue"], "filter not known"),
    ("describe_subnets", {"DryRun": True}, ["DryRunOperation"], None),
    ("describe_availability_zones", {"DryRun": True}, ["DryRunOperation"], None),
    ("describe_security_groups", {"GroupIds": [NO_GROUP]}, ["InvalidGroup.NotFound"], None),
    ("describe_security_groups", {"GroupNames": ["no-such-group"]}, ["InvalidGroup.NotFound"], None),
    ("describe_security_groups", {"Filters": where(no_such="x")}, ["InvalidParameterValue"], "filter not known"),
    ("describe_security_groups", {"DryRun": True}, ["DryRunOperation"], "DryRun is ignored"),
] + [
    (describe, asked, codes, "not paginated")
    for describe in ("describe_vpcs", "describe_subnets", "describe_security_groups")
    for asked, codes in [({"MaxResults": 4}, BAD_PAGE_SIZE), ({"NextToken": "made-up"}, BAD_PAGE_TOKEN)]
]


@pytest.mark.parametrize(
    ("describe", "asked", "codes"),
    [pytest.param(d, a, c, marks=[differs(why)] if why else [], id=f"{d}-{a}") for d, a, c, why in REFUSED],
)
def test_describe_is_refused(cloud, describe, asked, codes):
    with refused(*codes):
        getattr(cloud.careless, describe)(**asked)


# Security groups


def test_a_new_group(cloud, ec2, yard):
    name = unique()
    answer = ec2.create_security_group(
        GroupName=name,
        Description="for the contract",
        VpcId=cloud.vpc,
        TagSpecifications=[spec("security-group", {"a": "b"})],
    )
    yard.groups.append(answer["GroupId"])
    assert answer["GroupId"].startswith("sg-")
    [group] = ec2.describe_security_groups(GroupIds=[answer["GroupId"]])["SecurityGroups"]
    assert (group["GroupName"], group["Description"], group["VpcId"]) == (name, "for the contract", cloud.vpc)
    assert group["Tags"] == tags({"a": "b"}) and len(group["OwnerId"]) == 12
    assert group["IpPermissions"] == []
    # A new group lets everything out and nothing in.
    [out] = group["IpPermissionsEgress"]
    assert (out["IpProtocol"], [it["CidrIp"] for it in out["IpRanges"]]) == ("-1", ["0.0.0.0/0"])


@differs("the members of the default group are kept apart")
def test_the_default_group_lets_its_own_members_in(cloud, ec2):
    [group] = ec2.describe_security_groups(GroupIds=[cloud.group])["SecurityGroups"]
    [within] = group["IpPermissions"]
    assert (within["IpProtocol"], within["IpRanges"]) == ("-1", [])
    assert within["UserIdGroupPairs"] == [{"UserId": group["OwnerId"], "GroupId": cloud.group}]
    assert "FromPort" not in within and "ToPort" not in within
    for name, value in [
        ("ip-permission.group-id", cloud.group),
        ("ip-permission.group-name", group["GroupName"]),
        ("ip-permission.user-id", group["OwnerId"]),
        ("ip-permission.protocol", "-1"),
    ]:
        found = ec2.describe_security_groups(Filters=[where_named(name, value), *where(group_id=cloud.group)])
        assert len(found["SecurityGroups"]) == 1
    # A rule for all protocols has no ports; of what comes out nothing is said but where it may go.
    for name in ("ip-permission.from-port", "ip-permission.to-port", "egress.ip-permission.user-id"):
        assert ec2.describe_security_groups(Filters=[where_named(name, "*")])["SecurityGroups"] == []


@differs("the answer does not show the tags")
def test_the_answer_shows_the_tags(cloud, ec2, yard):
    asked = {"GroupName": unique(), "Description": "contract", "VpcId": cloud.vpc}
    answer = ec2.create_security_group(**asked, TagSpecifications=[spec("security-group", {"a": "b"})])
    yard.groups.append(answer["GroupId"])
    assert answer["Tags"] == tags({"a": "b"})


def test_a_name_is_taken_once_in_a_vpc(yard):
    name = unique()
    yard.group(GroupName=name)
    with refused("InvalidGroup.Duplicate"):
        yard.group(GroupName=name)


def test_the_longest_name_and_description(ec2, yard):
    longest = {"GroupName": unique().ljust(255, "n"), "Description": "d" * 255}
    [group] = ec2.describe_security_groups(GroupIds=[yard.group(**longest)])["SecurityGroups"]
    assert longest.items() <= group.items()


GROUP_REFUSED = [
    ({"VpcId": "vpc-0123456789abcdef0"}, ["InvalidVpcID.NotFound"], "VPCs are not looked up"),
    ({"GroupName": ""}, ["MissingParameter", "InvalidParameterValue"], "names are unchecked"),
    ({"Description": ""}, ["MissingParameter", "InvalidParameterValue"], None),
    ({"GroupName": "nämé"}, ["InvalidParameterValue"], "names are unchecked"),
    (
        {"TagSpecifications": [spec("instance", {"a": "b"})]},
        ["InvalidParameterValue"],
        "any resource type in TagSpecifications is accepted",
    ),
    ({"GroupName": "n" * 256}, ["InvalidParameterValue"], "names are unchecked"),
    ({"GroupName": "sg-mine"}, ["InvalidParameterValue"], "names are unchecked"),
    ({"GroupName": "default"}, ["InvalidGroup.Duplicate", "InvalidGroup.Reserved", "InvalidParameterValue"], None),
    ({"Description": "no <angle>"}, ["InvalidParameterValue"], "descriptions are unchecked"),
    ({"Description": "d" * 256}, ["InvalidParameterValue"], "descriptions are unchecked"),
    ({"DryRun": True}, ["DryRunOperation"], None),
]


@pytest.mark.parametrize(
    ("asked", "codes"),
    [pytest.param(a, c, marks=[differs(why)] if why else [], id=str(a)[:40]) for a, c, why in GROUP_REFUSED],
)
def test_create_is_refused(yard, asked, codes):
    with refused(*codes):
        yard.group(**asked)


def test_deleting_a_group(ec2, yard):
    group = yard.group()
    with refused("DryRunOperation", status=412):
        ec2.delete_security_group(GroupId=group, DryRun=True)
    ec2.delete_security_group(GroupId=group)
    yard.groups.remove(group)
    for call in (ec2.delete_security_group, lambda GroupId: ec2.describe_security_groups(GroupIds=[GroupId])):
        with refused("InvalidGroup.NotFound"):
            call(GroupId=group)


@differs("the answer does not say which group is deleted")
def test_the_answer_says_which_group_is_deleted(ec2, yard):
    name = unique()
    group = yard.group(GroupName=name)
    answer = ec2.delete_security_group(GroupName=name)
    yard.groups.remove(group)
    assert answer["GroupId"] == group


def test_deleting_a_group_by_name(ec2, yard):
    name = unique()
    group = yard.group(GroupName=name)
    ec2.delete_security_group(GroupName=name)
    yard.groups.remove(group)
    with refused("InvalidGroup.NotFound"):
        ec2.delete_security_group(GroupName=name)


@differs("a group to be deleted is not checked")
@pytest.mark.parametrize("asked", ["both", "neither"])
def test_a_group_to_be_deleted_has_one_name(cloud, ec2, yard, asked):
    name = unique()
    group = yard.group(GroupName=name)
    with refused("InvalidParameterCombination", "MissingParameter"):
        ec2.delete_security_group(**({"GroupId": group, "GroupName": name} if asked == "both" else {}))
    assert len(ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]) == 1


def test_groups_by_id_and_name(cloud, ec2, yard):
    name = unique()
    group, other = yard.group(GroupName=name), yard.group()
    for asked, expected in [
        ({"GroupIds": [group]}, {group}),
        ({"GroupNames": [name]}, {group}),
        ({"GroupNames": [name, "default"]}, {group, cloud.group}),
        ({"GroupIds": [group, other]}, {group, other}),
    ]:
        assert {it["GroupId"] for it in ec2.describe_security_groups(**asked)["SecurityGroups"]} == expected


@differs("an id is no name")
def test_an_id_is_as_good_as_a_name(ec2, yard):
    group, other = yard.group(), yard.group()
    found = ec2.describe_security_groups(GroupNames=[group])["SecurityGroups"]
    assert [it["GroupId"] for it in found] == [group]
    ec2.delete_security_group(GroupName=other)
    yard.groups.remove(other)
    with refused("InvalidGroup.NotFound"):
        ec2.describe_security_groups(GroupIds=[other])


def test_a_group_has_an_arn(cloud, ec2, yard):
    answer = ec2.create_security_group(GroupName=unique(), Description="contract", VpcId=cloud.vpc)
    yard.groups.append(answer["GroupId"])
    [group] = ec2.describe_security_groups(GroupIds=[answer["GroupId"]])["SecurityGroups"]
    arn = f"arn:aws:ec2:{cloud.region}:{group['OwnerId']}:security-group/{group['GroupId']}"
    assert group["SecurityGroupArn"] == answer["SecurityGroupArn"] == arn


@differs("a group in use is deleted")
def test_a_group_in_use_is_not_deleted(cloud, ec2, yard):
    group = yard.group()
    instance = yard.new(SecurityGroupIds=[group])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    ec2.delete_security_group(GroupId=group)
    yard.groups.remove(group)


@differs("the default group is deleted")
def test_the_default_group_is_not_deleted(cloud, ec2):
    with refused("CannotDelete"):
        ec2.delete_security_group(GroupId=cloud.group)


@pytest.mark.parametrize(
    ("name", "value", "mine"),
    [
        ("group-id", "ID", True),
        ("group-name", "NAME", True),
        ("group-name", "contract-*", True),
        ("description", "unlike any", True),
        ("vpc-id", "VPC", True),
        ("tag:contract", "NAME", True),
        ("tag-key", "contract", True),
        ("owner-id", "OWNER", True),
        ("egress.ip-permission.cidr", "0.0.0.0/0", True),
        ("egress.ip-permission.protocol", "-1", True),
        ("ip-permission.group-id", "*", False),
        ("ip-permission.cidr", "*", False),
        ("egress.ip-permission.cidr", "10.0.0.0/8", False),
        pytest.param(
            *("egress.ip-permission.group-id", "*", False), marks=differs("a rule without groups is found by a group")
        ),
        ("group-name", "default", False),
        ("description", "unlike", False),
    ],
)
def test_group_filters(cloud, ec2, yard, name, value, mine):
    unlike = unique()
    specification = [spec("security-group", {"contract": unlike})]
    group = yard.group(GroupName=unlike, Description="unlike any", TagSpecifications=specification)
    value = {"ID": group, "NAME": unlike, "VPC": cloud.vpc, "OWNER": cloud.subnet["OwnerId"]}.get(value, value)
    found = [it["GroupId"] for it in ec2.describe_security_groups(Filters=[where_named(name, value)])["SecurityGroups"]]
    assert (group in found) is mine


@differs("not paginated")
def test_group_pages(ec2, yard):
    mine = {yard.group(Description="for pages") for _ in range(6)}
    wanted = [where_named("description", "for pages")]
    pages = list(
        ec2.get_paginator("describe_security_groups").paginate(Filters=wanted, PaginationConfig={"PageSize": 5})
    )
    assert [len(page["SecurityGroups"]) for page in pages] == [5, 1]
    assert {it["GroupId"] for page in pages for it in page["SecurityGroups"]} == mine
