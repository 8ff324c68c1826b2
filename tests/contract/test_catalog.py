"""What can be launched: DescribeImages and DescribeInstanceTypes."""

from datetime import datetime

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, differs, drover_only, refused, tags, unique, where, where_named


@differs("images made from instances have no ebs root")
def test_an_image(cloud):
    image = cloud.image
    assert image["ImageId"].startswith("ami-") and image["State"] == "available"
    assert image["Architecture"] in ("x86_64", "arm64")
    assert (image["RootDeviceType"], image["VirtualizationType"]) == ("ebs", "hvm")
    assert (image["ImageType"], image["Hypervisor"], image["Public"]) == ("machine", "xen", False)
    assert len(image["OwnerId"]) == 12
    assert datetime.fromisoformat(image["CreationDate"]).tzinfo
    root = {it["DeviceName"]: it["Ebs"] for it in image["BlockDeviceMappings"]}[image["RootDeviceName"]]
    assert root["VolumeSize"] >= 1 and root["DeleteOnTermination"] in (True, False)


@pytest.mark.parametrize(
    ("owner", "mine"), [("self", True), ("OWNER", True), ("amazon", False), ("aws-marketplace", False)]
)
def test_images_by_owner(cloud, ec2, owner, mine):
    owner = cloud.image["OwnerId"] if owner == "OWNER" else owner
    found = [it["ImageId"] for it in ec2.describe_images(Owners=[owner])["Images"]]
    assert (cloud.image["ImageId"] in found) is mine


def test_images_of_one_owner_or_another(cloud, ec2):
    wanted = where(image_id=cloud.image["ImageId"])
    found = ec2.describe_images(Owners=["aws-marketplace", "self"], Filters=wanted)["Images"]
    assert [it["ImageId"] for it in found] == [cloud.image["ImageId"]]


IMAGE_FILTERS = {
    "image-id": "ImageId",
    "name": "Name",
    "architecture": "Architecture",
    "state": "State",
    "owner-id": "OwnerId",
    "root-device-type": "RootDeviceType",
    "root-device-name": "RootDeviceName",
    "virtualization-type": "VirtualizationType",
    "is-public": "Public",
    "hypervisor": "Hypervisor",
    "image-type": "ImageType",
    "description": "Description",
    "creation-date": "CreationDate",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[differs("the hypervisor of an image is not told")] if n == "hypervisor" else [])
        for n in IMAGE_FILTERS
    ],
)
def test_image_filters(cloud, ec2, name):
    def found(value):
        return [
            it["ImageId"] for it in ec2.describe_images(Owners=["self"], Filters=[where_named(name, value)])["Images"]
        ]

    value = cloud.image[IMAGE_FILTERS[name]]
    assert cloud.image["ImageId"] in found("false" if value is False else value)
    assert found("nothing-like-it") == []


@differs("images made from instances have no ebs root")
def test_image_filters_of_devices(cloud, ec2):
    root = {it["DeviceName"]: it["Ebs"] for it in cloud.image["BlockDeviceMappings"]}[cloud.image["RootDeviceName"]]
    for name, value in [
        ("block-device-mapping.device-name", cloud.image["RootDeviceName"]),
        ("block-device-mapping.volume-size", str(root["VolumeSize"])),
        ("block-device-mapping.snapshot-id", root["SnapshotId"]),
    ]:
        for asked, mine in [(value, True), ("nothing-like-it", False)]:
            found = ec2.describe_images(Owners=["self"], Filters=[where_named(name, asked)])["Images"]
            assert (cloud.image["ImageId"] in [it["ImageId"] for it in found]) is mine


@drover_only("whom moto shares its images with is moto's own")
def test_images_are_found_whatever_else_is_asked_for_and_none_is_shared(cloud, ec2):
    [image] = ec2.describe_images(ImageIds=[cloud.image["ImageId"]], IncludeDeprecated=True, IncludeDisabled=True)["Images"]
    assert image["ImageId"] == cloud.image["ImageId"]
    # An owner needs no permission of an image's own.
    for who in ("self", "all"):
        assert ec2.describe_images(ExecutableUsers=[who])["Images"] == []


