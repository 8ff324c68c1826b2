//! Clock and randomness: the one place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drover_api::Millis;

#[expect(clippy::disallowed_methods, reason = "the agent's one clock")]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub fn random_bytes() -> [u8; 16] {
    rand::random()
}

/// Between attempts at something that announces nothing when it becomes possible.
#[expect(clippy::disallowed_methods, reason = "a paced loop: nothing announces what is waited for")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
