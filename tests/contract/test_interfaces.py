"""Network interfaces: DescribeNetworkInterfaces, ModifyNetworkInterfaceAttribute, and addresses that move."""

import ipaddress

import pytest
from cloud import BAD_PAGE_SIZE, MISSING, differs, refused, spec, tags, unique, where_named

NO_INTERFACE = "eni-0123456789abcdef0"
# The addresses of a subnet that AWS keeps, the network's own among them.
RESERVED = {"the first": 0, "the second": 1, "the fourth": 3, "the last": -1}


@pytest.fixture(scope="module")
def interface(cloud, running):
    """The interface of an instance that no case changes."""
    return cloud.interface(running)


@pytest.fixture
def pair(cloud, yard):
    """The interfaces of two running instances in one subnet."""
    return [cloud.interface(yard.new())["NetworkInterfaceId"] for _ in range(2)]


def seen(ec2, interface):
    return ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]


def addresses(ec2, interface):
    """All addresses of an interface: primary first, then the others, sorted."""
    found = seen(ec2, interface)["PrivateIpAddresses"]
    return [it["PrivateIpAddress"] for it in sorted(found, key=lambda it: (not it["Primary"], it["PrivateIpAddress"]))]


def test_an_interface_is_described(cloud, interface, running):
    instance = cloud.instance(running)
    assert interface["Status"] == "in-use"
    assert interface["SubnetId"] == instance["SubnetId"] and interface["VpcId"] == instance["VpcId"]
    assert interface["AvailabilityZone"] == cloud.zones[0]
    assert interface["PrivateIpAddress"] == instance["PrivateIpAddress"]
    assert interface["PrivateIpAddresses"][0]["Primary"] is True
    assert interface["SourceDestCheck"] is True
    assert interface["RequesterManaged"] is False
    assert interface["InterfaceType"] == "interface"
    assert [it["GroupId"] for it in interface["Groups"]] == [cloud.group]
    attachment = interface["Attachment"]
    assert attachment["AttachmentId"].startswith("eni-attach-")
    assert (attachment["InstanceId"], attachment["DeviceIndex"]) == (running, 0)
    assert attachment["Status"] == "attached"
    [told] = instance["NetworkInterfaces"]
    assert (told["NetworkInterfaceId"], told["MacAddress"]) == (
        interface["NetworkInterfaceId"],
        interface["MacAddress"],
    )


FILTERS = {
    "network-interface-id": lambda it: it["NetworkInterfaceId"],
    "attachment.instance-id": lambda it: it["Attachment"]["InstanceId"],
    "attachment.attachment-id": lambda it: it["Attachment"]["AttachmentId"],
    "private-ip-address": lambda it: it["PrivateIpAddress"],
    "addresses.private-ip-address": lambda it: it["PrivateIpAddress"],
    "mac-address": lambda it: it["MacAddress"],
    "subnet-id": lambda it: it["SubnetId"],
    "vpc-id": lambda it: it["VpcId"],
    "group-id": lambda it: it["Groups"][0]["GroupId"],
    "status": lambda it: it["Status"],
    "availability-zone": lambda it: it["AvailabilityZone"],
    "attachment.attach-time": lambda it: it["Attachment"]["AttachTime"].strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "attachment.delete-on-termination": lambda it: str(it["Attachment"]["DeleteOnTermination"]).lower(),
    "attachment.device-index": lambda it: str(it["Attachment"]["DeviceIndex"]),
    "attachment.instance-owner-id": lambda it: it["Attachment"]["InstanceOwnerId"],
    "attachment.status": lambda it: it["Attachment"]["Status"],
    "addresses.primary": lambda it: str(it["PrivateIpAddresses"][0]["Primary"]).lower(),
    "description": lambda it: it["Description"],
    "interface-type": lambda it: it["InterfaceType"],
    "owner-id": lambda it: it["OwnerId"],
    "private-dns-name": lambda it: it["PrivateDnsName"],
    "requester-managed": lambda it: str(it["RequesterManaged"]).lower(),
    "source-dest-check": lambda it: str(it["SourceDestCheck"]).lower(),
}
ONE_ONLY = [*list(FILTERS)[:6], "private-dns-name"]
UNKNOWN_TO_MOTO = {
    "addresses.primary",
    *(f"attachment.{it}" for it in ("attach-time", "delete-on-termination", "device-index", "status")),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[differs("filter not known")] if n in UNKNOWN_TO_MOTO else []) for n in FILTERS]
)
def test_filters(ec2, interface, name):
    def found(value):
        asked = [where_named(name, value)]
        return [it["NetworkInterfaceId"] for it in ec2.describe_network_interfaces(Filters=asked)["NetworkInterfaces"]]

    own = interface["NetworkInterfaceId"]
    assert found(FILTERS[name](interface)) == [own] if name in ONE_ONLY else own in found(FILTERS[name](interface))
    assert found("nothing-like-it") == []


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"NetworkInterfaceIds": [NO_INTERFACE]}, ["InvalidNetworkInterfaceID.NotFound"]),
        pytest.param(
            {"NetworkInterfaceIds": ["eni-xyz"]},
            ["InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.Malformed"],
            marks=differs("the form of ids is unchecked"),
        ),
        pytest.param({"MaxResults": 4}, BAD_PAGE_SIZE, marks=differs("interfaces are not paginated")),
        pytest.param({"MaxResults": 1001}, BAD_PAGE_SIZE, marks=differs("interfaces are not paginated")),
        pytest.param(
            {"Filters": [where_named("no-such", "x")]}, ["InvalidParameterValue"], marks=differs("server error")
        ),
        ({"DryRun": True}, ["DryRunOperation"]),
    ],
    ids=str,
)
def test_describe_is_refused(cloud, asked, codes):
    with refused(*codes):
        cloud.careless.describe_network_interfaces(**asked)


