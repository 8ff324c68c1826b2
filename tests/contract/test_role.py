"""A machine's role: it reads the binaries, and of its own set the bundles and the register. Nothing else, nowhere; it
writes nothing, lists nothing, and calls no action of EC2. The rights are those of an instance profile of one set."""

import re
import subprocess
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from cloud import INSTANCE_ID, NO_INSTANCE, ONE_ATTEMPT, drover_local, drover_only, outcome, refused, spec, unique

pytestmark = drover_only("no instance has credentials of a role")

PROFILE = "drover-machine"

REALM = unique("realm")
SET = f"realms/{REALM}/mysqlreplicaset/default/orders/abc12345"
MAY_READ = [
    f"realms/{REALM}/bin/current",
    f"realms/{REALM}/bin/{'0' * 64}/drover",
    f"{SET}/register.json",
    f"{SET}/slots/m0/bundle.json",
    # Credentials do not say which slot a machine fills,
    f"{SET}/slots/r0/bundle.json",
    # nor does a profile's policy know of lives, and its * takes slashes too.
    SET.replace("abc12345", "zzz99999") + "/register.json",
    SET.replace("abc12345", "zzz99999") + "/slots/m0/bundle.json",
    f"{SET}/slots/m0/of/bundle.json",
]
OTHERS = SET.rsplit("/", 2)[0]
MAY_NOT_READ = [
    f"realms/{REALM}/lock.json",
    f"realms/{REALM}/binaries",
    f"{SET}/ca.json",
    f"{SET}/slots/m0.json",
    f"{SET}/slots/m0/bundle.json.old",
    f"{SET}/register.json.old",
    f"{SET}/journal/1.json",
    f"{SET}/backups/b/manifest.json",
    f"{SET}/archive/1",
    f"{OTHERS}/orders/incarnation.json",
    f"{OTHERS}/orders/zzz99999/ca.json",
    f"{OTHERS}/other/abc12345/register.json",
    f"{OTHERS}/other/abc12345/slots/m0/bundle.json",
    SET.replace("/default/", "/production/") + "/slots/m0/bundle.json",
    SET.replace(REALM, REALM + "x") + "/slots/m0/bundle.json",
    f"realms/{REALM}x/bin/current",
    "bin/current",
]


def identity(**changed):
    tags = {"schema": "1", "realm": REALM, "kind": "mysqlreplicaset", "ns": "default", "name": "orders"}
    tags |= {"inc": "abc12345", "slot": "m0", "attempt": "1"} | changed
    return {f"drover:{key}": value for key, value in tags.items()}


class Role:
    """A session of an instance's role, as `drover-local role-credentials` prints it."""

    def __init__(self, instance, *options):
        printed = drover_local("role-credentials", instance, *options)
        self.env = dict(re.findall(r"^export (\w+)='([^']*)'$", printed, re.MULTILINE))
        self.secrets = {
            "aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.env["AWS_SECRET_ACCESS_KEY"],
            "aws_session_token": self.env["AWS_SESSION_TOKEN"],
        }

    def client(self, service, **changed):
        return boto3.client(service, config=ONE_ATTEMPT, **self.secrets | changed)


def machine(yard, tags, **asked):
    asked = {"IamInstanceProfile": {"Name": PROFILE}} | asked
    return yard.run(TagSpecifications=[spec("instance", tags)] if tags else [], **asked)


@pytest.fixture(scope="module")
def member(shared):
    """The machine in slot m0 of the set."""
    return machine(shared, identity())


@pytest.fixture(scope="module")
def role(member):
    return Role(member)


@pytest.fixture(scope="module")
def its_s3(role):
    return role.client("s3")


@pytest.fixture(scope="module", autouse=True)
def objects(s3, bucket):
    """Every object there is, each with its key in it."""
    for key in MAY_READ + MAY_NOT_READ:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    yield
    for key in MAY_READ + MAY_NOT_READ:
        s3.delete_object(Bucket=bucket, Key=key)


def content(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def short(key):
    return key.removeprefix(f"realms/{REALM}/").replace(REALM, "REALM").replace("0" * 64, "HASH")


@pytest.mark.parametrize("key", MAY_READ, ids=short)
def test_what_the_role_may_read(its_s3, bucket, key):
    assert content(its_s3, bucket, key) == key
    assert its_s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key)


@pytest.mark.parametrize("key", MAY_NOT_READ, ids=short)
def test_what_the_role_may_not_read(s3, its_s3, bucket, key):
    assert content(s3, bucket, key) == key
    with refused("AccessDenied", status=403):
        its_s3.get_object(Bucket=bucket, Key=key)
    # An answer to HEAD has no body, and so no code.
    with refused("403", status=403):
        its_s3.head_object(Bucket=bucket, Key=key)


