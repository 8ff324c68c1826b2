//! Every rule and every bound of the CRD, each broken alone, with the words that a user gets.

mod cases;

use std::collections::BTreeSet;

use cases::{RULE, cases, changes, object};
use drover_api::{
    crd, settings, tags,
    validate::{Violation, validate},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn each_mistake_is_told_in_its_own_words_and_nothing_else_is() {
    for case in cases() {
        let good = validate(&object(&case.at, &case.good), None);
        assert_eq!(good, [], "{} = {}", case.at, case.good);
        let told = validate(&object(&case.at, &case.bad), None);
        let expected = Violation { field: case.field.clone(), message: case.says.clone() };
        assert_eq!(told, [expected], "{} = {}", case.at, case.bad);
        let field = case.field.trim_end_matches('.');
        let outer = field.split(['[', '.']).take(2).collect::<Vec<_>>().join(".");
        assert!(case.says.starts_with(&outer), "{:?} does not name {field}", case.says);
    }
}

#[test]
fn what_cannot_be_changed_yet_says_what_it_must_stay() {
    for (old, new, field, message) in changes() {
        let (old, new) = (object("spec", &old), object("spec", &new));
        assert_eq!(validate(&new, None), []);
        let expected = Violation { field: field.into(), message: message.into() };
        assert_eq!(validate(&new, Some(&old)), [expected]);
        assert_eq!(validate(&new, Some(&new)), []);
    }
}

/// Path and text of each rule, and path and keyword of each bound, below a node.
fn demands(schema: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let at = path.trim_start_matches('.').to_owned();
        match keyword.as_str() {
            RULE => found.extend(
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|rule| (at.clone(), rule["rule"].as_str().unwrap_or_default().to_owned())),
            ),
            "x-kubernetes-list-type" if value != "set" => {}
            "type" | "properties" | "items" | "additionalProperties" | "default" | "description" | "format" => {}
            keyword => {
                found.insert((at, keyword.to_owned()));
            }
        }
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        demands(child, &format!("{path}.{name}"), found);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(keyword) {
            demands(child, &format!("{path}{suffix}"), found);
        }
    }
}

#[test]
fn no_rule_and_no_bound_goes_untested() {
    let mut untested = BTreeSet::new();
    let mut schema = crd::schema().clone();
    schema["properties"]["status"] = json!({});
    demands(&schema, "", &mut untested);
    untested.remove(&(String::new(), "required".to_owned()));
    let rules_broken_by = |new: &Value, old: Option<&Value>| {
        let errors = kube_cel::validate(crd::schema(), new, old).err().into_iter().flatten();
        errors.map(|error| (error.field_path, error.rule)).collect::<Vec<_>>()
    };
    for (old, new, ..) in changes() {
        for broken in rules_broken_by(&object("spec", &new), Some(&object("spec", &old))) {
            untested.remove(&broken);
        }
    }
    for case in cases() {
        if case.breaks == RULE {
            let broken = rules_broken_by(&object(&case.at, &case.bad), None);
            assert_eq!(broken.len(), 1, "{} = {} breaks {broken:?}", case.at, case.bad);
            untested.remove(&broken[0]);
            continue;
        }
        // Where the schema has the bound: the field of the violation, its keys and indexes made general.
        let field = in_map_of_objects(&case.field);
        let general = |suffix: &str| {
            let inner = field.split('[').next().unwrap_or_default();
            format!("{inner}{suffix}")
        };
        let map = field.rsplit_once('.').map_or_else(String::new, |(map, _)| format!("{map}{{}}"));
        let owner = field.rsplit_once('.').map_or_else(String::new, |(owner, _)| owner.to_owned());
        for path in [general(""), general("[]"), map, owner] {
            untested.remove(&(path, case.breaks.to_owned()));
        }
    }
    assert!(untested.is_empty(), "no case breaks {untested:#?}");
}

/// `spec.mysql.users.app.access` is `spec.mysql.users{}.access` for every user.
fn in_map_of_objects(field: &str) -> String {
    for map in ["spec.mysql.databases", "spec.mysql.users"] {
        let below = field.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        if let Some((_, below)) = below {
            return format!("{map}{{}}.{below}");
        }
    }
    field.to_owned()
}

/// Spellings of refused, allowed and ordinary names: cut short, drawn out, in capitals, with dashes and modifiers.
fn spelling() -> impl Strategy<Value = String> {
    let ordinary = ["slow_query_log", "general_log", "max_connections", "sql_mode", "innodb_io_capacity"];
    let names: Vec<&str> =
        settings::REFUSED.iter().flat_map(|refused| refused.names).copied().chain(ordinary).collect();
    let before = prop_oneof![8 => Just(""), 1 => Just("loose_"), 1 => Just("Skip-"), 1 => Just("maximum")];
    let after =
        prop_oneof![8 => Just(""), 1 => Just("_x"), 1 => Just(" "), 1 => Just("é"), 1 => Just("\n"), 1 => Just("K")];
    (before, proptest::sample::select(names), 0..48_usize, any::<[bool; 2]>(), after).prop_map(
        |(before, name, kept, [capitals, dashes], after)| {
            let name = name.trim_end_matches('*');
            let kept = name.get(..kept).unwrap_or(name);
            let name = if capitals { kept.to_uppercase() } else { kept.to_owned() };
            let name = if dashes { name.replace('_', "-") } else { name };
            format!("{before}{name}{after}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_crd_refuses_the_settings_that_the_agent_would_refuse(
        name in spelling(),
        value in prop_oneof![4 => Just("1".to_owned()), 1 => "\\PC{0,8}[\\x00-\\x1f\\x7f-\\x9f]?"],
    ) {
        let told = validate(&object("spec.mysql.settings", &json!({ name.as_str(): value.as_str() })), None);
        match settings::refuse(&name, &value) {
            None => prop_assert_eq!(told, []),
            Some(reason) if reason.contains("is not the name") => prop_assert!(!told.is_empty(), "{}", name),
            Some(reason) => {
                let expected = format!("spec.mysql.settings: {reason}");
                prop_assert!(told.iter().any(|violation| violation.message == expected), "{reason}: {told:?}");
            }
        }
    }

    #[test]
    fn the_crd_refuses_the_tags_that_a_machine_cannot_have(
        key in "(drover:|AWS:|aws|Name|Name2|)[a-zA-Z0-9_+=,.@: /é-]{0,3}",
        length in 250..262_usize,
    ) {
        let value = "é".repeat(length);
        let told = validate(&object("spec.machine.tags", &json!({ key.as_str(): value.as_str() })), None);
        prop_assert_eq!(told.is_empty(), tags::refuse_user_tag(&key, &value).is_none(), "{:?}: {:?}", key, told);
    }
}