def test_named_interfaces_only(ec2, pair, interface):
    for ids in ([pair[0]], pair):
        found = ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]
        assert sorted(it["NetworkInterfaceId"] for it in found) == sorted(ids)


@differs("interfaces are not paginated")
def test_named_interfaces_come_on_one_page(ec2, interface):
    with refused("InvalidParameterCombination"):
        ec2.describe_network_interfaces(NetworkInterfaceIds=[interface["NetworkInterfaceId"]], MaxResults=5)


@differs("interfaces are not paginated")
def test_pages(cloud, ec2, yard):
    group = yard.group()
    yard.instances += [
        it["InstanceId"] for it in cloud.launch(MinCount=6, MaxCount=6, SecurityGroupIds=[group])["Instances"]
    ]
    wanted = [where_named("group-id", group)]
    pages = list(
        ec2.get_paginator("describe_network_interfaces").paginate(Filters=wanted, PaginationConfig={"PageSize": 5})
    )
    assert [len(page["NetworkInterfaces"]) for page in pages] == [5, 1]
    assert len({it["NetworkInterfaceId"] for page in pages for it in page["NetworkInterfaces"]}) == 6


@differs("groups are united, and the instance keeps the old ones")
def test_groups_are_replaced_not_united(cloud, ec2, yard):
    instance, groups = yard.new(), [yard.group() for _ in range(5)]
    interface = cloud.interface(instance)["NetworkInterfaceId"]
    for asked in (groups, groups[:1]):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=asked)
        assert sorted(it["GroupId"] for it in seen(ec2, interface)["Groups"]) == sorted(asked)
        assert sorted(it["GroupId"] for it in cloud.instance(instance)["SecurityGroups"]) == sorted(asked)


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        pytest.param({"SourceDestCheck": {"Value": False}}, "SourceDestCheck", False),
        pytest.param({"Description": {"Value": "the data path"}}, "Description", "the data path"),
    ],
    ids=str,
)
def test_a_changed_attribute_is_seen(ec2, pair, asked, field, value):
    ec2.modify_network_interface_attribute(NetworkInterfaceId=pair[0], **asked)
    assert seen(ec2, pair[0])[field] == value
    assert seen(ec2, pair[1])[field] != value


@differs("groups are unchecked")
def test_groups_are_one_to_five_each_once(cloud, ec2, yard, interface):
    groups = [yard.group() for _ in range(6)]
    for asked, code in [(groups, "SecurityGroupsPerInterfaceLimitExceeded"), (groups[:1] * 2, "InvalidParameterValue")]:
        with refused(code):
            ec2.modify_network_interface_attribute(NetworkInterfaceId=interface["NetworkInterfaceId"], Groups=asked)
    assert [it["GroupId"] for it in seen(ec2, interface["NetworkInterfaceId"])["Groups"]] == [cloud.group]


