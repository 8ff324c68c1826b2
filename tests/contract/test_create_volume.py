"""CreateVolume: what each type allows, tokens, what is refused; and DeleteVolume."""

import re
from datetime import UTC, datetime

import pytest
from cloud import MISSING, differs, drover_only, outcome, refused, spec, tags, unique, where_named


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
        ({"VolumeType": "gp3", "Size": 1, "Iops": 3000}, {"Iops": 3000}),
        ({"VolumeType": "gp3", "Size": 200, "Iops": 80000, "Throughput": 2000}, {"Iops": 80000, "Throughput": 2000}),
        ({"VolumeType": "gp3", "Iops": 3000, "Throughput": 750}, {"Throughput": 750}),
        ({"VolumeType": "io1", "Size": 10, "Iops": 500}, {"Iops": 500, "VolumeType": "io1"}),
        ({"VolumeType": "io2", "Size": 10, "Iops": 10000}, {"Iops": 10000}),
        pytest.param({"VolumeType": "gp2", "Size": 1}, {"Iops": 100}, marks=differs("gp2 has no baseline")),
        pytest.param({"VolumeType": "gp2", "Size": 50}, {"Iops": 150}, marks=differs("gp2 has no baseline")),
        pytest.param({"VolumeType": "gp2", "Size": 6000}, {"Iops": 16000}, marks=differs("gp2 has no baseline")),
    ],
    ids=str,
)
def test_performance(cloud, yard, asked, kept):
    seen = cloud.volume(yard.volume(**asked))
    assert kept.items() <= seen.items()


@pytest.mark.parametrize(
    "key",
    [
        None,
        pytest.param("alias/contract", marks=differs("a key is told as it was named")),
        pytest.param("arn:aws:kms:REGION:123456789012:alias/contract", marks=differs("a key is told as it was named")),
        pytest.param("1234abcd-12ab-34cd-56ef-1234567890ab", marks=differs("a key is told as it was named")),
    ],
)
def test_the_key_of_an_encrypted_volume_is_an_arn(cloud, yard, key):
    key = key and key.replace("REGION", cloud.region)
    seen = cloud.volume(yard.volume(Encrypted=True, **({"KmsKeyId": key} if key else {})))
    assert seen["Encrypted"] is True
    assert re.fullmatch(rf"arn:aws:kms:{cloud.region}:\d{{12}}:key/[0-9a-f-]{{36}}", seen["KmsKeyId"])
    assert key is None or "alias/" in key or seen["KmsKeyId"].endswith(key)
    again = cloud.volume(yard.volume(Encrypted=True, KmsKeyId=seen["KmsKeyId"]))
    assert again["KmsKeyId"] == seen["KmsKeyId"]


@differs("a zone has no id here")
def test_a_zone_by_its_id(cloud, ec2, yard):
    zone = cloud.subnets[cloud.zones[1]]["AvailabilityZoneId"]
    volume = ec2.create_volume(AvailabilityZoneId=zone, Size=1)["VolumeId"]
    yard.volumes.append(volume)
    seen = cloud.volume(volume)
    assert (seen["AvailabilityZone"], seen["AvailabilityZoneId"]) == (cloud.zones[1], zone)
    for asked, code in [
        ({"AvailabilityZoneId": zone, "AvailabilityZone": cloud.zones[1]}, "InvalidParameterCombination"),
        ({"AvailabilityZoneId": "nowhere-az1"}, "InvalidZone.NotFound"),
    ]:
        with refused(code):
            ec2.create_volume(Size=1, **asked)


def test_the_default_type(cloud, ec2, yard):
    volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
    yard.volumes.append(volume)
    assert cloud.volume(volume)["VolumeType"] == "gp2"


# The smallest and the largest of each type, in GiB.
SIZES = {
    "gp2": (1, 16384),
    "gp3": (1, 65536),
    "io1": (4, 16384),
    "io2": (4, 65536),
    "st1": (125, 16384),
    "sc1": (125, 16384),
    "standard": (1, 1024),
}


