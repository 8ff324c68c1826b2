"""DescribeInstanceAttribute and ModifyInstanceAttribute: both of its forms, what they change, when, and what they refuse."""

import base64

import pytest
from cloud import MISSING, NO_INSTANCE, differs, refused

ATTRIBUTES = [
    ("disableApiTermination", "DisableApiTermination", {"Value": False}),
    ("disableApiStop", "DisableApiStop", {"Value": False}),
    ("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior", {"Value": "stop"}),
    ("sourceDestCheck", "SourceDestCheck", {"Value": True}),
    ("ebsOptimized", "EbsOptimized", {"Value": False}),
    pytest.param("enaSupport", "EnaSupport", {"Value": True}, marks=differs("attribute not known")),
    ("kernel", "KernelId", {}),
    ("ramdisk", "RamdiskId", {}),
    pytest.param("enclaveOptions", "EnclaveOptions", {"Enabled": False}, marks=differs("attribute not known")),
    ("productCodes", "ProductCodes", []),
    pytest.param("sriovNetSupport", "SriovNetSupport", {}, marks=differs("said of every instance")),
]


@pytest.mark.parametrize(("attribute", "field", "value"), ATTRIBUTES)
def test_an_attribute_as_it_is_by_default(ec2, running, attribute, field, value):
    answer = ec2.describe_instance_attribute(InstanceId=running, Attribute=attribute)
    assert answer["InstanceId"] == running
    assert answer.get(field, type(value)()) == value


@pytest.mark.parametrize(
    ("attribute", "field", "value"),
    [
        ("disableApiTermination", "DisableApiTermination", {"Value": True}),
        ("disableApiStop", "DisableApiStop", {"Value": True}),
        ("sourceDestCheck", "SourceDestCheck", {"Value": False}),
        pytest.param(
            *("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior", {"Value": "terminate"}),
            marks=differs("the shutdown behaviour cannot be changed"),
        ),
    ],
)
def test_a_changed_attribute_is_read_back(ec2, yard, attribute, field, value):
    instance = yard.new()
    ec2.modify_instance_attribute(InstanceId=instance, **{field: value})
    assert ec2.describe_instance_attribute(InstanceId=instance, Attribute=attribute)[field] == value


def test_attributes_that_repeat_the_description(cloud, ec2, running):
    seen = cloud.instance(running)
    for attribute, field, value in [
        ("instanceType", "InstanceType", {"Value": seen["InstanceType"]}),
        ("rootDeviceName", "RootDeviceName", {"Value": seen["RootDeviceName"]}),
    ]:
        answer = ec2.describe_instance_attribute(InstanceId=running, Attribute=attribute)
        assert answer[field] == value


@differs("the attribute blockDeviceMapping is empty")
def test_the_attribute_block_device_mapping(cloud, ec2, running):
    [seen] = cloud.instance(running)["BlockDeviceMappings"]
    answer = ec2.describe_instance_attribute(InstanceId=running, Attribute="blockDeviceMapping")
    [told] = answer["BlockDeviceMappings"]
    assert (told["DeviceName"], told["Ebs"]["VolumeId"]) == (seen["DeviceName"], seen["Ebs"]["VolumeId"])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"InstanceId": NO_INSTANCE, "Attribute": "userData"}, "InvalidInstanceID.NotFound"),
        ({"Attribute": "colour"}, "InvalidParameterValue"),
        pytest.param({"Attribute": "userData", "DryRun": True}, "DryRunOperation", marks=differs("DryRun is ignored")),
    ],
    ids=str,
)
def test_reading_an_attribute_is_refused(ec2, running, asked, code):
    with refused(code):
        ec2.describe_instance_attribute(**{"InstanceId": running} | asked)


def test_no_user_data_is_no_value(ec2, running):
    assert not ec2.describe_instance_attribute(InstanceId=running, Attribute="userData")["UserData"].get("Value")


