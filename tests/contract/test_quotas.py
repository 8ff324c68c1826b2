"""Service Quotas: the account's own value of a quota, everybody's, who may ask, and that launches keep to what is told."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from cloud import ONE_ATTEMPT, differs, drover_local, outcome, refused, where
from test_faults import fault
from test_faults import pytestmark as FAULTS
from test_wire import SIGNED, WRONG, at

VCPUS = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
GP3 = {"ServiceCode": "ebs", "QuotaCode": "L-7A658B76"}
DEFAULTS = {
    "L-1216C47A": ("ec2", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 5),
    "L-7A658B76": ("ebs", "Storage for General Purpose SSD (gp3) volumes, in TiB", 50),
    "L-D18FCD1D": ("ebs", "Storage for General Purpose SSD (gp2) volumes, in TiB", 50),
    "L-FD252861": ("ebs", "Storage for Provisioned IOPS SSD (io1) volumes, in TiB", 50),
    "L-09BD8365": ("ebs", "Storage for Provisioned IOPS SSD (io2) volumes, in TiB", 20),
}
NONE = {"another code": VCPUS | {"QuotaCode": "L-00000000"}, "another service": VCPUS | {"ServiceCode": "nothing"}}


@pytest.fixture(scope="module")
def quotas():
    return boto3.client("service-quotas", config=ONE_ATTEMPT)


def value(quotas, asked):
    return quotas.get_service_quota(**asked)["Quota"]["Value"]


@differs("knows no quotas of EC2 and EBS")
def test_the_accounts_own_value(cloud, quotas):
    quota = quotas.get_service_quota(**VCPUS)["Quota"]
    assert VCPUS.items() <= quota.items()
    assert quota["Value"] >= 5 and quota["Unit"] == "None"
    assert (quota["Adjustable"], quota["GlobalQuota"]) == (True, False)
    assert quota["QuotaArn"].startswith(f"arn:aws:servicequotas:{cloud.region}:")
    assert quota["QuotaArn"].endswith(":ec2/L-1216C47A")


@differs("does not tell what everybody has")
@pytest.mark.parametrize("code", DEFAULTS)
def test_what_everybody_has(quotas, code):
    service, name, default = DEFAULTS[code]
    quota = quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]
    assert (quota["ServiceCode"], quota["QuotaCode"]) == (service, code)
    assert (quota["QuotaName"], quota["Value"]) == (name, default)


def test_a_quota_without_a_value_of_the_accounts_own(quotas):
    with refused("NoSuchResourceException", status=400):
        quotas.get_service_quota(**GP3)


@pytest.mark.parametrize("which", NONE)
def test_a_quota_that_there_is_not(quotas, which):
    with refused("NoSuchResourceException", status=400):
        quotas.get_service_quota(**NONE[which])


@differs("does not tell what everybody has")
@pytest.mark.parametrize("which", NONE)
def test_a_quota_that_nobody_has(quotas, which):
    with refused("NoSuchResourceException", status=400):
        quotas.get_aws_default_service_quota(**NONE[which])


@SIGNED
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_credentials_get_no_quota(wrong):
    client = boto3.client("service-quotas", config=ONE_ATTEMPT, **WRONG[wrong]())
    with refused("UnrecognizedClientException", "InvalidSignatureException"):
        client.get_service_quota(**VCPUS)


@SIGNED
@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_off_gets_no_quota(quotas, minutes):
    with at(datetime.now(UTC) + timedelta(minutes=minutes)), refused("InvalidSignatureException"):
        quotas.get_service_quota(**VCPUS)


@FAULTS
def test_credentials_that_were_revoked_get_no_quota(quotas):
    with fault("credentials"), refused("UnrecognizedClientException"):
        quotas.get_service_quota(**VCPUS)


@FAULTS
def test_a_quota_that_was_changed(quotas):
    for asked, changed in [(VCPUS, 8), (GP3, 0)]:
        with fault("quota", asked["QuotaCode"], str(changed)):
            assert value(quotas, asked) == changed
            assert drover_local("fault", "list") == f"quota {asked['QuotaCode']} {changed}\n"
    assert value(quotas, VCPUS) > 8
    assert outcome(quotas.get_service_quota, **GP3) == ("NoSuchResourceException", 400)


@FAULTS
def test_launches_keep_to_the_quota_of_vcpus(cloud, ec2, yard):
    sizes = {it["InstanceType"]: it["VCpuInfo"]["DefaultVCpus"] for it in ec2.describe_instance_types()["InstanceTypes"]}
    states = where(instance_state_name=["pending", "running", "stopping", "shutting-down"])
    groups = ec2.describe_instances(Filters=states)["Reservations"]
    there = sum(sizes[it["InstanceType"]] for group in groups for it in group["Instances"])
    with fault("quota", "L-1216C47A", str(there + sizes[cloud.types[0]])):
        yard.launch()
        with refused("VcpuLimitExceeded"):
            yard.launch(MinCount=50, MaxCount=50)
    yard.launch()


@FAULTS
@pytest.mark.parametrize("action", ["GetServiceQuota", "GetAWSDefaultServiceQuota"])
def test_a_permission_for_quotas_that_is_missing_is_named(quotas, action):
    calls = {"GetServiceQuota": quotas.get_service_quota}
    calls["GetAWSDefaultServiceQuota"] = quotas.get_aws_default_service_quota
    with fault("deny", f"servicequotas:{action}"):
        with pytest.raises(quotas.exceptions.AccessDeniedException) as caught:
            calls.pop(action)(**VCPUS)
        assert f"is not authorized to perform: servicequotas:{action} " in caught.value.response["Error"]["Message"]
        [other] = calls.values()
        assert other(**VCPUS)["Quota"]["Value"]
    with pytest.raises(subprocess.CalledProcessError):
        drover_local("fault", "deny", "servicequotas:ListServices")


@FAULTS
def test_what_is_asked_for_is_in_the_log(quotas):
    value(quotas, VCPUS)
    quotas.get_aws_default_service_quota(**GP3)
    last = [json.loads(line) for line in drover_local("calls", "--json").splitlines()[-2:]]
    assert [(it["service"], it["action"], it["target"], it["mutating"]) for it in last] == [
        ("servicequotas", "GetServiceQuota", "ec2/L-1216C47A", False),
        ("servicequotas", "GetAWSDefaultServiceQuota", "ebs/L-7A658B76", False),
    ]


@FAULTS
def test_what_is_not_known_here_is_refused_by_name(quotas):
    with refused("UnknownOperationException", status=400):
        quotas.list_services()
