"""DescribeInstances over a small fleet: fields, filters, pages; what DescribeInstanceStatus shares of it."""

import pytest
from cloud import BAD_PAGE_SIZE, BAD_PAGE_TOKEN, NO_INSTANCE, differs, refused, where, where_named
from fleet import ALL, FLEET, STOPPED


def tag(key, *values):
    return where_named(f"tag:{key}", list(values))


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
            for name in ("platform", "instance-lifecycle")
        ),
        *(([where_named(name, "*")], []) for name in ("key-name", "ip-address")),
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
SAME_AS_N1 |= {
    "owner-id": (lambda it: it["NetworkInterfaces"][0]["OwnerId"], ALL),
    "current-instance-boot-mode": (lambda it: it["CurrentInstanceBootMode"], ALL),
    "source-dest-check": (lambda it: str(it["SourceDestCheck"]).lower(), ALL),
    "network-interface.private-ip-address": (lambda it: it["PrivateIpAddress"], ["n1"]),
    "network-interface.private-dns-name": (lambda it: it["PrivateDnsName"], ["n1"]),
    "network-interface.addresses.private-dns-name": (lambda it: it["PrivateDnsName"], ["n1"]),
    "network-interface.vpc-id": (lambda it: it["VpcId"], ALL),
    "network-interface.owner-id": (lambda it: it["NetworkInterfaces"][0]["OwnerId"], ALL),
    "network-interface.availability-zone": (lambda it: it["Placement"]["AvailabilityZone"], ["n1", "n4"]),
    "network-interface.group-id": (lambda it: it["SecurityGroups"][0]["GroupId"], ALL),
    "network-interface.group-name": (lambda it: it["SecurityGroups"][0]["GroupName"], ALL),
    "network-interface.attachment.attachment-id": (
        lambda it: it["NetworkInterfaces"][0]["Attachment"]["AttachmentId"],
        ["n1"],
    ),
    "network-interface.attachment.instance-id": (lambda it: it["InstanceId"], ["n1"]),
    "network-interface.attachment.instance-owner-id": (lambda it: it["NetworkInterfaces"][0]["OwnerId"], ALL),
}
KNOWN_TO_MOTO = [
    *list(SAME_AS_N1)[:9],
    "instance.group-id",
    "instance.group-name",
    "owner-id",
    "source-dest-check",
    "network-interface.private-dns-name",
    "state-reason-code",
]


def unknown_to_moto(name):
    return name not in KNOWN_TO_MOTO



@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[differs("filter not known")] if unknown_to_moto(n) else []) for n in SAME_AS_N1],
)
def test_filter_by_what_an_instance_has(fleet, name):
    read, expected = SAME_AS_N1[name]
    assert fleet.names(where_named(name, read(fleet["n1"]))) == expected
    assert fleet.names(where_named(name, "nothing-like-it")) == []


# What nobody asked for, as it is by default; and the instances of which it is true.
AS_IT_IS = [
    ("hypervisor", "xen", ALL),
    ("virtualization-type", "hvm", ALL),
    ("tenancy", "default", ALL),
    ("monitoring-state", "disabled", ALL),
    ("ebs-optimized", "false", ALL),
    ("hibernation-options.configured", "false", ALL),
    ("usage-operation", "RunInstances", ALL),
    ("capacity-reservation-specification.capacity-reservation-preference", "open", ALL),
    ("ena-support", "true", ALL),
    ("enclave-options.enabled", "false", ALL),
    ("metadata-options.http-protocol-ipv4", "enabled", ALL),
    ("metadata-options.http-protocol-ipv6", "disabled", ALL),
    ("metadata-options.state", "applied", ALL),
    ("network-interface.attachment.network-card-index", "0", ALL),
    ("network-interface.ipv6-native", "false", ALL),
    ("network-interface.operator.managed", "false", ALL),
    ("network-performance-options.bandwidth-weighting", "default", ALL),
    ("operator.managed", "false", ALL),
    ("private-dns-name-options.hostname-type", "ip-name", ALL),
    ("private-dns-name-options.enable-resource-name-dns-a-record", "false", ALL),
    ("private-dns-name-options.enable-resource-name-dns-aaaa-record", "false", ALL),
    ("launch-index", "0", ALL),
    ("maintenance-options.auto-recovery", "default", ALL),
    ("metadata-options.http-tokens", "optional", ALL),
    ("metadata-options.http-put-response-hop-limit", "1", ALL),
    ("metadata-options.instance-metadata-tags", "disabled", ALL),
    ("block-device-mapping.delete-on-termination", "true", ALL),
    ("block-device-mapping.status", "attached", ALL),
    ("network-interface.addresses.primary", "true", ALL),
    ("network-interface.addresses.primary", "false", []),
    ("network-interface.attachment.delete-on-termination", "true", ALL),
    ("network-interface.attachment.device-index", "0", ALL),
    ("network-interface.attachment.status", "attached", ALL),
    ("network-interface.description", "", ALL),
    ("network-interface.requester-managed", "false", ALL),
    ("network-interface.source-dest-check", "true", ALL),
    ("network-interface.status", "in-use", ALL),
    ("network-interface.tag-key", "wire-n1", ["n1"]),
    ("network-interface.tag-value", "RUN", ALL),
    ("reason", "User initiated*", [STOPPED]),
    ("state-reason-code", "Client.UserInitiatedShutdown", [STOPPED]),
    ("state-reason-message", "*User initiated shutdown", [STOPPED]),
]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [pytest.param(*case, marks=[differs("filter not known")] if unknown_to_moto(case[0]) else []) for case in AS_IT_IS],
)
def test_filter_by_what_is_so_by_default(fleet, name, value, expected):
    assert fleet.names(where_named(name, value.replace("RUN", fleet.run))) == expected
    assert fleet.names(where_named(name, "nothing-like-it")) == []