def of_type(kind, size):
    return {"VolumeType": kind, "Size": size} | ({"Iops": 100} if kind.startswith("io") else {})


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("bound", [0, 1], ids=["smallest", "largest"])
def test_a_size_that_its_type_has(yard, cloud, kind, bound):
    size = SIZES[kind][bound]
    assert cloud.volume(yard.volume(**of_type(kind, size)))["Size"] == size


@differs("sizes are unchecked")
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("bound", [0, 1], ids=["smaller", "larger"])
def test_a_size_that_its_type_has_not(yard, kind, bound):
    with refused("InvalidParameterValue"):
        yard.volume(**of_type(kind, SIZES[kind][bound] + (1 if bound else -1)))


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
    ({"VolumeType": "gp3", "Size": 200, "Iops": 80001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "gp3", "Size": 8, "Iops": 4001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io1", "Size": 2000, "Iops": 64001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io1", "Size": 10, "Iops": 99}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io1", "Size": 10, "Iops": 501}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io2", "Size": 10, "Iops": 10001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io2", "Size": 300, "Iops": 256001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "io1", "Size": 10}, [*MISSING, "InvalidParameterDependency"], None),
    (
        {"VolumeType": "io2", "Size": 10, "Iops": 500, "Throughput": 125},
        ["InvalidParameterCombination", "InvalidParameterValue"],
        "no rules by type",
    ),
    ({"VolumeType": "gp3", "Throughput": 124}, ["InvalidParameterValue"], "no rules by type"),
    ({"Size": 100, "Iops": 10000, "Throughput": 2001}, ["InvalidParameterValue"], "no rules by type"),
    ({"VolumeType": "gp3", "Iops": 3000, "Throughput": 751}, ["InvalidParameterValue"], "no rules by type"),
    ({"SnapshotId": "snap-0123456789abcdef0"}, ["InvalidSnapshot.NotFound"], "an error without words"),
    ({"KmsKeyId": "alias/contract"}, ["InvalidParameterDependency"], None),
    ({"ClientToken": "tökén"}, ["InvalidParameterValue", "InvalidClientToken"], "tokens have no effect"),
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


@differs("tokens have no effect")
def test_the_token_of_a_deleted_volume_makes_no_other(cloud, ec2, yard):
    asked = {"ClientToken": unique(), "AvailabilityZone": cloud.zones[0], "Size": 1}
    volume = yard.volume(**asked)
    ec2.delete_volume(VolumeId=volume)
    with refused("IdempotentParameterMismatch"):
        yard.volume(**asked)
    cloud.wait("volume_deleted", volume)
    with refused("IdempotentParameterMismatch"):
        yard.volume(**asked)


@drover_only("what EC2 has and drover-local has not is refused there, never ignored")
def test_multi_attach_is_refused(yard):
    with refused("UnsupportedOperation"):
        yard.volume(VolumeType="io2", Size=10, Iops=100, MultiAttachEnabled=True)


def test_deleting(cloud, ec2, yard):
    volume = yard.volume()
    with refused("DryRunOperation", status=412):
        ec2.delete_volume(VolumeId=volume, DryRun=True)
    ec2.delete_volume(VolumeId=volume)
    # It goes once: first it is being deleted, then it is not there.
    with refused("IncorrectState", "InvalidVolume.NotFound"):
        ec2.delete_volume(VolumeId=volume)
    cloud.wait("volume_deleted", volume)
    with refused("InvalidVolume.NotFound"):
        ec2.delete_volume(VolumeId=volume)


@differs("volumes are available at once")
def test_a_volume_is_not_deleted_before_it_is_available(cloud, ec2, yard):
    def too_early():
        volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
        yard.volumes.append(volume)
        return outcome(ec2.delete_volume, VolumeId=volume) == ("IncorrectState", 400)

    cloud.catch(too_early, "a volume that is being created is not deleted")
