"""The bucket: objects, lists, conditional writes, checksums and multipart uploads; and races for one key."""

import base64
import hashlib
import re
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Barrier
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from cloud import ONE_ATTEMPT, differs, drover_only, refused, unique

WRITERS = 64


def body(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_an_object_is_read_back(s3, bucket, key):
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"one", ContentType="text/x", Metadata={"who": "me"})
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == b"one"
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(b"one").hexdigest()}"'
    assert (got["ContentLength"], got["ContentType"], got["Metadata"]) == (3, "text/x", {"who": "me"})
    head = s3.head_object(Bucket=bucket, Key=key)
    assert (head["ETag"], head["ContentLength"]) == (put["ETag"], 3)
    assert head["LastModified"] == got["LastModified"]


def test_the_last_write_is_read(s3, bucket, key):
    first = s3.put_object(Bucket=bucket, Key=key, Body=b"one")["ETag"]
    assert s3.put_object(Bucket=bucket, Key=key, Body=b"two")["ETag"] != first
    assert body(s3, bucket, key) == b"two"


@pytest.mark.parametrize(("asked", "content"), [("bytes=0-3", b"0123"), ("bytes=7-", b"789"), ("bytes=-2", b"89")])
def test_a_range(s3, bucket, key, asked, content):
    s3.put_object(Bucket=bucket, Key=key, Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key=key, Range=asked)
    assert got["Body"].read() == content and got["ContentRange"].endswith("/10")
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_what_is_not_there(s3, bucket, key):
    with refused("NoSuchKey", status=404):
        s3.get_object(Bucket=bucket, Key=key)
    with refused("NoSuchBucket", status=404):
        s3.get_object(Bucket=bucket + "-not", Key=key)
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key=key)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_bucket_says_whether_it_is_versioned(s3):
    own = unique()
    s3.create_bucket(Bucket=own, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    assert "Status" not in s3.get_bucket_versioning(Bucket=own)
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=own, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=own)["Status"] == status
    with refused("NoSuchBucket", status=404):
        s3.get_bucket_versioning(Bucket=own + "-not")


@pytest.mark.parametrize("wrong", [{"Status": "On"}, {}], ids=str)
@differs("any versioning is taken")
def test_a_bucket_is_versioned_or_not(s3, bucket, wrong):
    before = s3.get_bucket_versioning(Bucket=bucket).get("Status")
    with refused("MalformedXML", "IllegalVersioningConfigurationException", status=400):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=wrong)
    assert s3.get_bucket_versioning(Bucket=bucket).get("Status") == before


def test_deleting_is_idempotent(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"one")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize("name", ["plain", "with space", "ünï/code", "a+b&c=d", "deep/er/still", "50%", "tilde~"])
def test_keys_of_all_kinds(s3, bucket, key, name):
    own = f"{key}/{name}"
    s3.put_object(Bucket=bucket, Key=own, Body=name.encode())
    assert body(s3, bucket, own) == name.encode()
    assert [it["Key"] for it in s3.list_objects_v2(Bucket=bucket, Prefix=own)["Contents"]] == [own]


