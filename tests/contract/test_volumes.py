"""Volumes: AttachVolume and DetachVolume and their rules, what becomes of a volume at its instance's end, DescribeVolumes."""

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, MISSING, NO_INSTANCE, NO_VOLUME, differs, outcome, refused, spec, unique
from cloud import where, where_named

DEVICE = "/dev/sdf"


@pytest.fixture
def attached(cloud, ec2, yard):
    """A volume attached to a running instance: their ids."""
    instance, volume = yard.run(), yard.volume()
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
    cloud.wait("volume_in_use", volume)
    cloud.until(lambda: cloud.volume(volume)["Attachments"][0]["State"] == "attached", "the volume is attached")
    return instance, volume


def test_attaching(cloud, ec2, yard):
    instance, volume = yard.run(), yard.volume()
    answer = ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
    told = {"VolumeId": volume, "InstanceId": instance, "Device": DEVICE}
    assert told.items() <= answer.items()
    assert answer["State"] in ("attaching", "attached")
    cloud.wait("volume_in_use", volume)
    seen = cloud.until(
        lambda: [it for it in cloud.volume(volume)["Attachments"] if it["State"] == "attached"],
        "the volume is attached",
    )
    assert told.items() <= seen[0].items()
    mappings = {it["DeviceName"]: it["Ebs"]["VolumeId"] for it in cloud.instance(instance)["BlockDeviceMappings"]}
    assert mappings[DEVICE] == volume and len(mappings) == 2


@differs("volumes are attached and detached at once")
def test_attaching_and_detaching_have_begun_when_they_are_answered(cloud, ec2, yard):
    instance, volume = yard.run(), yard.volume()
    assert ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)["State"] == "attaching"
    cloud.until(lambda: cloud.volume(volume)["Attachments"][0]["State"] == "attached", "the volume is attached")
    assert ec2.detach_volume(VolumeId=volume)["State"] == "detaching"


@differs("DeleteOnTermination of volumes attached later is not told")
def test_a_volume_attached_later_is_to_stay(cloud, attached):
    assert cloud.volume(attached[1])["Attachments"][0]["DeleteOnTermination"] is False


def test_attaching_to_a_stopped_instance(cloud, ec2, yard):
    instance, volume = yard.run(), yard.volume()
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
    cloud.wait("volume_in_use", volume)
    ec2.start_instances(InstanceIds=[instance])
    cloud.wait("instance_running", instance)
    assert cloud.volume(volume)["Attachments"][0]["InstanceId"] == instance


@differs("zones of volume and instance are not compared")
def test_a_volume_of_another_zone_is_refused(cloud, ec2, yard):
    instance, volume = yard.run(), yard.volume(AvailabilityZone=cloud.zones[1])
    with refused("InvalidVolume.ZoneMismatch", "InvalidVolumeID.ZoneMismatch"):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)
    assert cloud.volume(volume)["State"] == "available"


@differs("an attached volume is attached again")
@pytest.mark.parametrize("to", ["same", "other"])
def test_an_attached_volume_is_not_attached_again(cloud, ec2, yard, attached, to):
    instance, volume = attached
    target = instance if to == "same" else yard.run()
    with refused("VolumeInUse"):
        ec2.attach_volume(VolumeId=volume, InstanceId=target, Device="/dev/sdg")
    assert [it["InstanceId"] for it in cloud.volume(volume)["Attachments"]] == [instance]


@differs("two volumes share a device")
def test_a_device_is_taken_once(ec2, yard, attached):
    instance, _ = attached
    other = yard.volume()
    with refused("InvalidParameterValue", "InvalidDevice.InUse"):
        ec2.attach_volume(VolumeId=other, InstanceId=instance, Device=DEVICE)


@differs("volumes are available at once")
def test_a_volume_is_not_attached_before_it_is_available(cloud, ec2, yard):
    instance = yard.run()

    def too_early():
        volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
        yard.volumes.append(volume)
        told = outcome(ec2.attach_volume, VolumeId=volume, InstanceId=instance, Device=DEVICE)
        if told[0] == "ok":
            cloud.wait("volume_in_use", volume)
            ec2.detach_volume(VolumeId=volume)
        cloud.wait("volume_available", volume)
        return told == ("IncorrectState", 400)

    cloud.catch(too_early, "a volume that is being created is not attached")


@differs("states change at once")
def test_nothing_is_attached_to_a_pending_instance(cloud, ec2, yard):
    volume = yard.volume()

    def refused_while_pending():
        told = outcome(ec2.attach_volume, VolumeId=volume, InstanceId=yard.new(), Device=DEVICE)
        if told[0] == "ok":
            cloud.wait("volume_in_use", volume)
            cloud.wait("instance_running", yard.instances[-1])
            ec2.detach_volume(VolumeId=volume)
            cloud.wait("volume_available", volume)
        return told == ("IncorrectState", 400)

    cloud.catch(refused_while_pending, "nothing is attached to a pending instance")


