"""RunInstances: what a launch promises, what it refuses, and what makes it safe to send again."""

import base64
import ipaddress
from datetime import UTC, datetime

import pytest
from cloud import INSTANCE_ID, NO_INSTANCE, differs, pairs, refused, spec, unique, where, where_named

LIMIT = 16384


def test_the_answer_describes_the_instance(cloud, yard):
    reservation = cloud.launch(UserData="x")
    instance = reservation["Instances"][0]
    yard.instances.append(instance["InstanceId"])
    assert INSTANCE_ID.fullmatch(instance["InstanceId"])
    assert reservation["ReservationId"].startswith("r-")
    assert len(reservation["OwnerId"]) == 12
    assert instance["State"] == {"Code": 0, "Name": "pending"}
    assert instance["ImageId"] == cloud.image["ImageId"]
    assert instance["InstanceType"] == cloud.types[0]
    assert instance["Placement"]["AvailabilityZone"] == cloud.zones[0]
    assert (instance["SubnetId"], instance["VpcId"]) == (cloud.subnet["SubnetId"], cloud.vpc)
    assert ipaddress.ip_address(instance["PrivateIpAddress"]) in ipaddress.ip_network(cloud.subnet["CidrBlock"])
    assert abs((datetime.now(UTC) - instance["LaunchTime"]).total_seconds()) < 60
    assert instance["AmiLaunchIndex"] == 0
    assert instance["RootDeviceType"] == "ebs"
    assert instance["RootDeviceName"] == cloud.image["RootDeviceName"]
    assert instance["Architecture"] == cloud.image["Architecture"]
    assert instance["PrivateDnsName"].startswith("ip-" + instance["PrivateIpAddress"].replace(".", "-"))


def test_the_first_interface_is_part_of_the_answer(yard):
    instance = yard.launch()
    [interface] = instance["NetworkInterfaces"]
    assert interface["NetworkInterfaceId"].startswith("eni-")
    assert interface["PrivateIpAddress"] == instance["PrivateIpAddress"]
    assert [(it["Primary"], it["PrivateIpAddress"]) for it in interface["PrivateIpAddresses"]] == [
        (True, instance["PrivateIpAddress"])
    ]
    assert interface["Attachment"]["DeviceIndex"] == 0
    assert interface["SourceDestCheck"] is True
    assert len(interface["MacAddress"].split(":")) == 6


@differs("the default group and DeleteOnTermination of the interface are not told")
def test_what_a_launch_need_not_say(cloud, running):
    instance = cloud.instance(running)
    assert [it["GroupId"] for it in instance["SecurityGroups"]] == [cloud.group]
    assert [it["GroupId"] for it in cloud.interface(running)["Groups"]] == [cloud.group]
    assert instance["NetworkInterfaces"][0]["Attachment"]["DeleteOnTermination"] is True


@differs("new instances run at once")
def test_a_new_instance_is_pending_first(cloud, yard):
    cloud.catch(lambda: cloud.state(yard.new()) == "pending", "a new instance is pending")