@differs("owners do not count where ids are named")
def test_named_images_only(cloud, ec2):
    [image] = ec2.describe_images(ImageIds=[cloud.image["ImageId"]])["Images"]
    assert image == ec2.describe_images(ImageIds=[cloud.image["ImageId"]], Owners=["self"])["Images"][0]
    assert image["ImageId"] == cloud.image["ImageId"]
    assert ec2.describe_images(ImageIds=[cloud.image["ImageId"]], Owners=["amazon"])["Images"] == []


def test_an_image_is_found_by_tag_and_name_pattern(cloud, ec2):
    name = unique()
    ec2.create_tags(Resources=[cloud.image["ImageId"]], Tags=tags({"contract": name}))
    for asked in (where_named("tag:contract", name), where_named("name", cloud.image["Name"][:-1] + "?")):
        found = ec2.describe_images(Owners=["self"], Filters=[asked])["Images"]
        assert cloud.image["ImageId"] in [it["ImageId"] for it in found]
    ec2.delete_tags(Resources=[cloud.image["ImageId"]], Tags=[{"Key": "contract"}])


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"ImageIds": ["ami-0123456789abcdef0"]}, ["InvalidAMIID.NotFound"]),
        ({"ImageIds": ["image"]}, ["InvalidAMIID.Malformed"]),
        ({"DryRun": True}, ["DryRunOperation"]),
        pytest.param({"Filters": where(no_such="x")}, ["InvalidParameterValue"], marks=differs("filter not known")),
        pytest.param({"NextToken": "made-up"}, BAD_PAGE_TOKEN, marks=differs("not paginated")),
    ],
    ids=str,
)
def test_describe_images_is_refused(ec2, asked, codes):
    with refused(*codes):
        ec2.describe_images(**asked)


def types(ec2, **asked):
    pages = ec2.get_paginator("describe_instance_types").paginate(**asked)
    return {it["InstanceType"]: it for page in pages for it in page["InstanceTypes"]}


def test_an_instance_type(cloud, ec2):
    kind = types(ec2, InstanceTypes=[cloud.types[0]])[cloud.types[0]]
    assert kind["VCpuInfo"]["DefaultVCpus"] >= 1
    assert kind["MemoryInfo"]["SizeInMiB"] >= 256
    assert cloud.image["Architecture"] in kind["ProcessorInfo"]["SupportedArchitectures"]
    assert kind["NetworkInfo"]["Ipv4AddressesPerInterface"] >= 2
    assert kind["NetworkInfo"]["MaximumNetworkInterfaces"] >= 1
    assert kind["BareMetal"] is False and kind["CurrentGeneration"] is True
    assert "on-demand" in kind["SupportedUsageClasses"]
    assert "ebs" in kind["SupportedRootDeviceTypes"]


@pytest.mark.parametrize(("name", "cores", "threads"), [("t3.micro", 1, 2), ("m7i.xlarge", 2, 2), ("m7g.xlarge", 4, 1)])
def test_the_cores_of_a_type(ec2, name, cores, threads):
    cpu = types(ec2, InstanceTypes=[name])[name]["VCpuInfo"]
    assert (cpu["DefaultVCpus"], cpu["DefaultCores"], cpu["DefaultThreadsPerCore"]) == (cores * threads, cores, threads)


def test_named_types_only(cloud, ec2):
    assert set(types(ec2, InstanceTypes=cloud.types)) == set(cloud.types)


