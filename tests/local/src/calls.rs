//! The log of every call to EC2, S3 and Service Quotas, so that a test can assert that none changed anything.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// How many calls are kept; the oldest go first. At some 300 bytes each this is 30 MB.
pub const CALLS_MAX: usize = 100_000;

/// One call, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Grows by one with each call since `up`, from 1.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// `ec2`, `s3` or `servicequotas`.
    pub service: String,
    /// As the service names it: `RunInstances`, `PutObject`.
    pub action: String,
    /// The access key that the request named; empty where it named none.
    pub access_key: String,
    /// Whether the action is one that changes something when it succeeds.
    pub mutating: bool,
    /// Whether it did, or may have: an error can come after a change.
    pub changed: bool,
    /// HTTP status.
    pub status: u16,
    /// The error's code; `None` where the call succeeded.
    pub error: Option<String>,
    /// Whether the answer was withheld (fault `lost-reply`): the call was applied all the same.
    pub reply_lost: bool,
    /// What it was about: ids, bucket and key, or service and quota.
    pub target: String,
}

/// The calls after some number, as far as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Oldest first.
    pub calls: Vec<Call>,
    /// How many calls there were after that number and before these.
    pub dropped: u64,
}

/// The log. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    calls: VecDeque<Call>,
}

impl Calls {
    /// Adds a call under the next number.
    pub fn record(&self, mut call: Call) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        call.seq = inner.last;
        if inner.calls.len() == CALLS_MAX {
            inner.calls.pop_front();
        }
        inner.calls.push_back(call);
    }

    /// The calls after number `since`.
    pub fn since(&self, since: u64) -> Since {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before_the_oldest = inner.last - inner.calls.len() as u64;
        let calls = inner.calls.iter().filter(|call| call.seq > since).cloned().collect();
        Since { calls, dropped: before_the_oldest.saturating_sub(since) }
    }
}

/// Whether an action changes something, from its name: all services name readers alike.
pub fn is_mutating(action: &str) -> bool {
    !["Describe", "Get", "Head", "List"].iter().any(|reads| action.starts_with(reads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_any_more_is_counted_and_not_passed_over() {
        let calls = Calls::default();
        let call = Call {
            seq: 0,
            at_ms: 0,
            service: String::new(),
            action: String::new(),
            access_key: String::new(),
            mutating: true,
            changed: true,
            status: 200,
            error: None,
            reply_lost: false,
            target: String::new(),
        };
        assert_eq!(calls.since(0), Since { calls: Vec::new(), dropped: 0 });
        for _ in 0..CALLS_MAX + 3 {
            calls.record(call.clone());
        }
        let last = CALLS_MAX as u64 + 3;
        for (since, kept, dropped) in
            [(0, CALLS_MAX, 3), (2, CALLS_MAX, 1), (3, CALLS_MAX, 0), (last - 1, 1, 0), (last, 0, 0)]
        {
            let answer = calls.since(since);
            assert_eq!((answer.calls.len(), answer.dropped), (kept, dropped), "since {since}");
        }
    }
}