@pytest.mark.parametrize(
    "resource",
    ["instance", "volume", pytest.param("network-interface", marks=differs("TagSpecifications of interfaces ignored"))],
)
def test_tags_are_there_from_the_start(cloud, yard, resource):
    instance = yard.new(TagSpecifications=[spec(resource, {"drover:realm": "r", "Name": "ünïcode"})])
    volume = cloud.instance(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    interface = cloud.interface(instance)["NetworkInterfaceId"]
    told = {"instance": instance, "volume": volume, "network-interface": interface}
    expected = {"drover:realm": "r", "Name": "ünïcode"}
    assert {kind: cloud.tags_of(each) for kind, each in told.items()} == {
        kind: expected if kind == resource else {} for kind in told
    }


def test_the_answer_shows_the_tags(yard):
    assert pairs(yard.launch(TagSpecifications=[spec("instance", {"a": "b"})])["Tags"]) == {"a": "b"}


@pytest.mark.parametrize("zone", [0, 1, 2])
def test_a_zone_selects_its_subnet(cloud, yard, zone):
    instance = yard.launch(Placement={"AvailabilityZone": cloud.zones[zone]})
    assert instance["SubnetId"] in [
        it["SubnetId"]
        for it in cloud.ec2.describe_subnets(Filters=where(availability_zone=cloud.zones[zone]))["Subnets"]
    ]


@differs("a zone that is not the subnet's is accepted")
def test_a_zone_that_is_not_the_subnets_is_refused(cloud, yard):
    with refused("InvalidParameterValue", "InvalidParameterCombination"):
        yard.launch(SubnetId=cloud.subnet["SubnetId"], Placement={"AvailabilityZone": cloud.zones[1]})


@pytest.mark.parametrize(
    ("least", "most"), [(2, 2), pytest.param(1, 3, marks=differs("launches MinCount, not up to MaxCount"))]
)
def test_as_many_as_possible_are_launched(cloud, yard, least, most):
    reservation = cloud.launch(MinCount=least, MaxCount=most)
    yard.instances += [it["InstanceId"] for it in reservation["Instances"]]
    assert sorted(it["AmiLaunchIndex"] for it in reservation["Instances"]) == list(range(most))
    assert len({it["PrivateIpAddress"] for it in reservation["Instances"]}) == most


@differs("filter not known")
def test_a_reservation_is_found(cloud, yard):
    reservation = cloud.launch(MinCount=2, MaxCount=2)
    ids = [it["InstanceId"] for it in reservation["Instances"]]
    yard.instances += ids
    assert sorted(cloud.found(*where(reservation_id=reservation["ReservationId"]))) == sorted(ids)


def test_an_asked_address_is_given(cloud, yard):
    address = cloud.address()
    assert yard.launch(PrivateIpAddress=address)["PrivateIpAddress"] == address


@differs("address conflicts unnoticed")
@pytest.mark.parametrize("asked", ["taken", "reserved", "elsewhere"])
def test_an_address_that_cannot_be_given_is_refused(cloud, yard, asked):
    network = ipaddress.ip_network(cloud.subnet["CidrBlock"])
    taken = yard.launch()["PrivateIpAddress"]
    # The first four addresses of a subnet are AWS's own.
    address = {"taken": taken, "reserved": str(network[2]), "elsewhere": "198.51.100.7"}[asked]
    with refused("InvalidIPAddress.InUse" if asked == "taken" else "InvalidParameterValue"):
        yard.launch(PrivateIpAddress=address)


@differs("secondary addresses of a launch are ignored")
def test_a_launch_with_secondary_addresses(cloud, yard):
    first, second = cloud.address(), cloud.address()
    assert first != second
    asked = [{"PrivateIpAddress": second, "Primary": False}, {"PrivateIpAddress": first, "Primary": True}]
    interface = {"DeviceIndex": 0, "SubnetId": cloud.subnet["SubnetId"], "PrivateIpAddresses": asked}
    instance = yard.launch(NetworkInterfaces=[interface])
    assert instance["PrivateIpAddress"] == first
    seen = instance["NetworkInterfaces"][0]["PrivateIpAddresses"]
    assert [(it["PrivateIpAddress"], it["Primary"]) for it in seen] == [(first, True), (second, False)]


def test_the_usual_is_asked_for_by_name(cloud, yard):
    asked = {"Placement": {"AvailabilityZone": cloud.zones[0], "Tenancy": "default"}}
    instance = yard.launch(SubnetId=cloud.subnet["SubnetId"], **asked)
    assert instance["Placement"]["Tenancy"] == "default"


def test_an_interface_may_be_spelled_out(cloud, yard):
    group = yard.group()
    asked = {"DeviceIndex": 0, "SubnetId": cloud.subnets[cloud.zones[1]]["SubnetId"], "Groups": [group]}
    instance = yard.launch(NetworkInterfaces=[asked])
    assert instance["Placement"]["AvailabilityZone"] == cloud.zones[1]
    assert [it["GroupId"] for it in cloud.interface(instance["InstanceId"])["Groups"]] == [group]


def test_a_subnet_beside_interfaces_is_refused(cloud, yard):
    interface = {"DeviceIndex": 0, "SubnetId": cloud.subnet["SubnetId"]}
    with refused("InvalidParameterCombination"):
        yard.launch(SubnetId=cloud.subnet["SubnetId"], NetworkInterfaces=[interface])


def test_asked_groups_replace_the_default(cloud, yard):
    groups = [yard.group(), yard.group()]
    instance = yard.new(SecurityGroupIds=groups)
    assert sorted(it["GroupId"] for it in cloud.instance(instance)["SecurityGroups"]) == sorted(groups)
    assert sorted(it["GroupId"] for it in cloud.interface(instance)["Groups"]) == sorted(groups)


@pytest.mark.parametrize("keep", [False, True])
def test_the_root_volume_is_as_asked(cloud, yard, keep):
    root = cloud.image["RootDeviceName"]
    asked = {"DeviceName": root, "Ebs": {"VolumeSize": 11, "VolumeType": "gp3", "DeleteOnTermination": not keep}}
    instance = yard.run(BlockDeviceMappings=[asked])
    [mapping] = cloud.instance(instance)["BlockDeviceMappings"]
    volume = cloud.volume(mapping["Ebs"]["VolumeId"])
    yard.volumes += [volume["VolumeId"]] if keep else []
    assert (mapping["DeviceName"], mapping["Ebs"]["DeleteOnTermination"]) == (root, not keep)
    assert (volume["Size"], volume["VolumeType"], volume["State"]) == (11, "gp3", "in-use")
    assert volume["AvailabilityZone"] == cloud.zones[0]


def test_the_root_volume_goes_with_the_instance_unless_asked_otherwise(cloud, running):
    [mapping] = cloud.instance(running)["BlockDeviceMappings"]
    assert mapping["Ebs"]["DeleteOnTermination"] is True


def test_metadata_options_are_kept(cloud, yard):
    asked = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "InstanceMetadataTags": "enabled"}
    instance = yard.new(MetadataOptions=asked)
    kept = cloud.instance(instance)["MetadataOptions"]
    assert asked.items() <= kept.items()
    assert kept["HttpEndpoint"] == "enabled"


