//! The log of every call to EC2 and S3, so that a test can assert that none changed anything.

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
    /// `ec2` or `s3`.
    pub service: String,
    /// As the service names it: `RunInstances`, `PutObject`.
    pub action: String,
    /// The access key that the request named; empty where it named none.
    pub access_key: String,
    /// Whether the action is one that changes something when it succeeds.
    pub mutating: bool,
    /// HTTP status.
    pub status: u16,
    /// The error's code; `None` where the call succeeded.
    pub error: Option<String>,
    /// Whether the answer was withheld (fault `lost-reply`): the call was applied all the same.
    pub reply_lost: bool,
    /// What it was about: ids, or bucket and key.
    pub target: String,
}

impl Call {
    /// Whether this call changed something.
    pub fn changed(&self) -> bool {
        self.mutating && self.error.is_none()
    }
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

    /// The calls after number `since`, oldest first.
    pub fn since(&self, since: u64) -> Vec<Call> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.calls.iter().filter(|call| call.seq > since).cloned().collect()
    }
}

/// Whether an action of EC2 or S3 changes something, from its name: both services name readers alike.
pub fn is_mutating(action: &str) -> bool {
    !["Describe", "Get", "Head", "List"].iter().any(|reads| action.starts_with(reads))
}
