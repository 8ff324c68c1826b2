//! The CRD in the repository, and what an API server asks of it.

mod generated;

use drover_api::crd;
use serde_json::Value;

#[test]
fn the_committed_crd_is_the_generated_one() {
    generated::must_be(crd::FILE, &crd::yaml().expect("YAML in memory"));
}

#[test]
fn the_yaml_says_what_the_json_says() {
    let read: Value = serde_saphyr::from_str(&crd::yaml().expect("YAML in memory")).expect("our own YAML");
    assert_eq!(read, crd::crd());
}

/// Every node of the schema with its path.
fn nodes(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        nodes(child, &format!("{path}.{name}"), visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(keyword) {
            nodes(child, &format!("{path}{suffix}"), visit);
        }
    }
}

#[test]
fn everything_that_can_grow_is_bounded() {
    nodes(crd::schema(), "", &mut |path, node| {
        let bounded = |keyword| node.get(keyword).is_some() || path.is_empty();
        match node["type"].as_str() {
            Some("array") => assert!(bounded("maxItems"), "{path}"),
            Some("object") if node.get("additionalProperties").is_some() => assert!(bounded("maxProperties"), "{path}"),
            Some("string") if !["", ".apiVersion", ".kind"].contains(&path) => {
                assert!(bounded("maxLength") || bounded("enum"), "{path}");
            }
            _ => {}
        }
    });
}

#[test]
fn nothing_that_an_api_server_warns_of_or_a_gitops_tool_trips_over() {
    nodes(crd::schema(), "", &mut |path, node| {
        let format = node["format"].as_str().unwrap_or("int64");
        assert!(["int64", "date-time"].contains(&format), "{path}: an API server does not know the format {format}");
        assert!(
            !path.contains("[]") || node.get("default").is_none(),
            "{path}: a default in a list's item is a diff for ever"
        );
        assert!(!path.starts_with(".spec") || node["description"].is_string() || path.ends_with(['}', ']']), "{path}");
    });
    assert!(crd::yaml().expect("YAML in memory").len() < 200_000);
}

#[test]
fn a_new_object_counts_as_unobserved() {
    let status = &crd::schema()["properties"]["status"];
    assert_eq!(status["default"], serde_json::json!({}));
    assert_eq!(status["properties"]["observedGeneration"]["default"], -1);
    assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-map-keys"][0], "type");
}
