"""RunInstances, its many parameters: what each one asks for is what is there afterwards, and what each one refuses."""

import pytest
from cloud import MISSING, differs, drover_only, refused, spec, unique, where, where_named

DATA = "/dev/sdf"
PROFILE = "drover-machine"


def interface(cloud, **asked):
    return {"DeviceIndex": 0, "SubnetId": cloud.subnet["SubnetId"]} | asked


def device(name=DATA, **asked):
    return {"DeviceName": name, "Ebs": asked}


# What is asked, and what the description shows then; the third is what it shows of an instance that did not ask.
KEPT = [
    ({"EbsOptimized": True}, lambda it: it["EbsOptimized"], (True, False)),
    ({"Monitoring": {"Enabled": True}}, lambda it: it["Monitoring"]["State"], ("enabled", "disabled")),
    (
        {"MaintenanceOptions": {"AutoRecovery": "disabled"}},
        lambda it: it["MaintenanceOptions"]["AutoRecovery"],
        ("disabled", "default"),
    ),
    (
        {"MetadataOptions": {"HttpTokens": "required"}},
        lambda it: it["MetadataOptions"]["HttpTokens"],
        ("required", "optional"),
    ),
    (
        {"MetadataOptions": {"HttpPutResponseHopLimit": 64}},
        lambda it: it["MetadataOptions"]["HttpPutResponseHopLimit"],
        (64, 1),
    ),
    (
        {"MetadataOptions": {"HttpEndpoint": "disabled"}},
        lambda it: it["MetadataOptions"]["HttpEndpoint"],
        ("disabled", "enabled"),
    ),
    (
        {"MetadataOptions": {"InstanceMetadataTags": "enabled"}},
        lambda it: it["MetadataOptions"]["InstanceMetadataTags"],
        ("enabled", "disabled"),
    ),
]


@pytest.mark.parametrize(
    ("asked", "read", "values"),
    [
        pytest.param(
            *case,
            marks=[differs("maintenance options are not told")] if "MaintenanceOptions" in case[0] else [],
            id=str(case[0]),
        )
        for case in KEPT
    ],
)
def test_what_is_asked_is_kept_and_what_is_not_has_its_default(cloud, yard, running, asked, read, values):
    assert read(cloud.instance(yard.new(**asked))) == values[0]
    assert read(cloud.instance(running)) == values[1]


@pytest.mark.parametrize("behaviour", ["stop", "terminate"])
def test_the_shutdown_behaviour_is_kept(ec2, yard, behaviour):
    instance = yard.new(InstanceInitiatedShutdownBehavior=behaviour)
    answer = ec2.describe_instance_attribute(InstanceId=instance, Attribute="instanceInitiatedShutdownBehavior")
    assert answer["InstanceInitiatedShutdownBehavior"] == {"Value": behaviour}


def test_groups_may_be_named(cloud, yard):
    name = unique()
    group = yard.group(GroupName=name)
    instance = yard.launch(SecurityGroups=[name], Placement={"AvailabilityZone": cloud.zones[0]})
    assert [(it["GroupId"], it["GroupName"]) for it in instance["SecurityGroups"]] == [(group, name)]


@differs("what is asked of an interface is dropped")
def test_an_interface_as_it_is_spelled_out(cloud, ec2, yard):
    address = cloud.address()
    asked = interface(cloud, Description="the data path", PrivateIpAddress=address, DeleteOnTermination=False)
    instance = yard.launch(NetworkInterfaces=[asked])
    assert instance["PrivateIpAddress"] == address
    own = cloud.interface(instance["InstanceId"])
    assert (own["Description"], own["PrivateIpAddress"]) == ("the data path", address)
    assert own["Attachment"]["DeleteOnTermination"] is False
    # Back, or the interface would outlive the case.
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=own["NetworkInterfaceId"],
        Attachment={"AttachmentId": own["Attachment"]["AttachmentId"], "DeleteOnTermination": True},
    )