def test_without_the_right_to_list_what_is_not_there_is_denied(s3, its_s3, bucket):
    asked = {"Bucket": bucket, "Key": f"realms/{REALM}/bin/none"}
    with refused("NoSuchKey", status=404):
        s3.get_object(**asked)
    with refused("AccessDenied", status=403):
        its_s3.get_object(**asked)
    with refused("403", status=403):
        its_s3.head_object(**asked)


def test_the_role_reads_no_other_bucket(s3, its_s3):
    other = unique()
    s3.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    s3.put_object(Bucket=other, Key=MAY_READ[0], Body=b"x")
    with refused("AccessDenied", status=403):
        its_s3.get_object(Bucket=other, Key=MAY_READ[0])


WRITES = {
    "put": lambda s3, at: s3.put_object(**at, Body=b"mine"),
    "put where nothing is": lambda s3, at: s3.put_object(**at | {"Key": at["Key"] + ".new"}, Body=b"mine"),
    "put if match": lambda s3, at: s3.put_object(**at, Body=b"mine", IfMatch=f'"{"0" * 32}"'),
    "copy": lambda s3, at: s3.copy_object(**at, CopySource={"Bucket": at["Bucket"], "Key": MAY_READ[0]}),
    "begin an upload": lambda s3, at: s3.create_multipart_upload(**at),
    "upload a part": lambda s3, at: s3.upload_part(**at, UploadId="x", PartNumber=1, Body=b"mine"),
    "delete": lambda s3, at: s3.delete_object(**at),
    "delete many": lambda s3, at: s3.delete_objects(Bucket=at["Bucket"], Delete={"Objects": [{"Key": at["Key"]}]}),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("key", [MAY_READ[0], MAY_READ[2], MAY_READ[3], MAY_NOT_READ[0]], ids=short)
def test_the_role_writes_nothing(s3, its_s3, bucket, write, key):
    with refused("AccessDenied", status=403):
        WRITES[write](its_s3, {"Bucket": bucket, "Key": key})
    assert content(s3, bucket, key) == key
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key + ".new")


LISTS = {
    "objects": lambda s3, bucket: s3.list_objects_v2(Bucket=bucket),
    "the binaries": lambda s3, bucket: s3.list_objects_v2(Bucket=bucket, Prefix=f"realms/{REALM}/bin/"),
    "its own set": lambda s3, bucket: s3.list_objects_v2(Bucket=bucket, Prefix=SET),
    "uploads": lambda s3, bucket: s3.list_multipart_uploads(Bucket=bucket),
    "buckets": lambda s3, _: s3.list_buckets(),
    "nothing but that it is there": lambda s3, bucket: s3.head_bucket(Bucket=bucket),
}


@pytest.mark.parametrize("what", LISTS)
def test_the_role_lists_nothing(its_s3, bucket, what):
    with refused("AccessDenied", "403", status=403):
        LISTS[what](its_s3, bucket)


CALLS = {
    "look": lambda ec2, _: ec2.describe_instances(),
    "look at itself": lambda ec2, own: ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [own]}]),
    "try": lambda ec2, own: ec2.stop_instances(InstanceIds=[own], DryRun=True),
    "launch": lambda ec2, _: ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1),
    "tag itself": lambda ec2, own: ec2.create_tags(Resources=[own], Tags=[{"Key": "drover:role", "Value": "primary"}]),
    "end itself": lambda ec2, own: ec2.terminate_instances(InstanceIds=[own]),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_role_calls_nothing_of_ec2(cloud, member, role, call):
    with refused("UnauthorizedOperation", status=403):
        CALLS[call](role.client("ec2"), member)
    assert cloud.state(member) == "running"
    assert cloud.tags_of(member) == identity()


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"Name": "orders-m0"},
        identity(realm=REALM + "x"),
        identity(schema="2"),
        {key: value for key, value in identity().items() if key != "drover:inc"},
    ],
    ids=["no tags", "tags of others", "another realm", "another schema", "half of them"],
)
def test_a_machine_of_no_set_of_the_realm_reads_nothing_of_it(yard, bucket, tags):
    s3 = Role(machine(yard, tags)).client("s3")
    for key in MAY_READ:
        with refused("AccessDenied", status=403):
            s3.get_object(Bucket=bucket, Key=key)


def test_a_machine_of_another_set_reads_its_own(yard, bucket):
    s3 = Role(machine(yard, identity(name="other"))).client("s3")
    for key in [MAY_READ[0], f"{OTHERS}/other/abc12345/slots/m0/bundle.json"]:
        assert content(s3, bucket, key) == key
    for key in MAY_READ[2:]:
        with refused("AccessDenied", status=403):
            s3.get_object(Bucket=bucket, Key=key)


