//! Every mistake that the CRD's rules and bounds are for, as data: one table for all that has to refuse them, an API server too.

use drover_api::settings;
use serde_json::{Value, json};

/// A value that is good at a field, one that breaks just one thing there, and all that is said about it.
pub struct Case {
    pub at: String,
    pub good: Value,
    pub bad: Value,
    /// A rule, or the keyword of a bound.
    pub breaks: String,
    pub field: String,
    pub says: String,
}

pub const RULE: &str = "x-kubernetes-validations";

/// The cases of `../rules.yaml`, and one for each reason to refuse a setting.
pub fn cases() -> Vec<Case> {
    let table: serde_json::Map<String, Value> =
        serde_saphyr::from_str(include_str!("../rules.yaml")).expect("a map of lists of cases");
    let text = |value: &Value| value.as_str().map(|text| expand(text.into()).as_str().unwrap_or_default().to_owned());
    let mut cases = Vec::new();
    for (at, list) in &table {
        for case in list.as_array().expect("a list of cases") {
            cases.push(Case {
                at: at.clone(),
                good: expand(case["good"].clone()),
                bad: expand(case["bad"].clone()),
                breaks: text(&case["breaks"]).unwrap_or_else(|| RULE.into()),
                field: format!("{at}{}", text(&case["field"]).unwrap_or_default()),
                says: case["says"].as_str().expect("what is said").to_owned(),
            });
        }
    }
    cases.extend(settings::REFUSED.iter().map(|refused| {
        let name = refused.names[0].trim_end_matches('*').to_uppercase().replace('_', "-");
        Case {
            at: "spec.mysql.settings".into(),
            good: json!({ "slow_query_log": "1" }),
            bad: json!({ name.as_str(): "1" }),
            breaks: RULE.into(),
            field: format!("spec.mysql.settings.{name}"),
            says: format!("spec.mysql.settings: {name} cannot be set: {}", refused.reason),
        }
    }));
    cases
}

/// Writes out the table's shorthand.
fn expand(value: Value) -> Value {
    let numbered = |text: &str| {
        let (count, prefix) = text.split_once(' ')?;
        let names = (10..10 + count.parse::<usize>().ok()?).map(|n| format!("{prefix}{n}"));
        Some(names.collect::<Vec<_>>())
    };
    match value {
        Value::String(text) => match text.split_once('*').map(|(head, count)| (head, count.parse::<usize>())) {
            Some((head, Ok(count))) => {
                let (rest, last) = head.split_at(head.char_indices().last().expect("a character").0);
                format!("{rest}{}", last.repeat(count)).into()
            }
            _ => text.into(),
        },
        Value::Array(items) => match items.first().and_then(Value::as_str).and_then(numbered) {
            Some(names) => names.into(),
            None => items.into_iter().map(expand).collect(),
        },
        Value::Object(fields) => {
            let mut object = serde_json::Map::new();
            for (name, value) in fields {
                match numbered(&name) {
                    Some(names) => object.extend(names.into_iter().map(|name| (name, value.clone()))),
                    None => drop(object.insert(expand(name.into()).as_str().unwrap_or_default().into(), expand(value))),
                }
            }
            object.into()
        }
        other => other,
    }
}

pub fn object(at: &str, value: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "MySQLReplicaSet",
        "metadata": { "name": "shop" },
        "spec": { "version": "9.7" },
    });
    let place = at.split('.').fold(&mut object, |place, name| &mut place[name]);
    *place = value.clone();
    object
}

/// What a set was, what is asked for, and the answer.
pub fn changes() -> Vec<(Value, Value, &'static str, &'static str)> {
    vec![
        (
            json!({ "version": "9.7", "members": 1 }),
            json!({ "version": "9.7", "members": 3 }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 1",
        ),
        (
            json!({ "version": "9.7" }),
            json!({ "version": "9.7", "members": 5 }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 3",
        ),
        (
            json!({ "version": "9.7", "members": 5 }),
            json!({ "version": "9.7" }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 5",
        ),
        (
            json!({ "version": "8.4" }),
            json!({ "version": "9.7" }),
            "spec.version",
            r#"spec.version cannot be changed yet: it must stay "8.4""#,
        ),
    ]
}
