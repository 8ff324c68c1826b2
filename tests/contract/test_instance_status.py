"""DescribeInstanceStatus: of which instances, with what checks, filters and pages."""

import pytest
from cloud import differs, refused, where, where_named
from fleet import FLEET, STOPPED


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


@differs("checks pass at once")
def test_checks_are_initializing_first_and_pass_later(cloud, ec2, yard):
    def check(instance):
        return statuses(ec2, InstanceIds=[instance])[instance]["InstanceStatus"]["Status"]

    cloud.catch(lambda: check(yard.run()) == "initializing", "the checks of a new instance are initializing")
    instance = yard.run()
    cloud.until(lambda: check(instance) == "ok", "the checks pass")


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
            ("system-status.reachability", ["passed", "initializing"], ["n0", "n1", "n2", "n3", "n4"]),
            ("instance-status.status", "not-applicable", ["n5"]),
            ("event.code", "instance-stop", []),
            ("attached-ebs-status.status", "not-applicable", ["n5"]),
            ("operator.managed", "true", []),
        ]
    ],
)
def test_status_filters(ec2, fleet, name, value, expected):
    found = statuses(ec2, IncludeAllInstances=True, Filters=[where_named(name, value)])
    assert sorted(each for each in FLEET if fleet.ids[each] in found) == expected


@differs("any number of instances can be named")
def test_at_most_a_hundred_instances_are_named(ec2):
    with refused("InvalidParameterValue", "RequestResourceCountExceeded"):
        ec2.describe_instance_status(InstanceIds=[f"i-{n:017x}" for n in range(101)])
    with refused("InvalidInstanceID.NotFound"):
        ec2.describe_instance_status(InstanceIds=[f"i-{n:017x}" for n in range(100)])


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
