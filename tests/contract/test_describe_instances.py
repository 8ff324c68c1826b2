"""DescribeInstances and DescribeInstanceStatus over a small fleet: fields, filters, pages."""

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, NO_INSTANCE, differs, refused, spec, unique, where, where_named

# Name -> zone, instance type, tags. "blue" in one and "Blue" in another: values are compared case by case.
FLEET = {
    "n0": (0, 0, {"colour": "red", "size": "1"}),
    "n1": (1, 0, {"colour": "green", "size": "2", "odd": ""}),
    "n2": (2, 1, {"colour": "blue", "size": "1"}),
    "n3": (0, 1, {"colour": "Blue", "size": "22", "odd": "a*b"}),
    "n4": (1, 0, {"colour": "red", "size": "2"}),
    "n5": (0, 0, {}),
}
STOPPED = "n5"


class Fleet:
    def __init__(self, cloud, shared):
        self.cloud, self.run = cloud, unique()
        self.ids = {}
        for name, (zone, kind, tags) in FLEET.items():
            own = spec("instance", {"run": self.run, "Name": name} | tags)
            subnet = cloud.subnets[cloud.zones[zone]]["SubnetId"]
            asked = {"InstanceType": cloud.types[kind], "ClientToken": f"{self.run}-{name}"}
            asked |= {"SecurityGroupIds": [cloud.group]}
            self.ids[name] = shared.launch(SubnetId=subnet, TagSpecifications=[own], **asked)["InstanceId"]
        cloud.wait("instance_running", *self.ids.values())
        cloud.ec2.stop_instances(InstanceIds=[self.ids[STOPPED]])
        cloud.wait("instance_stopped", self.ids[STOPPED])

    def names(self, *filters):
        """The names of our instances that pass the filters."""
        by_id = {instance: name for name, instance in self.ids.items()}
        return sorted(by_id[each] for each in self.cloud.found(where_named("tag:run", self.run), *filters))

    def __getitem__(self, name):
        return self.cloud.instance(self.ids[name])


@pytest.fixture(scope="module")
def fleet(cloud, shared):
    return Fleet(cloud, shared)


def tag(key, *values):
    return where_named(f"tag:{key}", list(values))


ALL = sorted(FLEET)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ALL),
        ([tag("colour", "red")], ["n0", "n4"]),
        ([tag("colour", "red", "green")], ["n0", "n1", "n4"]),
        ([tag("colour", "r*")], ["n0", "n4"]),
        ([tag("colour", "*e*")], ["n0", "n1", "n2", "n3", "n4"]),
        ([tag("colour", "?lue")], ["n2", "n3"]),
        ([tag("colour", "RED")], []),
        ([tag("Colour", "red")], []),
        ([tag("colour", "re")], []),
        ([tag("size", "?")], ["n0", "n1", "n2", "n4"]),
        ([tag("size", "2*")], ["n1", "n3", "n4"]),
        ([tag("odd", "")], ["n1"]),
        ([tag("odd", r"a\*b")], ["n3"]),
        ([tag("colour", r"r\*")], []),
        pytest.param([tag("colour", r"\red")], ["n0", "n4"], marks=differs("an escape is not removed")),
        ([tag("colour", "red"), tag("size", "2")], ["n4"]),
        ([tag("colour", "red"), tag("size", "22")], []),
        ([where_named("tag-key", "odd")], ["n1", "n3"]),
        ([where_named("tag-key", ["odd", "size"])], ["n0", "n1", "n2", "n3", "n4"]),
        ([where_named("tag-key", "o?d")], ["n1", "n3"]),
        pytest.param(
            [where_named("tag-key", "odd"), where_named("tag-key", "colour")],
            ["n1", "n3"],
            marks=differs("of two filters of one name the last counts"),
        ),
        pytest.param(
            [tag("colour", "red", "blue"), tag("colour", "green", "red")],
            ["n0", "n4"],
            marks=differs("of two filters of one name the last counts"),
        ),
        (where(instance_state_name="running"), ["n0", "n1", "n2", "n3", "n4"]),
        (where(instance_state_name="stopped"), ["n5"]),
        (where(instance_state_name=["stopped", "running"]), ALL),
        pytest.param(where(instance_state_name="st*"), ["n5"], marks=differs("states have no wildcards")),
        pytest.param(where(instance_state_code="80"), ["n5"], marks=differs("filter not known")),
        pytest.param(where(root_device_type="ebs"), ALL, marks=differs("filter not known")),
        pytest.param(where(root_device_type="instance-store"), [], marks=differs("filter not known")),
        *(
            pytest.param([where_named(name, "*")], [], marks=differs("filter not known"))
            for name in ("key-name", "ip-address", "platform", "instance-lifecycle")
        ),
        pytest.param(where(platform_details="Linux/UNIX"), ALL, marks=differs("filter not known")),
        pytest.param(where(metadata_options__http_endpoint="enabled"), ALL, marks=differs("filter not known")),
    ],
    ids=str,
)
def test_filters(fleet, filters, expected):
    assert fleet.names(*filters) == expected