@differs("states change at once")
def test_while_an_instance_stops_its_volumes_are_as_they_are(cloud, ec2, yard):
    volume = yard.volume()

    def refused_while_stopping():
        instance = yard.run()
        root = cloud.instance(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        ec2.stop_instances(InstanceIds=[instance])
        told = [
            outcome(ec2.attach_volume, VolumeId=volume, InstanceId=instance, Device=DEVICE)[0],
            outcome(ec2.detach_volume, VolumeId=root)[0],
        ]
        if cloud.state(instance) == "stopping":
            assert told == ["IncorrectState", "OperationNotPermitted"]
            return True
        if told[0] == "ok":
            ec2.detach_volume(VolumeId=volume)
            cloud.wait("volume_available", volume)
        yard.volumes += [root] if told[1] == "ok" else []
        return False

    cloud.catch(refused_while_stopping, "an instance is stopping")


@differs("volumes are attached to terminated instances")
def test_nothing_is_attached_to_a_terminated_instance(cloud, ec2, yard):
    instance, volume = yard.run(), yard.volume()
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    with refused("IncorrectState", "IncorrectInstanceState"):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)


@pytest.mark.parametrize("action", ["attach_volume", "detach_volume"])
@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"VolumeId": NO_VOLUME}, ["InvalidVolume.NotFound"]),
        # That the volume is not attached at all is as good a reason as that there is no such instance.
        ({"InstanceId": NO_INSTANCE}, ["InvalidInstanceID.NotFound", "IncorrectState"]),
        ({"DryRun": True}, ["DryRunOperation"]),
    ],
    ids=str,
)
def test_attach_and_detach_are_refused(ec2, running, idle, action, asked, codes):
    with refused(*codes, status=412 if "DryRun" in asked else 400):
        getattr(ec2, action)(**{"VolumeId": idle, "InstanceId": running, "Device": DEVICE} | asked)


@differs("devices are unchecked")
def test_a_volume_is_attached_as_something(ec2, running, idle):
    with refused(*MISSING, "InvalidParameterValue"):
        ec2.attach_volume(VolumeId=idle, InstanceId=running, Device="")


@differs("devices are unchecked")
@pytest.mark.parametrize("name", ["/dev/sdi1", "/dev/sdaa", "/dev/nvme1n1", "/dev/hda", "data", "/dev/xvdez"])
def test_a_device_has_a_name_that_ec2_knows(ec2, yard, running, idle, name):
    with refused("InvalidParameterValue"):
        ec2.attach_volume(VolumeId=idle, InstanceId=running, Device=name)
    with refused("InvalidBlockDeviceMapping"):
        yard.launch(BlockDeviceMappings=[{"DeviceName": name, "Ebs": {"VolumeSize": 1}}])


@differs("volumes of an instance are not counted")
def test_an_instance_has_room_for_so_many_volumes(cloud, ec2, yard):
    # Of Nitro: 28 attachments, one of which is the interface; or 32 volumes, of types with room for nothing but volumes.
    most = 32 if cloud.types[0].startswith("m7i.") else 27
    names = [f"/dev/sd{chr(letter)}" for letter in range(ord("b"), ord("z") + 1)]
    names += [f"/dev/xvdb{chr(letter)}" for letter in range(ord("a"), ord("x") + 1)]
    devices = [{"DeviceName": name, "Ebs": {"VolumeSize": 1}} for name in names]
    with refused("AttachmentLimitExceeded"):
        yard.launch(BlockDeviceMappings=devices[:most])
    instance = yard.run(BlockDeviceMappings=devices[: most - 1])
    assert len(cloud.instance(instance)["BlockDeviceMappings"]) == most
    with refused("AttachmentLimitExceeded"):
        ec2.attach_volume(VolumeId=yard.volume(), InstanceId=instance, Device=names[most])


@pytest.fixture(scope="module")
def idle(shared):
    """A volume that nobody attaches."""
    return shared.volume()


@differs("an instance whose volume was detached cannot be described")
def test_detaching(cloud, ec2, attached):
    instance, volume = attached
    answer = ec2.detach_volume(VolumeId=volume)
    assert {"VolumeId": volume, "InstanceId": instance, "Device": DEVICE}.items() <= answer.items()
    cloud.wait("volume_available", volume)
    assert cloud.volume(volume)["Attachments"] == []
    assert len(cloud.instance(instance)["BlockDeviceMappings"]) == 1
    # Device and volume are free for others.
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE)


def test_detaching_by_force(cloud, ec2, attached):
    instance, volume = attached
    ec2.detach_volume(VolumeId=volume, InstanceId=instance, Device=DEVICE, Force=True)
    cloud.wait("volume_available", volume)