# Sessions


def answers(role, bucket):
    """What both services answer; EC2 does not get further than UnauthorizedOperation."""
    return (
        outcome(role.client("s3").get_object, Bucket=bucket, Key=MAY_READ[0]),
        outcome(role.client("ec2").describe_vpcs),
    )


GOOD = (("ok", 200), ("UnauthorizedOperation", 403))
EXPIRED = (("ExpiredToken", 400), ("RequestExpired", 400))
UNKNOWN = (("InvalidAccessKeyId", 403), ("AuthFailure", 401))


def test_a_session_is_temporary_and_the_same_until_it_is_renewed(member, role, bucket):
    assert role.secrets["aws_access_key_id"].startswith("ASIA")
    left = datetime.fromisoformat(role.env["AWS_CREDENTIAL_EXPIRATION"]) - datetime.now(UTC)
    assert timedelta(minutes=15) < left <= timedelta(hours=6)
    assert Role(member).env == role.env
    assert answers(role, bucket) == GOOD


FORGED = {
    "no token": {"aws_session_token": None},
    "made-up token": {"aws_session_token": "made-up"},
    "wrong secret": {"aws_secret_access_key": "wrong" * 8},
    "another's key": {"aws_access_key_id": "ASIAIOSFODNN7EXAMPLE"},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_session_is_refused(role, bucket, forged):
    with refused("InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        role.client("s3", **FORGED[forged]).get_object(Bucket=bucket, Key=MAY_READ[0])
    with refused("AuthFailure", status=401):
        role.client("ec2", **FORGED[forged]).describe_vpcs()


def test_a_token_is_good_for_its_own_key_only(yard, role, bucket):
    other = Role(machine(yard, identity(slot="m1"))).secrets
    with refused("InvalidToken", status=400):
        role.client("s3", aws_session_token=other["aws_session_token"]).get_object(Bucket=bucket, Key=MAY_READ[0])
    # The operator's key has no session: a token with it is a mistake, not a decoration.
    with refused("InvalidToken", status=400):
        boto3.client("s3", config=ONE_ATTEMPT, **operators(role)).get_object(Bucket=bucket, Key=MAY_READ[0])


def operators(role):
    key = boto3.Session().get_credentials()
    return role.secrets | {"aws_access_key_id": key.access_key, "aws_secret_access_key": key.secret_key}


def test_an_expired_session_is_refused_and_another_is_not(member, role, bucket):
    assert answers(Role(member, "--duration-seconds", "0"), bucket) == EXPIRED
    short_lived = Role(member, "--duration-seconds", "900")
    assert short_lived.secrets["aws_access_key_id"] != role.secrets["aws_access_key_id"]
    assert answers(short_lived, bucket) == GOOD
    assert answers(role, bucket) == GOOD


def test_a_session_expires_by_itself(cloud, member, bucket):
    session = Role(member, "--duration-seconds", "1")
    cloud.until(lambda: answers(session, bucket) == EXPIRED, "the session expires")


def test_a_session_ends_with_its_machine(cloud, ec2, yard, bucket):
    # Where EC2 leaves it to the session's own end; here a machine that is gone and still asks is found out.
    instance = machine(yard, identity(slot="m2"))
    session = Role(instance)
    assert answers(session, bucket) == GOOD
    ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", instance)
    assert answers(session, bucket) == GOOD
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", instance)
    cloud.until(lambda: answers(session, bucket) == UNKNOWN, "the session ends")


NO_ROLE = {
    "no such instance": (lambda *_: NO_INSTANCE, "no instance"),
    "no profile": (lambda _, yard: yard.new(), "instance profile"),
    "metadata off": (
        lambda _, yard: machine(yard, identity(), MetadataOptions={"HttpEndpoint": "disabled"}),
        "metadata service",
    ),
    "stopped": (lambda cloud, yard: ended(cloud, yard, cloud.ec2.stop_instances, "instance_stopped"), "is stopped"),
    "terminated": (
        lambda cloud, yard: ended(cloud, yard, cloud.ec2.terminate_instances, "instance_terminated"),
        "is terminated",
    ),
}


def ended(cloud, yard, end, state):
    instance = machine(yard, identity())
    end(InstanceIds=[instance])
    cloud.wait(state, instance)
    return instance


@pytest.mark.parametrize("why", NO_ROLE)
def test_where_there_is_no_role_the_command_says_why(cloud, yard, why):
    make, sentence = NO_ROLE[why]
    instance = make(cloud, yard)
    assert INSTANCE_ID.fullmatch(instance)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        drover_local("role-credentials", instance)
    assert sentence in failed.value.stderr and instance in failed.value.stderr and not failed.value.stdout