# A filter by what one instance has, and the instances that have the same.
SAME_AS_N1 = {
    "instance-id": (lambda it: it["InstanceId"], ["n1"]),
    "private-ip-address": (lambda it: it["PrivateIpAddress"], ["n1"]),
    "private-dns-name": (lambda it: it["PrivateDnsName"], ["n1"]),
    "availability-zone": (lambda it: it["Placement"]["AvailabilityZone"], ["n1", "n4"]),
    "subnet-id": (lambda it: it["SubnetId"], ["n1", "n4"]),
    "vpc-id": (lambda it: it["VpcId"], ALL),
    "instance-type": (lambda it: it["InstanceType"], ["n0", "n1", "n4", "n5"]),
    "image-id": (lambda it: it["ImageId"], ALL),
    "architecture": (lambda it: it["Architecture"], ALL),
    "root-device-name": (lambda it: it["RootDeviceName"], ALL),
    "instance.group-id": (lambda it: it["SecurityGroups"][0]["GroupId"], ALL),
    "instance.group-name": (lambda it: it["SecurityGroups"][0]["GroupName"], ALL),
    "client-token": (lambda it: it["ClientToken"], ["n1"]),
    "block-device-mapping.volume-id": (lambda it: it["BlockDeviceMappings"][0]["Ebs"]["VolumeId"], ["n1"]),
    "block-device-mapping.device-name": (lambda it: it["BlockDeviceMappings"][0]["DeviceName"], ALL),
    "network-interface.network-interface-id": (lambda it: it["NetworkInterfaces"][0]["NetworkInterfaceId"], ["n1"]),
    "network-interface.subnet-id": (lambda it: it["NetworkInterfaces"][0]["SubnetId"], ["n1", "n4"]),
    "network-interface.addresses.private-ip-address": (lambda it: it["PrivateIpAddress"], ["n1"]),
    "network-interface.mac-address": (lambda it: it["NetworkInterfaces"][0]["MacAddress"], ["n1"]),
}
UNKNOWN_TO_MOTO = ("client-token", "block-device-mapping.", "network-interface.", "root-device-name")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[differs("filter not known")] if n.startswith(UNKNOWN_TO_MOTO) else []) for n in SAME_AS_N1],
)
def test_filter_by_what_an_instance_has(fleet, name):
    read, expected = SAME_AS_N1[name]
    assert fleet.names(where_named(name, read(fleet["n1"]))) == expected
    assert fleet.names(where_named(name, "nothing-like-it")) == []


@differs("filter not known")
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S.000Z", "%Y-%m-%dT%H*", "%Y-%m-%d*"])
def test_filter_by_launch_time(fleet, form):
    assert "n1" in fleet.names(where_named("launch-time", fleet["n1"]["LaunchTime"].strftime(form)))
    assert fleet.names(where_named("launch-time", "1999-*")) == []