TYPE_FILTERS = {
    "instance-type": lambda it: it["InstanceType"],
    "vcpu-info.default-vcpus": lambda it: str(it["VCpuInfo"]["DefaultVCpus"]),
    "memory-info.size-in-mib": lambda it: str(it["MemoryInfo"]["SizeInMiB"]),
    "vcpu-info.default-cores": lambda it: str(it["VCpuInfo"]["DefaultCores"]),
    "vcpu-info.default-threads-per-core": lambda it: str(it["VCpuInfo"]["DefaultThreadsPerCore"]),
    "network-info.ipv4-addresses-per-interface": lambda it: str(it["NetworkInfo"]["Ipv4AddressesPerInterface"]),
    "supported-boot-mode": lambda it: it["SupportedBootModes"][0],
    "bare-metal": lambda it: str(it["BareMetal"]).lower(),
    "current-generation": lambda it: str(it["CurrentGeneration"]).lower(),
    "burstable-performance-supported": lambda it: str(it["BurstablePerformanceSupported"]).lower(),
    "hypervisor": lambda it: it["Hypervisor"],
    "instance-storage-supported": lambda it: str(it["InstanceStorageSupported"]).lower(),
    "supported-root-device-type": lambda it: it["SupportedRootDeviceTypes"][0],
    "supported-usage-class": lambda it: it["SupportedUsageClasses"][0],
    "supported-virtualization-type": lambda it: it["SupportedVirtualizationTypes"][0],
}
LISTS_OF_TYPES = {
    "supported-boot-mode": "SupportedBootModes",
    "supported-root-device-type": "SupportedRootDeviceTypes",
    "supported-usage-class": "SupportedUsageClasses",
    "supported-virtualization-type": "SupportedVirtualizationTypes",
}


@pytest.mark.parametrize("name", TYPE_FILTERS)
def test_type_filters(cloud, ec2, name):
    read = TYPE_FILTERS[name]
    kind = types(ec2, InstanceTypes=[cloud.types[1]])[cloud.types[1]]
    found = types(ec2, Filters=[where_named(name, read(kind))])
    assert cloud.types[1] in found
    if name in LISTS_OF_TYPES:
        assert all(read(kind) in it[LISTS_OF_TYPES[name]] for it in found.values())
    else:
        assert {read(it) for it in found.values()} == {read(kind)}
    assert types(ec2, Filters=[where_named(name, "nothing-like-it")]) == {}


def test_types_by_architecture(cloud, ec2):
    for wanted in ("x86_64", "arm64"):
        found = types(ec2, Filters=[where_named("processor-info.supported-architecture", wanted)])
        assert found and all(wanted in it["ProcessorInfo"]["SupportedArchitectures"] for it in found.values())
        assert (cloud.types[0] in found) is (cloud.image["Architecture"] == wanted)


def test_types_by_pattern(cloud, ec2):
    family = cloud.types[0].split(".")[0]
    found = types(ec2, Filters=[where_named("instance-type", f"{family}.*")])
    assert cloud.types[0] in found and all(name.startswith(f"{family}.") for name in found)


@differs("the catalogue is one page")
def test_type_pages(ec2):
    whole = ec2.describe_instance_types()["InstanceTypes"]
    pages = list(ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5}))
    seen = [it["InstanceType"] for page in pages for it in page["InstanceTypes"]]
    assert max(len(page["InstanceTypes"]) for page in pages) == 5
    assert sorted(seen) == sorted(it["InstanceType"] for it in whole)


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"InstanceTypes": ["t1.unheard"]}, ["InvalidInstanceType"]),
        ({"InstanceTypes": ["t3.micro", "t1.unheard"]}, ["InvalidInstanceType"]),
        pytest.param(
            {"InstanceTypes": [f"t3.n{n}" for n in range(101)]},
            ["InvalidParameterValue", "InvalidParameterCombination"],
            marks=differs("any number of types can be named"),
        ),
        pytest.param({"MaxResults": 4}, BAD_PAGE_SIZE, marks=differs("page bounds and tokens are unchecked")),
        pytest.param({"MaxResults": 101}, BAD_PAGE_SIZE, marks=differs("page bounds and tokens are unchecked")),
        pytest.param({"NextToken": "made-up"}, BAD_PAGE_TOKEN, marks=differs("page bounds and tokens are unchecked")),
        ({"Filters": where(no_such="x")}, ["InvalidParameterValue"]),
        pytest.param({"DryRun": True}, ["DryRunOperation"], marks=differs("DryRun is ignored")),
    ],
    ids=str,
)
def test_describe_types_is_refused(cloud, asked, codes):
    # One family only: moto's catalogue is long.
    few = {} if "InstanceTypes" in asked else {"Filters": where(instance_type="t3.*")}
    with refused(*codes):
        cloud.careless.describe_instance_types(**few | asked)