@differs("filter not known")
def test_filter_by_zone_id(cloud, fleet):
    zone = cloud.subnets[cloud.zones[1]]["AvailabilityZoneId"]
    assert fleet["n1"]["Placement"]["AvailabilityZoneId"] == zone
    assert fleet.names(*where(availability_zone_id=zone)) == ["n1", "n4"]


@differs("filter not known")
@pytest.mark.parametrize("name", ["block-device-mapping.attach-time", "network-interface.attachment.attach-time"])
def test_filter_by_attach_time(fleet, name):
    devices = fleet["n1"]["BlockDeviceMappings"][0]["Ebs"], fleet["n1"]["NetworkInterfaces"][0]["Attachment"]
    attached = devices[name.startswith("network")]["AttachTime"]
    assert "n1" in fleet.names(where_named(name, attached.strftime("%Y-%m-%dT%H:%M:%S.000Z")))
    assert fleet.names(where_named(name, "1999-*")) == []


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


@differs("a filter without values is accepted")
def test_a_filter_has_a_value(ec2):
    with refused("MissingParameter", "InvalidParameterValue"):
        ec2.describe_instances(Filters=[{"Name": "tag-key", "Values": []}])


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


@differs("pages are made of reservations, not bounded below, and a bad token is a server error")
def test_a_token_is_good_for_its_own_request_only(ec2, fleet):
    filters = [where_named("tag:run", fleet.run)]
    token = ec2.describe_instances(Filters=filters, MaxResults=5)["NextToken"]
    for call, asked in [
        (ec2.describe_instances, {}),
        (ec2.describe_instances, {"Filters": [*filters, tag("colour", "*")]}),
        (ec2.describe_instances, {"Filters": [where_named("tag:run", "*")]}),
        (ec2.describe_instance_status, {}),
        (ec2.describe_volumes, {"Filters": filters}),
    ]:
        with refused(*BAD_PAGE_TOKEN):
            call(**asked, NextToken=token)
    # The size of the page is no part of it.
    [rest] = ec2.describe_instances(Filters=filters, MaxResults=7, NextToken=token)["Reservations"]
    assert len(rest["Instances"]) == 1


@differs("pages are made of reservations, not bounded below, and a bad token is a server error")
def test_a_page_ends_within_a_reservation_and_nothing_is_told_twice(cloud, ec2, yard):
    launched = cloud.launch(MinCount=7, MaxCount=7)
    yard.instances += [it["InstanceId"] for it in launched["Instances"]]
    wanted = where(reservation_id=launched["ReservationId"])
    pages = ec2.get_paginator("describe_instances").paginate(Filters=wanted, PaginationConfig={"PageSize": 5})
    seen = [reservation for page in pages for reservation in page["Reservations"]]
    assert [len(it["Instances"]) for it in seen] == [5, 2]
    assert {it["ReservationId"] for it in seen} == {launched["ReservationId"]}
    assert len({it["InstanceId"] for reservation in seen for it in reservation["Instances"]}) == 7


def test_after_a_last_page_that_is_full_there_is_none(ec2, fleet):
    wanted = [where_named("tag:run", fleet.run), *where(instance_state_name="running")]
    answer = ec2.describe_instances(Filters=wanted, MaxResults=5)
    assert sum(len(group["Instances"]) for group in answer["Reservations"]) == 5
    assert not answer.get("NextToken")


def test_a_list_that_fits_has_no_next_page(ec2, fleet):
    for asked in ({"MaxResults": 1000}, {}):
        answer = ec2.describe_instances(Filters=[where_named("tag:run", fleet.run)], **asked)
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