@differs("filter not known")
def test_many_values_are_one_filter(fleet):
    values = [f"none-{n}" for n in range(199)]
    assert fleet.names(where_named("client-token", [*values, fleet["n1"]["ClientToken"]])) == ["n1"]
    with refused("FilterLimitExceeded", "InvalidParameterValue"):
        fleet.names(where_named("client-token", [*values, "a", "b"]))


@differs("a filter that is not known is a server error")
@pytest.mark.parametrize("name", ["no-such-filter", "tag", "Instance-Id", "instance-state"])
def test_an_unknown_filter_is_refused(ec2, name):
    with refused("InvalidParameterValue", status=400):
        ec2.describe_instances(Filters=[where_named(name, "x")])


def test_filters_and_ids_together_must_both_hold(ec2, fleet):
    ids = [fleet.ids["n0"], fleet.ids["n1"]]
    found = ec2.describe_instances(InstanceIds=ids, Filters=[tag("colour", "red")])["Reservations"]
    assert [it["InstanceId"] for group in found for it in group["Instances"]] == [fleet.ids["n0"]]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (NO_INSTANCE, "InvalidInstanceID.NotFound"),
        pytest.param("i-xyz", "InvalidInstanceID.Malformed", marks=differs("the form of ids is unchecked")),
        pytest.param("web", "InvalidInstanceID.Malformed", marks=differs("the form of ids is unchecked")),
    ],
)
@pytest.mark.parametrize("describe", ["describe_instances", "describe_instance_status"])
def test_one_bad_id_fails_the_call(ec2, running, describe, bad, code):
    with refused(code, status=400):
        getattr(ec2, describe)(InstanceIds=[running, bad])


@differs("pages are made of reservations, not bounded below, and a bad token is a server error")
def test_pages_are_complete_and_bounded(ec2, fleet):
    filters = [where_named("tag:run", fleet.run)]
    pages = list(ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig={"PageSize": 5}))
    seen = [[it["InstanceId"] for group in page["Reservations"] for it in group["Instances"]] for page in pages]
    assert [len(ids) for ids in seen] == [5, 1]
    assert sorted(sum(seen, [])) == sorted(fleet.ids.values())
    assert not pages[-1].get("NextToken")
    with refused(*BAD_PAGE_SIZE):
        ec2.describe_instances(Filters=filters, MaxResults=4)


def test_a_list_that_fits_has_no_next_page(ec2, fleet):
    answer = ec2.describe_instances(Filters=[where_named("tag:run", fleet.run)], MaxResults=1000)
    assert not answer.get("NextToken")
    assert sum(len(group["Instances"]) for group in answer["Reservations"]) == len(FLEET)


@differs("page bounds and tokens are unchecked")
@pytest.mark.parametrize("describe", ["describe_instances", "describe_instance_status"])
@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"MaxResults": 4}, BAD_PAGE_SIZE),
        ({"MaxResults": 1001}, BAD_PAGE_SIZE),
        ({"NextToken": "made-up"}, BAD_PAGE_TOKEN),
    ],
    ids=str,
)
def test_page_parameters_are_checked(ec2, describe, asked, codes):
    with refused(*codes, status=400):
        getattr(ec2, describe)(**asked)


@pytest.mark.parametrize(
    "describe",
    [
        "describe_instances",
        pytest.param("describe_instance_status", marks=differs("page bounds and tokens are unchecked")),
    ],
)
def test_ids_come_on_one_page(ec2, running, describe):
    with refused("InvalidParameterCombination", status=400):
        getattr(ec2, describe)(InstanceIds=[running], MaxResults=5)


def test_describe_says_what_launch_said(cloud, yard):
    told = yard.launch()
    seen = cloud.instance(told["InstanceId"])
    same = [
        "ImageId",
        "InstanceType",
        "LaunchTime",
        "PrivateIpAddress",
        "SubnetId",
        "VpcId",
        "Architecture",
        "Placement",
    ]
    assert {key: told[key] for key in same} == {key: seen[key] for key in same}


