//! The one place that reads the clock: everything below gets `now` as an argument.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the edge: drover-local serves real clients in real time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The clock that the endpoints judge requests by and date their answers with: right, until the fault `clock-skew` is set.
/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct ServiceClock(Arc<AtomicI64>);

impl ServiceClock {
    /// The services' time of day.
    pub fn now(&self) -> Timestamp {
        let skewed = now().checked_add(SignedDuration::from_secs(self.ahead()));
        skewed.expect("a skew is bounded where it is set, and the year 9999 is far")
    }

    /// Seconds that it is ahead of the host's; negative where it is behind.
    pub fn ahead(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set_ahead(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    /// As the header `Date` says it (RFC 9110, "IMF-fixdate").
    pub fn date(&self) -> HeaderValue {
        let text = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        HeaderValue::from_str(&text).expect("a date has visible characters only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_moves_the_services_clock_and_its_dates() {
        let clock = ServiceClock::default();
        let (before, right, after) = (now(), clock.now(), now());
        assert!(before <= right && right <= after, "{before} {right} {after}");
        clock.set_ahead(-3_600);
        let (before, skewed, after) = (now(), clock.now(), now());
        let hour = SignedDuration::from_secs(3_600);
        assert!(before <= skewed + hour && skewed + hour <= after, "{before} {skewed} {after}");
        let date = clock.date();
        assert!(date.to_str().unwrap().ends_with(" GMT"), "{date:?}");
    }
}
