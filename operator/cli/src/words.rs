//! A realm in words, for a terminal.

mod plan;

use std::fmt::Write;

use drover_api::{Millis, ResourceKey};
use drover_control::Snapshot;
use drover_plan::{SetReport, report::MemberReport};

pub use plan::{plan, stuck};

/// Sets, most important first: the verdict, the members, what is awaited. `only` keeps one set. Ages are those at `now`.
pub fn status(snapshot: &Snapshot, only: Option<&ResourceKey>, now: Millis) -> String {
    let mut text = String::new();
    let mut sets: Vec<&SetReport> = snapshot.sets.iter().collect();
    sets.retain(|set| only.is_none_or(|only| set.key == *only) && !snapshot.ended.contains(&set.key));
    sets.sort_by_key(|set| (set.ready, set.key.clone()));
    for set in &sets {
        describe_set(&mut text, set, since(snapshot, now));
    }
    if sets.is_empty() {
        text.push_str(&match only {
            Some(key) if snapshot.ended.contains(key) => format!("{key}: deleted; nothing of it is left\n"),
            Some(key) if !snapshot.is_whole() => {
                format!("{key}: nothing is known of it now, neither that it is there nor that it is not\n")
            }
            None if !snapshot.is_whole() => "nothing is known of any set now\n".into(),
            Some(key) if snapshot.sources_read => format!("{key}: no manifest, record or machine has that name\n"),
            Some(key) => format!("{key}: no record or machine has that name\n"),
            None if snapshot.sources_read => {
                "no sets: no manifest declares one, and nothing in the cloud or the bucket carries this realm\n".into()
            }
            None => "no sets: nothing in the cloud or the bucket carries this realm\n".into(),
        });
    }
    if snapshot.looked && !snapshot.sources_read {
        text.push_str("What is declared was not looked at: name the directory of the manifests with --manifests\n");
    }
    section(&mut text, "Manifests that are not understood", &snapshot.problems);
    section(&mut text, "Waiting", &snapshot.waiting);
    section(&mut text, "Unclaimed, and left alone", &snapshot.unclaimed);
    text
}

/// Whether that says what was asked for: how a set is, or that there is none.
pub fn answers(snapshot: &Snapshot, only: Option<&ResourceKey>) -> bool {
    match only {
        Some(key) => snapshot.ended.contains(key) || snapshot.sets.iter().any(|set| set.key == *key && set.is_known()),
        None => snapshot.is_whole() || snapshot.sets.iter().any(SetReport::is_known),
    }
}

/// An error as one sentence; a cause that the text before it has quoted already is not said twice.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text {
        text if text.is_empty() => cause,
        text if text.contains(&cause) => text,
        text => format!("{text}: {cause}"),
    })
}

/// Without the sets that were not asked for.
pub fn narrowed(mut snapshot: Snapshot, only: Option<&ResourceKey>) -> Snapshot {
    let is_asked_for = |key: &ResourceKey| only.is_none_or(|only| key == only);
    snapshot.sets.retain(|set| is_asked_for(&set.key));
    snapshot.ended.retain(is_asked_for);
    snapshot.plan.retain(|line| is_asked_for(&line.set));
    snapshot.failed.retain(|failed| is_asked_for(&failed.set));
    snapshot
}

/// When that was so, for the end of a line.
pub fn age(snapshot: &Snapshot, now: Millis) -> String {
    format!("as of {} ago", time(since(snapshot, now)))
}

/// Milliseconds since the snapshot was made: a pass that takes long leaves an old one standing.
fn since(snapshot: &Snapshot, now: Millis) -> u64 {
    u64::try_from(now.since(snapshot.at).as_millis()).unwrap_or(u64::MAX)
}

/// Who acts, in a line.
pub fn lock(snapshot: &Snapshot) -> String {
    let lock = &snapshot.lock;
    match (lock.ours, &lock.error) {
        (_, Some(error)) => format!("no operator acts: {error}"),
        (true, None) => format!("{} acts, fence {}", lock.holder, lock.fence),
        (false, None) if lock.holder.is_empty() => "it is not known which operator acts".into(),
        (false, None) => format!("this operator does nothing: {} acts, fence {}", lock.holder, lock.fence),
    }
}

fn describe_set(text: &mut String, set: &SetReport, since: u64) {
    put(text, format_args!("{}\n", headline(set)));
    let header = ["SLOT", "MACHINE", "ZONE", "ADDRESS", "ROLE", "EPOCH", "LAG", "AGE", "POSITION", "STATE"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(set.members.iter().map(|member| row(member, since)));
    if rows.len() > 1 {
        table(text, &rows);
    }
    for awaited in &set.awaiting {
        put(text, format_args!("  waits: {awaited}\n"));
    }
    for user in &set.users {
        let ready = if user.ready { "ready" } else { "not ready" };
        put(text, format_args!("  user {}: {} of {}, {ready}\n", user.name, user.access, user.database));
    }
    let users = set.kept_users.iter().map(|name| ("user", name));
    for (what, name) in users.chain(set.kept_databases.iter().map(|name| ("database", name))) {
        put(text, format_args!("  {what} {name}: kept in MySQL, though no manifest declares it\n"));
    }
    conditions(text, "  ", set);
    text.push('\n');
}

/// Those that are true.
fn conditions(text: &mut String, indent: &str, set: &SetReport) {
    for condition in set.conditions.iter().filter(|condition| condition.status) {
        put(text, format_args!("{indent}{:?}: {}: {}\n", condition.kind, condition.reason, condition.message));
    }
}

/// The verdict names its set.
fn headline(set: &SetReport) -> String {
    let key = set.key.to_string();
    if set.verdict.starts_with(&key) { set.verdict.clone() } else { format!("{key}: {}", set.verdict) }
}

fn row(member: &MemberReport, since: u64) -> [String; 10] {
    let or = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        member.slot.to_string(),
        or(member.instance.as_ref().map(ToString::to_string)),
        or(member.zone.as_ref().map(ToString::to_string)),
        or(member.address.map(|address| address.to_string())),
        or(member.role.map(|role| role.to_string())),
        or(member.epoch.map(|epoch| epoch.to_string())),
        or(member.lag_ms.map(time)),
        or(member.report_age_ms.map(|age| time(age.saturating_add(since)))),
        or(member.position.as_deref().map(position)),
        member.state.clone(),
    ]
}

