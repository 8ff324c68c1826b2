"""What `drover-local fault` does to a client: throttling, no capacity, late visibility, lost replies, a zone out."""

import json
import subprocess
import time
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from cloud import NO_INSTANCE, drover_local, drover_only, outcome, refused, spec, tags, unique, where

pytestmark = drover_only("faults cannot be injected")


@contextmanager
def fault(*words):
    drover_local("fault", *words)
    try:
        yield
    finally:
        drover_local("fault", "clear", *words)


# Before the cases that empty the buckets of requests: here those are to be full.
def test_instances_are_counted_besides_requests(cloud, ec2):
    with fault("throttle"):
        assert outcome(cloud.launch, MinCount=1001, MaxCount=1001, DryRun=True) == ("RequestLimitExceeded", 503)
        asked = {"InstanceIds": [NO_INSTANCE] * 400, "DryRun": True}
        told = [outcome(ec2.stop_instances, **asked)[0] for _ in range(3)]
        assert told == ["DryRunOperation"] * 2 + ["RequestLimitExceeded"]


def test_throttling_lets_a_burst_of_five_launches_through(cloud, ec2):
    def launch(**_):
        return outcome(cloud.launch, DryRun=True)

    with fault("throttle"):
        start, told = time.monotonic(), []
        while (spent := time.monotonic() - start) < 1:
            told.append(launch())
        assert told[:4] == [("DryRunOperation", 412)] * 4
        # Two come back each second: a client that asks faster than that is refused soon.
        assert ("RequestLimitExceeded", 503) in told
        assert told.count(("DryRunOperation", 412)) <= 5 + 2 * spent
        assert outcome(ec2.describe_vpcs)[0] == "ok"
        cloud.until(lambda: launch()[0] == "DryRunOperation", "the bucket fills again")
    assert {launch()[0] for _ in range(12)} == {"DryRunOperation"}


# Tokens of each bucket when it is full, and those that come back each second, as long as it is not.
BUCKETS = [
    ("start_instances", {"InstanceIds": [NO_INSTANCE]}, 5, 2),
    ("stop_instances", {"InstanceIds": [NO_INSTANCE]}, 50, 5),
    ("terminate_instances", {"InstanceIds": [NO_INSTANCE]}, 100, 5),
    ("create_tags", {"Resources": [NO_INSTANCE], "Tags": tags({"a": "b"})}, 100, 10),
    ("describe_volumes", {}, 50, 10),
    ("describe_volumes", {"Filters": where(status="available")}, 100, 20),
]


def test_every_action_has_a_bucket_of_its_own(ec2):
    with fault("throttle"):
        for action, asked, tokens, refill in BUCKETS:
            start, passed = time.monotonic(), 0
            # The refused cost a token too, so the first refusal says it all; a host that is slow may see none.
            while passed < 2 * tokens and outcome(getattr(ec2, action), **asked, DryRun=True)[0] == "DryRunOperation":
                passed += 1
            assert tokens <= passed <= tokens + refill * (time.monotonic() - start), (action, asked)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_zone_without_capacity(cloud, ec2, yard, narrow):
    stopped, token = yard.run(), unique()
    ec2.stop_instances(InstanceIds=[stopped])
    cloud.wait("instance_stopped", stopped)
    elsewhere = cloud.subnets[cloud.zones[1]]["SubnetId"]
    with fault("capacity", cloud.zones[0], *([cloud.types[0]] if narrow else [])):
        with refused("InsufficientInstanceCapacity", status=500):
            yard.launch(ClientToken=token)
        with refused("InsufficientInstanceCapacity", status=500):
            ec2.start_instances(InstanceIds=[stopped])
        yard.launch(SubnetId=elsewhere)
        if narrow:
            yard.launch(InstanceType=cloud.types[1])
        else:
            with refused("InsufficientInstanceCapacity"):
                yard.launch(InstanceType=cloud.types[1])
    assert cloud.state(stopped) == "stopped"
    # Refused is not launched: the token is free.
    launched = yard.new(ClientToken=token)
    assert cloud.found(*where(client_token=token)) == [launched]


def test_what_is_new_is_not_seen_yet(cloud, ec2, yard):
    token = unique()
    asked = {
        "ClientToken": token,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
    }
    with fault("visibility", "3600"):
        told = yard.launch(**asked)
        instance, interface = told["InstanceId"], told["NetworkInterfaces"][0]["NetworkInterfaceId"]
        volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
        yard.volumes.append(volume)
        group = yard.group()
        for call, asks, code in [
            (ec2.describe_instances, {"InstanceIds": [instance]}, "InvalidInstanceID.NotFound"),
            (ec2.describe_instance_status, {"InstanceIds": [instance]}, "InvalidInstanceID.NotFound"),
            (ec2.create_tags, {"Resources": [instance], "Tags": tags({"c": "d"})}, "InvalidInstanceID.NotFound"),
            (ec2.terminate_instances, {"InstanceIds": [instance]}, "InvalidInstanceID.NotFound"),
            (
                ec2.describe_network_interfaces,
                {"NetworkInterfaceIds": [interface]},
                "InvalidNetworkInterfaceID.NotFound",
            ),
            (ec2.describe_volumes, {"VolumeIds": [volume]}, "InvalidVolume.NotFound"),
            (ec2.delete_volume, {"VolumeId": volume}, "InvalidVolume.NotFound"),
            (ec2.describe_security_groups, {"GroupIds": [group]}, "InvalidGroup.NotFound"),
        ]:
            assert outcome(call, **asks) == (code, 400), call
        assert cloud.found(*where(client_token=token)) == []
        assert ec2.describe_volumes(Filters=where(volume_id=volume))["Volumes"] == []
        assert cloud.tags_of(instance) == {}
        # Tokens are not subject to it: sending again finds what was launched.
        assert yard.new(**asked) == instance
    assert cloud.found(*where(client_token=token)) == [instance]
    assert cloud.tags_of(instance) == {"a": "b"}


