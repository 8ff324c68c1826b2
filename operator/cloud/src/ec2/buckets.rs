//! Request throttling as "Request throttling for the Amazon EC2 API" describes it: a token bucket per account, region and
//! action, and for four actions a second one that counts instances. Either can refuse.

use std::collections::BTreeMap;

use drover_api::Millis;
use serde::{Deserialize, Serialize};

use super::ApiError;

/// What decides which bucket a request draws from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub action: &'static str,
    pub mutating: bool,
    pub narrowed: bool,
}

/// Capacity in tokens, refill in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    capacity: u64,
    refill: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    /// Thousandths of a token, so that a refill per second adds up exactly per millisecond.
    milli: u64,
    at: Millis,
}

/// A bucket appears when it is first drawn from, and is full then.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Buckets {
    by_name: BTreeMap<String, Bucket>,
}

/// The describes that draw from a smaller bucket when they come with neither filter nor pagination.
const BIG_DESCRIBES: [&str; 5] = [
    "DescribeInstances",
    "DescribeInstanceStatus",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeVolumes",
];

impl Lane {
    fn bucket(self) -> String {
        if self.narrowed || !BIG_DESCRIBES.contains(&self.action) {
            self.action.into()
        } else {
            format!("{} without filter", self.action)
        }
    }

    fn rate(self) -> Rate {
        let (capacity, refill) = match self.action {
            "RunInstances" | "StartInstances" => (5, 2),
            "CreateTags" | "DeleteTags" => (100, 10),
            "TerminateInstances"
            | "AssignPrivateIpAddresses"
            | "UnassignPrivateIpAddresses"
            | "ModifyNetworkInterfaceAttribute"
            | "CreateVolume"
            | "DeleteVolume" => (100, 5),
            _ if self.mutating => (50, 5),
            action if BIG_DESCRIBES.contains(&action) && !self.narrowed => (50, 10),
            _ => (100, 20),
        };
        Rate { capacity, refill }
    }
}

/// The buckets that count instances.
fn instance_rate(action: &str) -> Option<Rate> {
    match action {
        "RunInstances" | "StartInstances" => Some(Rate { capacity: 1000, refill: 2 }),
        "StopInstances" | "TerminateInstances" => Some(Rate { capacity: 1000, refill: 20 }),
        _ => None,
    }
}

impl Buckets {
    /// Draws one request and `instances` instances; RequestLimitExceeded draws the request only.
    pub(super) fn take(&mut self, now: Millis, lane: Lane, instances: u32) -> Result<(), ApiError> {
        let name = lane.bucket();
        self.draw(&name, lane.rate(), 1, now)?;
        match instance_rate(lane.action) {
            Some(rate) => self.draw(&format!("{} instances", lane.action), rate, u64::from(instances), now),
            None => Ok(()),
        }
    }

    fn draw(&mut self, name: &str, rate: Rate, tokens: u64, now: Millis) -> Result<(), ApiError> {
        let full = rate.capacity * 1000;
        let bucket = self.by_name.entry(name.into()).or_insert(Bucket { milli: full, at: now });
        let elapsed = now.0.saturating_sub(bucket.at.0);
        bucket.milli = full.min(bucket.milli.saturating_add(elapsed.saturating_mul(rate.refill)));
        bucket.at = now;
        match bucket.milli.checked_sub(tokens * 1000) {
            Some(left) => {
                bucket.milli = left;
                Ok(())
            }
            None => Err(ApiError::new("RequestLimitExceeded", "Request limit exceeded.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(action: &'static str, mutating: bool, narrowed: bool) -> Lane {
        Lane { action, mutating, narrowed }
    }

    /// Calls that pass at once, then in the following ten seconds.
    fn passes(lane: Lane, instances: u32) -> (u32, u32) {
        let mut buckets = Buckets::default();
        let mut drain = |now| (0..).take_while(|_| buckets.take(now, lane, instances).is_ok()).count() as u32;
        (drain(Millis(1_000)), drain(Millis(11_000)))
    }

    #[test]
    fn every_action_has_the_capacity_and_refill_that_aws_documents() {
        let table = [
            ("RunInstances", true, true, 5, 5),
            ("StartInstances", true, true, 5, 5),
            ("StopInstances", true, true, 50, 50),
            ("TerminateInstances", true, true, 100, 50),
            ("CreateTags", true, true, 100, 100),
            ("DeleteTags", true, true, 100, 100),
            ("CreateVolume", true, true, 100, 50),
            ("AttachVolume", true, true, 50, 50),
            ("AssignPrivateIpAddresses", true, true, 100, 50),
            ("ModifyNetworkInterfaceAttribute", true, true, 100, 50),
            ("CreateSecurityGroup", true, true, 50, 50),
            ("DescribeInstances", false, true, 100, 100),
            ("DescribeInstances", false, false, 50, 50),
            ("DescribeVolumes", false, false, 50, 50),
            ("DescribeImages", false, false, 100, 100),
        ];
        for (action, mutating, narrowed, at_once, after_ten_seconds) in table {
            assert_eq!(passes(lane(action, mutating, narrowed), 1), (at_once, after_ten_seconds), "{action}");
        }
    }

    #[test]
    fn instances_are_counted_besides_requests() {
        assert_eq!(passes(lane("RunInstances", true, true), 400).0, 2);
        assert_eq!(passes(lane("StopInstances", true, true), 400), (2, 1));
    }

    #[test]
    fn actions_do_not_share_a_bucket() {
        let mut buckets = Buckets::default();
        let now = Millis(1);
        for _ in 0..5 {
            buckets.take(now, lane("RunInstances", true, true), 1).expect("within the capacity");
        }
        assert!(buckets.take(now, lane("RunInstances", true, true), 1).is_err());
        assert!(buckets.take(now, lane("StartInstances", true, true), 1).is_ok());
    }
}
