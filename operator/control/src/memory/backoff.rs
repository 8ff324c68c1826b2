//! When a slot whose actions failed is tried again: a budget for retries, per slot and for a set's own actions, so that one
//! that always fails costs little and delays no other.

use std::{collections::BTreeMap, time::Duration};

use drover_api::{ResourceKey, Slot};

/// `W` is whose failures are counted: here a slot of a set, or the set itself.
#[derive(Clone, Debug)]
pub struct Backoff<W = (ResourceKey, Option<Slot>)> {
    failing: BTreeMap<W, Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    /// In a row.
    count: u32,
    /// Monotonic.
    again: Duration,
}

/// The first wait: most failures are a state that is not reached yet.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: a person who repairs a permission sees the effect within this time.
const LONGEST: Duration = Duration::from_secs(30);

impl<W> Default for Backoff<W> {
    fn default() -> Self {
        Self { failing: BTreeMap::new() }
    }
}

impl<W: Ord + Clone> Backoff<W> {
    /// May its actions be tried at `now`?
    pub fn is_due(&self, whose: &W, now: Duration) -> bool {
        self.failing.get(whose).is_none_or(|failing| now >= failing.again)
    }

    /// How long until it is tried again.
    pub fn wait(&self, whose: &W, now: Duration) -> Duration {
        self.failing.get(whose).map_or(Duration::ZERO, |failing| failing.again.saturating_sub(now))
    }

    pub fn failed(&mut self, whose: &W, now: Duration) {
        let failing = self.failing.entry(whose.clone()).or_insert(Failing { count: 0, again: now });
        let doublings = failing.count.min(10);
        failing.again = now + FIRST.saturating_mul(1 << doublings).min(LONGEST);
        failing.count += 1;
    }

    pub fn succeeded(&mut self, whose: &W) {
        self.failing.remove(whose);
    }

    /// Forgets those that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&W) -> bool) {
        self.failing.retain(|whose, _| is_there(whose));
    }
}

#[cfg(test)]
mod tests {
    use drover_api::{Namespace, ResourceName};

    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_a_success() {
        let key = ResourceKey {
            namespace: Namespace::new("default").expect("namespace"),
            name: ResourceName::new("orders").expect("name"),
        };
        let (key, other) = ((key.clone(), Some(Slot::Member(0))), (key, None));
        let mut backoff = Backoff::<(ResourceKey, Option<Slot>)>::default();
        let now = Duration::from_secs(100);
        assert!(backoff.is_due(&key, now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            backoff.failed(&key, now);
            assert_eq!(backoff.wait(&key, now), Duration::from_secs(seconds));
            assert!(!backoff.is_due(&key, now) && backoff.is_due(&other, now));
            assert!(backoff.is_due(&key, now + Duration::from_secs(seconds)));
        }
        backoff.succeeded(&key);
        assert!(backoff.is_due(&key, now));
    }
}
