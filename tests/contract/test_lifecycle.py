"""From pending to terminated: Start, Stop, Reboot and TerminateInstances, protection, and ModifyInstanceAttribute."""

import base64

import pytest
from cloud import MISSING, NO_INSTANCE, differs, refused, spec, unique, where, where_named

ACTIONS = ["start_instances", "stop_instances", "reboot_instances", "terminate_instances"]


def change(answer):
    """The one state change that an answer tells of: from, to."""
    [changed] = answer.get("StoppingInstances") or answer.get("StartingInstances") or answer["TerminatingInstances"]
    return changed["PreviousState"]["Name"], changed["CurrentState"]["Name"]


@pytest.fixture
def stopped(cloud, ec2, yard):
    """A stopped instance of this case's own."""
    instance = yard.run()
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    return instance


@pytest.fixture(scope="module")
def terminated(cloud, ec2, shared):
    instance = shared.run()
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    return instance


def test_stop_and_start(cloud, ec2, yard):
    instance = yard.run()
    before = cloud.instance(instance)
    assert change(ec2.stop_instances(InstanceIds=[instance])) == ("running", "stopping")
    cloud.wait("instance_stopped", instance)
    assert cloud.instance(instance)["State"] == {"Code": 80, "Name": "stopped"}
    assert change(ec2.start_instances(InstanceIds=[instance])) == ("stopped", "pending")
    cloud.wait("instance_running", instance)
    after = cloud.instance(instance)
    kept = ["PrivateIpAddress", "SubnetId", "ImageId", "BlockDeviceMappings", "SecurityGroups", "Placement"]
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    assert after["LaunchTime"] >= before["LaunchTime"]


@differs("states change at once")
def test_stopping_takes_its_time(cloud, ec2, yard):
    instance = yard.run()
    ec2.stop_instances(InstanceIds=[instance])
    assert cloud.instance(instance)["State"] == {"Code": 64, "Name": "stopping"}
    with refused("IncorrectInstanceState"):
        ec2.start_instances(InstanceIds=[instance])


@differs("states change at once")
def test_terminating_takes_its_time(cloud, ec2, yard):
    instance = yard.run()
    assert change(ec2.terminate_instances(InstanceIds=[instance])) == ("running", "shutting-down")
    assert cloud.instance(instance)["State"] == {"Code": 32, "Name": "shutting-down"}
    cloud.wait("instance_terminated", instance)


@differs("states change at once")
def test_a_pending_instance_cannot_be_stopped(ec2, yard):
    instance = yard.new()
    with refused("IncorrectInstanceState"):
        ec2.stop_instances(InstanceIds=[instance])


def test_a_pending_instance_can_be_terminated(cloud, ec2, yard):
    instance = yard.new()
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)


@pytest.mark.parametrize(
    "how", [{"Force": True}, {"Force": True, "SkipOsShutdown": True}, {"SkipOsShutdown": True}], ids=str
)
def test_a_forced_stop_stops(cloud, ec2, yard, how):
    instance = yard.run()
    ec2.stop_instances(InstanceIds=[instance], **how)
    cloud.wait("instance_stopped", instance)


def test_a_terminated_instance_stays_visible(cloud, terminated):
    seen = cloud.instance(terminated)
    assert seen["State"] == {"Code": 48, "Name": "terminated"}
    assert seen["StateTransitionReason"].startswith("User initiated")
    assert seen["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    wanted = where(instance_state_name="terminated", instance_id=terminated)
    assert cloud.found(*wanted) == [terminated]


@differs("a terminated instance keeps its interface and address")
def test_a_terminated_instance_holds_nothing(cloud, ec2, terminated):
    seen = cloud.instance(terminated)
    assert not seen["BlockDeviceMappings"] and not seen["NetworkInterfaces"]
    assert "PrivateIpAddress" not in seen
    assert ec2.describe_network_interfaces(Filters=where(attachment__instance_id=terminated))["NetworkInterfaces"] == []
    assert ec2.describe_volumes(Filters=where(attachment__instance_id=terminated))["Volumes"] == []


@differs("a terminated instance keeps its interface and address")
def test_an_address_is_free_again_after_termination(cloud, ec2, yard):
    address = cloud.address()
    instance = yard.new(PrivateIpAddress=address)
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    assert yard.launch(PrivateIpAddress=address)["PrivateIpAddress"] == address


@differs("a change that changes nothing is told as one")
def test_terminating_is_idempotent(ec2, terminated):
    assert change(ec2.terminate_instances(InstanceIds=[terminated])) == ("terminated", "terminated")


@differs("a terminated instance is started and stopped")
@pytest.mark.parametrize("action", ["start_instances", "stop_instances"])
def test_a_terminated_instance_never_comes_back(cloud, ec2, terminated, action):
    with refused("IncorrectInstanceState"):
        getattr(ec2, action)(InstanceIds=[terminated])
    assert cloud.state(terminated) == "terminated"


@differs("a reboot revives a terminated instance")
def test_rebooting_a_terminated_instance_is_ignored(cloud, ec2, terminated):
    ec2.reboot_instances(InstanceIds=[terminated])
    assert cloud.state(terminated) == "terminated"


def test_rebooting_keeps_the_instance(cloud, ec2, yard):
    instance = yard.run()
    before = cloud.instance(instance)
    ec2.reboot_instances(InstanceIds=[instance])
    cloud.wait("instance_running", instance)
    after = cloud.instance(instance)
    assert before["LaunchTime"] == after["LaunchTime"] and before["PrivateIpAddress"] == after["PrivateIpAddress"]


@differs("a change that changes nothing is told as one")
def test_stopping_what_is_stopped_changes_nothing(ec2, stopped):
    assert change(ec2.stop_instances(InstanceIds=[stopped])) == ("stopped", "stopped")


@differs("a change that changes nothing is told as one")
def test_starting_what_runs_changes_nothing(ec2, yard):
    assert change(ec2.start_instances(InstanceIds=[yard.run()])) == ("running", "running")


@pytest.mark.parametrize("action", ACTIONS)
def test_one_unknown_id_fails_the_call_and_changes_nothing(cloud, ec2, running, action):
    with refused("InvalidInstanceID.NotFound", status=400):
        getattr(ec2, action)(InstanceIds=[running, NO_INSTANCE])
    assert cloud.state(running) == "running"


@differs("the form of ids is unchecked")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_malformed_id_fails_the_call(ec2, running, action):
    with refused("InvalidInstanceID.Malformed", status=400):
        getattr(ec2, action)(InstanceIds=[running, "i-xyz"])


@differs("no ids are no error")
@pytest.mark.parametrize("action", ["StartInstances", "StopInstances", "RebootInstances", "TerminateInstances"])
def test_ids_are_required(cloud, action):
    assert cloud.code(action) in MISSING


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_changes_nothing(cloud, ec2, running, action):
    with refused("DryRunOperation", status=412):
        getattr(ec2, action)(InstanceIds=[running], DryRun=True)
    assert cloud.state(running) == "running"


# Protection


@pytest.mark.parametrize(
    "when", [pytest.param("launch", marks=differs("protection asked at launch is dropped")), "later"]
)
def test_a_protected_instance_is_not_terminated(cloud, ec2, yard, when):
    instance = yard.run(**({"DisableApiTermination": True} if when == "launch" else {}))
    if when == "later":
        ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    with refused("OperationNotPermitted"):
        ec2.terminate_instances(InstanceIds=[instance])
    assert cloud.state(instance) == "running"
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)