def test_lists(s3, bucket, key):
    names = [f"{key}/{name}" for name in ("a/1", "a/2", "b/1", "c", "d")]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"x")
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key + "/", PaginationConfig={"PageSize": 2})
    )
    assert [[it["Key"] for it in page["Contents"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert pages[0]["IsTruncated"] is True and pages[-1]["IsTruncated"] is False
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key + "/", Delimiter="/")
    assert [it["Prefix"] for it in listed["CommonPrefixes"]] == [f"{key}/a/", f"{key}/b/"]
    assert [it["Key"] for it in listed["Contents"]] == names[3:]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=key + "/none")
    after = s3.list_objects_v2(Bucket=bucket, Prefix=key + "/", StartAfter=names[2])
    assert [it["Key"] for it in after["Contents"]] == names[3:]
    whole = s3.list_objects_v2(Bucket=bucket, Prefix=names[0])["Contents"][0]
    assert (whole["Size"], whole["ETag"]) == (1, f'"{hashlib.md5(b"x").hexdigest()}"')


def test_the_empty_object(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert body(s3, bucket, key) == b""


# Conditions


def test_create_only_when_there_is_none(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"first", IfNoneMatch="*")
    with refused("PreconditionFailed", status=412):
        s3.put_object(Bucket=bucket, Key=key, Body=b"second", IfNoneMatch="*")
    assert body(s3, bucket, key) == b"first"
    s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key=key, Body=b"third", IfNoneMatch="*")
    assert body(s3, bucket, key) == b"third"


def test_replace_only_what_was_read(s3, bucket, key):
    first = s3.put_object(Bucket=bucket, Key=key, Body=b"first")["ETag"]
    second = s3.put_object(Bucket=bucket, Key=key, Body=b"second", IfMatch=first)["ETag"]
    with refused("PreconditionFailed", status=412):
        s3.put_object(Bucket=bucket, Key=key, Body=b"third", IfMatch=first)
    assert body(s3, bucket, key) == b"second"
    assert s3.head_object(Bucket=bucket, Key=key)["ETag"] == second


def test_replace_what_is_not_there(s3, bucket, key):
    with refused("NoSuchKey", status=404):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x", IfMatch=f'"{"0" * 32}"')
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key)


def test_conditional_reads(s3, bucket, key):
    etag = s3.put_object(Bucket=bucket, Key=key, Body=b"x")["ETag"]
    assert s3.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"].read() == b"x"
    with refused("PreconditionFailed", status=412):
        s3.get_object(Bucket=bucket, Key=key, IfMatch=f'"{"0" * 32}"')
    with refused("304", status=304):
        s3.get_object(Bucket=bucket, Key=key, IfNoneMatch=etag)


# Checksums


BAD = {
    "md5": ({"ContentMD5": base64.b64encode(hashlib.md5(b"other").digest()).decode()}, "BadDigest"),
    "crc32": ({"ChecksumCRC32": base64.b64encode(zlib.crc32(b"other").to_bytes(4)).decode()}, "BadDigest"),
    "crc64nvme": ({"ChecksumCRC64NVME": base64.b64encode(b"otherone").decode()}, "BadDigest"),
    "sha256": ({"ChecksumSHA256": base64.b64encode(hashlib.sha256(b"other").digest()).decode()}, "BadDigest"),
}


@differs("checksums are not verified")
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("before", [None, b"before"], ids=str)
def test_a_bad_checksum_is_refused_and_leaves_what_was_there(s3, bucket, key, kind, before):
    if before:
        s3.put_object(Bucket=bucket, Key=key, Body=before)
    asked, code = BAD[kind]
    with refused(code, status=400):
        s3.put_object(Bucket=bucket, Key=key, Body=b"content", **asked)
    if before:
        assert body(s3, bucket, key) == before
    else:
        with refused("NoSuchKey"):
            s3.get_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", "SHA1"])
def test_a_good_checksum_is_kept(s3, bucket, key, algorithm):
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"content", ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    assert got["Body"].read() == b"content"
    assert got["Checksum" + algorithm] == put["Checksum" + algorithm]


@differs("the checksum CRC64NVME is not answered")
def test_a_crc64nvme_is_verified(s3, bucket, key):
    # The check value that the catalogue of CRC algorithms gives for CRC-64/NVME; boto3 has no code of its own for it.
    known = base64.b64encode(bytes.fromhex("AE8B14860A799888")).decode()
    assert (
        s3.put_object(Bucket=bucket, Key=key, Body=b"123456789", ChecksumCRC64NVME=known)["ChecksumCRC64NVME"] == known
    )


# Multipart uploads


PART = 5 << 20


