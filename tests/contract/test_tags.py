"""CreateTags, DeleteTags, DescribeTags: overwriting, limits, the alphabet of metadata tags, filters, pages."""

import pytest
from cloud import (
    BAD_PAGE_SIZE,
    BAD_PAGE_TOKEN,
    MISSING,
    NO_INSTANCE,
    NO_VOLUME,
    differs,
    refused,
    spec,
    tags,
    unique,
    where,
)
from cloud import where_named

PER_RESOURCE = 50


@pytest.fixture
def volume(yard):
    return yard.volume()


def test_tags_of_several_resources_are_set_at_once(cloud, ec2, yard, volume):
    instance = yard.new()
    interface = cloud.interface(instance)["NetworkInterfaceId"]
    group = yard.group()
    resources = [instance, volume, interface, group]
    ec2.create_tags(Resources=resources, Tags=tags({"a": "1", "empty": ""}))
    assert [cloud.tags_of(each) for each in resources] == [{"a": "1", "empty": ""}] * 4


def test_what_an_account_begins_with_is_tagged_too(cloud, ec2):
    image, subnet, vpc = cloud.image["ImageId"], cloud.subnet["SubnetId"], cloud.vpc
    before = {each: cloud.tags_of(each) for each in (image, subnet, vpc)}
    kinds = {image: "image", subnet: "subnet", vpc: "vpc"}
    ec2.create_tags(Resources=[*kinds], Tags=tags({"contract": "1"}))
    for each, kind in kinds.items():
        assert cloud.tags_of(each) == before[each] | {"contract": "1"}
        wanted = where(resource_type=kind, resource_id=each, key="contract")
        assert len(ec2.describe_tags(Filters=wanted)["Tags"]) == 1
    ec2.delete_tags(Resources=[*kinds], Tags=[{"Key": "contract"}])
    assert {each: cloud.tags_of(each) for each in kinds} == before


def test_setting_a_tag_again_overwrites_it_and_no_other(cloud, ec2, volume):
    ec2.create_tags(Resources=[volume], Tags=tags({"a": "1", "b": "1"}))
    ec2.create_tags(Resources=[volume], Tags=tags({"a": "2", "A": "3"}))
    assert cloud.tags_of(volume) == {"a": "2", "A": "3", "b": "1"}


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ([{"Key": "a"}], {"b": "", "c": "3"}),
        ([{"Key": "a", "Value": "1"}], {"b": "", "c": "3"}),
        ([{"Key": "a", "Value": "2"}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "b", "Value": ""}], {"a": "1", "c": "3"}),
        ([{"Key": "a", "Value": ""}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "never-set"}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "a"}, {"Key": "c", "Value": "3"}], {"b": ""}),
        pytest.param(None, {}, marks=differs("without tags nothing is deleted")),
    ],
    ids=str,
)
def test_deleting(cloud, ec2, volume, asked, left):
    ec2.create_tags(Resources=[volume], Tags=tags({"a": "1", "b": "", "c": "3"}))
    ec2.delete_tags(Resources=[volume], **({"Tags": asked} if asked else {}))
    assert cloud.tags_of(volume) == left


def test_fifty_tags_and_no_more(cloud, ec2, volume):
    full = {f"k{n}": "v" for n in range(PER_RESOURCE)}
    ec2.create_tags(Resources=[volume], Tags=tags(full))
    with refused("TagLimitExceeded"):
        ec2.create_tags(Resources=[volume], Tags=tags({"one": "more", "k0": "changed"}))
    assert cloud.tags_of(volume) == full
    ec2.create_tags(Resources=[volume], Tags=tags({"k0": "changed"}))
    assert cloud.tags_of(volume) == full | {"k0": "changed"}


def test_the_limit_counts_new_keys_only(cloud, ec2, volume):
    ec2.create_tags(Resources=[volume], Tags=tags({f"k{n}": "1" for n in range(40)}))
    ec2.create_tags(Resources=[volume], Tags=tags({f"k{n}": "2" for n in range(20, 50)}))
    assert len(cloud.tags_of(volume)) == PER_RESOURCE


@differs("the limit does not hold at launch")
def test_the_limit_holds_at_launch(cloud, yard):
    name = unique()
    many = {"contract": name} | {f"k{n}": "v" for n in range(PER_RESOURCE)}
    with refused("TagLimitExceeded"):
        yard.launch(TagSpecifications=[spec("instance", many)])
    assert cloud.found(where_named("tag:contract", name)) == []


def test_the_longest_key_and_value(cloud, ec2, volume):
    longest = {"k" * 128: "v" * 256, "ö" * 128: "ü" * 256}
    ec2.create_tags(Resources=[volume], Tags=tags(longest))
    assert cloud.tags_of(volume) == longest