@pytest.mark.parametrize("when", ["launch", "later"])
@pytest.mark.parametrize("how", [{}, {"Force": True, "SkipOsShutdown": True}], ids=str)
def test_a_protected_instance_is_not_stopped(cloud, ec2, yard, when, how):
    instance = yard.run(**({"DisableApiStop": True} if when == "launch" else {}))
    if when == "later":
        ec2.modify_instance_attribute(InstanceId=instance, DisableApiStop={"Value": True})
    with refused("OperationNotPermitted"):
        ec2.stop_instances(InstanceIds=[instance], **how)
    assert cloud.state(instance) == "running"


@differs("stop protection does not keep from terminating")
def test_stop_protection_keeps_from_terminating_too(cloud, ec2, yard):
    instance = yard.run(DisableApiStop=True)
    with refused("OperationNotPermitted"):
        ec2.terminate_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiStop={"Value": False})
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)


def test_termination_protection_lets_stop_and_reboot_pass(cloud, ec2, yard):
    instance = yard.run()
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    ec2.reboot_instances(InstanceIds=[instance])
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)


@differs("one protected instance saves all, in every zone")
def test_one_protected_instance_saves_its_zone_only(cloud, ec2, yard):
    subnets = [cloud.subnets[cloud.zones[zone]]["SubnetId"] for zone in (0, 0, 1)]
    beside, protected, elsewhere = (yard.run(SubnetId=subnet) for subnet in subnets)
    ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    with refused("OperationNotPermitted"):
        ec2.terminate_instances(InstanceIds=[beside, protected, elsewhere])
    cloud.wait("instance_terminated", elsewhere)
    assert (cloud.state(beside), cloud.state(protected)) == ("running", "running")


# Attributes


ATTRIBUTES = [
    ("disableApiTermination", "DisableApiTermination", {"Value": False}),
    ("disableApiStop", "DisableApiStop", {"Value": False}),
    ("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior", {"Value": "stop"}),
    ("sourceDestCheck", "SourceDestCheck", {"Value": True}),
]


@pytest.mark.parametrize(("attribute", "field", "value"), ATTRIBUTES)
def test_an_attribute_as_it_is_by_default(ec2, running, attribute, field, value):
    answer = ec2.describe_instance_attribute(InstanceId=running, Attribute=attribute)
    assert answer["InstanceId"] == running
    assert answer[field] == value


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


@differs("type and user data change while the instance runs")
@pytest.mark.parametrize("asked", [{"InstanceType": {"Value": None}}, {"UserData": {"Value": b"x"}}], ids=str)
def test_type_and_user_data_do_not_change_while_running(cloud, ec2, running, asked):
    if "InstanceType" in asked:
        asked = {"InstanceType": {"Value": cloud.types[1]}}
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=running, **asked)
    assert cloud.instance(running)["InstanceType"] == cloud.types[0]


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


@differs("instance types are not looked up")
def test_an_unknown_type_is_refused(ec2, stopped):
    with refused("InvalidInstanceAttributeValue", "InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": "t1.unheard"})


def test_tags_survive_a_stop(cloud, ec2, yard):
    name = unique()
    instance = yard.run(TagSpecifications=[spec("instance", {"contract": name})])
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    assert cloud.found(where_named("tag:contract", name)) == [instance]
