"""Volumes: CreateVolume and its token, AttachVolume and DetachVolume and their rules, DeleteVolume, DescribeVolumes."""

import re
from datetime import UTC, datetime

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, MISSING, NO_INSTANCE, NO_VOLUME, differs, refused, spec, tags, unique
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


def test_the_answer_describes_the_volume(cloud, ec2, yard):
    asked = {"AvailabilityZone": cloud.zones[1], "Size": 3, "VolumeType": "gp3"}
    volume = ec2.create_volume(**asked, TagSpecifications=[spec("volume", {"drover:volume": "data"})])
    yard.volumes.append(volume["VolumeId"])
    assert re.fullmatch(r"vol-[0-9a-f]{17}", volume["VolumeId"])
    assert asked.items() <= volume.items()
    assert volume["State"] in ("creating", "available")
    assert volume["Encrypted"] is False
    assert not volume.get("SnapshotId")
    assert volume["Tags"] == tags({"drover:volume": "data"})
    assert abs((datetime.now(UTC) - volume["CreateTime"]).total_seconds()) < 60
    cloud.wait("volume_available", volume["VolumeId"])
    seen = cloud.volume(volume["VolumeId"])
    assert asked.items() <= seen.items()
    assert (seen["State"], seen["Attachments"], seen["CreateTime"]) == ("available", [], volume["CreateTime"])


@differs("volumes are available at once")
def test_a_new_volume_is_creating_first(cloud, ec2, yard):
    volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)
    yard.volumes.append(volume["VolumeId"])
    assert volume["State"] == "creating"
    cloud.wait("volume_available", volume["VolumeId"])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        pytest.param({"VolumeType": "gp3"}, {"Iops": 3000, "Throughput": 125}, marks=differs("gp3 has no baseline")),
        ({"VolumeType": "gp3", "Size": 100, "Iops": 4000, "Throughput": 250}, {"Iops": 4000, "Throughput": 250}),
        ({"VolumeType": "io2", "Size": 10, "Iops": 500}, {"Iops": 500, "VolumeType": "io2"}),
        ({"VolumeType": "gp2"}, {"VolumeType": "gp2"}),
    ],
    ids=str,
)
def test_performance(cloud, yard, asked, kept):
    seen = cloud.volume(yard.volume(**asked))
    assert kept.items() <= seen.items()


def test_the_default_type(cloud, ec2, yard):
    volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
    yard.volumes.append(volume)
    assert cloud.volume(volume)["VolumeType"] == "gp2"


CREATE_REFUSED = [
    ({"AvailabilityZone": "nowhere-1a"}, ["InvalidZone.NotFound", "InvalidParameterValue"], "zones are not looked up"),
    ({"Size": 0}, ["InvalidParameterValue"], "sizes are unchecked"),
    ({"Size": None}, MISSING, None),
    ({"AvailabilityZone": None}, MISSING, "a zone is not required"),
    ({"VolumeType": "gp9"}, ["UnknownVolumeType", "InvalidParameterValue"], "types are unchecked"),
    (
        {"VolumeType": "gp2", "Throughput": 200},
        ["InvalidParameterCombination", "InvalidParameterValue"],
        "no rules by type",
    ),
    ({"VolumeType": "gp2", "Iops": 3000}, ["InvalidParameterCombination", "InvalidParameterDependency"], None),
    ({"VolumeType": "gp3", "Iops": 2999}, ["InvalidParameterValue", "InvalidParameterCombination"], "no rules by type"),
    ({"VolumeType": "gp3", "Iops": 4000}, ["InvalidParameterValue", "InvalidParameterCombination"], "no rules by type"),
    ({"VolumeType": "io2", "Size": 10}, [*MISSING, "InvalidParameterDependency"], None),
    (
        {"TagSpecifications": [spec("instance", {"a": "b"})]},
        ["InvalidParameterValue"],
        "any resource type in TagSpecifications is accepted",
    ),
    ({"ClientToken": "x" * 65}, ["InvalidParameterValue", "InvalidClientToken"], "tokens have no effect"),
    ({"DryRun": True}, ["DryRunOperation"], None),
]


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        pytest.param(asked, codes, marks=[differs(why)] if why else [], id=str(asked))
        for asked, codes, why in CREATE_REFUSED
    ],
)
def test_create_is_refused(cloud, ec2, yard, asked, codes):
    whole = {"AvailabilityZone": cloud.zones[0], "Size": 1, "VolumeType": "gp3"} | asked
    with refused(*codes):
        made = ec2.create_volume(**{key: value for key, value in whole.items() if value is not None})
        yard.volumes.append(made["VolumeId"])


@differs("tokens have no effect")
def test_a_token_sent_again_answers_with_the_same_volume(ec2, yard):
    name = unique()
    asked = {"ClientToken": unique(), "TagSpecifications": [spec("volume", {"contract": name})]}
    assert yard.volume(**asked) == yard.volume(**asked)
    found = ec2.describe_volumes(Filters=[where_named("tag:contract", name)])["Volumes"]
    assert len(found) == 1
    with refused("IdempotentParameterMismatch"):
        yard.volume(**asked | {"Size": 2})


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


def test_deleting(cloud, ec2, yard):
    volume = yard.volume()
    with refused("DryRunOperation", status=412):
        ec2.delete_volume(VolumeId=volume, DryRun=True)
    ec2.delete_volume(VolumeId=volume)
    cloud.wait("volume_deleted", volume)
    with refused("InvalidVolume.NotFound"):
        ec2.delete_volume(VolumeId=volume)


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
