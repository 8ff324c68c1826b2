"""What every case is given: clients, what the account is furnished with, and words for what is expected.

The suite knows nothing of the endpoint behind it. Where it stands comes from the environment that every AWS tool
reads (AWS_ENDPOINT_URL and its relatives), so the same cases run against any cloud that claims to be EC2.
"""

import ipaddress
import itertools
import os
import re
import subprocess
import time
import uuid
from contextlib import contextmanager
from functools import cached_property

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

# One attempt: a retry would hide the first answer, and it is the first answer that is on trial.
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)

# Where EC2 documents two codes for one mistake, either is an answer a client must expect.
BAD_PAGE_SIZE = ("InvalidParameterValue", "InvalidMaxResults")
BAD_PAGE_TOKEN = ("InvalidParameterValue", "InvalidPaginationToken", "InvalidNextToken")
MISSING = ("MissingParameter", "InvalidParameterCombination")

INSTANCE_ID = re.compile(r"i-[0-9a-f]{17}")
NO_INSTANCE = "i-0123456789abcdef0"
NO_VOLUME = "vol-0123456789abcdef0"


def differs(reason):
    """The case holds on EC2 and fails on moto, for this reason: there it must fail, or the mark is not true."""
    return pytest.mark.differs(reason)


def drover_only(reason):
    """The case needs something that moto has no counterpart for: it is not run there."""
    return pytest.mark.drover_only(reason)


@contextmanager
def refused(*codes, status=None):
    """The call inside must fail with one of `codes`, in the shape in which EC2 reports errors."""
    with pytest.raises(ClientError) as caught:
        yield
    response = caught.value.response
    assert response["Error"]["Code"] in codes, response["Error"]
    assert response["Error"]["Message"]
    http = response["ResponseMetadata"]["HTTPStatusCode"]
    assert http == status if status else 400 <= http < 600


def outcome(call, **asked):
    """"ok" and 200, or the error's code and status."""
    try:
        call(**asked)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return "ok", 200