@differs("attachments are not looked up")
def test_an_attachment_that_is_not_the_interfaces_is_refused(ec2, pair):
    own, other = (seen(ec2, it)["Attachment"]["AttachmentId"] for it in pair)
    for attachment in (other, "eni-attach-0123456789abcdef0"):
        with refused("InvalidAttachmentID.NotFound"):
            ec2.modify_network_interface_attribute(
                NetworkInterfaceId=pair[0], Attachment={"AttachmentId": attachment, "DeleteOnTermination": False}
            )
    assert own != other
    assert [seen(ec2, it)["Attachment"]["DeleteOnTermination"] for it in pair] == [True, True]


def test_an_interface_may_be_told_to_stay(ec2, pair):
    attachment = seen(ec2, pair[0])["Attachment"]["AttachmentId"]
    asked = {"AttachmentId": attachment, "DeleteOnTermination": False}
    ec2.modify_network_interface_attribute(NetworkInterfaceId=pair[0], Attachment=asked)
    assert seen(ec2, pair[0])["Attachment"]["DeleteOnTermination"] is False
    # Back, or the interface would outlive the case.
    ec2.modify_network_interface_attribute(NetworkInterfaceId=pair[0], Attachment=asked | {"DeleteOnTermination": True})


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        (
            {"NetworkInterfaceId": NO_INTERFACE, "SourceDestCheck": {"Value": False}},
            ["InvalidNetworkInterfaceID.NotFound"],
        ),
        pytest.param(
            {"SourceDestCheck": {"Value": False}, "Description": {"Value": "x"}},
            ["InvalidParameterCombination"],
            marks=differs("two attributes at once are accepted"),
        ),
        pytest.param({}, MISSING, marks=differs("no attribute at all is accepted")),
        pytest.param(
            {"Groups": ["sg-0123456789abcdef0"]},
            ["InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"],
            marks=differs("groups are not looked up"),
        ),
        pytest.param(
            {"SourceDestCheck": {"Value": False}, "DryRun": True},
            ["DryRunOperation"],
            marks=differs("DryRun is ignored"),
        ),
    ],
    ids=str,
)
def test_modify_is_refused(ec2, interface, asked, codes):
    own = interface["NetworkInterfaceId"]
    with refused(*codes):
        ec2.modify_network_interface_attribute(**{"NetworkInterfaceId": own} | asked)
    assert seen(ec2, own)["SourceDestCheck"] is True


def test_a_secondary_address_comes_and_goes(cloud, ec2, pair):
    address, primary = cloud.address(), addresses(ec2, pair[0])
    answer = ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], PrivateIpAddresses=[address])
    assert answer["NetworkInterfaceId"] == pair[0]
    assert address in [it["PrivateIpAddress"] for it in answer["AssignedPrivateIpAddresses"]]
    cloud.until(lambda: addresses(ec2, pair[0]) == [*primary, address], "the address is assigned")
    assert seen(ec2, pair[0])["PrivateIpAddress"] == primary[0]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=pair[0], PrivateIpAddresses=[address])
    cloud.until(lambda: addresses(ec2, pair[0]) == primary, "the address is gone")


@differs("the answer tells of all addresses")
def test_the_answer_tells_of_the_new_addresses_only(cloud, ec2, pair):
    asked = {"NetworkInterfaceId": pair[0], "PrivateIpAddresses": [cloud.address()]}
    answer = ec2.assign_private_ip_addresses(**asked)["AssignedPrivateIpAddresses"]
    assert [it["PrivateIpAddress"] for it in answer] == asked["PrivateIpAddresses"]


def test_an_instance_shows_its_secondary_addresses(cloud, ec2, yard):
    instance = yard.new()
    interface, address = cloud.interface(instance)["NetworkInterfaceId"], cloud.address()
    ec2.assign_private_ip_addresses(NetworkInterfaceId=interface, PrivateIpAddresses=[address])

    def told():
        [shown] = cloud.instance(instance)["NetworkInterfaces"]
        return {it["PrivateIpAddress"]: it["Primary"] for it in shown["PrivateIpAddresses"]}

    both = {cloud.instance(instance)["PrivateIpAddress"]: True, address: False}
    cloud.until(lambda: told() == both, "the instance shows both addresses")


