"""What `drover-local fault` does to a client: throttling, no capacity, late visibility, lost replies, a zone out."""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from cloud import drover_only, refused, unique, where

pytestmark = drover_only("faults cannot be injected")


def drover_local(*words):
    """The command that runs the cloud on trial, beside it; what it printed."""
    command = [os.environ["DROVER_LOCAL"], "--dir", os.environ["DROVER_LOCAL_DIR"], *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@contextmanager
def fault(*words):
    drover_local("fault", *words)
    try:
        yield
    finally:
        drover_local("fault", "clear", *words)


def outcome(call, **asked):
    try:
        call(**asked)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return "ok", 200


def test_throttling_lets_a_burst_of_five_launches_through(cloud, ec2):
    with fault("throttle"):
        launches = [outcome(cloud.launch, DryRun=True) for _ in range(12)]
        assert launches[:5] == [("DryRunOperation", 412)] * 5
        assert ("RequestLimitExceeded", 503) in launches[5:]
        assert outcome(ec2.describe_vpcs)[0] == "ok"
        cloud.until(lambda: outcome(cloud.launch, DryRun=True)[0] == "DryRunOperation", "the bucket fills again")
    assert {outcome(cloud.launch, DryRun=True)[0] for _ in range(12)} == {"DryRunOperation"}


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


def test_what_is_new_is_seen_late(cloud, ec2, yard):
    token = unique()
    asked = {
        "ClientToken": token,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
    }
    with fault("visibility", "2"):
        instance = yard.new(**asked)
        with refused("InvalidInstanceID.NotFound"):
            ec2.describe_instances(InstanceIds=[instance])
        with refused("InvalidInstanceID.NotFound"):
            ec2.create_tags(Resources=[instance], Tags=[{"Key": "c", "Value": "d"}])
        assert cloud.found(*where(client_token=token)) == []
        # Tokens are not subject to it: sending again finds what was launched.
        assert yard.new(**asked) == instance
        cloud.until(lambda: cloud.found(*where(client_token=token)) == [instance], "the instance is seen")
        assert cloud.tags_of(instance) == {"a": "b"}
        volume = ec2.create_volume(AvailabilityZone=cloud.zones[0], Size=1)["VolumeId"]
        yard.volumes.append(volume)
        with refused("InvalidVolume.NotFound"):
            ec2.describe_volumes(VolumeIds=[volume])
        group = yard.group()
        with refused("InvalidGroup.NotFound"):
            ec2.describe_security_groups(GroupIds=[group])


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
    with fault("zone-outage", cloud.zones[0]):
        for asked in [{}, {"Filters": where(instance_state_name="running")}, {"InstanceIds": [inside]}]:
            with refused("Unavailable", "ServiceUnavailable", "InternalError"):
                ec2.describe_instances(**asked)
        [seen] = ec2.describe_instances(InstanceIds=[outside])["Reservations"]
        assert seen["Instances"][0]["InstanceId"] == outside
        with refused("Unavailable", "ServiceUnavailable", "InternalError"):
            yard.launch(SubnetId=subnets[0])
        yard.launch(SubnetId=subnets[1])
    assert cloud.state(inside) == "running"


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
