//! Time, for a test: the one place that looks at a clock or lets time pass.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::bail;

/// Between two looks at a condition.
const AGAIN: Duration = Duration::from_millis(100);

/// A moment, and how long ago it was.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the edge of these tests")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks again and again until there is an answer: every wait is for a condition, and bounded. After `limit` the last look's error, or `what`, is the failure.
pub fn within<T>(
    limit: Duration,
    what: impl Display,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let clock = Clock::start();
    loop {
        let looked = look();
        if let Ok(Some(answer)) = looked {
            return Ok(answer);
        }
        if clock.elapsed() > limit {
            match looked {
                Err(error) => return Err(error.context(format!("not within {limit:?}: {what}"))),
                Ok(_) => bail!("not within {limit:?}: {what}"),
            }
        }
        pause();
    }
}

/// Between two looks.
#[expect(clippy::disallowed_methods, reason = "the edge of these tests")]
pub(crate) fn pause() {
    std::thread::sleep(AGAIN);
}