def test_an_address_by_count(cloud, ec2, pair):
    answer = ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], SecondaryPrivateIpAddressCount=1)
    cloud.until(lambda: len(addresses(ec2, pair[0])) == 2, "an address is assigned")
    found = addresses(ec2, pair[0])
    assert found[1] in [it["PrivateIpAddress"] for it in answer["AssignedPrivateIpAddresses"]]
    network = ipaddress.ip_network(cloud.subnet["CidrBlock"])
    assert len(set(found)) == 2
    assert all(ipaddress.ip_address(it) in network for it in found)


@differs("AllowReassignment is ignored and conflicts are not noticed: the address stays on both")
@pytest.mark.parametrize("again", [False, True])
def test_an_address_moves_only_when_allowed(cloud, ec2, pair, again):
    address = cloud.address()
    old, new = pair
    ec2.assign_private_ip_addresses(NetworkInterfaceId=old, PrivateIpAddresses=[address])
    cloud.until(lambda: address in addresses(ec2, old), "the address is assigned")
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
        ec2.assign_private_ip_addresses(NetworkInterfaceId=new, PrivateIpAddresses=[address])
    assert address in addresses(ec2, old) and address not in addresses(ec2, new)
    moves = [(old, new), (new, old)] if again else [(old, new)]
    for source, target in moves:
        ec2.assign_private_ip_addresses(NetworkInterfaceId=target, PrivateIpAddresses=[address], AllowReassignment=True)
        cloud.until(lambda to=target: address in addresses(ec2, to), "the address moved")
        assert address not in addresses(ec2, source)
        asked = [where_named("addresses.private-ip-address", address)]
        [holder] = ec2.describe_network_interfaces(Filters=asked)["NetworkInterfaces"]
        assert holder["NetworkInterfaceId"] == target


@differs("an address that moves is there at once, and stays on the other interface")
def test_moving_an_address_takes_its_time(cloud, ec2, pair):
    asked = {"PrivateIpAddresses": [cloud.address()], "AllowReassignment": True}
    ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], **asked)
    cloud.until(lambda: asked["PrivateIpAddresses"][0] in addresses(ec2, pair[0]), "the address is assigned")

    def moving():
        pair.reverse()
        ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], **asked)
        at_once = asked["PrivateIpAddresses"][0] in addresses(ec2, pair[0])
        cloud.until(lambda: asked["PrivateIpAddresses"][0] in addresses(ec2, pair[0]), "the address moved")
        return not at_once

    cloud.catch(moving, "an address is on its way")


@differs("the secondary address of a stopped instance is not guarded")
def test_an_address_moves_away_from_a_stopped_instance(cloud, ec2, pair):
    address = cloud.address()
    old, new = pair
    ec2.assign_private_ip_addresses(NetworkInterfaceId=old, PrivateIpAddresses=[address])
    instance = seen(ec2, old)["Attachment"]["InstanceId"]
    cloud.wait("instance_running", instance)
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    ec2.assign_private_ip_addresses(NetworkInterfaceId=new, PrivateIpAddresses=[address], AllowReassignment=True)
    cloud.until(lambda: address in addresses(ec2, new), "the address moved")
    assert address not in addresses(ec2, old)


def test_assigning_again_to_the_same_interface_changes_nothing(cloud, ec2, pair):
    address = cloud.address()
    asked = {"NetworkInterfaceId": pair[0], "PrivateIpAddresses": [address], "AllowReassignment": True}
    ec2.assign_private_ip_addresses(**asked)
    cloud.until(lambda: address in addresses(ec2, pair[0]), "the address is assigned")
    ec2.assign_private_ip_addresses(**asked)
    assert addresses(ec2, pair[0]).count(address) == 1


@differs("addresses are unchecked")
@pytest.mark.parametrize(
    "case", ["other subnet", *RESERVED, "no address", "primary of another", "both", "neither"]
)
def test_assign_is_refused(cloud, ec2, pair, case):
    own = {"NetworkInterfaceId": pair[0]}
    network = ipaddress.ip_network(cloud.subnet["CidrBlock"])
    primary = addresses(ec2, pair[1])[0]
    asked, codes = {
        "other subnet": ({"PrivateIpAddresses": [cloud.address(zone=1)]}, ["InvalidParameterValue"]),
        **{
            name: ({"PrivateIpAddresses": [str(network[at])]}, ["InvalidParameterValue", "InvalidIPAddress.InUse"])
            for name, at in RESERVED.items()
        },
        "no address": ({"PrivateIpAddresses": ["10.0.0"]}, ["InvalidParameterValue"]),
        "primary of another": (
            {"PrivateIpAddresses": [primary], "AllowReassignment": True},
            ["InvalidParameterValue", "InvalidIPAddress.InUse", "OperationNotPermitted"],
        ),
        "both": (
            {"PrivateIpAddresses": [cloud.address()], "SecondaryPrivateIpAddressCount": 1},
            ["InvalidParameterCombination"],
        ),
        "neither": ({}, MISSING),
    }[case]
    before = [addresses(ec2, it) for it in pair]
    with refused(*codes):
        ec2.assign_private_ip_addresses(**own | asked)
    assert [addresses(ec2, it) for it in pair] == before