def test_what_is_new_is_seen_after_a_while(cloud, yard):
    token = unique()
    with fault("visibility", "1"):
        instance = yard.new(ClientToken=token)
        cloud.until(lambda: cloud.found(*where(client_token=token)) == [instance], "the instance is seen")


def test_tags_that_are_shown_late(cloud, ec2, yard):
    instance = yard.run()
    with fault("tag-lag", "600"):
        ec2.create_tags(Resources=[instance], Tags=[{"Key": "late", "Value": "yes"}])
        assert cloud.tags_of(instance) == {}
    assert cloud.tags_of(instance) == {"late": "yes"}


def test_a_subnet_without_a_free_address(cloud, ec2, yard):
    subnets = [cloud.subnets[cloud.zones[zone]]["SubnetId"] for zone in (0, 1)]
    with fault("full-subnet", subnets[0]):
        [seen] = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"]
        assert seen["AvailableIpAddressCount"] == 0
        with refused("InsufficientFreeAddressesInSubnet"):
            yard.launch(SubnetId=subnets[0])
        yard.launch(SubnetId=subnets[1])
    yard.launch(SubnetId=subnets[0])


def test_a_reply_that_is_lost_after_the_launch(cloud, yard):
    token = unique()
    with fault("lost-reply", "RunInstances"):
        with pytest.raises(ConnectionClosedError):
            yard.launch(ClientToken=token)
        [launched] = cloud.found(*where(client_token=token))
        yard.instances.append(launched)
        assert yard.new(ClientToken=token) == launched
    assert cloud.found(*where(client_token=token)) == [launched]


