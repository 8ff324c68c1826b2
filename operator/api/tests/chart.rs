//! The chart's files that follow from other files of the repository: copies of the CRDs, the schema of `defaults.machine`, Argo
//! CD's ConfigMap; and the alerts, each with its runbook.

mod argocd;
mod generated;

use std::{collections::BTreeSet, fmt::Write as _};

use drover_api::crd;
use serde_json::{Map, Value};

const CHART: &str = "charts/drover";

#[test]
fn the_chart_brings_the_crds_of_the_repository() {
    let copy = crd::FILE.replace("crds/", &format!("{CHART}/files/crds/"));
    generated::must_be(&copy, &crd::yaml().expect("YAML in memory"));
}

#[test]
fn the_charts_defaults_have_the_schema_of_a_manifests_machine() {
    let file = format!("{CHART}/values.schema.json");
    let mut schema: Value = serde_json::from_str(&generated::read(&file)).expect("JSON");
    schema["definitions"]["machine"] = closed(&crd::schema()["properties"]["spec"]["properties"]["machine"]);
    generated::must_be(&file, &format!("{}\n", serde_json::to_string_pretty(&schema).expect("JSON in memory")));
}

/// What Helm can check of an API server's schema. It fills in nothing, and knows no CEL: the operator holds its configuration to
/// those rules when it starts. What an API server drops silently is refused here.
fn closed(schema: &Value) -> Value {
    let keywords = schema.as_object().expect("a schema is an object").iter();
    let mut kept: Map<String, Value> = keywords
        .filter(|(keyword, _)| {
            !keyword.starts_with("x-kubernetes-") && !["default", "format"].contains(&keyword.as_str())
        })
        .map(|(keyword, value)| {
            let value = match keyword.as_str() {
                "properties" => {
                    let properties = value.as_object().expect("properties are an object").iter();
                    properties.map(|(name, child)| (name.clone(), closed(child))).collect::<Map<_, _>>().into()
                }
                "items" | "additionalProperties" => closed(value),
                _ => value.clone(),
            };
            (keyword.clone(), value)
        })
        .collect();
    if kept.contains_key("properties") {
        kept.insert("additionalProperties".into(), false.into());
    }
    kept.into()
}

#[test]
fn every_object_of_the_charts_schema_is_closed_or_free_on_purpose() {
    let schema: Value = serde_json::from_str(&generated::read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    let mut free = BTreeSet::new();
    open_objects(&schema, "", &mut free);
    // Kubernetes' own types, which its API server judges, and what Helm hands down.
    let on_purpose = [
        ".affinity",
        ".extraEnv[].valueFrom",
        ".global",
        ".networkPolicy.extraEgress[]",
        ".networkPolicy.metricsFrom[]",
        ".resources.limits",
        ".resources.requests",
        ".tolerations[]",
    ];
    assert_eq!(free, on_purpose.map(str::to_owned).into());
}

/// `helm lint` finds values that the schema does not have; this finds those that values.yaml does not explain.
#[test]
fn values_yaml_says_every_value_that_the_schema_has_and_explains_it() {
    let schema: Value = serde_json::from_str(&generated::read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    let text = generated::read(&format!("{CHART}/values.yaml"));
    said(&schema, &serde_saphyr::from_str(&text).expect("YAML"), "");
    for paragraph in text.split("\n\n") {
        // A comment stands above a value, or above the first of a map of values.
        let explained = paragraph.lines().take(2).any(|line| line.trim_start().starts_with('#'));
        assert!(explained, "values.yaml does not explain:\n{paragraph}");
    }
}

fn said(schema: &Value, values: &Value, path: &str) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let value = values.get(name);
        assert!(value.is_some() || name == "global", "values.yaml does not have {path}.{name}");
        value.into_iter().for_each(|value| said(child, value, &format!("{path}.{name}")));
    }
}

fn open_objects(schema: &Value, path: &str, free: &mut BTreeSet<String>) {
    if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
        free.insert(path.to_owned());
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        open_objects(child, &format!("{path}.{name}"), free);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(keyword) {
            open_objects(child, &format!("{path}{suffix}"), free);
        }
    }
}

#[test]
fn argo_cds_configmap_holds_the_health_script() {
    let script = generated::read(&format!("{CHART}/files/argocd/health.lua"));
    let file = format!("{CHART}/files/argocd/argocd-cm.yaml");
    let committed = generated::read(&file);
    const KEY: &str = "      health.lua: |\n";
    let mut text = committed[..committed.find(KEY).expect("the script's key") + KEY.len()].to_owned();
    for line in script.lines() {
        let indent = if line.is_empty() { "" } else { "        " };
        writeln!(text, "{indent}{line}").expect("a string takes whatever is written to it");
    }
    generated::must_be(&file, &text);
    let map: Value = serde_saphyr::from_str(&text).expect("YAML");
    let customizations = map["data"]["resource.customizations"].as_str().expect("a text");
    let customizations: Value = serde_saphyr::from_str(customizations).expect("YAML in the text");
    assert_eq!(customizations["drover.dev/*"]["health.lua"], script);
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let alerts: Value = serde_saphyr::from_str(&generated::read(&format!("{CHART}/files/alerts.yaml"))).expect("YAML");
    let mut told = BTreeSet::new();
    for alert in alerts["alerts"].as_array().expect("a list") {
        let name = alert["alert"].as_str().expect("a name");
        assert!(told.insert(name.to_owned()), "{name} is there twice");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
        for field in ["/for", "/annotations/summary", "/annotations/description"] {
            assert!(alert.pointer(field).is_some_and(Value::is_string), "{name} has no {field}");
        }
        assert!(
            alert["expr"].as_str().is_some_and(|expr| expr.contains("INSTALLATION")),
            "{name} asks all installations"
        );
    }
    let runbooks = generated::read(&format!("{CHART}/RUNBOOKS.md"));
    let sections: Vec<&str> = runbooks.split("\n## ").skip(1).collect();
    for section in &sections {
        for part in ["**It means**", "**Look**", "**Do**"] {
            assert!(section.contains(part), "{} has no {part}", section.lines().next().unwrap_or_default());
        }
    }
    let titles: BTreeSet<String> =
        sections.iter().filter_map(|section| section.lines().next()).map(Into::into).collect();
    assert_eq!(titles, told);
    let anchors: BTreeSet<String> = titles.iter().map(|title| title.to_lowercase()).collect();
    for link in runbooks.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.contains(link), "RUNBOOKS.md links to #{link}, which is not there");
    }
}