def upload(s3, bucket, key, *parts):
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    own = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    done = [
        {"PartNumber": n, "ETag": s3.upload_part(**own, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, start=1)
    ]
    return own, {"Parts": done}


def test_a_multipart_upload_is_one_object(s3, bucket, key):
    own, done = upload(s3, bucket, key, b"a" * PART, b"b")
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key)
    answer = s3.complete_multipart_upload(**own, MultipartUpload=done)
    md5s = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in done["Parts"])
    assert answer["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-2"'
    assert body(s3, bucket, key) == b"a" * PART + b"b"


def test_completing_can_be_conditional(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"there")
    own, done = upload(s3, bucket, key, b"late")
    with refused("PreconditionFailed", status=412):
        s3.complete_multipart_upload(**own, MultipartUpload=done, IfNoneMatch="*")
    assert body(s3, bucket, key) == b"there"


@differs("completing what was aborted is a server error")
def test_an_aborted_upload_leaves_nothing(s3, bucket, key):
    own, done = upload(s3, bucket, key, b"part")
    s3.abort_multipart_upload(**own)
    with refused("NoSuchUpload"):
        s3.complete_multipart_upload(**own, MultipartUpload=done)
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key)


# Races


def race(bucket, key, **condition):
    """All writers send their body at once; the outcome of each: its ETag, or the code it was refused with."""
    start = Barrier(WRITERS)
    clients = [boto3.client("s3", config=ONE_ATTEMPT) for _ in range(WRITERS)]

    def write(number):
        start.wait(timeout=30)
        try:
            return clients[number].put_object(Bucket=bucket, Key=key, Body=b"%d" % number, **condition)["ETag"]
        except ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(write, range(WRITERS)))


def photo_finish(s3, bucket, key, **condition):
    """As `race`, but every request is sent up to its last byte before the first last byte is: boto3's writers come one
    after the other, as Python's threads do, and a window of microseconds would go unnoticed."""
    headers = {"If-None-Match": condition.get("IfNoneMatch"), "If-Match": condition.get("IfMatch")}
    headers = {name: value for name, value in headers.items() if value}
    url = urlsplit(s3.meta.endpoint_url)
    signature = S3SigV4Auth(boto3.Session().get_credentials(), "s3", s3.meta.region_name)
    writers = []
    for number in range(WRITERS):
        content = b"%d" % number
        request = AWSRequest("PUT", f"{s3.meta.endpoint_url}/{bucket}/{key}", data=content, headers=dict(headers))
        signature.add_auth(request)
        connection = HTTPConnection(url.hostname, url.port, timeout=30)
        connection.putrequest("PUT", f"/{bucket}/{key}")
        for name, value in {**request.prepare().headers, "Content-Length": str(len(content))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(content[:-1])
        writers.append((connection, content[-1:]))
    for connection, last in writers:
        connection.send(last)
    return [_outcome(connection) for connection, _ in writers]


def _outcome(connection):
    with connection.getresponse() as answer:
        content = answer.read().decode()
    connection.close()
    return answer.headers["ETag"] if answer.status == 200 else re.search("<Code>(.*?)</Code>", content)[1]


@drover_only("on a busy host two win: what is there is looked at and written without a lock")
@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
@pytest.mark.parametrize("how", ["boto3", *range(5)])
def test_of_64_writers_one_wins(s3, bucket, key, condition, how):
    if condition == "If-Match":
        asked = {"IfMatch": s3.put_object(Bucket=bucket, Key=key, Body=b"before")["ETag"]}
    else:
        asked = {"IfNoneMatch": "*"}
    outcomes = race(bucket, key, **asked) if how == "boto3" else photo_finish(s3, bucket, key, **asked)
    winners = [number for number, outcome in enumerate(outcomes) if outcome.startswith('"')]
    assert len(winners) == 1, Counter(outcomes)
    # The others hear that they lost, or that a write was under way (409): never that they won, never a server error.
    assert set(outcomes) - {outcomes[winners[0]]} <= {"PreconditionFailed", "ConditionalRequestConflict"}
    assert body(s3, bucket, key) == b"%d" % winners[0]
    assert s3.head_object(Bucket=bucket, Key=key)["ETag"] == outcomes[winners[0]]
