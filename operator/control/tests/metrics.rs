//! The chart's alerts, dashboard and pages, held to what a scrape really shows: a name or a value that nobody writes is an alert that
//! never rings.

#![allow(clippy::panic, reason = "a file that cannot be read fails the test, and is named")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use drover_api::{
    Realm,
    conditions::{Condition, ConditionType},
    tags::Role,
};
use drover_cloud::Class;
use drover_control::{PassOutcome, Snapshot, lock::Holding, metrics::Metrics, snapshot::Failed};
use drover_plan::{Plan, SetReport, report::MemberReport};
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/drover");

/// What is shown: by the series' name its labels, and each one's values.
type Shown = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A series as somebody asks for it: its name, and label, operator and value of each matcher.
type Asked = (String, Vec<(String, String, String)>);

/// What Prometheus makes itself.
const PROMETHEUS: [&str; 1] = ["up"];
/// What a scrape by the chart's ServiceMonitor adds.
const OF_SCRAPE: [&str; 2] = ["job", "namespace"];
const CLASSES: [Class; 14] = [
    Class::Throttled,
    Class::Transient,
    Class::NotVisibleYet,
    Class::NotFound,
    Class::WrongState,
    Class::Capacity,
    Class::Quota,
    Class::TokenMismatch,
    Class::TokenSpent,
    Class::Protected,
    Class::Conflict,
    Class::Denied,
    Class::Invalid,
    Class::Crashed,
];

/// A process that has seen everything.
fn used() -> Metrics {
    let metrics = Metrics::default();
    let second = Duration::from_secs(1);
    let failed = Failed { set: key(), action: "Launch".into(), error: String::new() };
    for (plan, failed) in [(None, vec![]), (Some(Plan::default()), vec![]), (Some(Plan::default()), vec![failed])] {
        let done = BTreeMap::from([("Launch", 1)]);
        metrics.passed(&PassOutcome { holding: Holding::Unknown, plan, done, failed }, second);
    }
    metrics.leads("drover", true);
    for service in ["ec2", "s3"] {
        metrics.called(service, "Call", None, second);
        CLASSES.iter().for_each(|class| metrics.called(service, "Call", Some(*class), second));
    }
    metrics.requested("10.96.0.1:443", "GET", Some(200));
    metrics.requested("10.96.0.1:443", "GET", None);
    let mut snapshot = Snapshot::empty(Realm::new("test").expect("a realm"));
    snapshot.sets = vec![report()];
    metrics.shows(&snapshot);
    metrics
}

fn key() -> drover_api::ResourceKey {
    drover_api::ResourceKey { namespace: "default".parse().expect("valid"), name: "shop".parse().expect("valid") }
}

/// One machine in every role, and one of which nothing is known.
fn report() -> SetReport {
    let roles =
        [Role::Primary, Role::Replica, Role::Reader, Role::Joining, Role::Draining, Role::Fenced, Role::Retiring];
    let row = |role: Option<Role>| MemberReport {
        slot: drover_api::Slot::Member(0),
        instance: None,
        zone: None,
        address: None,
        role,
        epoch: None,
        position: None,
        lag_ms: None,
        report_age_ms: None,
        state: String::new(),
        ready: false,
    };
    SetReport {
        key: key(),
        generation: 1,
        verdict: String::new(),
        ready: false,
        primary: None,
        epoch: None,
        members: roles.into_iter().map(Some).chain([None]).map(row).collect(),
        conditions: vec![Condition::new(ConditionType::Stalled, true, "LaunchesFail", "")],
        endpoints: None,
        version: None,
        awaiting: vec![],
        handled: BTreeMap::new(),
        users: vec![],
        kept_users: vec![],
        kept_databases: vec![],
    }
}

fn shown() -> Shown {
    let text = used().text();
    let mut shown = Shown::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, matchers) = &selectors(line)[0];
        let labels = shown.entry(name.clone()).or_default();
        for (label, _, value) in matchers {
            labels.entry(label.clone()).or_default().insert(value.clone());
        }
    }
    shown
}

