"""From pending to terminated: Start, Stop, Reboot and TerminateInstances, and what protects from them."""

from datetime import UTC, datetime, timedelta

import pytest
from cloud import MISSING, NO_INSTANCE, differs, outcome, refused, spec, unique, where, where_named

ACTIONS = ["start_instances", "stop_instances", "reboot_instances", "terminate_instances"]


def change(answer):
    """The one state change that an answer tells of: from, to."""
    [changed] = answer.get("StoppingInstances") or answer.get("StartingInstances") or answer["TerminatingInstances"]
    return changed["PreviousState"]["Name"], changed["CurrentState"]["Name"]


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


@differs("the launch time of a restarted instance stays")
def test_a_start_is_a_new_launch(cloud, ec2, stopped):
    before = cloud.instance(stopped)
    assert before["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert before["StateTransitionReason"].startswith("User initiated")
    # Launch times are whole seconds: the next one must have begun.
    later = before["LaunchTime"] + timedelta(seconds=1)
    cloud.until(lambda: datetime.now(UTC) > later, "another second")
    ec2.start_instances(InstanceIds=[stopped])
    cloud.wait("instance_running", stopped)
    after = cloud.instance(stopped)
    assert after["LaunchTime"] >= later
    assert "StateReason" not in after and not after["StateTransitionReason"]


@differs("an instance starts without a root volume")
def test_nothing_starts_without_its_root_volume(cloud, ec2, stopped):
    [root] = cloud.instance(stopped)["BlockDeviceMappings"]
    ec2.detach_volume(VolumeId=root["Ebs"]["VolumeId"])
    cloud.wait("volume_available", root["Ebs"]["VolumeId"])
    with refused("IncorrectInstanceState"):
        ec2.start_instances(InstanceIds=[stopped])
    ec2.attach_volume(VolumeId=root["Ebs"]["VolumeId"], InstanceId=stopped, Device=root["DeviceName"])
    ec2.start_instances(InstanceIds=[stopped])
    cloud.wait("instance_running", stopped)
    # Attached by hand, it is not to go with the instance any more.
    ec2.terminate_instances(InstanceIds=[stopped])
    cloud.wait("instance_terminated", stopped)
    ec2.delete_volume(VolumeId=root["Ebs"]["VolumeId"])


@differs("states change at once")
def test_stopping_takes_its_time(cloud, ec2, yard):
    def stopping():
        instance = yard.run()
        ec2.stop_instances(InstanceIds=[instance])
        seen = cloud.instance(instance)["State"] == {"Code": 64, "Name": "stopping"}
        return seen and outcome(ec2.start_instances, InstanceIds=[instance])[0] == "IncorrectInstanceState"

    cloud.catch(stopping, "an instance is stopping, and not to be started")


@differs("states change at once")
def test_terminating_takes_its_time(cloud, ec2, yard):
    def terminating():
        instance = yard.run()
        assert change(ec2.terminate_instances(InstanceIds=[instance])) == ("running", "shutting-down")
        return cloud.instance(instance)["State"] == {"Code": 32, "Name": "shutting-down"}

    cloud.catch(terminating, "an instance is shutting down")


@differs("states change at once")
def test_a_pending_instance_cannot_be_stopped(cloud, ec2, yard):
    def refused_while_pending():
        return outcome(ec2.stop_instances, InstanceIds=[yard.new()]) == ("IncorrectInstanceState", 400)

    cloud.catch(refused_while_pending, "a pending instance is not to be stopped")


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


@differs("a terminated instance is started and stopped")
@pytest.mark.parametrize("action", ["start_instances", "stop_instances"])
def test_an_instance_that_is_being_terminated_does_not_come_back(cloud, ec2, yard, action):
    instance = yard.run()
    ec2.terminate_instances(InstanceIds=[instance])
    with refused("IncorrectInstanceState"):
        getattr(ec2, action)(InstanceIds=[instance])


@differs("a stopped instance is rebooted")
def test_an_instance_that_is_being_stopped(ec2, yard):
    instance = yard.run()
    ec2.stop_instances(InstanceIds=[instance])
    assert change(ec2.stop_instances(InstanceIds=[instance]))[1] in ("stopping", "stopped")
    with refused("IncorrectInstanceState"):
        ec2.reboot_instances(InstanceIds=[instance])


@differs("states change at once")
def test_without_the_shutdown_of_the_system_a_stop_is_sooner(cloud, ec2, yard):
    def sooner():
        gracefully, later, at_once = (yard.new() for _ in range(3))
        cloud.wait("instance_running", gracefully, later, at_once)
        ec2.stop_instances(InstanceIds=[gracefully, later])
        ec2.stop_instances(InstanceIds=[at_once], SkipOsShutdown=True)
        # An order that came before is no obstacle.
        ec2.stop_instances(InstanceIds=[later], SkipOsShutdown=True)

        def seen():
            found = ec2.describe_instances(InstanceIds=[gracefully, later, at_once])["Reservations"]
            states = {it["InstanceId"]: it["State"]["Name"] for group in found for it in group["Instances"]}
            return [states[it] for it in (at_once, later, gracefully)]

        cloud.until(lambda: seen()[:2] == ["stopped"] * 2 or seen()[2] == "stopped", "one of them is stopped")
        return seen() == ["stopped", "stopped", "stopping"]

    cloud.catch(sooner, "those without a shutdown are stopped first")


@differs("a stopped instance is rebooted")
def test_a_stopped_instance_is_not_rebooted(cloud, ec2, stopped):
    with refused("IncorrectInstanceState"):
        ec2.reboot_instances(InstanceIds=[stopped])
    assert cloud.state(stopped) == "stopped"


def test_a_stopped_instance_is_terminated(cloud, ec2, stopped):
    before, after = change(ec2.terminate_instances(InstanceIds=[stopped]))
    assert before == "stopped" and after in ("shutting-down", "terminated")
    cloud.wait("instance_terminated", stopped)


@differs("hibernation is not configured, and no error")
def test_hibernation_must_have_been_configured(cloud, ec2, yard):
    instance = yard.run()
    with refused("UnsupportedHibernationConfiguration", "UnsupportedOperation"):
        ec2.stop_instances(InstanceIds=[instance], Hibernate=True)
    assert cloud.state(instance) == "running"


@differs("an id named twice is told twice")
def test_an_id_named_twice_is_one_instance(ec2, yard):
    instance = yard.run()
    assert change(ec2.stop_instances(InstanceIds=[instance] * 2)) == ("running", "stopping")
    [reservation] = ec2.describe_instances(InstanceIds=[instance] * 2)["Reservations"]
    assert len(reservation["Instances"]) == 1


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


@differs("a terminated instance is changed")
def test_protection_that_comes_too_late_is_no_error(cloud, ec2, yard):
    instance = yard.run()
    ec2.terminate_instances(InstanceIds=[instance])
    outcome(ec2.modify_instance_attribute, InstanceId=instance, DisableApiTermination={"Value": True})
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


def test_tags_survive_a_stop(cloud, ec2, yard):
    name = unique()
    instance = yard.run(TagSpecifications=[spec("instance", {"contract": name})])
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    assert cloud.found(where_named("tag:contract", name)) == [instance]