@differs("addresses are unchecked")
def test_one_address_that_is_taken_assigns_none(cloud, ec2, yard, interface):
    own = cloud.interface(yard.new(InstanceType=cloud.types[1]))["NetworkInterfaceId"]
    before = addresses(ec2, own)
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
        asked = [cloud.address(), interface["PrivateIpAddress"]]
        ec2.assign_private_ip_addresses(NetworkInterfaceId=own, PrivateIpAddresses=asked)
    assert addresses(ec2, own) == before


@differs("addresses are unchecked")
def test_an_interface_holds_as_many_addresses_as_its_type(cloud, ec2, pair):
    [kind] = ec2.describe_instance_types(InstanceTypes=[cloud.types[0]])["InstanceTypes"]
    limit = kind["NetworkInfo"]["Ipv4AddressesPerInterface"]
    with refused("PrivateIpAddressLimitExceeded"):
        ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], SecondaryPrivateIpAddressCount=limit)
    ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], SecondaryPrivateIpAddressCount=limit - 1)
    cloud.until(lambda: len(addresses(ec2, pair[0])) == limit, "the interface is full")


@pytest.mark.parametrize("action", ["assign_private_ip_addresses", "unassign_private_ip_addresses"])
def test_an_unknown_interface_is_refused(cloud, ec2, action):
    with refused("InvalidNetworkInterfaceID.NotFound"):
        getattr(ec2, action)(NetworkInterfaceId=NO_INTERFACE, PrivateIpAddresses=[cloud.address()])


@differs("addresses are unchecked")
@pytest.mark.parametrize("case", ["primary", "not assigned", "another's", "none"])
def test_unassign_is_refused(cloud, ec2, pair, case):
    before = [addresses(ec2, it) for it in pair]
    asked = {"primary": before[0], "not assigned": [cloud.address()], "another's": before[1], "none": []}[case]
    with refused("InvalidParameterValue", *(MISSING if case == "none" else [])):
        ec2.unassign_private_ip_addresses(NetworkInterfaceId=pair[0], PrivateIpAddresses=asked)
    assert [addresses(ec2, it) for it in pair] == before


@differs("addresses are unchecked")
def test_one_bad_address_unassigns_none(cloud, ec2, pair):
    address, primary = cloud.address(), addresses(ec2, pair[0])[0]
    ec2.assign_private_ip_addresses(NetworkInterfaceId=pair[0], PrivateIpAddresses=[address])
    cloud.until(lambda: address in addresses(ec2, pair[0]), "the address is assigned")
    for bad in (primary, cloud.address()):
        with refused("InvalidParameterValue"):
            ec2.unassign_private_ip_addresses(NetworkInterfaceId=pair[0], PrivateIpAddresses=[address, bad])
    assert addresses(ec2, pair[0]) == [primary, address]


@differs("DryRun is not a parameter of these, and is ignored")
@pytest.mark.parametrize("action", ["AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"])
def test_assigning_has_no_dry_run(cloud, interface, action):
    asked = {"NetworkInterfaceId": interface["NetworkInterfaceId"], "PrivateIpAddress_1": cloud.address()}
    assert cloud.code(action, **asked, DryRun="true") == "UnknownParameter"


@differs("TagSpecifications of interfaces ignored")
def test_an_interface_is_found_by_its_tag(ec2, yard):
    name = unique()
    instance = yard.new(TagSpecifications=[spec("network-interface", {"contract": name})])
    [found] = ec2.describe_network_interfaces(Filters=[where_named("tag:contract", name)])["NetworkInterfaces"]
    assert found["Attachment"]["InstanceId"] == instance
    assert found["TagSet"] == tags({"contract": name})
