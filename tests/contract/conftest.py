"""Which cloud is on trial (--target), what cases share, and the report on what moto is not asked."""

from collections import Counter

import pytest
from cloud import Cloud, unique
from fleet import Fleet


def pytest_addoption(parser):
    parser.addoption("--target", choices=["drover", "moto"], required=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "differs(reason): fails on moto, which is known to differ from EC2 here")
    config.addinivalue_line("markers", "drover_only(reason): needs what only drover-local has")


def pytest_collection_modifyitems(config, items):
    """On moto, what differs must fail, strictly: so the list of differences stays true, and each such case is
    seen to fail against a cloud that breaks its rule."""
    if config.getoption("target") != "moto":
        return
    for item in items:
        for mark in item.iter_markers("drover_only"):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))
        for mark in item.iter_markers("differs"):
            item.add_marker(pytest.mark.xfail(reason=mark.args[0], strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A case that must fail must fail in its own words: one whose preparation fails has proven nothing."""
    report = yield
    if call.when == "setup" and call.excinfo and hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"{item.nodeid}: preparation failed: {call.excinfo.exconly()}"
        del report.wasxfail
    return report


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    for verdict, title in (("xfailed", "moto differs from EC2"), ("skipped", "moto has no counterpart")):
        reasons = Counter(_reason(report) for report in stats.get(verdict, []))
        if reasons:
            terminalreporter.section(f"{title}: {sum(reasons.values())} cases are not held against it")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count:4}  {reason}")


def _reason(report):
    text = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else report.wasxfail
    return text.removeprefix("Skipped: ").removeprefix("reason: ")


@pytest.fixture(scope="session")
def cloud(request):
    return Cloud(request.config.getoption("target"))


@pytest.fixture(scope="session")
def ec2(cloud):
    return cloud.ec2


@pytest.fixture(scope="session")
def s3(cloud):
    return cloud.s3


@pytest.fixture(scope="session")
def bucket(s3):
    """The account's bucket; on a cloud that starts with none, one is made."""
    found = [it["Name"] for it in s3.list_buckets()["Buckets"]]
    if not found:
        found = [unique()]
        s3.create_bucket(Bucket=found[0], CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    return found[0]


@pytest.fixture
def key(s3, bucket):
    """A key that nobody else uses; with all below it, removed afterwards."""
    own = f"{unique()}/object"
    yield own
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=own.split("/")[0]):
        for entry in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=entry["Key"])


class Yard:
    """Instances, volumes and groups of a case or a module, removed when it ends however it ends."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.instances, self.volumes, self.groups = [], [], []

    def launch(self, **asked):
        """Launches, and returns the first instance of the reservation as RunInstances told of it."""
        instances = self.cloud.launch(**asked)["Instances"]
        self.instances += [it["InstanceId"] for it in instances]
        return instances[0]

    def new(self, **asked):
        """Launches one and does not wait for it; its id."""
        return self.launch(**asked)["InstanceId"]

    def run(self, **asked):
        """Launches one and waits until it runs; its id."""
        instance = self.new(**asked)
        self.cloud.wait("instance_running", instance)
        return instance

    def volume(self, **asked):
        """Creates a volume in the first zone unless asked otherwise, and waits until it is available; its id."""
        defaults = {"AvailabilityZone": self.cloud.zones[0], "Size": 1, "VolumeType": "gp3"}
        volume = self.cloud.ec2.create_volume(**defaults | asked)["VolumeId"]
        self.volumes.append(volume)
        self.cloud.wait("volume_available", volume)
        return volume

    def group(self, **asked):
        defaults = {"GroupName": unique(), "Description": "contract", "VpcId": self.cloud.vpc}
        group = self.cloud.ec2.create_security_group(**defaults | asked)["GroupId"]
        self.groups.append(group)
        return group

    def clear(self):
        if self.cloud.target == "moto":
            # It forgets everything when it ends, and trips over what a case that must fail there leaves behind.
            return
        ec2 = self.cloud.ec2
        states = {it: self.cloud.state(it) for it in dict.fromkeys(self.instances)}
        living = [it for it, state in states.items() if state not in ("shutting-down", "terminated")]
        for instance in living:
            for flag in ("DisableApiTermination", "DisableApiStop"):
                ec2.modify_instance_attribute(InstanceId=instance, **{flag: {"Value": False}})
        if living:
            ec2.terminate_instances(InstanceIds=living)
        if states and (self.volumes or self.groups):
            self.cloud.wait("instance_terminated", *states)
        for volume in dict.fromkeys(self.volumes):
            self._delete_volume(volume)
        for group in self.groups:
            ec2.delete_security_group(GroupId=group)

    def _delete_volume(self, volume):
        found = self.cloud.ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [volume]}])["Volumes"]
        if found and found[0]["State"] != "deleting":
            self.cloud.until(lambda: self.cloud.volume(volume)["State"] == "available", f"{volume} is detached")
            self.cloud.ec2.delete_volume(VolumeId=volume)


@pytest.fixture
def yard(cloud):
    """What this case makes."""
    own = Yard(cloud)
    yield own
    own.clear()


@pytest.fixture(scope="module")
def shared(cloud):
    """What the cases of this module only look at."""
    own = Yard(cloud)
    yield own
    own.clear()


@pytest.fixture(scope="module")
def running(shared):
    """A running instance to look at, never to change."""
    return shared.run()


@pytest.fixture
def stopped(cloud, ec2, yard):
    """A stopped instance of this case's own."""
    instance = yard.run()
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    return instance


@pytest.fixture(scope="module")
def terminated(cloud, ec2, shared):
    """A terminated instance to look at."""
    instance = shared.run()
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    return instance


@pytest.fixture(scope="module")
def fleet(cloud, shared):
    """A fleet of this module's own."""
    return Fleet(cloud, shared)
