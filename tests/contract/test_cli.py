"""The AWS command line, as a person would type it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cloud import environment, unique

AWS = Path(sys.executable).parent / "aws"


def aws(*words, fails=None):
    """Runs `aws` with these words; what it printed as JSON, or, where it must fail, asserts the error code."""
    done = subprocess.run([AWS, *words], env=environment(), capture_output=True, text=True, timeout=180, check=False)
    if fails:
        assert done.returncode != 0 and f"({fails})" in done.stderr, done
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def launched(cloud, shared):
    """An instance launched from the command line, and the value of its tag."""
    name = unique()
    instance = aws(
        *("ec2", "run-instances", "--image-id", cloud.image["ImageId"], "--instance-type", cloud.types[0]),
        *("--subnet-id", cloud.subnet["SubnetId"], "--user-data", "#!/bin/sh", "--client-token", name),
        *("--metadata-options", "HttpTokens=required,InstanceMetadataTags=enabled"),
        *(
            "--tag-specifications",
            *(f"ResourceType={it},Tags=[{{Key=contract,Value={name}}}]" for it in ("instance", "volume")),
        ),
        *("--output", "json"),
    )["Instances"][0]["InstanceId"]
    shared.instances.append(instance)
    cloud.wait("instance_running", instance)
    return instance, name


def test_run_and_describe_instances(launched):
    instance, name = launched
    filters = [f"Name=tag:contract,Values={name}", "Name=instance-state-name,Values=running"]
    found = aws("ec2", "describe-instances", "--filters", *filters, "--output", "json")["Reservations"][0]["Instances"]
    assert [it["InstanceId"] for it in found] == [instance]
    assert found[0]["MetadataOptions"]["HttpTokens"] == "required"


def test_create_tags_and_describe_volumes(cloud, launched):
    instance, name = launched
    aws("ec2", "create-tags", "--resources", instance, "--tags", "Key=by,Value=hand")
    assert cloud.tags_of(instance) == {"contract": name, "by": "hand"}
    wanted = f"Name=tag:contract,Values={name}"
    [volume] = aws("ec2", "describe-volumes", "--filters", wanted, "--output", "json")["Volumes"]
    assert volume["Attachments"][0]["InstanceId"] == instance


def test_errors_keep_their_codes(launched):
    aws("ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", fails="InvalidInstanceID.NotFound")
    aws("ec2", "stop-instances", "--instance-ids", launched[0], "--dry-run", fails="DryRunOperation")


def test_objects(bucket, key, tmp_path):
    content = tmp_path / "content"
    content.write_text("by hand")
    put = ["s3api", "put-object", "--bucket", bucket, "--key", key, "--body", str(content), "--if-none-match", "*"]
    etag = aws(*put)["ETag"]
    aws(*put, fails="PreconditionFailed")
    fetched = aws("s3api", "get-object", "--bucket", bucket, "--key", key, str(tmp_path / "fetched"))
    assert fetched["ETag"] == etag and (tmp_path / "fetched").read_text() == "by hand"
