//! What the metadata service says: the leaves by path, and the listings that follow from them.

use std::collections::BTreeMap;

use serde_json::json;

use crate::machine::spec::{MetadataView, RoleView};

type Leaves = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Leaf(String),
    /// Names below, one a line; those with more below end with a slash.
    Listing(String),
    Nothing,
}

/// `path`: below the version, such as `meta-data/placement/`.
pub(super) fn find(leaves: &Leaves, path: &str) -> Found {
    let path = path.trim_end_matches('/');
    if let Some(leaf) = leaves.get(path) {
        return Found::Leaf(leaf.clone());
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut names: Vec<String> = leaves
        .keys()
        .filter_map(|leaf| leaf.strip_prefix(&prefix))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/")))
        .collect();
    names.dedup();
    if names.is_empty() { Found::Nothing } else { Found::Listing(names.join("\n")) }
}

pub(super) fn leaves(view: &MetadataView) -> Leaves {
    let mut leaves = Leaves::new();
    let groups =
        |pick: fn(&(String, String)) -> &str| view.security_groups.iter().map(pick).collect::<Vec<_>>().join("\n");
    let (group_ids, group_names) = (groups(|(id, _)| id), groups(|(_, name)| name));
    let mut put = |path: &str, value: &str| leaves.insert(format!("meta-data/{path}"), value.to_owned());
    let ip = view.private_ip.to_string();
    for (path, value) in [
        ("ami-id", view.image_id.as_str()),
        ("ami-launch-index", "0"),
        ("ami-manifest-path", "(unknown)"),
        ("hostname", &view.hostname),
        ("instance-action", "none"),
        ("instance-id", view.instance_id.as_str()),
        ("instance-life-cycle", "on-demand"),
        ("instance-type", &view.instance_type),
        ("local-hostname", &view.hostname),
        ("local-ipv4", &ip),
        ("mac", &view.mac),
        ("placement/availability-zone", &view.zone),
        ("placement/availability-zone-id", &view.zone_id),
        ("placement/region", &view.region),
        ("profile", "default-hvm"),
        ("reservation-id", &view.reservation_id),
        ("security-groups", &group_names),
        ("services/domain", "amazonaws.com"),
        ("services/partition", "aws"),
    ] {
        put(path, value);
    }
    let addresses: Vec<String> =
        std::iter::once(&view.private_ip).chain(&view.secondary_ips).map(ToString::to_string).collect();
    for (name, value) in [
        ("device-number", "0"),
        ("interface-id", view.interface_id.as_str()),
        ("local-hostname", &view.hostname),
        ("local-ipv4s", &addresses.join("\n")),
        ("mac", &view.mac),
        ("owner-id", &view.account_id),
        ("security-group-ids", &group_ids),
        ("security-groups", &group_names),
        ("subnet-id", &view.subnet_id),
        ("subnet-ipv4-cidr-block", &view.subnet_cidr),
        ("vpc-id", &view.vpc_id),
        ("vpc-ipv4-cidr-block", &view.vpc_cidr),
        ("vpc-ipv4-cidr-blocks", &view.vpc_cidr),
    ] {
        put(&format!("network/interfaces/macs/{}/{name}", view.mac), value);
    }
    for (key, value) in view.tags.iter().flatten() {
        put(&format!("tags/instance/{key}"), value);
    }
    if let Some(role) = &view.role {
        put("iam/info", &profile(role));
        put(&format!("iam/security-credentials/{}", role.role_name), &credentials(role));
    }
    leaves.insert("dynamic/instance-identity/document".into(), document(view));
    leaves
}

fn profile(role: &RoleView) -> String {
    pretty(&json!({
        "Code": "Success",
        "LastUpdated": role.credentials.last_updated,
        "InstanceProfileArn": role.profile_arn,
        "InstanceProfileId": role.profile_id,
    }))
}

fn credentials(role: &RoleView) -> String {
    let credentials = &role.credentials;
    pretty(&json!({
        "Code": "Success",
        "LastUpdated": credentials.last_updated,
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.token,
        "Expiration": credentials.expiration,
    }))
}

fn document(view: &MetadataView) -> String {
    pretty(&json!({
        "accountId": view.account_id,
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" },
        "availabilityZone": view.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": view.image_id,
        "instanceId": view.instance_id.as_str(),
        "instanceType": view.instance_type,
        "kernelId": null,
        "pendingTime": view.launched_at,
        "privateIp": view.private_ip.to_string(),
        "ramdiskId": null,
        "region": view.region,
        "version": "2017-09-30",
    }))
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("a value made of strings is printable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_names_what_is_below_and_marks_what_has_more_below() {
        let leaves: Leaves = [
            "meta-data/mac",
            "meta-data/placement/region",
            "meta-data/placement/zone",
            "meta-data/tags/instance/drover:slot",
        ]
        .into_iter()
        .map(|path| (path.to_owned(), "x".to_owned()))
        .collect();
        let listing = |text: &str| Found::Listing(text.to_owned());
        assert_eq!(find(&leaves, ""), listing("meta-data/"));
        assert_eq!(find(&leaves, "meta-data/"), listing("mac\nplacement/\ntags/"));
        assert_eq!(find(&leaves, "meta-data/placement"), listing("region\nzone"));
        assert_eq!(find(&leaves, "meta-data/tags/instance/drover:slot"), Found::Leaf("x".into()));
        assert_eq!(find(&leaves, "meta-data/pla"), Found::Nothing);
    }
}
