//! Waiting for the kernel to finish what it does in the background: look, wait a little, look again, up to a deadline.

use std::time::{Duration, Instant};

use super::spec::{Error, Result};

/// The pause between two looks: well below what a person or a test notices, well above the cost of a look.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    limit: Duration,
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "the edge: this waits for the real kernel")]
    pub(super) fn new(limit: Duration) -> Pace {
        Pace { started: Instant::now(), limit }
    }

    /// Returns after a pause, or with an error when the deadline has passed; `what` names what is awaited.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one paced loop: the kernel announces none of what is awaited here"
    )]
    pub(super) async fn wait(&mut self, what: impl FnOnce() -> String) -> Result<()> {
        if self.started.elapsed() >= self.limit {
            return Err(Error::Deadline { command: what(), limit: self.limit });
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
