//! Who takes reads, without flapping: a replica that lags is left out at once, and comes back when it has been fresh for a while.
//! One whose lag swings about the bound stays out, and its slice is not written with every pass. Pure.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use drover_api::{ResourceKey, Slot};
use drover_plan::SetReport;

/// As long as that a replica has to be fresh again: two of the reports that agents make at rest.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// Of every set, which replicas were left out, and since when each is fresh again.
#[derive(Debug, Default)]
pub struct Readers {
    known: BTreeMap<ResourceKey, BTreeMap<Slot, Reads>>,
    /// When each set's primary was last seen closed: then every replica lags, and none is to blame.
    closed: BTreeMap<ResourceKey, Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Takes,
    LeftOut,
    FreshAgain { since: Duration },
}

impl Readers {
    /// The report with the replicas that are to take reads now. Who is seen for the first time is believed.
    pub fn settled<'a>(&mut self, report: &'a SetReport, at: Duration) -> Cow<'a, SetReport> {
        let Some(endpoints) = &report.endpoints else { return Cow::Borrowed(report) };
        let is_primary = |slot: Slot| endpoints.primary.iter().any(|endpoint| endpoint.slot == slot);
        let is_fresh =
            |slot: Slot| !is_primary(slot) && endpoints.replicas.iter().any(|endpoint| endpoint.slot == slot);
        if endpoints.primary.is_empty() {
            self.closed.insert(report.key.clone(), at);
        }
        let is_just_open = self.closed.get(&report.key).is_some_and(|closed| at.saturating_sub(*closed) < FRESH_FOR);
        let known = self.known.entry(report.key.clone()).or_default();
        known.retain(|slot, _| !is_primary(*slot) && report.members.iter().any(|row| row.slot == *slot));
        for endpoint in endpoints.replicas.iter().filter(|endpoint| is_fresh(endpoint.slot)) {
            known.entry(endpoint.slot).or_insert(Reads::Takes);
        }
        for (slot, reads) in known.iter_mut() {
            *reads = match (is_fresh(*slot), *reads) {
                (false, Reads::Takes) if is_just_open => Reads::Takes,
                (false, _) => Reads::LeftOut,
                (true, Reads::LeftOut) => Reads::FreshAgain { since: at },
                (true, Reads::FreshAgain { since }) if at.saturating_sub(since) >= FRESH_FOR => Reads::Takes,
                (true, reads) => reads,
            };
        }
        let waits = |slot: Slot| matches!(known.get(&slot), Some(Reads::FreshAgain { .. }));
        if !endpoints.replicas.iter().any(|endpoint| waits(endpoint.slot)) {
            return Cow::Borrowed(report);
        }
        let mut settled = report.clone();
        let mut endpoints = endpoints.clone();
        endpoints.replicas.retain(|endpoint| !waits(endpoint.slot));
        if endpoints.replicas.is_empty() {
            endpoints.replicas.clone_from(&endpoints.primary);
        }
        settled.endpoints = Some(endpoints);
        Cow::Owned(settled)
    }

    pub fn retain(&mut self, keep: impl Fn(&ResourceKey) -> bool) {
        self.known.retain(|key, _| keep(key));
        self.closed.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use drover_plan::{Endpoint, Endpoints};

    use super::*;
    use crate::kubernetes::tests::ready;

    const M0: Slot = Slot::Member(0);
    const R0: Slot = Slot::Reader(0);

    /// Seconds, and whether r0 is fresh then; who takes reads.
    fn check(passes: &[(u64, bool, Slot)]) {
        let mut readers = Readers::default();
        let endpoint = |slot| Endpoint { slot, address: [10, 0, 0, 1].into(), zone: None };
        for (second, is_fresh, expected) in passes {
            let mut report = ready();
            let reads = endpoint(if *is_fresh { R0 } else { M0 });
            report.endpoints = Some(Endpoints { primary: vec![endpoint(M0)], replicas: vec![reads] });
            let settled = readers.settled(&report, Duration::from_secs(*second)).into_owned();
            let takes = settled.endpoints.expect("known").replicas;
            assert_eq!(takes.iter().map(|endpoint| endpoint.slot).collect::<Vec<_>>(), [*expected], "at {second} s");
        }
    }

    #[test]
    fn who_lags_is_left_out_at_once_and_back_when_it_was_fresh_for_a_while() {
        check(&[(0, true, R0), (5, false, M0), (10, true, M0), (19, true, M0), (20, true, R0), (25, true, R0)]);
    }

    #[test]
    fn who_lags_because_the_primary_was_closed_is_back_as_soon_as_it_is_fresh() {
        let mut readers = Readers::default();
        let endpoint = |slot| Endpoint { slot, address: [10, 0, 0, 1].into(), zone: None };
        let seen = [(vec![M0], vec![R0]), (vec![], vec![]), (vec![M0], vec![M0]), (vec![M0], vec![R0])];
        let mut takes: Vec<Vec<Slot>> = Vec::new();
        for (second, (primary, replicas)) in (0..).step_by(3).zip(seen) {
            let mut report = ready();
            let all = |slots: Vec<Slot>| slots.into_iter().map(endpoint).collect();
            report.endpoints = Some(Endpoints { primary: all(primary), replicas: all(replicas) });
            let settled = readers.settled(&report, Duration::from_secs(second)).into_owned();
            takes.push(settled.endpoints.expect("known").replicas.iter().map(|endpoint| endpoint.slot).collect());
        }
        assert_eq!(takes, [vec![R0], vec![], vec![M0], vec![R0]]);
    }

    #[test]
    fn a_lag_that_swings_about_the_bound_keeps_a_replica_out() {
        let swings = (1..40).map(|n| (n * 5, n % 2 == 0, M0));
        check(&[(0, true, R0)].into_iter().chain(swings).collect::<Vec<_>>());
    }

    #[test]
    fn who_was_never_left_out_takes_reads_as_soon_as_it_is_fresh() {
        check(&[(0, false, M0), (1, true, R0)]);
    }
}