/// Every series in an expression of PromQL: names that are neither functions nor words of the language, what stands in
/// parentheses after `by` left out.
fn selectors(expression: &str) -> Vec<Asked> {
    const WORDS: [&str; 7] = ["and", "or", "unless", "sum", "min", "max", "count"];
    const BEFORE_LABELS: [&str; 4] = ["by", "without", "on", "ignoring"];
    let mut found: Vec<Asked> = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{' || c == '[' || c == '"')
    {
        let tail = &rest[start..];
        let end = |closing: char| tail[1..].find(closing).map_or(tail.len(), |at| at + 2);
        match tail.as_bytes()[0] {
            b'"' => rest = &tail[end('"')..],
            b'[' => rest = &tail[end(']')..],
            b'{' => {
                let length = tail.find('}').expect("a selector ends");
                if let Some(last) = found.last_mut() {
                    last.1 = matchers(&tail[1..length]);
                }
                rest = &tail[length + 1..];
            }
            _ => {
                let length = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                let (word, after) = tail.split_at(length);
                rest = after;
                if BEFORE_LABELS.contains(&word) {
                    rest = &after[after.find(')').expect("a list ends")..];
                } else if WORDS.contains(&word) {
                    // What it is about follows.
                } else if !after.starts_with('(') && !word.chars().all(|c| c.is_ascii_digit()) {
                    found.push((word.to_owned(), vec![]));
                }
            }
        }
    }
    found
}

fn matchers(text: &str) -> Vec<(String, String, String)> {
    let each = text.split("\",").filter(|part| !part.trim().is_empty());
    each.map(|part| {
        let (left, value) = part.split_once('"').expect("a value in quotes");
        let label: String = left.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (label.clone(), left[label.len()..].to_owned(), value.trim_end_matches('"').to_owned())
    })
    .collect()
}

/// Every expression of alerts, dashboard and runbooks, and where it is.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let alerts: Value = serde_saphyr::from_str(&read("files/alerts.yaml")).expect("YAML");
    for alert in alerts["alerts"].as_array().expect("alerts") {
        let text = |field: &str| alert[field].as_str().expect("text").to_owned();
        all.push((text("alert"), text("expr").replace("INSTALLATION", r#"job="drover",namespace="drover""#)));
    }
    for file in fs::read_dir(format!("{CHART}/files/dashboards")).expect("dashboards") {
        let path = file.expect("an entry").path();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).expect("read")).expect("JSON");
        asked(&board, &path.display().to_string(), &mut all);
    }
    let books = read("RUNBOOKS.md");
    let is_ours = |code: &&str| NAMESPACES.iter().any(|prefix| code.contains(prefix));
    let code = books.split('`').skip(1).step_by(2).filter(is_ours);
    all.extend(code.map(|code| ("RUNBOOKS.md".to_owned(), code.to_owned())));
    all
}

/// What our names begin with.
const NAMESPACES: [&str; 4] = ["drover_", "controller_runtime_", "leader_election_", "rest_client_"];

/// `expr` of a panel, and the series in a variable's `label_values(SERIES, LABEL)`.
fn asked(board: &Value, at: &str, all: &mut Vec<(String, String)>) {
    match board {
        Value::Object(fields) => {
            for (field, value) in fields {
                match (field.as_str(), value.as_str()) {
                    ("expr", Some(text)) => all.push((at.to_owned(), text.to_owned())),
                    ("query", Some(text)) => {
                        let series = text.strip_prefix("label_values(").and_then(|text| text.rsplit_once(','));
                        all.extend(series.map(|(series, _)| (at.to_owned(), series.to_owned())));
                    }
                    _ => asked(value, at, all),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| asked(item, at, all)),
        _ => {}
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(format!("{CHART}/{file}")).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn what_alerts_dashboard_and_runbooks_ask_for_is_shown() {
    let shown = shown();
    let expressions = expressions();
    let from = |what: &str| expressions.iter().filter(|(at, _)| at.contains(what)).count();
    assert!(from("Drover") >= 10 && from("drover.json") >= 10 && from("RUNBOOKS.md") >= 2, "{expressions:?}");
    for (at, expression) in &expressions {
        let found = selectors(expression);
        assert!(!found.is_empty(), "{at}: no series in {expression}");
        for (name, matchers) in found.iter().filter(|(name, _)| !PROMETHEUS.contains(&name.as_str())) {
            let labels = shown.get(name).unwrap_or_else(|| panic!("{at}: nobody shows {name}: {expression}"));
            for (label, operator, value) in matchers.iter().filter(|(label, ..)| !OF_SCRAPE.contains(&label.as_str())) {
                let values = labels.get(label).unwrap_or_else(|| panic!("{at}: {name} has no label {label}"));
                let alternatives =
                    if operator.contains('~') { value.split('|').collect() } else { vec![value.as_str()] };
                for literal in alternatives {
                    assert!(values.contains(literal), "{at}: {name} never has {label}={literal:?}, but {values:?}");
                }
            }
        }
        for (name, _) in &found {
            grouped(at, expression, shown.get(name));
        }
    }
}

/// Labels that are grouped by are there.
fn grouped(at: &str, expression: &str, labels: Option<&BTreeMap<String, BTreeSet<String>>>) {
    let Some(labels) = labels else { return };
    for (_, list) in expression.match_indices(" by (").map(|(start, by)| expression.split_at(start + by.len())) {
        for label in list.split(')').next().unwrap_or_default().split(',').map(str::trim) {
            let is_there = labels.contains_key(label) || OF_SCRAPE.contains(&label);
            assert!(is_there, "{at}: nothing to group by {label}: {expression}");
        }
    }
}

/// The README's table has a row for every series: its name as Prometheus stores it, and its labels.
#[test]
fn every_series_is_described_and_nothing_else_is() {
    let readme = read("README.md");
    let rows = readme.lines().filter(|line| NAMESPACES.iter().any(|prefix| line.starts_with(&format!("| `{prefix}"))));
    let described: BTreeMap<String, BTreeSet<String>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            (code(cells[1]).remove(0), code(cells[2]).into_iter().collect())
        })
        .collect();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in shown() {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let labels = labels.into_keys().filter(|label| label != "le");
        expected.entry(family.map_or(name.clone(), str::to_owned)).or_default().extend(labels);
    }
    assert_eq!(described, expected);
}
