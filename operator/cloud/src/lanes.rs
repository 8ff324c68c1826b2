//! Rate lanes: how fast we may call, so that an operator never empties the request buckets that everyone in the account
//! shares. A lane is one kind of call with a rate of its own, so what fences a machine never queues behind routine work.
//! Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

/// A token bucket's size and refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls that may be made at once after a rest; at least 1.
    pub burst: u32,
    /// The time in which one more call is earned; more than zero.
    pub every: Duration,
}

/// No token before the caller's patience ends; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the local rate lane {lane} has no token for {} ms", wait.as_millis())]
pub struct NoToken {
    pub lane: &'static str,
    /// How long until the next one.
    pub wait: Duration,
}

/// All lanes of one operator. A lane begins full. `now` is monotonic, from any fixed origin.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    /// When each lane will be full again: the whole state of a token bucket (GCRA).
    full_at: BTreeMap<&'static str, Duration>,
}

impl Lanes {
    /// Takes the lane's next token and says how long to wait before using it. Tokens are given in the order of asking, and
    /// no further ahead than `patience`, which bounds the queue to `patience / every` callers. A caller that gives up while
    /// waiting loses its token, which errs on the slow side.
    pub fn take(
        &mut self,
        lane: &'static str,
        rate: Rate,
        now: Duration,
        patience: Duration,
    ) -> Result<Duration, NoToken> {
        let full_at = self.full_at.get(lane).copied().unwrap_or(now).max(now);
        let owed = full_at - now + rate.every;
        let wait = owed.saturating_sub(rate.every * rate.burst);
        if wait > patience {
            return Err(NoToken { lane, wait });
        }
        self.full_at.insert(lane, full_at + rate.every);
        Ok(wait)
    }

    /// The cloud said that its own bucket is empty, so ours is too. Tokens already given stay given.
    pub fn drain(&mut self, lane: &'static str, rate: Rate, now: Duration) {
        let empty = now + rate.every * rate.burst;
        let full_at = self.full_at.entry(lane).or_insert(empty);
        *full_at = empty.max(*full_at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: Rate = Rate { burst: 2, every: Duration::from_secs(1) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Asks at each `(now, patience)` and says what was answered, in milliseconds.
    fn check(asks: &[(u64, u64)], expected: &[Result<u64, u64>]) {
        let mut lanes = Lanes::default();
        let answers: Vec<_> = asks
            .iter()
            .map(|(now, patience)| match lanes.take("run", RUN, ms(*now), ms(*patience)) {
                Ok(wait) => Ok(wait.as_millis() as u64),
                Err(no) => Err(no.wait.as_millis() as u64),
            })
            .collect();
        assert_eq!(answers, expected);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_refill_rate() {
        check(&[(0, 9_000); 5], &[Ok(0), Ok(0), Ok(1_000), Ok(2_000), Ok(3_000)]);
    }

    #[test]
    fn a_rest_refills_the_lane_but_never_beyond_the_burst() {
        check(
            &[(0, 0), (0, 0), (1_000, 0), (60_000, 0), (60_000, 0), (60_000, 0)],
            &[Ok(0), Ok(0), Ok(0), Ok(0), Ok(0), Err(1_000)],
        );
    }

    #[test]
    fn who_has_no_patience_takes_no_token() {
        check(&[(0, 0), (0, 0), (0, 999), (0, 999), (0, 1_000)], &[Ok(0), Ok(0), Err(1_000), Err(1_000), Ok(1_000)]);
    }

    #[test]
    fn a_drained_lane_gives_its_next_token_one_refill_later() {
        let mut lanes = Lanes::default();
        lanes.drain("run", RUN, ms(500));
        assert_eq!(lanes.take("run", RUN, ms(500), ms(5_000)), Ok(ms(1_000)));
    }

    #[test]
    fn a_drain_does_not_forget_tokens_given_ahead() {
        let mut lanes = Lanes::default();
        for _ in 0..4 {
            lanes.take("run", RUN, ms(0), ms(9_000)).expect("patience for all");
        }
        lanes.drain("run", RUN, ms(0));
        assert_eq!(lanes.take("run", RUN, ms(0), ms(9_000)), Ok(ms(3_000)));
    }

    #[test]
    fn a_full_queue_in_one_lane_delays_no_other() {
        let mut lanes = Lanes::default();
        while lanes.take("stop", RUN, ms(0), ms(10_000)).is_ok() {}
        assert_eq!(lanes.take("power off", RUN, ms(0), ms(0)), Ok(ms(0)));
    }

    proptest! {
        /// Whoever asks when: in no window do more calls start than the burst and what was earned in it.
        #[test]
        fn no_window_holds_more_than_its_burst_and_refill(
            asks in prop::collection::vec((0u64..3_000, 0u64..4_000), 1..60),
            burst in 1u32..5,
            every in 1u64..1_500,
        ) {
            let rate = Rate { burst, every: ms(every) };
            let (mut lanes, mut now, mut starts) = (Lanes::default(), ms(0), Vec::new());
            for (pause, patience) in asks {
                now += ms(pause);
                if let Ok(wait) = lanes.take("run", rate, now, ms(patience)) {
                    prop_assert!(wait <= ms(patience));
                    starts.push(now + wait);
                }
            }
            prop_assert!(starts.is_sorted(), "first asked, first served");
            for first in 0..starts.len() {
                for last in first..starts.len() {
                    let earned = (starts[last] - starts[first]).as_nanos() / rate.every.as_nanos();
                    prop_assert!((last - first + 1) as u128 <= u128::from(burst) + earned);
                }
            }
        }
    }
}
