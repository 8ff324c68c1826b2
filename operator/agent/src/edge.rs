//! Clocks and randomness: the one place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drover_api::Millis;
use rustix::time::{ClockId, clock_gettime};

/// The clock of every decision: since the host's boot, suspended or not. It is never set.
pub fn now() -> Millis {
    let since = clock_gettime(ClockId::Boottime);
    let millis = since.tv_sec.saturating_mul(1000).saturating_add(since.tv_nsec / 1_000_000);
    Millis(u64::try_from(millis).unwrap_or_default())
}

/// The clock that others can read, and anyone may set: for reports and heartbeats alone.
#[expect(clippy::disallowed_methods, reason = "the agent's one reading of it")]
pub fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the agent's one source of it")]
pub fn random_bytes() -> [u8; 16] {
    rand::random()
}

/// Between attempts at something that announces nothing when it becomes possible.
#[expect(clippy::disallowed_methods, reason = "a paced loop: nothing announces what is waited for")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