BAD_TAGS = {
    "long key": tags({"k" * 129: "v"}),
    "long value": tags({"k": "v" * 257}),
    "reserved": tags({"aws:mine": "v"}),
    "reserved in capitals": tags({"AWS:mine": "v"}),
    "no key": tags({"": "v"}),
    "twice": tags({"k": "1"}) + tags({"k": "2"}),
}


@differs("tags are unchecked")
@pytest.mark.parametrize("bad", BAD_TAGS)
@pytest.mark.parametrize("where_", ["create_tags", "run_instances", "create_volume"])
def test_a_bad_tag_is_refused(cloud, ec2, yard, volume, bad, where_):
    specification = {"Tags": tags({"good": "tag"}) + BAD_TAGS[bad]}
    with refused("InvalidParameterValue", status=400):
        if where_ == "create_tags":
            ec2.create_tags(Resources=[volume], **specification)
        elif where_ == "run_instances":
            yard.launch(TagSpecifications=[{"ResourceType": "instance"} | specification])
        else:
            yard.volume(TagSpecifications=[{"ResourceType": "volume"} | specification])
    assert cloud.tags_of(volume) == {}


NOT_IN_METADATA = ["a/b", "a b", ".", "..", "_index", "ö", "a\\b"]
IN_METADATA = {"drover:slot": "1", "a-b_c+d=e,f.g@h:i": "value of any kind / ö", "0": ""}


@differs("keys are unchecked also where metadata shows them")
@pytest.mark.parametrize("key_", NOT_IN_METADATA)
def test_metadata_tags_have_an_alphabet(cloud, ec2, yard, key_):
    options = {"InstanceMetadataTags": "enabled"}
    with refused("InvalidParameterValue"):
        yard.launch(MetadataOptions=options, TagSpecifications=[spec("instance", {key_: "v"})])
    instance = yard.new(MetadataOptions=options)
    with refused("InvalidParameterValue"):
        ec2.create_tags(Resources=[instance], Tags=tags({"good": "tag", key_: "v"}))
    assert cloud.tags_of(instance) == {}


def test_metadata_tags_within_the_alphabet(cloud, yard):
    asked = [spec("instance", IN_METADATA)]
    instance = yard.new(MetadataOptions={"InstanceMetadataTags": "enabled"}, TagSpecifications=asked)
    assert cloud.tags_of(instance) == IN_METADATA


def test_without_metadata_tags_keys_are_free(cloud, yard):
    free = {key: "v" for key in NOT_IN_METADATA}
    instance = yard.new(TagSpecifications=[spec("instance", free)])
    assert cloud.tags_of(instance) == free


UNKNOWN_IDS = {
    NO_INSTANCE: ["InvalidInstanceID.NotFound"],
    NO_VOLUME: ["InvalidVolume.NotFound"],
    "sg-0123456789abcdef0": ["InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound"],
    "web": ["InvalidID"],
}
UNNOTICED_BY_MOTO = {(NO_INSTANCE, "create_tags")} | {(each, "delete_tags") for each in list(UNKNOWN_IDS)[:3]}


@pytest.mark.parametrize(
    ("action", "bad", "codes"),
    [
        pytest.param(
            action, *case, marks=[differs("ids are not looked up")] if (case[0], action) in UNNOTICED_BY_MOTO else []
        )
        for case in UNKNOWN_IDS.items()
        for action in ("create_tags", "delete_tags")
    ],
)
def test_one_bad_id_fails_the_call_and_tags_nothing(cloud, ec2, volume, action, bad, codes):
    ec2.create_tags(Resources=[volume], Tags=tags({"kept": "1"}))
    with refused(*codes, status=400):
        getattr(ec2, action)(
            Resources=[volume, bad], Tags=[{"Key": "kept", **({"Value": "2"} if "c" == action[0] else {})}]
        )
    assert cloud.tags_of(volume) == {"kept": "1"}


@pytest.mark.parametrize("action", ["create_tags", "delete_tags"])
def test_a_dry_run_changes_nothing(cloud, ec2, volume, action):
    ec2.create_tags(Resources=[volume], Tags=tags({"a": "1"}))
    asked = tags({"a": "2"} if action == "create_tags" else {"a": "1"})
    with refused("DryRunOperation", status=412):
        getattr(ec2, action)(Resources=[volume], Tags=asked, DryRun=True)
    assert cloud.tags_of(volume) == {"a": "1"}


def test_describe_tags_dry_run(ec2):
    with refused("DryRunOperation", status=412):
        ec2.describe_tags(DryRun=True)


@differs("missing parameters are server errors or accepted")
@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("CreateTags", {}),
        ("CreateTags", {"Tag_1_Key": "a"}),
        ("CreateTags", {"ResourceId_1": "VOLUME"}),
        ("DeleteTags", {"Tag_1_Key": "a"}),
        ("DeleteTags", {"ResourceId_1": "VOLUME", "Tag_1_Value": "a"}),
    ],
    ids=str,
)
def test_resources_and_tags_are_required(cloud, tagged, action, asked):
    asked = {key: tagged.volume if value == "VOLUME" else value for key, value in asked.items()}
    assert cloud.code(action, **asked) in MISSING
    assert len(cloud.tags_of(tagged.volume)) == 7


