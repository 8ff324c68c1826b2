"""The Query protocol and its signatures: who may ask, what a request must look like, what an error looks like."""

import re
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import boto3
import pytest
from botocore.auth import SigV4Auth
from cloud import ONE_ATTEMPT, differs, drover_only, refused

SIGNED = drover_only("signatures and policies are not checked")


def other(service, **credentials):
    return boto3.client(service, config=ONE_ATTEMPT, **credentials)


def own():
    return boto3.Session().get_credentials().get_frozen_credentials()


def at(moment):
    """Requests inside are dated and signed as of `moment`."""
    return patch("botocore.auth.get_current_datetime", lambda *_, **__: moment.replace(tzinfo=None))


WRONG = {
    "key": lambda: {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": own().secret_key},
    "secret": lambda: {"aws_access_key_id": own().access_key, "aws_secret_access_key": "wrong" * 8},
    "token": lambda: {
        "aws_access_key_id": own().access_key,
        "aws_secret_access_key": own().secret_key,
        "aws_session_token": "made-up",
    },
}


@SIGNED
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_credentials_are_refused(wrong):
    with refused("AuthFailure", "SignatureDoesNotMatch"):
        other("ec2", **WRONG[wrong]()).describe_vpcs()


@SIGNED
@pytest.mark.parametrize(("wrong", "code"), [("key", "InvalidAccessKeyId"), ("secret", "SignatureDoesNotMatch")])
def test_the_bucket_refuses_wrong_credentials(bucket, key, wrong, code):
    with refused(code, status=403):
        other("s3", **WRONG[wrong]()).put_object(Bucket=bucket, Key=key, Body=b"x")


@SIGNED
@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_off_is_refused(cloud, minutes):
    with at(datetime.now(UTC) + timedelta(minutes=minutes)), refused("RequestExpired", "AuthFailure"):
        cloud.ec2.describe_vpcs()


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_clock_that_is_a_little_off_is_not(cloud, minutes):
    with at(datetime.now(UTC) + timedelta(minutes=minutes)):
        assert cloud.ec2.describe_vpcs()["Vpcs"]


@SIGNED
@pytest.mark.parametrize("minutes", [-16, 16])
def test_the_bucket_refuses_a_clock_that_is_off(s3, bucket, key, minutes):
    with at(datetime.now(UTC) + timedelta(minutes=minutes)), refused("RequestTimeTooSkewed", status=403):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")


@SIGNED
def test_an_unsigned_request_is_refused(cloud):
    status, body = cloud.send("DescribeVpcs", sign=None)
    assert "<Code>MissingAuthenticationToken</Code>" in body and status in (400, 401, 403)


@SIGNED
def test_a_request_changed_after_signing_is_refused(cloud):
    status, body = cloud.send("DescribeVpcs", change=lambda form: form.replace("DescribeVpcs", "DescribeTags"))
    assert re.search("<Code>(AuthFailure|SignatureDoesNotMatch)</Code>", body) and status in (401, 403)


@SIGNED
@pytest.mark.parametrize(("service", "region"), [("s3", None), ("ec2", "moon-north-1")])
def test_a_signature_for_another_service_or_region_is_refused(cloud, service, region):
    status, body = cloud.send("DescribeVpcs", service=service, region=region)
    assert re.search("<Code>(AuthFailure|SignatureDoesNotMatch)</Code>", body) and status in (401, 403)


class UnsignedHost(SigV4Auth):
    """Signs, but not whom the request is for."""

    def headers_to_sign(self, request):
        headers = super().headers_to_sign(request)
        del headers["host"]
        return headers


class AnotherDay(SigV4Auth):
    """Says afterwards that it was signed on another day."""

    def add_auth(self, request):
        super().add_auth(request)
        request.headers["Authorization"] = re.sub(r"/\d{8}/", "/20200101/", request.headers["Authorization"])


@SIGNED
@pytest.mark.parametrize("sign", [UnsignedHost, AnotherDay])
def test_a_signature_of_less_than_all_is_refused(cloud, sign):
    status, body = cloud.send("DescribeVpcs", sign=sign)
    assert re.search("<Code>(AuthFailure|SignatureDoesNotMatch|IncompleteSignature)</Code>", body) and status >= 400


@differs("the namespace lacks its last slash")
def test_an_answer_has_the_shape_of_ec2s(cloud):
    status, body = cloud.send("DescribeVpcs")
    assert status == 200
    assert '<DescribeVpcsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">' in body
    assert re.search("<requestId>[^<]+</requestId>", body)


@differs("an error has no request id in the documented place")
def test_an_error_has_the_shape_of_ec2s(cloud):
    status, body = cloud.send("DescribeInstances", InstanceId_1="i-0123456789abcdef0")
    shape = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>[^<]+</Message></Error></Errors>"
    assert status == 400 and re.search(shape + "<RequestID>[^<]+</RequestID></Response>", body)


@differs("unknown actions are server errors, unknown parameters are ignored")
@pytest.mark.parametrize(
    ("action", "parameters", "codes"),
    [
        ("LaunchRockets", {}, ["InvalidAction"]),
        ("DescribeVpcs", {"Colour": "red"}, ["UnknownParameter"]),
        (
            "DescribeInstances",
            {"Filter_1_Nam": "tag-key", "Filter_1_Value_1": "x"},
            ["UnknownParameter", "MissingParameter"],
        ),
        ("DescribeInstances", {"MaxResults": "many"}, ["InvalidParameterValue", "MalformedQueryString"]),
        ("StopInstances", {"InstanceId_1": "i-0123456789abcdef0", "Force": "maybe"}, ["InvalidParameterValue"]),
        ("TerminateInstances", {"InstanceId_1": "i-0123456789abcdef0", "Colour": "red"}, ["UnknownParameter"]),
        ("DescribeInstances", {"InstanceId_x": "i-0123456789abcdef0"}, ["UnknownParameter"]),
        ("DescribeVpcs", {"Version": "2006-06-26"}, ["InvalidParameterValue", "NoSuchVersion", "InvalidAction"]),
    ],
)
def test_what_is_not_understood_is_refused(cloud, action, parameters, codes):
    assert cloud.code(action, **parameters) in codes


@differs("a request without an action is a server error")
def test_an_action_is_required(cloud):
    assert cloud.code("") in ("MissingAction", "InvalidAction", "MissingParameter")


@differs("of a parameter that occurs twice one counts")
def test_a_parameter_occurs_once(cloud):
    request = "Action=DescribeVpcs&Version=2016-11-15&DryRun=false&DryRun=true"
    status, body = cloud.send("DescribeVpcs", raw=request)
    assert status == 400 and "<Code>MalformedQueryString</Code>" in body


@differs("the order of a list is not that of its numbers")
def test_a_list_is_read_by_its_numbers(cloud, yard):
    group = yard.group()
    sent = [(f"Tag_{n}_{part}", value) for n in (10, 2, 1) for part, value in [("Key", f"k{n}"), ("Value", "a b+c")]]
    status, _ = cloud.send("CreateTags", ResourceId_7=group, **dict(sent))
    assert status == 200 and cloud.tags_of(group) == {f"k{n}": "a b+c" for n in (1, 2, 10)}


def test_a_request_may_be_a_get(cloud):
    for asked in ({}, {"VpcId_1": cloud.vpc, "DryRun": "false"}):
        status, body = cloud.send("DescribeVpcs", method="GET", **asked)
        assert status == 200 and cloud.vpc in body


@differs("any method is accepted")
def test_a_request_is_a_get_or_a_post(cloud):
    status, body = cloud.send("DescribeVpcs", method="PUT")
    assert status >= 400 and cloud.vpc not in body


def test_text_survives_the_wire(cloud, yard):
    value = "a&b <c> \"d\" 'e' ünï 漢 \u2028"
    group = yard.group(Description="plain")
    cloud.ec2.create_tags(Resources=[group], Tags=[{"Key": value, "Value": value}])
    assert cloud.tags_of(group) == {value: value}