@differs("detaching is unchecked, or another error")
def test_detaching_what_is_not_attached(cloud, ec2, yard, attached):
    _, volume = attached
    other, unattached = yard.run(), yard.volume()
    with refused("InvalidAttachment.NotFound"):
        ec2.detach_volume(VolumeId=volume, InstanceId=other)
    with refused("InvalidAttachment.NotFound"):
        ec2.detach_volume(VolumeId=volume, Device="/dev/sdz")
    with refused("IncorrectState", "InvalidAttachment.NotFound"):
        ec2.detach_volume(VolumeId=unattached)
    assert cloud.volume(volume)["State"] == "in-use"


@differs("the root volume of a running instance is detached")
def test_the_root_volume_stays_while_the_instance_runs(cloud, ec2, yard):
    instance = yard.run()
    root = cloud.instance(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    with refused("OperationNotPermitted"):
        ec2.detach_volume(VolumeId=root)
    assert cloud.volume(root)["State"] == "in-use"


def test_the_root_volume_of_a_stopped_instance_can_be_detached(cloud, ec2, stopped):
    [mapping] = cloud.instance(stopped)["BlockDeviceMappings"]
    root = mapping["Ebs"]["VolumeId"]
    ec2.detach_volume(VolumeId=root, InstanceId=stopped, Device=mapping["DeviceName"])
    cloud.wait("volume_available", root)
    assert cloud.instance(stopped)["BlockDeviceMappings"] == []
    ec2.delete_volume(VolumeId=root)


def test_a_volume_attached_later_outlives_its_instance(cloud, ec2, attached):
    instance, volume = attached
    root = cloud.instance(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    cloud.wait("volume_available", volume)
    cloud.wait("volume_deleted", root)


@differs("DeleteOnTermination of volumes attached later has no effect")
def test_unless_it_is_marked_to_go(cloud, ec2, attached):
    instance, volume = attached
    asked = [{"DeviceName": DEVICE, "Ebs": {"DeleteOnTermination": True}}]
    ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=asked)
    assert cloud.volume(volume)["Attachments"][0]["DeleteOnTermination"] is True
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    cloud.wait("volume_deleted", volume)


def test_an_attached_volume_is_not_deleted(cloud, ec2, attached):
    _, volume = attached
    with refused("VolumeInUse"):
        ec2.delete_volume(VolumeId=volume)
    assert cloud.volume(volume)["State"] == "in-use"


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"VolumeIds": [NO_VOLUME]}, ["InvalidVolume.NotFound"]),
        pytest.param(
            {"VolumeIds": ["vol-xyz"]},
            ["InvalidVolumeID.Malformed", "InvalidParameterValue"],
            marks=differs("the form of ids is unchecked"),
        ),
        pytest.param({"MaxResults": 4}, BAD_PAGE_SIZE, marks=differs("volumes are not paginated")),
        pytest.param({"MaxResults": 1001}, BAD_PAGE_SIZE, marks=differs("volumes are not paginated")),
        pytest.param({"NextToken": "made-up"}, BAD_PAGE_TOKEN, marks=differs("volumes are not paginated")),
        pytest.param(
            {"MaxResults": 5, "VolumeIds": None},
            ["InvalidParameterCombination"],
            marks=differs("volumes are not paginated"),
        ),
        pytest.param({"Filters": where(no_such="x")}, ["InvalidParameterValue"], marks=differs("filter not known")),
        pytest.param({"DryRun": True}, ["DryRunOperation"], marks=differs("DryRun is ignored")),
    ],
    ids=str,
)
def test_describe_is_refused(ec2, idle, asked, codes):
    if asked.get("VolumeIds", ()) is None:
        asked = asked | {"VolumeIds": [idle]}
    with refused(*codes):
        ec2.describe_volumes(**asked)