def test_the_old_form_of_modify(ec2, yard):
    instance = yard.new()
    ec2.modify_instance_attribute(InstanceId=instance, Attribute="disableApiTermination", Value="true")
    answer = ec2.describe_instance_attribute(InstanceId=instance, Attribute="disableApiTermination")
    assert answer["DisableApiTermination"] == {"Value": True}


@differs("the old form changes a running instance")
def test_the_old_form_has_the_same_rules(cloud, ec2, stopped, running):
    asked = {"Attribute": "instanceType", "Value": cloud.types[1]}
    ec2.modify_instance_attribute(InstanceId=stopped, **asked)
    assert cloud.instance(stopped)["InstanceType"] == cloud.types[1]
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=running, **asked)


@differs("the old form knows any attribute")
@pytest.mark.parametrize("attribute", ["colour", "enaSupport", "rootDeviceName"])
def test_the_old_form_of_what_cannot_be_changed(ec2, running, attribute):
    with refused("InvalidParameterValue", "InvalidParameterCombination"):
        ec2.modify_instance_attribute(InstanceId=running, Attribute=attribute, Value="false")


@differs("the attribute ebsOptimized is not shown")
def test_ebs_optimisation_changes_while_stopped(cloud, ec2, stopped, running):
    ec2.modify_instance_attribute(InstanceId=stopped, EbsOptimized={"Value": True})
    assert cloud.instance(stopped)["EbsOptimized"] is True
    answer = ec2.describe_instance_attribute(InstanceId=stopped, Attribute="ebsOptimized")
    assert answer["EbsOptimized"] == {"Value": True}
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=running, EbsOptimized={"Value": True})


@differs("a terminated instance is changed")
def test_a_terminated_instance_does_not_change(ec2, terminated):
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=terminated, DisableApiTermination={"Value": True})


def test_the_attribute_group_set(cloud, ec2, running):
    answer = ec2.describe_instance_attribute(InstanceId=running, Attribute="groupSet")
    seen = cloud.instance(running)["SecurityGroups"]
    assert [it["GroupId"] for it in answer["Groups"]] == [it["GroupId"] for it in seen]


def test_the_type_changes_while_stopped(cloud, ec2, stopped):
    ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": cloud.types[1]})
    assert cloud.instance(stopped)["InstanceType"] == cloud.types[1]


@differs("user data is decoded twice")
def test_user_data_changes_while_stopped(ec2, stopped):
    ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b"#!/bin/sh\n"})
    answer = ec2.describe_instance_attribute(InstanceId=stopped, Attribute="userData")
    assert base64.b64decode(answer["UserData"]["Value"]) == b"#!/bin/sh\n"


@differs("user data of any size and form is accepted")
def test_user_data_has_the_same_limit_later(ec2, stopped):
    ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b"x" * 16384})
    with refused("InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b"x" * 16385})
    answer = ec2.describe_instance_attribute(InstanceId=stopped, Attribute="userData")
    assert base64.b64decode(answer["UserData"]["Value"]) == b"x" * 16384


@differs("type and user data change while the instance runs")
@pytest.mark.parametrize("asked", [{"InstanceType": {"Value": None}}, {"UserData": {"Value": b"x"}}], ids=str)
def test_type_and_user_data_do_not_change_while_running(cloud, ec2, running, asked):
    if "InstanceType" in asked:
        asked = {"InstanceType": {"Value": cloud.types[1]}}
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=running, **asked)
    assert cloud.instance(running)["InstanceType"] == cloud.types[0]


@differs("type and user data change while the instance runs")
def test_user_data_does_not_change_before_the_instance_runs(ec2, yard):
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=yard.new(), UserData={"Value": b"x"})