/// Columns as wide as their widest cell.
fn table(text: &mut String, rows: &[[String; 10]]) {
    let widths: [usize; 10] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", pad(cell, width))).collect();
        put(text, format_args!("  {}\n", cells.join("  ").trim_end()));
    }
}

fn pad(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.chars().count()))
}

fn time(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds}ms"),
        1_000..120_000 => format!("{}.{}s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{}min", milliseconds / 60_000),
    }
}

/// A GTID set with its server uuids cut short: which server, and how far.
fn position(gtids: &str) -> String {
    let short = |part: &str| match part.trim().split_once(':') {
        Some((uuid, intervals)) => format!("{}:{intervals}", uuid.get(..8).unwrap_or(uuid)),
        None => part.to_owned(),
    };
    gtids.split(',').map(short).collect::<Vec<_>>().join(",")
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    put(text, format_args!("{title}:\n"));
    for line in lines {
        put(text, format_args!("  {line}\n"));
    }
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes any text");
}

#[cfg(test)]
pub(super) mod tests {
    use drover_api::{
        Realm, Slot,
        conditions::{Condition, ConditionType},
        tags::Role,
    };

    use super::*;

    pub fn key(name: &str) -> ResourceKey {
        ResourceKey { namespace: "default".parse().expect("a namespace"), name: name.parse().expect("a name") }
    }

    pub fn set(name: &str, ready: bool) -> SetReport {
        let member = MemberReport {
            slot: Slot::Member(0),
            instance: Some("i-0a1".parse().expect("an instance")),
            zone: Some("eu-test-1a".parse().expect("a zone")),
            address: Some([10, 42, 1, 4].into()),
            role: Some(Role::Primary),
            epoch: Some(drover_api::Epoch(1)),
            position: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into()),
            lag_ms: None,
            report_age_ms: Some(1_450),
            state: "open".into(),
            ready,
        };
        SetReport {
            key: key(name),
            generation: 1,
            verdict: if ready { "all is well" } else { "m1 is not there" }.into(),
            ready,
            primary: Some(Slot::Member(0)),
            epoch: None,
            members: vec![member],
            conditions: vec![],
            handled: Default::default(),
            endpoints: None,
            version: None,
            awaiting: if ready { vec![] } else { vec!["m1: booting".into()] },
            users: vec![],
            kept_users: vec![],
            kept_databases: vec![],
        }
    }

    #[test]
    fn what_is_not_well_comes_first() {
        let snapshot = Snapshot {
            sets: vec![set("a", true), set("b", false)],
            unclaimed: vec!["i-9 (x m0)".into()],
            looked: true,
            sources_read: true,
            ..Snapshot::empty(Realm::new("r").expect("a realm"))
        };
        let expected = "\
default/b: m1 is not there
  SLOT  MACHINE  ZONE        ADDRESS    ROLE     EPOCH  LAG  AGE   POSITION      STATE
  m0    i-0a1    eu-test-1a  10.42.1.4  primary  1      -    1.4s  3e11fa47:1-5  open
  waits: m1: booting

default/a: all is well
  SLOT  MACHINE  ZONE        ADDRESS    ROLE     EPOCH  LAG  AGE   POSITION      STATE
  m0    i-0a1    eu-test-1a  10.42.1.4  primary  1      -    1.4s  3e11fa47:1-5  open

Unclaimed, and left alone:
  i-9 (x m0)
";
        let at = |only: Option<&str>, milliseconds| status(&snapshot, only.map(key).as_ref(), Millis(milliseconds));
        assert_eq!(at(None, 0), expected);
        // They go on while a pass takes long.
        assert!(at(None, 2_000).contains("  3.4s  3e11fa47:1-5"), "{}", at(None, 2_000));
        assert_eq!(age(&snapshot, Millis(61_500)), "as of 61.5s ago");
        let mut unknown = snapshot.clone();
        let ready = Condition::new(ConditionType::Ready, false, drover_plan::report::FLEET_UNKNOWN, "EC2 is down");
        unknown.sets[0].conditions = vec![ready];
        assert!(answers(&snapshot, Some(&key("a"))) && !answers(&unknown, Some(&key("a"))));
        let narrow = narrowed(snapshot.clone(), Some(&key("a")));
        assert_eq!(narrow.sets.iter().map(|set| set.key.clone()).collect::<Vec<_>>(), [key("a")]);
        assert_eq!(narrowed(snapshot.clone(), None), snapshot);
        assert!(!at(Some("a"), 0).contains("default/b"));
        let missing = at(Some("c"), 0);
        assert!(missing.starts_with("default/c: no manifest, record or machine has that name"), "{missing}");
        let unread = Snapshot { sources_read: false, ..snapshot.clone() };
        let text = status(&unread, Some(&key("c")), Millis(0));
        assert!(text.starts_with("default/c: no record or machine has that name\nWhat is declared"), "{text}");
        assert!(status(&unread, Some(&key("a")), Millis(0)).contains("\nWhat is declared was not looked at"));
    }
}