class Shelf:
    """Six volumes: v0 attached, the others by zone, size and type; all with one tag."""

    def __init__(self, cloud, shared):
        self.run = unique()
        self.instance = shared.run()
        self.ids = {}
        for n in range(6):
            asked = {"AvailabilityZone": cloud.zones[n % 2], "Size": 1 + n // 3, "VolumeType": ["gp3", "gp2"][n // 4]}
            own = spec("volume", {"run": self.run, "Name": f"v{n}", **({"odd": ""} if n % 2 else {})})
            self.ids[f"v{n}"] = shared.volume(**asked, TagSpecifications=[own])
        cloud.ec2.attach_volume(VolumeId=self.ids["v0"], InstanceId=self.instance, Device=DEVICE)
        cloud.until(lambda: cloud.volume(self.ids["v0"])["Attachments"][0]["State"] == "attached", "v0 is attached")


@pytest.fixture(scope="module")
def shelf(cloud, shared):
    return Shelf(cloud, shared)


def test_named_volumes_only(ec2, shelf):
    ids = [shelf.ids["v0"], shelf.ids["v4"]]
    assert sorted(it["VolumeId"] for it in ec2.describe_volumes(VolumeIds=ids)["Volumes"]) == sorted(ids)


@differs("filter not known, or another value than the one shown")
@pytest.mark.parametrize("name", ["create-time", "attachment.attach-time", "availability-zone-id", "snapshot-id"])
def test_filters_of_what_is_shown(cloud, ec2, shelf, name):
    [mapping] = [it for it in cloud.instance(shelf.instance)["BlockDeviceMappings"] if it["DeviceName"] != DEVICE]
    root = cloud.volume(mapping["Ebs"]["VolumeId"])
    form = "%Y-%m-%dT%H:%M:%S.000Z"
    value = {
        "create-time": root["CreateTime"].strftime(form),
        "attachment.attach-time": root["Attachments"][0]["AttachTime"].strftime(form),
        "availability-zone-id": cloud.subnet["AvailabilityZoneId"],
        "snapshot-id": root["SnapshotId"],
    }[name]
    assert value
    wanted = where(volume_id=root["VolumeId"])
    for asked, count in [(value, 1), ("nothing-like-it", 0)]:
        assert len(ec2.describe_volumes(Filters=[where_named(name, asked), *wanted])["Volumes"]) == count


VOLUMES = [f"v{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, VOLUMES),
        ({"status": "available"}, VOLUMES[1:]),
        ({"status": "in-use"}, ["v0"]),
        ({"status": ["in-use", "available"]}, VOLUMES),
        ({"size": "2"}, ["v3", "v4", "v5"]),
        ({"volume-type": "gp2"}, ["v4", "v5"]),
        ({"volume-type": "gp?", "size": "2"}, ["v3", "v4", "v5"]),
        ({"availability-zone": "ZONE1"}, ["v1", "v3", "v5"]),
        ({"attachment.instance-id": "INSTANCE"}, ["v0"]),
        ({"attachment.device": DEVICE, "attachment.status": "attached"}, ["v0"]),
        pytest.param(
            {"attachment.delete-on-termination": "false"},
            ["v0"],
            marks=differs("DeleteOnTermination of volumes attached later is not told"),
        ),
        ({"volume-id": "V2"}, ["v2"]),
        ({"encrypted": "false"}, VOLUMES),
        ({"encrypted": "true"}, []),
        pytest.param({"multi-attach-enabled": "false"}, VOLUMES, marks=differs("filter not known")),
        pytest.param({"multi-attach-enabled": "true"}, [], marks=differs("filter not known")),
        pytest.param({"fast-restored": "false"}, VOLUMES, marks=differs("filter not known")),
        ({"tag-key": "odd"}, ["v1", "v3", "v5"]),
        ({"tag:Name": ["v1", "v2"]}, ["v1", "v2"]),
        ({"tag:Name": "v*", "tag:odd": "", "size": "1"}, ["v1"]),
    ],
    ids=str,
)
def test_filters(cloud, ec2, shelf, filters, expected):
    stand_ins = {"ZONE1": cloud.zones[1], "INSTANCE": shelf.instance, "V2": shelf.ids["v2"]}
    asked = [where_named(name, stand_ins.get(str(value), value)) for name, value in filters.items()]
    found = ec2.describe_volumes(Filters=[where_named("tag:run", shelf.run), *asked])["Volumes"]
    by_id = {volume: name for name, volume in shelf.ids.items()}
    assert sorted(by_id[it["VolumeId"]] for it in found) == expected


@differs("volumes are not paginated")
def test_pages(ec2, shelf):
    wanted = [where_named("tag:run", shelf.run)]
    pages = list(ec2.get_paginator("describe_volumes").paginate(Filters=wanted, PaginationConfig={"PageSize": 5}))
    assert [len(page["Volumes"]) for page in pages] == [5, 1]
    assert {it["VolumeId"] for page in pages for it in page["Volumes"]} == set(shelf.ids.values())


@differs("filter not known")
def test_times_and_snapshots_are_found_as_they_are_shown(cloud, ec2, yard):
    def shown(at):
        return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    instance = cloud.instance(yard.run())
    root = cloud.volume(instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])
    assert (root["CreateTime"].microsecond, root["Attachments"][0]["AttachTime"].microsecond) == (0, 0)
    assert root["SnapshotId"].startswith("snap-")
    values = {
        "create-time": shown(root["CreateTime"]),
        "attachment.attach-time": shown(root["Attachments"][0]["AttachTime"]),
        "snapshot-id": root["SnapshotId"],
    }
    for name, value in values.items():
        found = ec2.describe_volumes(Filters=[where_named(name, value)])["Volumes"]
        assert root["VolumeId"] in [it["VolumeId"] for it in found], name