@differs("devices are unchecked")
def test_one_unknown_device_changes_nothing_of_the_others(cloud, ec2, running):
    [root] = cloud.instance(running)["BlockDeviceMappings"]
    asked = [{"DeviceName": name, "Ebs": {"DeleteOnTermination": False}} for name in (root["DeviceName"], "/dev/sdz")]
    with refused("InvalidInstanceAttributeValue", "InvalidParameterValue", "InvalidBlockDeviceMapping"):
        ec2.modify_instance_attribute(InstanceId=running, BlockDeviceMappings=asked)
    assert cloud.instance(running)["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True


def test_delete_on_termination_is_set_by_device(cloud, ec2, yard):
    instance = yard.run()
    [mapping] = cloud.instance(instance)["BlockDeviceMappings"]
    yard.volumes.append(mapping["Ebs"]["VolumeId"])
    asked = [{"DeviceName": mapping["DeviceName"], "Ebs": {"DeleteOnTermination": False}}]
    ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=asked)
    [changed] = cloud.instance(instance)["BlockDeviceMappings"]
    assert changed["Ebs"]["DeleteOnTermination"] is False
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    cloud.wait("volume_available", mapping["Ebs"]["VolumeId"])


@differs("groups of the interface are united, not replaced")
def test_groups_are_replaced_not_united(cloud, ec2, yard):
    instance, groups = yard.new(), [yard.group(), yard.group()]
    for asked in (groups, groups[:1]):
        ec2.modify_instance_attribute(InstanceId=instance, Groups=asked)
        seen = [it["GroupId"] for it in cloud.instance(instance)["SecurityGroups"]]
        assert sorted(seen) == sorted(asked)
        assert sorted(it["GroupId"] for it in cloud.interface(instance)["Groups"]) == sorted(asked)


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"InstanceId": NO_INSTANCE, "DisableApiStop": {"Value": True}}, ["InvalidInstanceID.NotFound"]),
        pytest.param(
            {"Groups": ["sg-0123456789abcdef0"]}, ["InvalidGroup.NotFound"], marks=differs("groups are not looked up")
        ),
        ({"DisableApiStop": {"Value": True}, "DryRun": True}, ["DryRunOperation"]),
        pytest.param(
            {"DisableApiStop": {"Value": True}, "DisableApiTermination": {"Value": True}},
            ["InvalidParameterCombination"],
            marks=differs("two attributes at once are accepted"),
        ),
        pytest.param({}, MISSING, marks=differs("no attribute at all is accepted")),
        pytest.param(
            {"InstanceInitiatedShutdownBehavior": {"Value": "explode"}},
            ["InvalidParameterValue"],
            marks=differs("values are unchecked"),
        ),
        pytest.param(
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sdz", "Ebs": {"DeleteOnTermination": True}}]},
            ["InvalidInstanceAttributeValue", "InvalidParameterValue", "InvalidBlockDeviceMapping"],
            marks=differs("devices are unchecked"),
        ),
    ],
    ids=str,
)
def test_modify_is_refused(ec2, running, asked, codes):
    with refused(*codes):
        ec2.modify_instance_attribute(**{"InstanceId": running} | asked)
    answer = ec2.describe_instance_attribute(InstanceId=running, Attribute="disableApiStop")
    assert answer["DisableApiStop"] == {"Value": False}


@differs("groups are unchecked")
def test_groups_are_one_to_five_each_once(cloud, ec2, yard, running):
    groups = [yard.group() for _ in range(6)]
    with refused("SecurityGroupsPerInterfaceLimitExceeded"):
        ec2.modify_instance_attribute(InstanceId=running, Groups=groups)
    with refused("InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=running, Groups=groups[:1] * 2)
    assert [it["GroupId"] for it in cloud.instance(running)["SecurityGroups"]] == [cloud.group]


@differs("instance types are not looked up")
def test_an_unknown_type_is_refused(cloud, ec2, stopped):
    with refused("InvalidInstanceAttributeValue", "InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": "t1.unheard"})
    # Nor does what is installed run on another architecture.
    other = {"x86_64": "t4g.small", "arm64": "t3.small"}[cloud.image["Architecture"]]
    with refused("InvalidInstanceAttributeValue", "InvalidParameterValue", "InvalidParameterCombination"):
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": other})
    assert cloud.instance(stopped)["InstanceType"] == cloud.types[0]