@differs("instance profiles are not looked up")
@pytest.mark.parametrize(
    "profile", [{"Name": "no-such-profile"}, {"Arn": "arn:aws:iam::123456789012:instance-profile/no"}]
)
def test_an_unknown_instance_profile_is_refused(yard, profile):
    with refused("InvalidParameterValue"):
        yard.launch(IamInstanceProfile=profile)


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        pytest.param(
            {"ImageId": "ami-0123456789abcdef0"}, ["InvalidAMIID.NotFound"], marks=differs("images are not looked up")
        ),
        pytest.param({"ImageId": "image"}, ["InvalidAMIID.Malformed"], marks=differs("images are not looked up")),
        ({"SubnetId": "subnet-0123456789abcdef0"}, ["InvalidSubnetID.NotFound"]),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, ["InvalidGroup.NotFound"]),
        pytest.param({"SubnetId": "subnet"}, ["InvalidSubnetID.Malformed"], marks=differs("the form of ids is unchecked")),
        pytest.param(
            {"SecurityGroupIds": ["group"]}, ["InvalidGroupId.Malformed"], marks=differs("the form of ids is unchecked")
        ),
        pytest.param(
            {"Placement": {"AvailabilityZoneId": "nowhere-az1"}},
            ["InvalidZone.NotFound", "InvalidParameterValue"],
            marks=differs("a zone has no id here"),
        ),
        pytest.param(
            {"InstanceType": "t1.unheard"},
            ["InvalidParameterValue", "InvalidInstanceType"],
            marks=differs("instance types are not looked up"),
        ),
        ({"Placement": {"AvailabilityZone": "nowhere-1a"}}, ["InvalidParameterValue", "InvalidZone.NotFound"]),
        pytest.param({"KeyName": "nobodys"}, ["InvalidKeyPair.NotFound"], marks=differs("key pairs are not looked up")),
        pytest.param(
            {"CreditSpecification": {"CpuCredits": "much"}},
            ["InvalidParameterValue"],
            marks=differs("credits are not looked at"),
        ),
        pytest.param({"MinCount": 0}, ["InvalidParameterValue"], marks=differs("counts unchecked")),
        pytest.param(
            {"MinCount": 2, "MaxCount": 1},
            ["InvalidParameterValue", "InvalidParameterCombination"],
            marks=differs("counts unchecked"),
        ),
        pytest.param(
            {"ClientToken": "x" * 65},
            ["InvalidParameterValue", "InvalidClientToken"],
            marks=differs("tokens unchecked"),
        ),
        pytest.param(
            {"TagSpecifications": [spec("instance", {"a": "1"}), spec("instance", {"b": "1"})]},
            ["InvalidParameterValue"],
            marks=differs("a resource type twice in TagSpecifications is accepted"),
        ),
        pytest.param(
            {"TagSpecifications": [spec("vpc", {"a": "1"})]},
            ["InvalidParameterValue"],
            marks=differs("any resource type in TagSpecifications is accepted"),
        ),
    ],
    ids=str,
)
def test_a_mistake_is_refused(yard, asked, codes):
    with refused(*codes):
        yard.launch(**asked)


@differs("instance tokens cannot be looked up")
def test_a_refused_launch_leaves_no_trace(cloud, yard):
    token = unique()
    with refused("InvalidGroup.NotFound"):
        yard.launch(ClientToken=token, SecurityGroupIds=["sg-0123456789abcdef0"])
    assert cloud.found(*where(client_token=token)) == []
    # The token is as good as new: a refused request is not remembered.
    assert INSTANCE_ID.fullmatch(yard.new(ClientToken=token))


def test_a_dry_run_launches_nothing(cloud):
    name = unique()
    with refused("DryRunOperation", status=412):
        cloud.launch(DryRun=True, TagSpecifications=[spec("instance", {"contract": name})])
    assert cloud.found(where_named("tag:contract", name)) == []