@differs("an interface goes with its instance whatever was asked")
def test_an_interface_that_is_to_stay_stays(cloud, ec2, yard):
    # It cannot be deleted by the actions of this suite: it stays in its subnet, with an address, for good.
    instance = yard.new(NetworkInterfaces=[interface(cloud, DeleteOnTermination=False)])
    own = cloud.interface(instance)
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    [left] = ec2.describe_network_interfaces(NetworkInterfaceIds=[own["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert left["Status"] == "available" and not left.get("Attachment")
    assert left["PrivateIpAddress"] == own["PrivateIpAddress"]
    assert cloud.instance(instance)["NetworkInterfaces"] == []
    with refused("InvalidIPAddress.InUse"):
        yard.launch(PrivateIpAddress=own["PrivateIpAddress"])


@differs("with volumes asked for there is no root volume")
def test_volumes_at_launch(cloud, yard):
    shape = {"VolumeSize": 7, "VolumeType": "gp3", "Iops": 3500, "Throughput": 200, "Encrypted": True}
    asked = [device(**shape, KmsKeyId="alias/contract"), device("/dev/sdg", VolumeSize=2, DeleteOnTermination=False)]
    instance = cloud.instance(yard.run(BlockDeviceMappings=asked))
    mapped = {it["DeviceName"]: it["Ebs"] for it in instance["BlockDeviceMappings"]}
    assert set(mapped) == {instance["RootDeviceName"], DATA, "/dev/sdg"}
    assert {it["Status"] for it in mapped.values()} == {"attached"}
    # The reference's word on the default; the user guide has another for volumes beside the root.
    assert [mapped[name]["DeleteOnTermination"] for name in (DATA, "/dev/sdg")] == [True, False]
    yard.volumes.append(mapped["/dev/sdg"]["VolumeId"])
    data = cloud.volume(mapped[DATA]["VolumeId"])
    assert [data[key] for key in ("Size", "VolumeType", "Iops", "Throughput", "Encrypted")] == [*shape.values()]
    assert data["KmsKeyId"].startswith("arn:aws:kms:")
    assert data["Attachments"][0]["Device"] == DATA
    root = cloud.volume(mapped[instance["RootDeviceName"]]["VolumeId"])
    image = {it["DeviceName"]: it["Ebs"] for it in cloud.image["BlockDeviceMappings"]}[instance["RootDeviceName"]]
    for same in ("SnapshotId", "VolumeType"):
        assert root[same] == image[same]
    assert root["Size"] == image["VolumeSize"]


@differs("images made from instances have no ebs root")
@pytest.mark.parametrize("kind", ["st1", "sc1"])
def test_no_machine_boots_from_a_disk_of_the_slow_kinds(cloud, yard, kind):
    [root] = cloud.image["BlockDeviceMappings"]
    with refused("InvalidBlockDeviceMapping", "InvalidParameterValue"):
        yard.launch(BlockDeviceMappings=[device(root["DeviceName"], VolumeType=kind, VolumeSize=125)])


@differs("a zone has no id here")
def test_what_a_description_shows_can_be_asked_for(cloud, yard):
    zone = cloud.subnets[cloud.zones[1]]["AvailabilityZoneId"]
    shown = cloud.instance(
        yard.new(
            Placement={"AvailabilityZoneId": zone},
            MetadataOptions={"HttpProtocolIpv6": "disabled"},
            HibernationOptions={"Configured": False},
            EnclaveOptions={"Enabled": False},
        )
    )
    assert shown["Placement"]["AvailabilityZone"] == cloud.zones[1]
    assert shown["NetworkInterfaces"][0]["Attachment"]["NetworkCardIndex"] == 0


@drover_only("what moto does not have it does not refuse")
@pytest.mark.parametrize(
    "asked",
    [
        {"MetadataOptions": {"HttpProtocolIpv6": "enabled"}},
        {"HibernationOptions": {"Configured": True}},
        {"EnclaveOptions": {"Enabled": True}},
        {"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkCardIndex": 1}]},
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(yard, asked):
    with refused("InvalidParameterValue", "UnsupportedOperation"):
        yard.launch(**asked)


@differs("a zone has two names and none is checked")
def test_a_zone_is_named_once(cloud, yard):
    place = {"AvailabilityZoneId": cloud.subnet["AvailabilityZoneId"], "AvailabilityZone": cloud.zones[0]}
    with refused("InvalidParameterCombination"):
        yard.launch(Placement=place)


@differs("secondary addresses are not given by count")
def test_secondary_addresses_by_count(cloud, yard):
    asked = interface(cloud, SecondaryPrivateIpAddressCount=1)
    [shown] = cloud.instance(yard.new(NetworkInterfaces=[asked]))["NetworkInterfaces"]
    addresses = {it["PrivateIpAddress"]: it["Primary"] for it in shown["PrivateIpAddresses"]}
    assert sorted(addresses.values()) == [False, True]
    own = cloud.address()
    [shown] = cloud.instance(yard.new(NetworkInterfaces=[asked | {"PrivateIpAddress": own}]))["NetworkInterfaces"]
    assert [it["PrivateIpAddress"] for it in shown["PrivateIpAddresses"] if it["Primary"]] == [own]
    assert len(shown["PrivateIpAddresses"]) == 2
    listed = [{"PrivateIpAddress": cloud.address(), "Primary": False}]
    for wrong, code in [
        ({"SecondaryPrivateIpAddressCount": 50}, "PrivateIpAddressLimitExceeded"),
        ({"PrivateIpAddresses": listed}, "InvalidParameterCombination"),
    ]:
        with refused(code):
            yard.launch(NetworkInterfaces=[asked | wrong])
    with refused("InvalidParameterCombination"):
        yard.launch(NetworkInterfaces=[asked], MinCount=2, MaxCount=2)


@drover_only("moto's images have no devices")
def test_an_image_s_own_devices_can_be_sent_back(cloud, yard):
    [root] = cloud.image["BlockDeviceMappings"]
    ebs = {key: root["Ebs"][key] for key in ("SnapshotId", "VolumeSize", "VolumeType", "DeleteOnTermination")}
    instance = cloud.instance(yard.run(BlockDeviceMappings=[root | {"Ebs": ebs}]))
    assert [it["DeviceName"] for it in instance["BlockDeviceMappings"]] == [root["DeviceName"]]


@drover_only("there are no instance profiles without IAM")
@pytest.mark.parametrize("how", ["Name", "Arn"])
def test_a_profile_by_name_or_arn(cloud, yard, how):
    arn = f"arn:aws:iam::{cloud.image['OwnerId']}:instance-profile/{PROFILE}"
    instance = yard.new(IamInstanceProfile={how: {"Name": PROFILE, "Arn": arn}[how]})
    profile = cloud.instance(instance)["IamInstanceProfile"]
    assert profile["Arn"] == arn and profile["Id"].startswith("AIPA")
    for name, value in [("iam-instance-profile.arn", arn), ("iam-instance-profile.id", profile["Id"])]:
        assert instance in cloud.found(where_named(name, value), *where(instance_id=instance))
        assert cloud.found(where_named(name, "nothing-like-it")) == []


REFUSED = [
    ({"ImageId": None}, MISSING, "an image is not required"),
    ({"ClientToken": "tökén"}, ["InvalidParameterValue", "InvalidClientToken"], "tokens unchecked"),
    ({"MaxCount": 0}, ["InvalidParameterValue"], "counts unchecked"),
    ({"MetadataOptions": {"HttpPutResponseHopLimit": 0}}, ["InvalidParameterValue"], "metadata options unchecked"),
    ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, ["InvalidParameterValue"], "metadata options unchecked"),
    ({"MetadataOptions": {"HttpTokens": "maybe"}}, ["InvalidParameterValue"], "metadata options unchecked"),
    ({"InstanceInitiatedShutdownBehavior": "explode"}, ["InvalidParameterValue"], "values are unchecked"),
    ({"BlockDeviceMappings": [device(VolumeSize=1)] * 2}, ["InvalidBlockDeviceMapping"], "two volumes share a device"),
    (
        {"BlockDeviceMappings": [device(SnapshotId="snap-0123456789abcdef0")]},
        ["InvalidSnapshot.NotFound"],
        "an error without words",
    ),
    ({"BlockDeviceMappings": [device(VolumeType="gp3")]}, MISSING, "sizes are unchecked"),
    ({"BlockDeviceMappings": [device("ROOT", VolumeSize=1)]}, ["InvalidBlockDeviceMapping"], "sizes are unchecked"),
    ({"BlockDeviceMappings": [device(VolumeSize=1, VolumeType="gp9")]}, ["UnknownVolumeType"], "types are unchecked"),
    (
        {"BlockDeviceMappings": [device(VolumeSize=1, KmsKeyId="alias/contract")]},
        ["InvalidParameterDependency"],
        "no rules by type",
    ),
    ({"SecurityGroups": ["default"]}, ["InvalidParameterCombination"], "a group's name beside a subnet is accepted"),
    ({"SecurityGroupIds": ["GROUP", "GROUP"]}, ["InvalidParameterValue"], "groups are unchecked"),
    ({"MaxCount": 2, "PrivateIpAddress": "ADDRESS"}, ["InvalidParameterCombination"], "address conflicts unnoticed"),
    (
        {"IamInstanceProfile": {"Name": PROFILE, "Arn": "arn:aws:iam::123456789012:instance-profile/x"}},
        ["InvalidParameterCombination"],
        "instance profiles are not looked up",
    ),
    (
        {"TagSpecifications": [{"ResourceType": "instance", "Tags": []}]},
        ["InvalidParameterValue"],
        "tag specifications without tags are accepted",
    ),
]


@pytest.mark.parametrize(
    ("asked", "codes"),
    [pytest.param(a, c, marks=[differs(why)] if why else [], id=str(a)) for a, c, why in REFUSED],
)
def test_what_cannot_be_is_refused(cloud, asked, codes):
    stand_ins = {"GROUP": cloud.group, "ADDRESS": cloud.address(), "ROOT": cloud.image["RootDeviceName"]}

    def filled(value):
        if isinstance(value, list):
            return [filled(it) for it in value]
        if isinstance(value, dict):
            return {key: filled(it) for key, it in value.items()}
        return stand_ins.get(value, value) if isinstance(value, str) else value

    whole = {"ImageId": cloud.image["ImageId"], "InstanceType": cloud.types[0], "MinCount": 1, "MaxCount": 1}
    whole |= {"SubnetId": cloud.subnet["SubnetId"], "ClientToken": unique()} | filled(asked)
    with refused(*codes):
        cloud.careless.run_instances(**{key: value for key, value in whole.items() if value is not None})
    assert cloud.found(where_named("client-token", whole["ClientToken"])) == []


@drover_only("it would take minutes to launch them all")
def test_more_than_a_thousand_are_refused(cloud):
    token = unique()
    with refused("InstanceLimitExceeded"):
        cloud.launch(MinCount=1001, MaxCount=1001, ClientToken=token)
    assert cloud.found(where_named("client-token", token)) == []


@differs("architectures are not compared")
def test_a_type_of_another_architecture_is_refused(cloud, ec2, yard):
    other = {"x86_64": "arm64", "arm64": "x86_64"}[cloud.image["Architecture"]]
    wanted = [where_named("processor-info.supported-architecture", other), where_named("instance-type", "t*.small")]
    [kind, *_] = ec2.describe_instance_types(Filters=wanted)["InstanceTypes"]
    with refused("InvalidParameterValue", "Unsupported"):
        yard.launch(InstanceType=kind["InstanceType"])


@differs("groups are unchecked")
def test_a_sixth_group_is_refused(yard):
    groups = [yard.group() for _ in range(6)]
    with refused("SecurityGroupsPerInterfaceLimitExceeded"):
        yard.launch(SecurityGroupIds=groups)
    yard.launch(SecurityGroupIds=groups[:5])


@drover_only("what EC2 has and drover-local has not is refused there, never ignored")
@pytest.mark.parametrize("asked", [{"DeviceIndex": 1}, {"AssociatePublicIpAddress": True}, "two"], ids=str)
def test_interfaces_that_are_not_modelled_are_refused(cloud, yard, asked):
    two = [interface(cloud), interface(cloud, DeviceIndex=1)]
    with refused("UnsupportedOperation"):
        yard.launch(NetworkInterfaces=two if asked == "two" else [interface(cloud, **asked)])


@differs("client tokens have no effect")
@pytest.mark.parametrize("where_", ["subnet", "zone", "neither"])
def test_a_token_counts_where_it_was_used(cloud, yard, where_):
    token = unique()
    zones = [
        {"subnet": {"SubnetId": cloud.subnets[zone]["SubnetId"]}, "zone": {"Placement": {"AvailabilityZone": zone}}}
        for zone in cloud.zones[:2]
    ]
    asked = [{"Placement": {}}, {"Placement": {}}] if where_ == "neither" else [it[where_] for it in zones]
    # Without subnet and zone a token counts in the region.
    first, other = (yard.new(ClientToken=token, **each) for each in asked)
    assert (first == other) is (where_ == "neither")
    assert yard.new(ClientToken=token, **asked[0]) == first


def test_the_tags_of_a_launch_are_those_of_all_its_instances(cloud, yard):
    name = unique()
    tagged = [spec(kind, {"contract": name}) for kind in ("instance", "volume")]
    yard.instances += [
        it["InstanceId"] for it in cloud.launch(MinCount=2, MaxCount=2, TagSpecifications=tagged)["Instances"]
    ]
    assert len(cloud.found(where_named("tag:contract", name))) == 2
    found = cloud.ec2.describe_volumes(Filters=[where_named("tag:contract", name)])["Volumes"]
    assert len({it["Attachments"][0]["InstanceId"] for it in found}) == 2
