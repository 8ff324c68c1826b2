//! The one place that reads the clock: everything below gets `now` as an argument.

use jiff::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the edge: drover-local serves real clients in real time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