@differs("a dry run looks at nothing that it names")
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "m0.huge"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"IamInstanceProfile": {"Name": unique("nobody")}}, "InvalidParameterValue"),
    ],
    ids=str,
)
def test_a_dry_run_is_refused_for_what_it_names(cloud, asked, code):
    with refused(code):
        cloud.launch(DryRun=True, **asked)


def test_a_dry_run_uses_no_token_up(cloud, yard):
    token = unique()
    for _ in range(2):
        with refused("DryRunOperation", status=412):
            cloud.launch(DryRun=True, ClientToken=token, MaxCount=1)
    assert INSTANCE_ID.fullmatch(yard.new(ClientToken=token))


@pytest.mark.parametrize("data", ["#!/bin/sh\necho ünï\n", "x" * LIMIT], ids=["script", "largest"])
def test_user_data_is_given_back_as_it_was(ec2, yard, data):
    instance = yard.new(UserData=data)
    answer = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    assert base64.b64decode(answer["UserData"]["Value"]).decode() == data


@differs("user data of any size and form is accepted")
def test_user_data_beyond_the_limit_is_refused(yard):
    with refused("InvalidParameterValue"):
        yard.launch(UserData="x" * (LIMIT + 1))


@differs("user data of any size and form is accepted")
def test_user_data_that_is_not_base64_is_refused(cloud):
    asked = {"ImageId": cloud.image["ImageId"], "InstanceType": cloud.types[0], "MinCount": "1", "MaxCount": "1"}
    asked |= {"SubnetId": cloud.subnet["SubnetId"], "UserData": "%%%"}
    assert cloud.code("RunInstances", **asked) in ("InvalidParameterValue", "InvalidUserData.Malformed")


@differs("client tokens have no effect")
def test_a_token_sent_again_answers_with_the_same_instance(cloud, yard):
    token, name = unique(), unique()
    asked = {"ClientToken": token, "TagSpecifications": [spec("instance", {"contract": name})]}
    first, again = yard.launch(**asked), yard.launch(**asked)
    assert first["InstanceId"] == again["InstanceId"]
    assert first["ClientToken"] == token
    assert cloud.found(where_named("tag:contract", name)) == [first["InstanceId"]]
    assert cloud.found(*where(client_token=token)) == [first["InstanceId"]]


@differs("client tokens have no effect")
def test_a_token_answers_with_all_instances_of_its_launch(cloud, yard):
    asked = {"ClientToken": unique(), "MinCount": 3, "MaxCount": 3}
    first, again = cloud.launch(**asked), cloud.launch(**asked)
    yard.instances += [it["InstanceId"] for it in first["Instances"]]
    ids = [sorted(it["InstanceId"] for it in each["Instances"]) for each in (first, again)]
    assert ids[0] == ids[1] and len(ids[0]) == 3
    assert first["ReservationId"] == again["ReservationId"]


@differs("client tokens have no effect")
def test_a_token_finds_an_instance_that_stopped_since(cloud, ec2, yard):
    token = unique()
    instance = yard.run(ClientToken=token)
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    again = yard.launch(ClientToken=token)
    assert (again["InstanceId"], again["State"]["Name"]) == (instance, "stopped")


@differs("client tokens have no effect")
@pytest.mark.parametrize(
    "changed",
    [{"UserData": "other"}, {"TagSpecifications": [spec("instance", {"other": "tag"})]}, {"MaxCount": 2}, {"type": 1}],
    ids=str,
)
def test_a_token_with_other_parameters_is_refused(cloud, yard, changed):
    token = unique()
    yard.launch(ClientToken=token)
    if "type" in changed:
        changed = {"InstanceType": cloud.types[1]}
    with refused("IdempotentParameterMismatch"):
        yard.launch(ClientToken=token, **changed)


@differs("client tokens have no effect")
def test_a_token_of_a_terminated_instance_is_refused(cloud, ec2, yard):
    token = unique()
    instance = yard.run(ClientToken=token)
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    with refused("IdempotentInstanceTerminated"):
        yard.launch(ClientToken=token)


def test_a_token_counts_in_its_own_zone_only(cloud, yard):
    token = unique()
    zones = [cloud.subnets[zone]["SubnetId"] for zone in cloud.zones[:2]]
    first, other = (yard.new(ClientToken=token, SubnetId=subnet) for subnet in zones)
    assert first != other


def test_tokens_differ_by_case(yard):
    token = unique("a")
    ids = {yard.new(ClientToken=each) for each in (token, token.upper())}
    assert len(ids) == 2 and NO_INSTANCE not in ids
