//! What each Describe action can be filtered by: EC2's names beside what the model shows for them, and the names of what nothing here has
//! (public addresses, IPv6, Outposts, Spot, ...), which no value matches. A name of the API reference about something that EC2 has and this
//! model does not, such as an instance type's bandwidth, is in neither and so is refused.

mod catalog;
mod instances;
mod network;

pub(super) use catalog::{IMAGE, INSTANCE_TYPE, ZONE};
pub(super) use instances::{INSTANCE, INSTANCE_STATUS};
pub(super) use network::{GROUP, INTERFACE, SUBNET, VPC};

use drover_api::Millis;

use super::{TagDescription, Volume, filters::Fields};

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn maybe(value: Option<impl ToString>) -> Vec<String> {
    value.map(|value| value.to_string()).into_iter().collect()
}

/// PrivateDnsNameOptions of subnets that nobody changed.
pub const HOSTNAME_TYPE: &str = "ip-name";
/// CapacityReservationSpecification of a launch that says nothing about it.
pub const CAPACITY_PREFERENCE: &str = "open";
/// The DHCP options of a VPC that has none of its own.
pub const DHCP_OPTIONS_ID: &str = "default";
/// The root device of every image here.
pub const IMAGE_VOLUME_TYPE: &str = "gp3";

/// EC2's times, to the second: `2026-01-31T12:00:00.000Z`. A filter takes what is shown, so whoever shows a time writes it by this.
pub fn time(at: Millis) -> String {
    let at = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// What EC2 bills an instance of Linux as.
pub const PLATFORM_DETAILS: &str = "Linux/UNIX";
pub const USAGE_OPERATION: &str = "RunInstances";

/// The name that EC2's resolver gives to a private address. A zone is its region and a letter.
pub fn private_dns_name(address: &str, zone: &str) -> String {
    let region = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    format!("ip-{}.{region}.compute.internal", address.replace('.', "-"))
}

pub(super) const VOLUME: Fields<Volume> = Fields {
    tags: Some(|it| &it.tags),
    named: &[
        ("attachment.attach-time", |it| maybe(it.attachment.as_ref().map(|at| time(at.attach_time)))),
        ("attachment.delete-on-termination", |it| maybe(it.attachment.as_ref().map(|at| at.delete_on_termination))),
        ("attachment.device", |it| maybe(it.attachment.as_ref().map(|at| &at.device))),
        ("attachment.instance-id", |it| maybe(it.attachment.as_ref().map(|at| &at.instance_id))),
        ("attachment.status", |it| maybe(it.attachment.as_ref().map(|at| at.state))),
        ("availability-zone", |it| one(&it.zone)),
        ("availability-zone-id", |it| one(&it.zone_id)),
        ("create-time", |it| one(time(it.create_time))),
        ("encrypted", |it| one(it.encrypted)),
        ("fast-restored", |_| one(false)),
        ("multi-attach-enabled", |_| one(false)),
        ("size", |it| one(it.size_gib)),
        ("snapshot-id", |it| one(it.snapshot_id())),
        ("status", |it| one(it.state)),
        ("volume-id", |it| one(&it.volume_id)),
        ("volume-type", |it| one(&it.volume_type)),
        ("operator.managed", |_| one(false)),
    ],
    absent: &["operator.principal"],
};

pub(super) const TAG: Fields<TagDescription> = Fields {
    tags: None,
    named: &[
        ("key", |it| one(&it.key)),
        ("resource-id", |it| one(&it.resource_id)),
        ("resource-type", |it| one(it.resource_type)),
        ("value", |it| one(&it.value)),
    ],
    absent: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ec2_writes_them() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.000Z"),
            (1_767_225_600_001, "2026-01-01T00:00:00.000Z"),
        ];
        for (millis, text) in table {
            assert_eq!(time(Millis(millis)), text);
        }
    }
}
