//! How surely something is gone (law 4): counted over complete lists only, and begun anew by any sight of it.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::Millis;
use drover_plan::observed::Absence;

/// Absences of one kind of id. Bounded by the ids that records name.
#[derive(Clone, Debug)]
pub struct Absences<Id> {
    seen: BTreeMap<Id, Absence>,
}

impl<Id: Ord + Clone> Absences<Id> {
    /// A complete list was made: `listed` is what it showed, `named` what records say there is.
    pub fn listed(&mut self, named: &BTreeSet<Id>, listed: impl Fn(&Id) -> bool, now: Millis) {
        self.seen.retain(|id, _| named.contains(id) && !listed(id));
        for id in named.iter().filter(|id| !listed(id)) {
            let absence =
                self.seen.entry(id.clone()).or_insert(Absence { lists: 0, since: now, not_found_by_id: false });
            absence.lists += 1;
        }
    }

    /// Asked for by id, and NotFound. It says something only about what lists had missed before.
    pub fn not_found(&mut self, id: &Id) {
        if let Some(absence) = self.seen.get_mut(id) {
            absence.not_found_by_id = true;
        }
    }

    /// Asked for by id, and found.
    pub fn found(&mut self, id: &Id) {
        self.seen.remove(id);
    }

    pub fn all(&self) -> BTreeMap<Id, Absence> {
        self.seen.clone()
    }
}

impl<Id> Default for Absences<Id> {
    fn default() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        /// A complete list that shows these.
        List(&'static [u8]),
        NotFound(u8),
        Found(u8),
    }
    use Event::*;

    /// Events a second apart; what is then known of id 1, which records name.
    fn check(events: &[Event], expected: Option<(u32, u64, bool)>) {
        let mut absences = Absences::default();
        for (second, event) in events.iter().enumerate() {
            let now = Millis(second as u64 * 1000);
            match event {
                List(shown) => absences.listed(&BTreeSet::from([1u8]), |id| shown.contains(id), now),
                NotFound(id) => absences.not_found(id),
                Found(id) => absences.found(id),
            }
        }
        let known = absences.all().get(&1).map(|a| (a.lists, a.since.0, a.not_found_by_id));
        assert_eq!(known, expected);
    }

    #[test]
    fn absence_counts_lists_in_a_row() {
        check(&[List(&[1])], None);
        check(&[List(&[])], Some((1, 0, false)));
        check(&[List(&[1]), List(&[2]), List(&[]), List(&[])], Some((3, 1000, false)));
    }

    #[test]
    fn one_sight_begins_anew() {
        check(&[List(&[]), List(&[]), List(&[1])], None);
        check(&[List(&[]), NotFound(1), List(&[1]), List(&[])], Some((1, 3000, false)));
        check(&[List(&[]), List(&[]), Found(1), List(&[])], Some((1, 3000, false)));
    }

    #[test]
    fn not_found_counts_only_for_what_lists_missed_before() {
        check(&[NotFound(1)], None);
        check(&[NotFound(1), List(&[])], Some((1, 1000, false)));
        check(&[List(&[]), NotFound(1)], Some((1, 0, true)));
    }

    #[test]
    fn what_no_record_names_is_not_counted() {
        check(&[NotFound(2), List(&[1])], None);
        let mut absences = Absences::default();
        absences.listed(&BTreeSet::from([1u8, 2]), |_| false, Millis(0));
        absences.listed(&BTreeSet::from([2u8]), |_| false, Millis(1));
        assert_eq!(absences.all().into_keys().collect::<Vec<_>>(), [2]);
    }
}