@pytest.mark.parametrize(
    "describe", ["describe_instances", pytest.param("describe_instance_status", marks=differs("DryRun is ignored"))]
)
def test_dry_run(ec2, describe):
    with refused("DryRunOperation", status=412):
        getattr(ec2, describe)(DryRun=True)


def statuses(ec2, **asked):
    pages = ec2.get_paginator("describe_instance_status").paginate(**asked)
    return {it["InstanceId"]: it for page in pages for it in page["InstanceStatuses"]}


def test_status_tells_of_running_instances(ec2, cloud, fleet):
    found = statuses(ec2)
    assert fleet.ids[STOPPED] not in found
    own = found[fleet.ids["n1"]]
    assert own["AvailabilityZone"] == cloud.zones[1]
    assert own["InstanceState"] == {"Code": 16, "Name": "running"}
    for check in ("InstanceStatus", "SystemStatus"):
        assert own[check]["Status"] in ("ok", "initializing")
        [detail] = own[check]["Details"]
        assert detail["Name"] == "reachability" and detail["Status"] in ("passed", "initializing")


def test_status_of_all_when_asked(ec2, fleet):
    found = statuses(ec2, IncludeAllInstances=True)
    assert found.keys() >= set(fleet.ids.values())
    assert found[fleet.ids[STOPPED]]["InstanceState"]["Name"] == "stopped"


def test_status_of_a_stopped_instance_is_not_applicable(ec2, fleet):
    own = statuses(ec2, IncludeAllInstances=True)[fleet.ids[STOPPED]]
    assert (own["InstanceStatus"]["Status"], own["SystemStatus"]["Status"]) == ("not-applicable", "not-applicable")


@pytest.mark.parametrize("all_", [False, True])
def test_status_of_named_instances(ec2, fleet, all_):
    ids = [fleet.ids["n1"], fleet.ids[STOPPED]]
    found = ec2.describe_instance_status(InstanceIds=ids, IncludeAllInstances=all_)["InstanceStatuses"]
    assert {it["InstanceId"] for it in found} == set(ids if all_ else ids[:1])


STATUS_FILTERS_OF_MOTO = ("instance-state-name", "instance-state-code")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param(*case, marks=[] if case[0] in STATUS_FILTERS_OF_MOTO else [differs("filters of status ignored")])
        for case in [
            ("instance-state-name", "stopped", ["n5"]),
            ("instance-state-code", "16", ["n0", "n1", "n2", "n3", "n4"]),
            ("system-status.status", "not-applicable", ["n5"]),
            ("instance-status.status", ["ok", "initializing"], ["n0", "n1", "n2", "n3", "n4"]),
            ("instance-status.reachability", ["passed", "initializing"], ["n0", "n1", "n2", "n3", "n4"]),
        ]
    ],
)
def test_status_filters(ec2, fleet, name, value, expected):
    found = statuses(ec2, IncludeAllInstances=True, Filters=[where_named(name, value)])
    assert sorted(each for each in FLEET if fleet.ids[each] in found) == expected


@differs("filters of status ignored")
def test_status_filter_by_zone(ec2, cloud, fleet):
    found = statuses(ec2, Filters=where(availability_zone=cloud.zones[2]))
    assert [each for each in FLEET if fleet.ids[each] in found] == ["n2"]
    with refused("InvalidParameterValue"):
        ec2.describe_instance_status(Filters=[where_named("no-such-filter", "x")])


@differs("status is not paginated")
def test_status_pages(ec2, fleet):
    pages = list(
        ec2.get_paginator("describe_instance_status").paginate(
            IncludeAllInstances=True, PaginationConfig={"PageSize": 5}
        )
    )
    seen = [it["InstanceId"] for page in pages for it in page["InstanceStatuses"]]
    assert all(len(page["InstanceStatuses"]) <= 5 for page in pages)
    assert len(seen) == len(set(seen)) and set(fleet.ids.values()) <= set(seen)
