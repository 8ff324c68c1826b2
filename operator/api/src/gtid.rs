//! GTID sets, tags included (`uuid:1-5:tag:1-3`): the algebra that leadership is decided with. MySQL's own functions stay
//! the judge where a server is at hand; this is for where none is.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A source of transactions: server uuid, and tag (empty where there is none).
type Origin = (String, String);

/// A set of transactions. Canonical: intervals are sorted, disjoint and not adjacent.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet(BTreeMap<Origin, Vec<(u64, u64)>>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a GTID set: {rule}")]
pub struct InvalidGtidSet {
    pub text: String,
    pub rule: &'static str,
}

impl GtidSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions.
    pub fn count(&self) -> u64 {
        self.0.values().flatten().map(|(first, last)| last - first + 1).sum()
    }

    /// Everything of `other` is in `self`.
    pub fn contains(&self, other: &GtidSet) -> bool {
        other.minus(self).is_empty()
    }

    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut result = self.clone();
        for (origin, intervals) in &other.0 {
            let all = result.0.entry(origin.clone()).or_default();
            all.extend(intervals);
            *all = normalised(std::mem::take(all));
        }
        result
    }

    /// What is in `self` and not in `other`.
    pub fn minus(&self, other: &GtidSet) -> GtidSet {
        let mut result = GtidSet::default();
        for (origin, intervals) in &self.0 {
            let taken = other.0.get(origin).map(Vec::as_slice).unwrap_or_default();
            let left: Vec<_> = intervals.iter().flatten_intervals(taken);
            if !left.is_empty() {
                result.0.insert(origin.clone(), left);
            }
        }
        result
    }

    /// The part that came from one server, in whatever tag.
    pub fn of_server(&self, uuid: &str) -> GtidSet {
        let uuid = uuid.to_ascii_lowercase();
        GtidSet(self.0.iter().filter(|((server, _), _)| *server == uuid).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// Cuts `taken` (sorted, disjoint) out of each interval.
trait Cut {
    fn flatten_intervals(self, taken: &[(u64, u64)]) -> Vec<(u64, u64)>;
}

impl<'a, I: Iterator<Item = &'a (u64, u64)>> Cut for I {
    fn flatten_intervals(self, taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut left = Vec::new();
        for &(first, last) in self {
            let mut from = first;
            for &(cut_first, cut_last) in taken.iter().filter(|(a, b)| *a <= last && *b >= first) {
                if cut_first > from {
                    left.push((from, cut_first - 1));
                }
                from = from.max(cut_last.saturating_add(1));
            }
            if from <= last {
                left.push((from, last));
            }
        }
        left
    }
}

fn normalised(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut result: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match result.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => result.push((first, last)),
        }
    }
    result
}

impl FromStr for GtidSet {
    type Err = InvalidGtidSet;

    /// Accepts what MySQL prints: new lines and spaces between parts, upper or lower case.
    fn from_str(text: &str) -> Result<Self, InvalidGtidSet> {
        let invalid = |rule| InvalidGtidSet { text: text.chars().take(200).collect(), rule };
        let mut set = GtidSet::default();
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        for part in compact.split(',').filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':');
            let uuid = pieces.next().unwrap_or_default();
            if !is_uuid(uuid) {
                return Err(invalid("each part begins with a server uuid"));
            }
            let mut tag = String::new();
            let mut intervals_seen = false;
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    piece.clone_into(&mut tag);
                    continue;
                }
                let interval = parse_interval(piece).ok_or_else(|| invalid("an interval is n or n-m, from 1 up"))?;
                let all = set.0.entry((uuid.to_owned(), tag.clone())).or_default();
                all.push(interval);
                intervals_seen = true;
            }
            if !intervals_seen {
                return Err(invalid("each part has at least one interval"));
            }
        }
        for intervals in set.0.values_mut() {
            *intervals = normalised(std::mem::take(intervals));
        }
        Ok(set)
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(
            |(at, c)| {
                if [8, 13, 18, 23].contains(&at) { c == '-' } else { c.is_ascii_hexdigit() }
            },
        )
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first >= 1 && first <= last).then_some((first, last))
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut server = None;
        for ((uuid, tag), intervals) in &self.0 {
            if server != Some(uuid) {
                write!(f, "{}{uuid}", if server.is_some() { "," } else { "" })?;
                server = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl TryFrom<String> for GtidSet {
    type Error = InvalidGtidSet;
    fn try_from(text: String) -> Result<Self, InvalidGtidSet> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> String {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().expect("a valid set")
    }

    #[test]
    fn what_mysql_prints_is_read_and_made_canonical() {
        assert_eq!(set("A:5-7:1-3:4,\n B:9").to_string(), format!("{A}:1-7,{B}:9"));
        assert_eq!(set("A:1-3:tag_x:1-2").to_string(), format!("{A}:1-3:tag_x:1-2"));
        assert_eq!(set("A:tag:1:tag:2").to_string(), format!("{A}:tag:1-2"));
        assert_eq!(set(""), GtidSet::default());
    }

    #[test]
    fn what_is_not_a_gtid_set_is_refused() {
        for text in ["x:1", "A", "A:0", "A:3-1", "A:1-", "A:tag", "A:1;B:2"] {
            let text = text.replace('A', A);
            assert!(text.parse::<GtidSet>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn a_tag_is_another_origin() {
        assert_eq!(set("A:1-5:x:1-5").minus(&set("A:1-5")), set("A:x:1-5"));
        assert!(!set("A:1-5").contains(&set("A:x:1")));
        assert_eq!(set("A:1-5:x:1-2,B:1").of_server(A).count(), 7);
    }

    fn sets() -> impl Strategy<Value = GtidSet> {
        let interval = (1u64..40, 0u64..8).prop_map(|(first, more)| format!("{first}-{}", first + more));
        let part =
            ("[AB]", prop::option::of("[xy]"), prop::collection::vec(interval, 1..5)).prop_map(|(uuid, tag, list)| {
                let tag = tag.map(|tag| format!(":t{tag}")).unwrap_or_default();
                format!("{uuid}{tag}:{}", list.join(":"))
            });
        prop::collection::vec(part, 0..5).prop_map(|parts| set(&parts.join(",")))
    }

    proptest! {
        #[test]
        fn the_algebra_holds(a in sets(), b in sets()) {
            prop_assert_eq!(a.to_string().parse::<GtidSet>(), Ok(a.clone()));
            let union = a.union(&b);
            prop_assert!(union.contains(&a) && union.contains(&b));
            prop_assert_eq!(union.minus(&b).count() + b.count(), union.count());
            prop_assert_eq!(a.minus(&b).union(&b), union);
            prop_assert_eq!(a.contains(&b), b.minus(&a).is_empty());
            prop_assert!(a.minus(&a).is_empty());
        }
    }
}
