"""Every filter that EC2's own documentation names, read from the service model that boto3 brings: it can be asked for, or is refused for a
reason that stands here."""

import re

import boto3
import pytest
from botocore import xform_name
from cloud import ONE_ATTEMPT, drover_only, refused, where_named

DESCRIBES = [
    "AvailabilityZones",
    "Images",
    "InstanceStatus",
    "InstanceTypes",
    "Instances",
    "NetworkInterfaces",
    "SecurityGroups",
    "Subnets",
    "Tags",
    "Volumes",
    "Vpcs",
]

# EC2 has a value of each, and here is none: to find nothing by it would be a lie.
REFUSED = {
    "AvailabilityZones": ["group-long-name"],
    "Images": ["free-tier-eligible"],
    "InstanceTypes": [
        "dedicated-hosts-supported",
        "ebs-info.attachment-limit-type",
        "ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps",
        "ebs-info.ebs-optimized-info.baseline-iops",
        "ebs-info.ebs-optimized-info.baseline-throughput-in-mbps",
        "ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps",
        "ebs-info.ebs-optimized-info.maximum-iops",
        "ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
        "ebs-info.maximum-ebs-attachments",
        "free-tier-eligible",
        "hibernation-supported",
        "network-info.encryption-in-transit-supported",
        "network-info.flexible-ena-queues-support",
        "network-info.network-performance",
        "nitro-enclaves-support",
        "nitro-tpm-info.supported-versions",
        "nitro-tpm-support",
        "processor-info.sustained-clock-speed-in-ghz",
        "reboot-migration-support",
        "vcpu-info.valid-cores",
        "vcpu-info.valid-threads-per-core",
    ],
}

pytestmark = drover_only("moto does not know all filters of EC2, and documents which")


def documented():
    """Action and filter, as the documentation of the parameter Filters lists them."""
    model = boto3.client("ec2", config=ONE_ATTEMPT).meta.service_model
    for action in DESCRIBES:
        text = model.operation_model(f"Describe{action}").input_shape.members["Filters"].documentation
        for name, meaning in re.findall(r"<li>\s*<p>\s*<code>([^<]+)</code>\s*[-–]\s*([^<]*)", text):
            # Values of a filter are listed as filters are.
            if not meaning.startswith("CVSS"):
                yield action, "tag:contract" if name in ("tag", "tag:&lt;key&gt;") else name


def ask(cloud, action, *filters):
    answer = getattr(cloud.ec2, xform_name(f"Describe{action}"))(Filters=list(filters))
    return next(found for key, found in answer.items() if key not in ("NextToken", "ResponseMetadata"))


@pytest.mark.parametrize("action", DESCRIBES)
def test_every_filter_is_known_or_refused_for_a_reason(cloud, action):
    names = [name for of, name in documented() if of == action]
    assert len(names) >= 4, "the documentation was not understood"
    unknown = REFUSED.get(action, [])
    assert set(unknown) < set(names), "the list has what is not documented"
    for name in names:
        if name in unknown:
            with refused("InvalidParameterValue"):
                ask(cloud, action, where_named(name, "*"))
        else:
            assert ask(cloud, action, where_named(name, "nothing-like-it")) == [], name


@pytest.mark.parametrize(
    ("action", "name", "value"),
    [
        ("Images", "block-device-mapping.volume-type", "gp3"),
        ("Images", "block-device-mapping.encrypted", "false"),
        ("Images", "block-device-mapping.delete-on-termination", "true"),
        ("Images", "ena-support", "true"),
        ("InstanceTypes", "auto-recovery-supported", "true"),
        ("InstanceTypes", "ebs-info.ebs-optimized-support", "default"),
        ("InstanceTypes", "ebs-info.encryption-support", "supported"),
        ("InstanceTypes", "ebs-info.nvme-support", "required"),
        ("InstanceTypes", "network-info.efa-supported", "false"),
        ("InstanceTypes", "network-info.ena-support", "required"),
        ("InstanceTypes", "network-info.ipv6-supported", "true"),
        ("InstanceTypes", "network-info.maximum-network-cards", "1"),
        ("InstanceTypes", "network-info.maximum-network-interfaces", "1"),
        ("Subnets", "enable-dns64", "false"),
        ("Subnets", "ipv6-native", "false"),
        ("Subnets", "map-customer-owned-ip-on-launch", "false"),
        ("Subnets", "private-dns-name-options-on-launch.hostname-type", "ip-name"),
        ("Vpcs", "cidr-block-association.state", "associated"),
        ("Vpcs", "dhcp-options-id", "default"),
    ],
)
def test_what_is_so_of_all(cloud, action, name, value):
    everything = ask(cloud, action)
    assert everything and ask(cloud, action, where_named(name, value)) == everything