def test_a_reply_that_is_lost_after_a_conditional_write(s3, bucket, key):
    with fault("lost-reply", "PutObject"), pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key=key, Body=b"mine", IfNoneMatch="*")
    with refused("PreconditionFailed", status=412):
        s3.put_object(Bucket=bucket, Key=key, Body=b"mine", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"mine"


def test_a_zone_that_is_out(cloud, ec2, yard):
    subnets = [cloud.subnets[cloud.zones[zone]]["SubnetId"] for zone in (0, 1)]
    inside, outside = (yard.run(SubnetId=subnet) for subnet in subnets)
    volume, interface = yard.volume(), cloud.interface(inside)["NetworkInterfaceId"]
    out = ["Unavailable", "ServiceUnavailable", "InternalError"]
    with fault("zone-outage", cloud.zones[0]):
        for call, asked in [
            (ec2.describe_instances, {}),
            (ec2.describe_instances, {"Filters": where(instance_state_name="running")}),
            (ec2.describe_instances, {"InstanceIds": [inside]}),
            (ec2.describe_instances, {"InstanceIds": [inside, outside]}),
            (ec2.describe_instance_status, {}),
            (ec2.describe_instance_attribute, {"InstanceId": inside, "Attribute": "userData"}),
            (ec2.stop_instances, {"InstanceIds": [inside]}),
            (ec2.describe_volumes, {}),
            (ec2.describe_volumes, {"VolumeIds": [volume]}),
            (ec2.delete_volume, {"VolumeId": volume}),
            (ec2.describe_network_interfaces, {}),
            (ec2.describe_network_interfaces, {"NetworkInterfaceIds": [interface]}),
            (
                ec2.assign_private_ip_addresses,
                {"NetworkInterfaceId": interface, "SecondaryPrivateIpAddressCount": 1},
            ),
            (ec2.create_volume, {"AvailabilityZone": cloud.zones[0], "Size": 1}),
            (yard.launch, {"SubnetId": subnets[0]}),
            (yard.launch, {"Placement": {"AvailabilityZone": cloud.zones[0]}}),
        ]:
            code, status = outcome(call, **asked)
            assert code in out and status >= 500, (call, asked)
        [seen] = ec2.describe_instances(InstanceIds=[outside])["Reservations"]
        assert seen["Instances"][0]["InstanceId"] == outside
        yard.launch(SubnetId=subnets[1])
        states = {it["ZoneName"]: it["State"] for it in ec2.describe_availability_zones()["AvailabilityZones"]}
        assert states == {zone: "impaired" if zone == cloud.zones[0] else "available" for zone in cloud.zones}
    assert cloud.state(inside) == "running"
    assert cloud.volume(volume)["State"] == "available"


def test_a_host_that_dies(cloud, ec2, yard):
    instance = yard.run()

    def checks():
        [status] = ec2.describe_instance_status(InstanceIds=[instance])["InstanceStatuses"]
        told = [status[check] for check in ("InstanceStatus", "SystemStatus")]
        return {(it["Status"], it["Details"][0]["Status"]) for it in told}

    drover_local("fault", "kill", instance)
    # EC2 notices nothing but that the checks fail.
    assert cloud.state(instance) == "running" and checks() == {("impaired", "failed")}
    impaired = where(system_status__status="impaired")
    assert [it["InstanceId"] for it in ec2.describe_instance_status(Filters=impaired)["InstanceStatuses"]] == [instance]
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    ec2.start_instances(InstanceIds=[instance])
    cloud.wait("instance_running", instance)
    cloud.until(lambda: checks() == {("ok", "passed")}, "the checks pass")


def test_credentials_that_were_revoked(ec2, s3, bucket, key):
    with fault("credentials"):
        with refused("AuthFailure"):
            ec2.describe_vpcs()
        with refused("InvalidAccessKeyId", status=403):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert ec2.describe_vpcs()["Vpcs"]


@pytest.mark.parametrize("seconds", ["1200", "-1200"])
def test_a_clock_that_is_wrong(ec2, s3, bucket, key, seconds):
    with fault("clock-skew", seconds):
        with refused("RequestExpired", status=400):
            ec2.describe_vpcs()
        with refused("RequestTimeTooSkewed", status=403):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert ec2.describe_vpcs()["Vpcs"]
    s3.put_object(Bucket=bucket, Key=key, Body=b"x", IfNoneMatch="*")


def test_the_log_tells_calls_that_change_from_calls_that_look(ec2, s3, bucket, key, yard):
    def calls(since=0):
        return [json.loads(line) for line in drover_local("calls", "--json", "--since", str(since)).splitlines()]

    before = calls()[-1]["seq"]
    ec2.describe_vpcs()
    group = yard.group()
    with refused("InvalidGroup.NotFound"):
        ec2.delete_security_group(GroupId="sg-0123456789abcdef0")
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.get_object(Bucket=bucket, Key=key)
    told = [(it["action"], it["mutating"]) for it in calls(before)]
    assert told == [
        ("DescribeVpcs", False),
        ("CreateSecurityGroup", True),
        ("DeleteSecurityGroup", True),
        ("PutObject", True),
        ("GetObject", False),
    ]
    assert calls(before)[2]["error"] == "InvalidGroup.NotFound" and group


def test_the_log_tells_an_order_that_was_refused_in_part(cloud, ec2, yard):
    subnets = [cloud.subnets[cloud.zones[zone]]["SubnetId"] for zone in (0, 1)]
    protected, elsewhere = (yard.run(SubnetId=subnet) for subnet in subnets)
    ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    for instances, changed in [([protected], False), ([protected, elsewhere], True)]:
        with refused("OperationNotPermitted"):
            ec2.terminate_instances(InstanceIds=instances)
        last = json.loads(drover_local("calls", "--json").splitlines()[-1])
        assert (last["action"], last["mutating"], last["changed"]) == ("TerminateInstances", True, changed)


@pytest.mark.parametrize(
    ("permission", "asked"),
    [
        ("ec2:RunInstances", {}),
        ("ec2:CreateTags", {"TagSpecifications": [spec("instance", {"a": "b"})]}),
        ("iam:PassRole", {"IamInstanceProfile": {"Name": "drover-machine"}}),
    ],
)
def test_a_permission_that_is_missing_is_named(cloud, permission, asked):
    with fault("deny", permission), pytest.raises(ClientError) as caught:
        cloud.launch(DryRun=True, **asked)
    error = caught.value.response["Error"]
    assert error["Code"] == "UnauthorizedOperation"
    assert f"is not authorized to perform: {permission} on resource: " in error["Message"]
    assert outcome(cloud.launch, DryRun=True, **asked) == ("DryRunOperation", 412)


@pytest.mark.parametrize("resource", ["volume", "security-group"])
def test_tagging_what_is_made_is_a_permission_of_its_own(cloud, ec2, yard, resource):
    call, asked = {
        "volume": (ec2.create_volume, {"AvailabilityZone": cloud.zones[0], "Size": 1}),
        "security-group": (ec2.create_security_group, {"GroupName": unique(), "Description": "contract"}),
    }[resource]
    tagged = asked | {"TagSpecifications": [spec(resource, {"a": "b"})], "DryRun": True}
    with fault("deny", "ec2:CreateTags"):
        for dry in (True, False):
            with refused("UnauthorizedOperation"):
                call(**tagged | {"DryRun": dry})
        assert outcome(call, **asked, DryRun=True) == ("DryRunOperation", 412)
    assert outcome(call, **tagged) == ("DryRunOperation", 412)


def test_what_is_denied_is_an_action_that_there_is():
    with pytest.raises(subprocess.CalledProcessError):
        drover_local("fault", "deny", "ec2:RunInstance")