@differs("tags are unchecked")
@pytest.mark.parametrize("key_", ["aws:mine", "Aws:cloudformation:stack"])
def test_reserved_tags_are_not_deleted(ec2, tagged, key_):
    with refused("InvalidParameterValue"):
        ec2.delete_tags(Resources=[tagged.volume], Tags=[{"Key": key_}])


@differs("any number of resources is accepted")
@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
def test_a_thousand_resources_and_no_more(cloud, tagged, action):
    many = {f"ResourceId_{n}": tagged.volume for n in range(1, 1002)}
    assert cloud.code(action, Tag_1_Key="new", **many) in ("RequestResourceCountExceeded", "InvalidParameterValue")
    assert "new" not in cloud.tags_of(tagged.volume)
    status, _ = cloud.send(action, **{f"ResourceId_{n}": tagged.volume for n in range(1, 1001)}, Tag_1_Key="never")
    assert status == 200


class Tagged:
    def __init__(self, ec2, shared):
        self.volume = shared.volume()
        self.instance = shared.run()
        # The value marks our tags among those of others.
        self.mark = unique()
        ec2.create_tags(Resources=[self.volume], Tags=tags({f"key-{n}": self.mark for n in range(7)}))
        ec2.create_tags(Resources=[self.instance], Tags=tags({"key-0": self.mark, "other": self.mark + "-b"}))


@pytest.fixture(scope="module")
def tagged(ec2, shared):
    return Tagged(ec2, shared)


def test_a_tag_is_described_with_its_resource(ec2, tagged):
    wanted = [where_named("resource-id", tagged.instance), where_named("key", "other")]
    expected = {"Key": "other", "Value": tagged.mark + "-b", "ResourceId": tagged.instance, "ResourceType": "instance"}
    assert ec2.describe_tags(Filters=wanted)["Tags"] == [expected]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([("value", "MARK")], 8),
        ([("value", "MARK*")], 9),
        ([("value", "MARK??")], 1),
        ([("value", "MARK*"), ("resource-type", "instance")], 2),
        ([("value", "MARK*"), ("resource-type", ["instance", "volume"])], 9),
        ([("value", "MARK*"), ("key", "key-0")], 2),
        ([("value", "MARK*"), ("key", ["key-1", "key-2", "other"])], 3),
        ([("value", "MARK*"), ("key", "key-?"), ("resource-type", "volume")], 7),
        pytest.param(
            [("value", "*-b"), ("value", "MARK*")], 1, marks=differs("of two filters of one name the last counts")
        ),
        pytest.param([("tag:key-0", "MARK")], 2, marks=differs("tag:<key> is not a filter of DescribeTags")),
    ],
    ids=str,
)
def test_filters(ec2, tagged, filters, count):
    def mark(value):
        return [mark(it) for it in value] if isinstance(value, list) else value.replace("MARK", tagged.mark)

    found = ec2.describe_tags(Filters=[where_named(name, mark(value)) for name, value in filters])["Tags"]
    assert len(found) == count


@differs("unknown filters are ignored or server errors, and there are no pages")
def test_unknown_filters_and_bad_pages_are_refused(ec2):
    for asked, codes in [
        ({"Filters": where(no_such="x")}, ["InvalidParameterValue"]),
        ({"MaxResults": 4}, BAD_PAGE_SIZE),
        ({"MaxResults": 1001}, BAD_PAGE_SIZE),
        ({"NextToken": "made-up"}, BAD_PAGE_TOKEN),
    ]:
        with refused(*codes):
            ec2.describe_tags(**asked)


@differs("unknown filters are ignored or server errors, and there are no pages")
def test_pages(ec2, tagged):
    wanted = [where_named("value", tagged.mark + "*")]
    pages = list(ec2.get_paginator("describe_tags").paginate(Filters=wanted, PaginationConfig={"PageSize": 5}))
    assert [len(page["Tags"]) for page in pages] == [5, 4]
    assert len({(it["ResourceId"], it["Key"]) for page in pages for it in page["Tags"]}) == 9


def test_a_tag_is_seen_everywhere(cloud, ec2, tagged):
    [seen] = [it["Tags"] for it in ec2.describe_volumes(VolumeIds=[tagged.volume])["Volumes"]]
    assert {it["Key"]: it["Value"] for it in seen} == cloud.tags_of(tagged.volume)
    assert {it["Key"]: it["Value"] for it in cloud.instance(tagged.instance)["Tags"]} == cloud.tags_of(tagged.instance)