def unique(prefix="contract"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def tags(pairs):
    """A dict as EC2's list of tags."""
    return [{"Key": key, "Value": value} for key, value in pairs.items()]


def pairs(tag_list):
    """EC2's list of tags as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tag_list or []}


def where(**filters):
    """Filters from keywords: `_` stands for `-`, `__` for `.`; a list is any of its values."""
    return [where_named(name.replace("__", ".").replace("_", "-"), value) for name, value in filters.items()]


def where_named(name, value):
    return {"Name": name, "Values": value if isinstance(value, list) else [value]}


def spec(resource, pairs_):
    return {"ResourceType": resource, "Tags": tags(pairs_)}


class Cloud:
    """One account at one endpoint."""

    def __init__(self, target):
        self.target = target
        # Moto moves at once, so waiting longer there only delays a failure that is expected.
        self.patience = 3 if target == "moto" else 30
        self.ec2 = boto3.client("ec2", config=ONE_ATTEMPT)
        # Sends what the ordinary client would not let pass.
        self.careless = boto3.client("ec2", config=ONE_ATTEMPT.merge(Config(parameter_validation=False)))
        self.s3 = boto3.client("s3", config=ONE_ATTEMPT)
        self.region = self.ec2.meta.region_name
        self._numbers = itertools.count(2)

    # What the account is furnished with.

    @cached_property
    def zones(self):
        answer = self.ec2.describe_availability_zones(Filters=where(state="available"))["AvailabilityZones"]
        return sorted(zone["ZoneName"] for zone in answer)[:3]

    @cached_property
    def vpc(self):
        return self.subnet["VpcId"]

    @cached_property
    def subnets(self):
        """One subnet a zone, by zone."""
        by_zone = {}
        for subnet in sorted(self.ec2.describe_subnets()["Subnets"], key=lambda it: it["SubnetId"]):
            by_zone.setdefault(subnet["AvailabilityZone"], subnet)
        return by_zone

    @property
    def subnet(self):
        return self.subnets[self.zones[0]]

    @cached_property
    def image(self):
        own = self.ec2.describe_images(Owners=["self"])["Images"]
        return own[0] if own else self._make_image()

    def _make_image(self):
        """An image of our own, from one of the cloud's: for a cloud that starts without."""
        wanted = where(architecture="x86_64", virtualization_type="hvm", root_device_type="ebs")
        base = self.ec2.describe_images(Filters=wanted)["Images"][0]["ImageId"]
        instance = self.ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        image = self.ec2.create_image(InstanceId=instance, Name=unique())["ImageId"]
        return self.ec2.describe_images(ImageIds=[image])["Images"][0]

    @cached_property
    def types(self):
        """Two instance types that the image boots on."""
        wanted = where_named("processor-info.supported-architecture", self.image["Architecture"])
        found = self.ec2.describe_instance_types(Filters=[wanted])["InstanceTypes"]
        names = {each["InstanceType"]: each["MemoryInfo"]["SizeInMiB"] for each in found if not each["BareMetal"]}
        return sorted(names, key=lambda name: (names[name], name))[:2]

    @cached_property
    def group(self):
        """The default security group of the VPC."""
        wanted = where(vpc_id=self.vpc, group_name="default")
        return self.ec2.describe_security_groups(Filters=wanted)["SecurityGroups"][0]["GroupId"]

    # Doing.

    def launch(self, **asked):
        """RunInstances for one instance in the first zone unless asked otherwise; the reservation."""
        if not {"SubnetId", "Placement", "NetworkInterfaces"} & asked.keys():
            asked["SubnetId"] = self.subnet["SubnetId"]
        defaults = {"ImageId": self.image["ImageId"], "InstanceType": self.types[0], "MinCount": 1, "MaxCount": 1}
        return self.ec2.run_instances(**defaults | asked)

    def instance(self, instance_id):
        reservations = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return reservations[0]["Instances"][0]

    def state(self, instance_id):
        return self.instance(instance_id)["State"]["Name"]

    def interface(self, instance_id):
        wanted = where(attachment__instance_id=instance_id)
        return self.ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"][0]

    def volume(self, volume_id):
        return self.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]

    def tags_of(self, resource_id):
        found = self.ec2.describe_tags(Filters=where(resource_id=resource_id))["Tags"]
        return pairs(found)

    def found(self, *filters):
        """The ids of the instances that pass all filters, on all pages."""
        pages = self.ec2.get_paginator("describe_instances").paginate(Filters=list(filters))
        return [it["InstanceId"] for page in pages for group in page["Reservations"] for it in group["Instances"]]

    def wait(self, name, *ids):
        """One of boto3's own waiters, such as instance_running, with our patience."""
        key = "VolumeIds" if name.startswith("volume") else "InstanceIds"
        pace = {"Delay": 0.1, "MaxAttempts": self.patience * 10}
        self.ec2.get_waiter(name).wait(**{key: list(ids)}, WaiterConfig=pace)

    def until(self, holds, what):
        """Polls `holds` and returns its first true answer; fails, saying `what`, when patience ends."""
        end = time.monotonic() + self.patience
        while not (answer := holds()):
            assert time.monotonic() < end, f"not within {self.patience} s: {what}"
            time.sleep(0.05)
        return answer

    def catch(self, attempt, what):
        """For what passes by itself: a slow host may look too late, so up to forty fresh ones are looked at. `attempt` makes one
        and answers whether it was seen."""
        assert any(attempt() for _ in range(40)), f"not once: {what}"

    def address(self, zone=0):
        """An address of a zone's subnet that no case had before, from its end: far from those that are handed out."""
        network = ipaddress.ip_network(self.subnets[self.zones[zone]]["CidrBlock"])
        return str(network.broadcast_address - next(self._numbers))

    def send(
        self, action, sign=SigV4Auth, method="POST", service="ec2", region=None, change=None, raw=None, **parameters
    ):
        """A request as no SDK would send it, neither completed nor checked; `_` in a parameter's name stands for `.`, and
        `raw` for all of them. Status and body of the answer."""
        form = {"Action": action, "Version": "2016-11-15"} | {k.replace("_", "."): v for k, v in parameters.items()}
        form = raw or form
        where_ = {"params": form} if method == "GET" else {"data": form}
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"} if method == "POST" else {}
        request = AWSRequest(method, self.ec2.meta.endpoint_url + "/", headers=headers, **where_)
        if sign:
            sign(boto3.Session().get_credentials(), service, region or self.region).add_auth(request)
        prepared = request.prepare()
        if change:
            prepared.body = change(prepared.body)
        answer = URLLib3Session(timeout=15).send(prepared)
        return answer.status_code, answer.text

    def code(self, action, **parameters):
        """The error code of a request that no SDK would send."""
        status, body = self.send(action, **parameters)
        code = re.search(r"<Response><Errors><Error><Code>([^<]+)</Code><Message>[^<]+</Message>", body)
        assert code and status >= 400, (status, body)
        return code[1]


def drover_local(*words):
    """The command that runs the cloud on trial, beside it; what it printed."""
    command = [os.environ["DROVER_LOCAL"], "--dir", os.environ["DROVER_LOCAL_DIR"], *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def environment():
    """The environment for a program of the AWS command line."""
    return os.environ | {"AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
