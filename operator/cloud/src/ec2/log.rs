//! Every call that reached the account, so that a test can say "nothing was changed".

use std::collections::VecDeque;

use drover_api::Millis;
use serde::{Deserialize, Serialize};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Caller {
    /// May do everything, while its credentials hold. The text is a name for the log.
    Operator(String),
    /// The role of a machine, by instance id: no EC2 action at all.
    Machine(String),
}

impl Caller {
    pub fn operator() -> Self {
        Self::Operator("operator".into())
    }
}

/// One call as it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub at: Millis,
    pub caller: Caller,
    pub action: String,
    /// Whether the action is of the kind that changes something; a dry run never is.
    pub mutating: bool,
    /// None: it succeeded. Otherwise EC2's error code.
    pub error: Option<String>,
    pub(crate) changed: bool,
}

impl LogEntry {
    /// It was meant to change something and did not fail, or failed after it had: what protects an instance from an order does not
    /// protect those of other zones that the same order names.
    pub fn changed_something(&self) -> bool {
        self.changed
    }
}

/// A day of two calls a second; beyond it the oldest are dropped and counted.
const LOG_MAX: usize = 200_000;

/// The calls in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Log {
    entries: VecDeque<LogEntry>,
    dropped: u64,
}

impl Log {
    /// Oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter()
    }

    /// How many calls were ever made: a position to give to [`Log::since`].
    pub fn position(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    /// The calls made after `position`; those that were dropped are missing.
    pub fn since(&self, position: u64) -> impl Iterator<Item = &LogEntry> {
        let skip = usize::try_from(position.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip)
    }

    /// Takes the calls out: a host that keeps a log of its own leaves none here.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = LogEntry> {
        self.dropped += self.entries.len() as u64;
        self.entries.drain(..)
    }

    pub(crate) fn push(&mut self, entry: LogEntry) {
        if self.entries.len() == LOG_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }
}
